"""A judge, or several in a row, calibrated on labelled images, so that what it labels keeps a level of agreement."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dspy
import numpy as np

from blpo_dspy.agreement.guarantee import (
    Bools,
    SettingTest,
    accepting,
    check_promise,
    counts_of,
    least_selected,
    lower_bound,
    sequence_tests,
    staircase,
)
from blpo_dspy.agreement.resampling import Floats, Ints
from blpo_dspy.agreement.verdicts import Verdict
from blpo_dspy.data.examples import dataset_fingerprint, item_prints
from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import LabelSpace, Method, Orders
from blpo_dspy.errors import BlpoError, DataError, check_kind, check_least
from blpo_dspy.models.lm import Models
from blpo_dspy.optimizers.bench.cards import described
from blpo_dspy.predictions.given import given_models
from blpo_dspy.predictions.labelling import inputs_of, label_images, names_of
from blpo_dspy.programs.cascade import Cascade, stages_of
from blpo_dspy.programs.pairs import asked_in
from blpo_dspy.programs.visual_judge import VisualJudge
from blpo_dspy.runs.calibration.calibrated import Alone, Calibrated
from blpo_dspy.runs.data.sets import Labelled, loaded_set
from blpo_dspy.runs.measure import asking, known_sets
from blpo_dspy.workspace.ledger import Ledger
from blpo_dspy.workspace.meter import Meter
from blpo_dspy.workspace.watch import Watch, watching
from blpo_dspy.workspace.workspace import current_workspace

_MANY_FAILED = 0.2


def calibrate(
    judge: VisualJudge,
    examples: Labelled,
    *,
    agreement: float = 0.9,
    risk: float = 0.1,
    confidence: Method | None = None,
    within: int = 0,
    run_dir: str | Path | None = None,
) -> Calibrated:
    """Finds the confidence above which a judge's labels keep a level of agreement with people's; see `Calibrated`.

    With probability 1 − risk over the draw of the examples, at least the share `agreement` of all labels that the
    calibrated judge gives without escalating agrees with people's. This holds for images like the examples, which have
    to be drawn from them at random, and for the same models. Confidences need not be well calibrated for it: those of
    no use lead to few labels, not to wrong ones. The tests are those of `blpo_dspy.agreement.guarantee`.

    Args:
        judge: A judge, or a `Cascade`, whose thresholds are then found together.
        examples: Labelled examples, or a table as `load_examples` takes it, that neither training nor validation used.
        agreement: The share of automatic labels that have to agree, in (0, 1).
        risk: The accepted probability that fewer do, in (0, 1).
        confidence: How the confidence is found, for each judge that has none yet: see `VisualJudge.confident`; by votes
            if None.
        within: How many levels of an ordinal scale apart labels still agree. Scores agree within their tolerance.
        run_dir: A folder for the answers, where no `Workspace` has one: a request that it holds the answer to, as
            after an interruption or where further examples are labelled, is not paid for again, whether or not DSPy's
            cache knows it.

    Returns:
        The result, whose `judge` returns `label`, `confidence` and `escalate`.

    Raises:
        DataError: If there are too few examples, whatever the judge says of them, or naming all that cannot be used:
            those that the judge was trained or validated on, and images that are there twice.
        ModelError: If a model cannot be used, or stops answering.
        BlpoError: If an option is not a possible one.
    """
    check_kind("judge", judge, VisualJudge, "judge", "VisualJudge.load('judge.json')")
    promise = Promise(agreement, risk, within, judge.orders)
    promise.check(judge.labels)
    doubting = with_confidence(judge, confidence)
    loaded = loaded_set(judge, "examples", examples)
    check_calibration_set(doubting, loaded, promise)
    asked = given_models(doubting)
    folder = None if run_dir is None else Path(run_dir)
    with watching(resumes=folder or current_workspace().folder) as watch:
        return calibrated_on(doubting, loaded, promise, asked, watch, folder)


@dataclass(frozen=True)
class Promise:
    """What a calibration is to promise; the attributes are the arguments of `calibrate`."""

    agreement: float = 0.9
    risk: float = 0.1
    within: int = 0
    orders: Orders = "both"

    def check(self, labels: LabelSpace) -> None:
        """Checks that it can be promised for these labels.

        Raises:
            BlpoError: If it can't.
        """
        check_promise(self.agreement, self.risk)
        check_least("within", self.within, 0)
        if self.within and not (labels.ordered and labels.kind != "scores"):
            raise BlpoError(
                f"within={self.within} is for the levels of an ordinal scale; the labels are {labels}: leave it out",
                option="within",
            )
        if self.within and self.within >= len(labels) - 1:
            raise BlpoError(
                f"within={self.within}: with {len(labels)} levels every label would agree; use a smaller number",
                option="within",
            )
        asked_in(labels, self.orders)

    def agrees(self, labels: LabelSpace, truth: Label, label: Label | None) -> bool:
        """Whether a label agrees with people's."""
        if label is None or not self.within:
            return labels.right(truth, label)
        return abs(labels.index(truth) - labels.index(label)) <= self.within


def with_confidence(judge: VisualJudge, method: Method | None, **options: Any) -> VisualJudge:
    """Returns a judge, or a cascade of judges, each with its own confidence or else with this one ("votes" if None)."""
    stages = [
        stage if stage.confidence is not None else stage.confident(method or "votes", **options)
        for stage in stages_of(judge)
    ]
    if not isinstance(judge, Cascade):
        return stages[0]
    cascade = Cascade(stages)
    cascade.card = dict(judge.card)
    return cascade


def check_calibration_set(judge: VisualJudge, examples: Sequence[dspy.Example], promise: Promise) -> None:
    """Refuses images that the judge was trained or validated on, images that are there twice, and too few.

    Raises:
        DataError: Naming all of the former, or how many images it takes at least.
    """
    if not examples:
        raise DataError("there are no labelled images to calibrate the judge on; label some")
    known = list(known_sets(judge))
    first: dict[str, str] = {}
    problems = []
    for example in examples:
        image = item_prints([example])
        problems += [f"{example.id}: in {name}" for name, prints in known if image in prints]
        if image in first:
            problems.append(f"{example.id}: the same image as {first[image]}")
        first.setdefault(image, str(example.id))
    if problems:
        raise DataError(
            "some of these images cannot calibrate the judge, as its agreement on images that it was compiled with is "
            "too good, and images that recur are not independent; leave them out, or make one label of several "
            "people's with load_rated(…)",
            problems,
            option="raters",
        )
    least = least_selected(promise.agreement, promise.risk / len(_sequence(judge)[1]))
    if len(examples) < least:
        raise DataError(
            f"{len(examples)} labelled images are too few to promise an agreement of {promise.agreement:g} with a risk "
            f"of {promise.risk:g}, even if all labels agreed; label at least {least}, more if some won't agree, or use "
            "a lower level"
        )


def _sequence(judge: VisualJudge) -> tuple[list[tuple[float, ...]], list[int]]:
    """The thresholds to test, in order, and the places where their sequence starts."""
    doubts = [stage.confidence for stage in stages_of(judge) if stage.confidence is not None]
    starts = {*doubts[-1].starts}
    if len(doubts) > 1:  # also where the last judge gives every label that it can, which selects the most images
        starts.add(len(doubts[-1].thresholds) - 1)
    return staircase([doubt.thresholds for doubt in doubts]), sorted(starts)


def calibrated_on(
    judge: VisualJudge,
    examples: Sequence[dspy.Example],
    promise: Promise,
    models: Sequence[Models],
    watch: Watch,
    run_dir: Path | None,
) -> Calibrated:
    """Returns the calibration of a judge, or a cascade, whose judges all have a confidence, on checked examples."""
    stages = stages_of(judge)
    said, ledgers = [], []
    for number, (stage, own) in enumerate(zip(stages, models, strict=True), 1):
        watch.begin("judging" if len(stages) == 1 else f"judge {number}", len(examples))
        about = {"judge": stage.identity(), "examples": dataset_fingerprint(examples)}
        with asking(run_dir, f"calibrate-{number}", about) as (workers, job):
            meter = Meter(num_threads=workers.num_threads, job=job)
            verdicts = label_images(
                stage, own, inputs_of(examples), workers=workers, meter=meter, done=watch.advance, orders=promise.orders
            )
        said.append(verdicts)
        ledgers.append(meter.ledger)
    answered = [i for i in range(len(examples)) if not any(verdicts[i].failure for verdicts in said)]
    if len(examples) - len(answered) > _MANY_FAILED * len(examples):
        failure = next(verdict.failure for verdicts in said for verdict in verdicts if verdict.failure)
        raise BlpoError(
            f"{len(examples) - len(answered)} of {len(examples)} images got no answer ({failure}); repeat the call "
            "once the models answer, as those that are left out may be the hard ones"
        )
    kept = [[verdicts[i] for i in answered] for verdicts in said]
    truth = [examples[i].label for i in answered]
    return _found(judge, examples, truth, kept, promise, models, ledgers)


def _found(
    judge: VisualJudge,
    examples: Sequence[dspy.Example],
    truth: Sequence[Label],
    said: Sequence[Sequence[Verdict]],
    promise: Promise,
    models: Sequence[Models],
    ledgers: Sequence[Ledger],
) -> Calibrated:
    """The thresholds for what the judges said of the images that all of them answered."""
    stages = stages_of(judge)
    confidences = np.array([[_acceptable(verdict) for verdict in verdicts] for verdicts in said])
    right = np.array(
        [[promise.agrees(judge.labels, y, v.label) for y, v in zip(truth, each, strict=True)] for each in said]
    )
    settings, starts = _sequence(judge)
    tests = sequence_tests(counts_of(confidences, right, settings), promise.agreement, promise.risk, starts)
    passed = [place for place, test in enumerate(tests) if test.passed]
    # The first of those that select the most, and ask the fewest judges.
    chosen = max(passed, key=lambda i: (tests[i].selected, -_asked(accepting(confidences, settings[i]))), default=None)
    alone = list(_alone(stages, confidences, right, ledgers, asked_in(judge.labels, promise.orders)))
    if chosen is not None:
        by = accepting(confidences, settings[chosen])
        alone.append(_together(alone, by, tests[chosen]))
    result = Calibrated(
        agreement=promise.agreement,
        risk=promise.risk,
        within=promise.within,
        n=len(truth),
        failed=len(examples) - len(truth),
        settings=tuple(settings),
        tests=tuple(tests),
        chosen=chosen,
        judges=tuple(alone),
        ledger=sum(ledgers[1:], ledgers[0]),
        _judge=None,
    )
    if chosen is None:
        return result
    made = _calibrated(judge, settings[chosen], _card(result, judge, examples, models, promise))
    return replace(result, _judge=made)


def _asked(by: Ints) -> int:
    """How many judges are asked beyond the first, over all images, where each accepts what `accepting` says."""
    return int(by[by >= 0].sum())


def _acceptable(verdict: Verdict) -> float:
    """A verdict's confidence, -1 if it has no label that could be accepted whatever the threshold."""
    if verdict.label is None or verdict.inconsistent or verdict.confidence is None:
        return -1.0
    return verdict.confidence


def _calibrated(judge: VisualJudge, setting: Sequence[float], calibration: Mapping[str, Any]) -> VisualJudge:
    if not isinstance(judge, Cascade):
        return judge.calibrated(setting[0], calibration)
    cascade = Cascade([stage.calibrated(at) for stage, at in zip(judge.judges, setting, strict=True)])
    cascade.card = {**judge.card, "calibration": dict(calibration)}
    return cascade


def _card(
    result: Calibrated,
    judge: VisualJudge,
    examples: Sequence[dspy.Example],
    models: Sequence[Models],
    promise: Promise,
) -> dict[str, Any]:
    """What the card of a calibrated judge says of it."""
    assert result.chosen is not None
    test, interval = result.tests[result.chosen], result.coverage_interval
    assert interval is not None
    return {
        "agreement": result.agreement,
        "risk": result.risk,
        "within": result.within,
        "thresholds": list(result.settings[result.chosen]),
        "confidence": [stage.confidence.to_dict() for stage in stages_of(judge) if stage.confidence is not None],
        "n": result.n,
        "selected": test.selected,
        "agreeing": test.agreeing,
        "agreement_at_least": lower_bound(test),
        "coverage": result.coverage,
        "coverage_interval": [interval.low, interval.high],
        **({"orders": promise.orders} if judge.labels.paired else {}),
        "models": names_of(judge, models),
        "data": described(examples),
    }


def _alone(
    stages: Sequence[VisualJudge], confidences: Floats, right: Bools, ledgers: Sequence[Ledger], orders: int
) -> Iterator[Alone]:
    """Each judge with every label that it gives."""
    for number, (stage, given, agreeing, ledger) in enumerate(
        zip(stages, confidences >= 0, right, ledgers, strict=True), 1
    ):
        roles = Counter(stage.roles)
        name = "judge alone" if len(stages) == 1 else f"judge {number} alone"
        usd = _usd(roles, ledger)
        yield Alone(
            name,
            labelled=int(given.sum()),
            agreeing=int((given & agreeing).sum()),
            n=len(given),
            calls=float(roles.total() * orders),
            usd=None if usd is None else usd * orders,
            cached=sum(ledger[role].cached for role in roles),
        )


def _usd(roles: Mapping[str, int], ledger: Ledger) -> float | None:
    """Dollars an image: the mean price of the calls that were billed, times their number; None if it is not known.

    A role whose answers all came from a cache was paid nothing.
    """
    used = [(count, ledger[role]) for role, count in roles.items()]
    if any(usage.unpriced or not (usage.calls or usage.cached) for _, usage in used):
        return None
    return sum(count * usage.usd / max(1, usage.calls) for count, usage in used)


def _together(alone: Sequence[Alone], by: Ints, test: SettingTest) -> Alone:
    """The calibrated judge or cascade: a judge is asked about what those before it escalate."""
    reaching = [int(((by < 0) | (by >= place)).sum()) / len(by) for place in range(len(alone))]
    costs = [each.usd for each in alone]
    return Alone(
        "calibrated",
        labelled=test.selected,
        agreeing=test.agreeing,
        n=len(by),
        calls=sum(share * each.calls for share, each in zip(reaching, alone, strict=True)),
        usd=None if None in costs else sum(share * (usd or 0.0) for share, usd in zip(reaching, costs, strict=True)),
        cached=sum(each.cached for each in alone),
    )
