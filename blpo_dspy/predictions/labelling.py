"""A judge at work on many images: in threads, metered, each failure kept with its image."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

import dspy
from dspy.utils.exceptions import LMError

from blpo_dspy.agreement.verdicts import Verdict
from blpo_dspy.data.images.prepare import ImageError
from blpo_dspy.data.labels.space import Orders
from blpo_dspy.errors import ModelError, brief, notice
from blpo_dspy.models.failures import FATAL_ERRORS
from blpo_dspy.models.lm import Models
from blpo_dspy.programs.cascade import Cascade, models_of_stages, stages_of
from blpo_dspy.programs.pairs import BothOrders, asked_in
from blpo_dspy.programs.visual_judge import VisualJudge
from blpo_dspy.workspace.failures import RunStoppedError, is_outage
from blpo_dspy.workspace.meter import Meter, observe_answers
from blpo_dspy.workspace.workers import Workers

# How many failures in a row, from the first image on, mean that the server is not reachable.
_SIGNS_OF_LIFE = 4
# Later, when something was answered before, as many rounds of failures on all threads do.
_ROUNDS_OF_SILENCE = 3
# As many refusals, from the first image on, mean that it isn't the images: the model's name is wrong, say.
_REFUSALS = 20
# Images waiting for each thread: enough that none is idle while the first in line takes its time.
_QUEUED = 4


def label_images(
    judge: VisualJudge,
    models: Models | Sequence[Models],
    inputs: Sequence[Mapping[str, Any]],
    *,
    workers: Workers,
    meter: Meter,
    done: Callable[[Verdict], None] = lambda verdict: None,
    orders: Orders = "both",
) -> list[Verdict]:
    """Returns a verdict for each input, in order; a failed call is that image's failure, not the end.

    Args:
        judge: The judge; it is copied, never changed.
        models: Its models; of a cascade those of each judge, or of all of them.
        inputs: The keyword arguments of one call each.
        workers: Where the calls run.
        meter: What they pass through.
        done: Called with each verdict, in the order of the inputs.
        orders: Whether a judge of pairs is asked in "both" orders of the images or "one".

    Raises:
        ModelError: If a model cannot be used at all: it refuses the key, or the first calls all fail.
    """
    verdicts: list[Verdict] = []

    def keep(verdict: Verdict) -> None:
        verdicts.append(verdict)
        done(verdict)

    label_each(judge, models, inputs, workers=workers, meter=meter, done=keep, orders=orders)
    return verdicts


def label_each(
    judge: VisualJudge,
    models: Models | Sequence[Models],
    inputs: Iterable[Mapping[str, Any]],
    *,
    workers: Workers,
    meter: Meter,
    done: Callable[[Verdict], None],
    orders: Orders = "both",
    answered: bool = False,
) -> None:
    """Gives `done` a verdict for each input, in order; the arguments are those of `label_images`.

    With `answered` the models are known to have answered before: what fails at the start is up to the images.

    Inputs are taken, and images among them that are not prepared are loaded lazily, so that only a few
    for each thread are in memory. An image that cannot be read is that image's failure.

    Raises:
        ModelError: If a model cannot be used at all (it refuses the key, the first calls all fail), or stops answering.
    """
    label, left = partial(label_one, metered(judge, models, meter, orders)), iter(inputs)
    waiting: deque[Future[Verdict]] = deque()
    with dspy.context(disable_history=True):
        try:
            waiting.extend(workers.submit(label, itertools.islice(left, 0 if answered else _SIGNS_OF_LIFE)))
            _check_alive([future.result() for future in waiting])
            silence = refused = 0
            while True:
                room = _QUEUED * workers.num_threads - len(waiting)
                waiting.extend(workers.submit(label, itertools.islice(left, max(0, room))))
                if not waiting:
                    break
                verdict = waiting.popleft().result()
                silence = silence + 1 if verdict.outage else silence * bool(verdict.failure)
                if silence > max(_SIGNS_OF_LIFE, _ROUNDS_OF_SILENCE * workers.num_threads):
                    raise ModelError(f"the model failed for {silence} images in a row: {verdict.failure}")
                refused, answered = refused + verdict.refused, answered or not verdict.failure
                if refused == _REFUSALS and not answered:
                    raise ModelError(f"the model refused every one of the first {refused} images: {verdict.failure}")
                done(verdict)
        except BaseException:
            meter.stop()
            raise


def inputs_of(examples: Sequence[dspy.Example]) -> list[dict[str, Any]]:
    """Returns the keyword arguments of one call for each example."""
    return [dict(example.inputs().items()) for example in examples]


def metered(
    judge: VisualJudge, models: Models | Sequence[Models], meter: Meter, orders: Orders = "both"
) -> Callable[..., dspy.Prediction]:
    """Returns a copy of a judge whose calls go to these models and pass this meter; pairs are asked in `orders`.

    Args:
        judge: The judge; of a cascade each judge is asked in these orders.
        models: Its models; of a cascade those of each judge, or of all of them.
        meter: What the calls pass through.
        orders: Whether a judge of pairs is asked in "both" orders of the images or "one".

    Raises:
        BlpoError: If a cascade has another number of judges than there are models.
    """
    twice = asked_in(judge.labels, orders) > 1
    program: VisualJudge = judge.deepcopy()
    for one, own in zip(stages_of(program), models_of_stages(judge, models), strict=True):
        lms = {role: meter.wrap(getattr(own, role), role) for role in ("verbalizer", "judge")}
        verbalizer = one.verbalizer
        for _, predictor in one.named_predictors():
            predictor.lm = lms["verbalizer" if predictor is verbalizer else "judge"]
    if not isinstance(program, Cascade):
        return BothOrders(program) if twice else program
    return partial(program.ask, [BothOrders(one) if twice else one for one in program.judges])


def note_other_models(judge: VisualJudge, models: Models | Sequence[Models]) -> None:
    """Issues a warning where a judge was calibrated with other models, as its level of agreement isn't theirs."""
    now = names_of(judge, models)
    stages = [(stage.card, [own]) for stage, own in zip(stages_of(judge), now, strict=True)]
    for card, asked in [(judge.card, now), *stages]:
        calibration = card.get("calibration")
        before = calibration.get("models") if isinstance(calibration, Mapping) else None
        if before is not None and before != asked:
            notice(
                f"the judge was calibrated with {_listed(before)}, and is asked with {_listed(asked)}: the agreement "
                "that its threshold promises is not that of these models; calibrate it again with them"
            )
            return


def _listed(names: Sequence[Mapping[str, str]]) -> str:
    return brief(" then ".join(", ".join(dict.fromkeys(map(str, roles.values()))) for roles in names))


def names_of(judge: VisualJudge, models: Models | Sequence[Models]) -> list[dict[str, str]]:
    """Returns for each judge of a cascade, or the only one, the names of the models that it asks, by role."""
    return [
        {role: str(getattr(own, role).model) for role in ("judge", "verbalizer") if role in stage.roles}
        for stage, own in zip(stages_of(judge), models_of_stages(judge, models), strict=True)
    ]


def label_one(program: Callable[..., dspy.Prediction], inputs: Mapping[str, Any]) -> Verdict:
    """Returns the verdict on one input; a failed call is its failure.

    Raises:
        ModelError: If the model cannot be used at all.
    """
    with dspy.context(trace=[]), observe_answers() as answers:
        try:
            prediction = program(**inputs)
        except FATAL_ERRORS as error:
            raise ModelError(f"the model cannot be used: {error}") from error
        except RunStoppedError as error:
            return Verdict(None, failure=str(error), stopped=True)
        except ImageError as error:
            return Verdict(None, failure=error.reason)
        except LMError as error:
            outage = is_outage(error)
            return Verdict(None, failure=str(error), outage=outage, refused=not outage)
    description, reasoning = prediction.get("description"), prediction.get("reasoning") or ""
    inconsistent = prediction.get("inconsistent")
    return Verdict(
        prediction.label,
        str(prediction.answer),
        description,
        str(reasoning),
        inconsistent=inconsistent,
        confidence=prediction.get("confidence"),
        escalate=prediction.get("escalate"),
        served_by=" + ".join(dict.fromkeys(answer.served for answer in answers if answer.served)),
    )


def _check_alive(verdicts: Sequence[Verdict]) -> None:
    """A model that is not reachable from the start is not called again and again, which would only cost time."""
    if verdicts and all(verdict.outage for verdict in verdicts):
        raise ModelError(f"the model failed for every one of the first {len(verdicts)} images: {verdicts[0].failure}")
