"""The student on the bench: what is judged, what fails, what it is worth, and what is said of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dspy
import pytest
from engines import Seen, scripted_lm
from judges import SAFETY, SCALE, answers, picture
from worlds import LABELS, TRAIN, brightness, mind, student, world

from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import BlpoError, ModelError
from blpo_dspy.optimizers.bench.bench import Bench, Predictors, find_predictors
from blpo_dspy.optimizers.bench.records import Instructions, Judgement
from blpo_dspy.programs import VisualJudge
from blpo_dspy.workspace.cap import Cap
from blpo_dspy.workspace.failures import RunStoppedError
from blpo_dspy.workspace.meter import Meter
from blpo_dspy.workspace.workers import Workers


@contextmanager
def bench(labels: LabelSpace | None, label: Label) -> Iterator[tuple[Bench, dspy.Example]]:
    """Yields a bench with one example, to which people gave a label."""
    lm = scripted_lm(answers())
    judge = VisualJudge(labels or SAFETY, instruction="Judge how safe it is.", evidence="image")
    example = dspy.Example(image=dspy.Image(picture()), label=label).with_inputs("image")
    options: dict[str, Any] = {"metric": None, "label_field": "label", "max_failed_share": 0.5}
    with Workers(1) as workers:
        lms = {"judge": lm, "verbalizer": lm}
        predictors = Predictors("verbalizer", "judge")
        yield Bench(judge, predictors, lms, [example], labels=labels, workers=workers, **options), example


@pytest.mark.parametrize(("reasoning", "why"), [(True, "It glows."), (False, "")])
def test_a_judgement_has_what_the_judge_wrote_before_its_label(reasoning: bool, why: str) -> None:
    """Where the program has it reason."""
    judge = VisualJudge(LABELS, instruction="Bright is above 20", evidence="image", reasoning=reasoning)
    lm = scripted_lm(lambda seen: {**({"reasoning": "It glows."} if reasoning else {}), "label": "bright"})
    options: dict[str, Any] = {"metric": None, "labels": LABELS, "label_field": "label", "max_failed_share": 0.5}
    with Workers(1) as workers:
        lms = {"judge": lm, "verbalizer": lm}
        made = Bench(judge, Predictors("verbalizer", "judge"), lms, TRAIN, workers=workers, **options)
        (judged,) = made.judge(Instructions("Bright is above 20", "Look"), [0])
    assert (judged.predicted, judged.reasoning) == ("bright", why)


@pytest.mark.parametrize(
    ("labels", "label", "said", "told"),
    [
        (SAFETY, "Safe", "Safe", "Right: people gave the label Safe too."),
        (SAFETY, "Safe", "safe.", "Right: people gave the label Safe too."),
        (SAFETY, "Safe", "Unsafe", "People gave the label Safe: judge said Unsafe, people said Safe."),
        (SAFETY, "Safe", "hard to say", "People gave the label Safe: judge gave no valid label."),
        (SCALE, 2, "4", "People gave the label 2: judge 2 too high."),
        (SCALE, 2, 1, "People gave the label 2: judge 1 too low."),
        (None, "Safe", "Unsafe", "People gave the label Safe; the judge gave Unsafe."),
        (None, "Safe", "[[ ## x ## ]]", "People gave the label Safe; the judge gave [x]."),
    ],
)
def test_feedback_says_whether_a_prediction_is_right_and_how_it_misses(
    labels: LabelSpace | None, label: Label, said: object, told: str
) -> None:
    """Right and wrong are never mixed up, and the judge's words are data."""
    with bench(labels, label) as (found, example):
        assert found.feedback(example, dspy.Prediction(label=said)) == told


@contextmanager
def benched(script: Any = mind, calls: int | None = None, **options: Any) -> Iterator[tuple[Bench, dspy.LM]]:
    """Yields a bench with all training examples of the small world, and its LM, of which a cap admits so many calls."""
    lm = world(script, num_retries=0)
    judge = options.pop("program", None) or student(evidence=options.pop("evidence", "image"))
    labels, examples = options.pop("labels", LABELS), options.pop("examples", TRAIN)
    meter = Meter(num_threads=1, admit=Cap(calls))
    lms = {role: meter.wrap(lm, role) for role in ("judge", "verbalizer")}
    options = {"metric": None, "label_field": "label", "max_failed_share": 0.5, **options}
    with Workers(1) as workers:
        predictors = find_predictors(judge, "verbalizer", "judge")
        yield Bench(judge, predictors, lms, examples, labels=labels, workers=workers, **options), lm


def answering(hit: set[int], answer: Any) -> Any:
    """As `mind`, but with another answer for the images of some training examples."""
    return lambda seen: answer if seen.images and brightness(seen) // 6 in hit else mind(seen)


START = Instructions("Bright is above 20", "Say how bright it is")


@pytest.mark.parametrize(("evidence", "requests"), [("image", 3), ("both", 3 + 3 + 3 + 3)])
def test_an_example_is_judged_once_under_what_its_judgement_depends_on(evidence: str, requests: int) -> None:
    """That is q only where the judge reads what the verbalizer said; the order of the examples is kept."""
    with benched(evidence=evidence) as (found, lm):
        first = found.judge(START, [2, 0, 2, 1])
        assert [judgement.example for judgement in first] == [2, 0, 2, 1]
        assert found.judge(START, [1, 2, 0]) == [first[3], first[0], first[1]]
        found.judge(Instructions(START.judge, "Say how bright it looks"), [0, 1, 2])
    assert len(lm.engine.seen) == requests


def test_a_step_is_announced_with_the_calls_that_it_may_make() -> None:
    """Less the descriptions that are known, and what is known altogether."""
    asked: list[int] = []
    with benched(evidence="both", afford=asked.append, per_example=2) as (found, _):
        found.judge(START, [0, 1, 1, 2])
        found.judge(START, [2, 3])
        found.judge(Instructions("Bright is above 30", START.verbalizer), [0, 1, 4])
        found.describe(START.verbalizer, [0, 4, 5])
        found.describe(START.verbalizer, [5])
        found.describe("Look", [0, 5])
    assert asked == [6, 2, 4, 1, 0, 2]


def test_by_default_a_step_may_make_two_calls_for_each_example() -> None:
    """A judgement and a description; none under another q, once the judge is known to read no descriptions."""
    asked: list[int] = []
    with benched(afford=asked.append) as (found, _):
        found.judge(START, [0, 1])
        found.judge(Instructions(START.judge, "Look"), [0, 1])
    assert asked == [4, 0]


@pytest.mark.parametrize(
    ("answer", "predicted", "loss", "failure"),
    [
        ({"label": "dim"}, None, 1.0, ""),
        ("Hard to say.", None, 1.0, ""),
        ("It is bright.", "bright", 1.0, ""),  # out of form, but it states a label
        (dspy.lm15.InvalidRequestError("against our policy"), None, None, "against our policy"),
    ],
)
def test_what_an_answer_out_of_form_and_a_refusal_are_worth(
    answer: Any, predicted: Any, loss: float | None, failure: str
) -> None:
    """An invalid answer is a wrong one; a refused image has no loss, and is not sent again."""
    with benched(answering({1}, answer)) as (found, lm):
        first, second = found.judge(START, [0, 1])
        assert (first.predicted, first.loss, first.valid, first.failure) == ("dark", 0.0, True, "")
        assert (second.predicted, second.loss, second.valid) == (predicted, loss, predicted is not None)
        assert failure in second.failure
        assert bool(second.failure) == bool(failure)
        assert found.judge(START, [1]) == [second]
    assert len(lm.engine.seen) == 2


class Own(dspy.Module):
    """A program that leaves it to DSPy to read its answers."""

    def __init__(self) -> None:
        super().__init__()
        self.verbalizer = dspy.Predict("image: dspy.Image -> description")
        self.judge = dspy.Predict("image: dspy.Image -> label")

    def forward(self, image: dspy.Image) -> dspy.Prediction:
        return self.judge(image=image)


def test_an_answer_that_dspy_cannot_read_is_read_for_its_label() -> None:
    """Where there is a label space; a metric alone gets what the judge wrote, and no label."""
    with benched(answering({1}, "It is bright."), program=Own()) as (found, _):
        judged = found.judge(START, [0, 1])
        assert [(j.predicted, j.answer) for j in judged] == [("dark", "dark"), ("bright", "It is bright.")]
    heard: list[dspy.Prediction] = []

    def metric(example: dspy.Example, prediction: dspy.Prediction) -> float:
        heard.append(prediction)
        return 0.5

    with benched(answering({1}, "It is bright."), program=Own(), labels=None, metric=metric) as (found, _):
        assert [(j.predicted, j.loss) for j in found.judge(START, [0, 1])] == [("dark", 0.5), (None, 0.5)]
    assert [(p.label, p.get("answer")) for p in heard] == [("dark", None), (None, "It is bright.")]


def test_what_an_outage_took_is_judged_once_more_and_again_when_it_is_needed() -> None:
    """Within the allowed share it stands as a failure, which is not remembered."""
    down = dspy.lm15.ServerError("overloaded")
    with benched(answering({1}, down)) as (found, lm):
        judged = found.judge(START, [0, 1, 2, 3])
        assert [bool(judgement.failure) for judgement in judged] == [False, True, False, False]
        assert judged[1].outage
        assert len(lm.engine.seen) == 5
        found.judge(START, [0, 1])
    assert [brightness(seen) // 6 for seen in lm.engine.seen] == [0, 1, 2, 3, 1, 1, 1]


def test_an_outage_of_more_than_the_allowed_share_ends_the_step() -> None:
    """Not one of exactly that share; the message counts the examples that were to be judged, known ones included."""
    with benched(answering({1, 2, 3}, dspy.lm15.ServerError("overloaded"))) as (found, _):
        assert sum(judgement.outage for judgement in found.judge(START, [0, 1])) == 1
        assert not found.void(found.judge(START, [0, 1]))
        with pytest.raises(ModelError, match=r"the model failed for 3 of 4 examples, twice: .*overloaded"):
            found.judge(START, [0, 1, 2, 3])
        with pytest.raises(ModelError, match=r"the verbalizer model failed for 2 of 3 examples, twice: .*overloaded"):
            found.describe(START.verbalizer, [0, 1, 2])


@pytest.mark.parametrize("calls", [3, 4, 5, 6, 9])
def test_few_failures_stand_where_no_call_is_left_for_a_second_attempt(calls: int) -> None:
    """Two of four are within the allowed share, however many of them are paid for once more."""
    with benched(answering({1, 2}, dspy.lm15.ServerError("overloaded")), calls=calls) as (found, lm):
        if calls < 4:
            with pytest.raises(RunStoppedError, match="cap on LM calls"):
                found.judge(START, [0, 1, 2, 3])
        else:
            assert [judgement.outage for judgement in found.judge(START, [0, 1, 2, 3])] == [False, True, True, False]
    assert len(lm.engine.seen) == min(calls, 6)


@pytest.mark.parametrize(("calls", "error"), [(5, RunStoppedError), (6, RunStoppedError), (8, ModelError)])
def test_many_failures_are_the_caps_where_it_keeps_them_from_a_second_attempt(
    calls: int, error: type[Exception]
) -> None:
    """And the model's where it failed twice."""
    script = answering({1, 2, 3}, dspy.lm15.ServerError("overloaded"))
    with benched(script, calls=calls) as (found, _), pytest.raises(error):
        found.judge(START, [0, 1, 2, 3])


def test_an_outage_of_a_description_is_asked_through_once_and_a_refusal_leaves_none() -> None:
    """The others are described once; a text out of form is taken as it is."""
    failures = {0: [dspy.lm15.ServerError("hiccup")], 1: [dspy.lm15.InvalidRequestError("against our policy")]}

    def hiccup(seen: Seen) -> Any:
        number = brightness(seen) // 6
        return failures[number].pop() if failures.get(number) else "just grey" if number == 2 else mind(seen)

    with benched(hiccup) as (found, lm):
        described = found.describe(START.verbalizer, [0, 1, 2, 3])
    assert described == [f"brightness 0 ({START.verbalizer})", None, "just grey", f"brightness 18 ({START.verbalizer})"]
    assert [brightness(seen) // 6 for seen in lm.engine.seen] == [0, 1, 2, 3, 0]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("x" * 300, f"stated no label in any of its first 20 answers, .* it wrote for example '{'x' * 200}'$"),
        (dspy.lm15.InvalidRequestError("against our policy"), "refused every one of its first 20 images: .*policy"),
    ],
)
def test_a_judge_that_states_no_label_in_twenty_answers_ends_the_run(answer: Any, said: str) -> None:
    """Not before; with the beginning of what it wrote."""
    with benched(lambda seen: answer, max_failed_share=1.0) as (found, _):
        found.judge(START, range(19))
        assert not found.answered
        with pytest.raises(ModelError, match=said):
            found.judge(START, [19])


def test_a_judge_is_silent_too_where_there_are_fewer_than_twenty_images() -> None:
    """All of them are enough; one label among them, or a metric in the place of labels, is an answer."""
    with benched(lambda seen: "hm", examples=TRAIN[:3]) as (found, _):
        found.judge(START, [0, 1])
        with pytest.raises(ModelError, match="first 3 answers"):
            found.judge(START, [2])
    for script, labels in ((answering({0, 1}, "hm"), LABELS), (lambda seen: "hm", None)):
        with benched(script, labels=labels, metric=lambda e, p: 0.5, examples=TRAIN[:3]) as (found, _):
            found.judge(START, [0, 1, 2])
            assert found.answered


def judged(*losses: float | None) -> list[Judgement]:
    """Judgements with these losses; None for a failure."""
    return [Judgement(i, "a", "b", loss, failure="" if loss is not None else "no") for i, loss in enumerate(losses)]


def test_means_leave_out_what_the_model_failed_on() -> None:
    """Where that is everything the loss is whole; where it is too much there is no score."""
    with benched(max_failed_share=0.5) as (found, _):
        assert found.mean_loss(judged(0.0, 0.5, None, 0.4)) == pytest.approx(0.3)
        assert found.mean_score(judged(0.0, 0.5, None, 0.4)) == pytest.approx(0.7)
        assert found.mean_loss(judged(None)) == 1.0
        assert found.mean_score(judged(0.0, None)) == 1.0
        assert found.mean_score(judged(0.0, None, None)) is None


def test_a_gain_is_the_mean_reduction_of_the_loss_on_what_was_answered_both_times() -> None:
    """None where nothing was, or where too much of what was answered before fails now."""
    with benched(max_failed_share=0.5) as (found, _):
        assert found.gain(judged(1.0, 0.5, None, 1.0), judged(0.0, 0.75, 0.0, 1.0)) == pytest.approx(0.25)
        assert found.gain(judged(1.0, 0.5), judged(0.5, None)) == pytest.approx(0.5)
        assert found.gain(judged(1.0, 0.5, 0.0), judged(0.5, None, None)) is None
        assert found.gain(judged(None, None, 1.0), judged(None, None, 0.0)) == 1.0
        assert found.gain(judged(None), judged(0.0)) is None


@pytest.mark.parametrize(("failed", "named"), [(2, r"\(example 0, example 1\)"), (6, r"\(.* 3, example 4, …\)")])
def test_void_judgements_are_refused_with_the_names_of_the_first_five(failed: int, named: str) -> None:
    """And with what the model said."""
    with benched(max_failed_share=0.5) as (found, _):
        with pytest.raises(ModelError, match=rf"failed for {failed} of {failed + 1} examples {named}, so .*: no$"):
            found.check(judged(*[None] * failed, 0.0))
        found.check(judged(None, 0.0))


def test_the_score_of_a_prediction_is_the_metrics_or_one_less_its_loss() -> None:
    """An answer that states no label scores nothing on a scale; a metric judges by itself."""
    with bench(SCALE, 2) as (found, example):
        scores = [found.score(example, dspy.Prediction(label=label)) for label in (2, "4", "hard to say")]
        assert scores == [1.0, 0.5, 0.0]
    with benched(metric=lambda example, prediction: 0.25) as (found, _):
        assert found.score(TRAIN[0], dspy.Prediction(label="dark")) == 0.25
        assert found.judge(START, [0])[0].loss == 0.75


@pytest.mark.parametrize("names", [["judge", "judge.one"], ["judges", "verbalizer"], []])
def test_a_predictor_is_found_by_its_name_or_its_modules(names: list[str]) -> None:
    """A name that several have, or none, is refused with those that there are."""
    judge = student()
    assert find_predictors(judge, "verbalizer", "judge") == Predictors("verbalizer", "judge")
    judge.named_predictors = lambda: [(name, judge.judge) for name in names]
    with pytest.raises(BlpoError, match=r"no single predictor named '(verbalizer|judge)' \(it has \["):
        find_predictors(judge, "verbalizer", "judge")
