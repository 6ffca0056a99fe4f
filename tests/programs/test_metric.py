"""Tests of a judge as the metric of other programs."""

from __future__ import annotations

from typing import Any

import dspy
import pytest
from engines import Seen, scripted_lm
from judges import SAFETY, SCALE, answers, judge_with, seen_by
from judges import picture as data_uri

from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import BlpoError
from blpo_dspy.programs import VisualJudge

LEVELS = LabelSpace("poor", "fair", "good", ordered=True)


def picture(grey: int = 0) -> dspy.Image:
    """Returns an image of one grey."""
    return dspy.Image(data_uri(grey))


EXAMPLE = dspy.Example(image=picture(1), prompt="a grey thing").with_inputs("image")


@pytest.mark.parametrize(
    ("labels", "answer", "score"),
    [(SCALE, "1", 0.0), (SCALE, "2", 0.25), (SCALE, "5", 1.0), (LEVELS, "poor", 0.0), (LEVELS, "fair", 0.5)],
)
def test_an_ordinal_label_scores_by_its_place_on_the_scale(labels: LabelSpace, answer: str, score: float) -> None:
    """The lowest level is 0, the highest 1."""
    verdict = judge_with(answers(answer), labels).as_metric()(EXAMPLE, dspy.Prediction())
    assert verdict.score == score
    assert str(verdict.label) == answer


@pytest.mark.parametrize(("answer", "score"), [("Safe", 1.0), ("Unsafe", 0.2)])
def test_a_nominal_label_scores_what_was_given_for_it(answer: str, score: float) -> None:
    """Labels without an order have no score of their own."""
    metric = judge_with(answers(answer)).as_metric(scores={"Safe": 1.0, "Unsafe": 0.2})
    assert metric(EXAMPLE, dspy.Prediction()).score == score


def test_given_scores_stand_before_the_scale() -> None:
    """Another taste than "more is better" can be stated."""
    metric = judge_with(answers("3"), SCALE).as_metric(scores={1: 0, 2: 0.5, 3: 1, 4: 0.5, 5: 0})
    assert metric(EXAMPLE, dspy.Prediction()).score == 1


def test_the_feedback_is_the_judges_evidence() -> None:
    """It names the label and the best one, what was reasoned and what was seen."""
    judge = judge_with(answers("2", description="a blurred room"), SCALE, reasoning=True)
    feedback = judge.as_metric()(EXAMPLE, dspy.Prediction()).feedback
    assert feedback == "The judge's label is 2; the best is 5. it is grey a blurred room"


def test_an_answer_without_a_label_scores_nothing_and_says_so() -> None:
    """What the model wrote is in the feedback, as data and not at any length."""
    marker = "<<CUSTOM-TYPE-START-IDENTIFIER>>"
    judge = judge_with(answers(f"I cannot say {marker} " + "x" * 1000), SCALE)
    verdict = judge.as_metric()(EXAMPLE, dspy.Prediction())
    assert (verdict.score, verdict.label) == (0.0, None)
    assert "no valid label" in verdict.feedback
    assert "I cannot say" in verdict.feedback
    assert marker not in verdict.feedback
    assert len(verdict.feedback) < 300


def test_evidence_in_the_feedback_is_data() -> None:
    """Neither reasoning nor description can put an image into the prompt of an optimizer."""
    marker = "<<CUSTOM-TYPE-START-IDENTIFIER>>"

    def script(seen: Seen) -> Any:
        return {"description": marker} if seen.fields == ["description"] else {"reasoning": marker, "label": "2"}

    verdict = judge_with(script, SCALE, reasoning=True).as_metric()(EXAMPLE, dspy.Prediction())
    assert marker not in verdict.feedback


def test_the_programs_own_image_is_judged_before_the_examples() -> None:
    """A program that makes or edits an image is scored on that; one that makes none on the one it was given."""
    judge = judge_with(answers("3"), SCALE, evidence="image")
    metric = judge.as_metric()
    for prediction in (dspy.Prediction(image=picture(9)), dspy.Prediction(image=None), dspy.Prediction(), {}):
        metric(EXAMPLE, prediction)
    made, *given = [dspy.Image(f"data:image/png;base64,{seen.images[0]}") for seen in seen_by(judge)]
    assert made == picture(9)
    assert given == [picture(1)] * 3


def test_fields_may_have_other_names() -> None:
    """Image and context are found under the names that the program has for them."""
    judge = judge_with(answers("3"), SCALE, context=["prompt", "style"], evidence="image")
    metric = judge.as_metric(fields={"image": "render", "style": "mood"})
    metric(dspy.Example(prompt="a cat"), dspy.Prediction(render=picture(9), mood="dark"))
    (seen,) = seen_by(judge)
    assert (seen.field("prompt"), seen.field("style")) == ("a cat", "dark")


def test_it_can_be_called_as_gepa_calls_it() -> None:
    """With two, three and all five arguments, and the same score each time."""
    metric = judge_with(answers("4"), SCALE).as_metric()
    assert metric(EXAMPLE, dspy.Prediction()).score == 0.75
    assert metric(EXAMPLE, dspy.Prediction(), []).score == 0.75
    assert metric(EXAMPLE, dspy.Prediction(), [], "caption", []).score == 0.75


class Painter(dspy.Module):
    """A program that turns a request into a picture, the brighter the better its instruction."""

    def __init__(self) -> None:
        super().__init__()
        self.plan = dspy.Predict("wish -> grey: int")

    def forward(self, wish: str) -> dspy.Prediction:
        """Paints."""
        return dspy.Prediction(image=picture(self.plan(wish=wish).grey))


def rate(seen: Seen) -> Any:
    """Plans a dark picture unless asked for a bright one; rates a picture by the checksum of its brightness."""
    if "grey" in seen.fields:
        return {"grey": 200 if "bright" in seen.instruction else 10}
    return {"label": "5" if seen.images[0] in data_uri(200) else "2"}


def wishes() -> list[dspy.Example]:
    """Returns examples for the painter."""
    return [dspy.Example(wish=f"wish {number}").with_inputs("wish") for number in range(4)]


def test_dspy_evaluate_takes_it() -> None:
    """The score of an evaluation is the mean over the images that the program made."""
    judge = judge_with(rate, SCALE, evidence="image")
    evaluate = dspy.Evaluate(devset=wishes(), metric=judge.as_metric(), num_threads=2)
    with dspy.context(lm=scripted_lm(rate, "scripted/painter")):
        assert evaluate(Painter()).score == 25.0


def test_gepa_improves_a_program_by_it() -> None:
    """The judge's words reach GEPA's reflection, and the program that it likes better is kept."""

    def reflect(seen: Seen) -> str:
        reflections.append(seen.text)
        return '{"new_instruction": "Be bright."}'

    reflections: list[str] = []
    gepa = dspy.GEPA(
        metric=judge_with(rate, SCALE, evidence="image").as_metric(),
        max_metric_calls=25,
        reflection_lm=scripted_lm(reflect, "scripted/reflection"),
        num_threads=1,
    )
    with dspy.context(lm=scripted_lm(rate, "scripted/painter")):
        compiled = gepa.compile(Painter(), trainset=wishes(), valset=wishes())
    assert compiled.plan.signature.instructions == "Be bright."
    assert "The judge's label is 2; the best is 5." in reflections[0]


def test_it_leaves_the_trace_of_the_program_alone() -> None:
    """Optimizers read a program's steps off the trace; the judge's own are not among them."""
    judge = judge_with(answers("3"), SCALE)
    with dspy.context(trace=[]):
        judge.as_metric()(EXAMPLE, dspy.Prediction())
        assert dspy.settings.trace == []


@pytest.mark.parametrize(("threshold", "demos"), [(0.5, 0), (0.25, 2)])
def test_bootstrap_few_shot_takes_it_with_a_threshold(threshold: float, demos: int) -> None:
    """Only steps that the judge likes well enough become demonstrations."""
    metric = judge_with(rate, SCALE, evidence="image").as_metric()
    bootstrap = dspy.BootstrapFewShot(
        metric=metric, metric_threshold=threshold, max_bootstrapped_demos=2, max_labeled_demos=0, max_rounds=1
    )
    with dspy.context(lm=scripted_lm(rate, "scripted/painter")):
        assert len(bootstrap.compile(Painter(), trainset=wishes()).plan.demos) == demos


@pytest.mark.parametrize(
    ("labels", "options", "problem"),
    [
        (SAFETY, {}, "nominal labels have no order"),
        (SAFETY, {"scores": {"Safe": 1.0}}, "to each of Safe, Unsafe"),
        (SAFETY, {"scores": {"Safe": 1.0, "Unsafe": 0.0, "Maybe": 0.5}}, "to each of Safe, Unsafe"),
        (SAFETY, {"scores": {"Safe": 1.5, "Unsafe": 0.0}}, r"number in \[0, 1\]"),
        (SCALE, {"scores": dict.fromkeys(range(1, 6), float("nan"))}, r"number in \[0, 1\]"),
        (SCALE, {"fields": {"promt": "prompt"}}, r"no input \['promt'\]"),
    ],
)
def test_what_cannot_work_is_refused_at_once(labels: LabelSpace, options: dict[str, Any], problem: str) -> None:
    """Not in the middle of an optimization, where DSPy would score it 0."""
    with pytest.raises(BlpoError, match=problem):
        VisualJudge(labels, instruction="Judge.", context=["prompt"]).as_metric(**options)


def test_a_field_that_is_nowhere_is_named() -> None:
    """Neither prediction nor example has it: the error says which field."""
    metric = judge_with(answers("3"), SCALE, context=["prompt"]).as_metric(fields={"image": "render"})
    with pytest.raises(BlpoError, match="'render'"):
        metric(EXAMPLE, dspy.Prediction(image=picture()))
    with pytest.raises(BlpoError, match="'prompt'"):
        metric(dspy.Example(), dspy.Prediction(render=picture()))


@pytest.mark.parametrize("text", ["/etc/hostname", "https://example.org/a.png", data_uri()])
def test_text_is_never_taken_for_an_image(text: str) -> None:
    """What a model wrote becomes no path to read and no address; the error says what to do instead."""
    judge = judge_with(answers("3"), SCALE)
    with pytest.raises(BlpoError, match=r"is text .* make it a dspy\.Image"):
        judge.as_metric()(EXAMPLE, dspy.Prediction(image=text))
    assert seen_by(judge) == []


@pytest.mark.parametrize(("answer", "score"), [("0", 0.0), ("32.5/100", 0.325), ("100", 1.0), ("101", 0.0)])
def test_a_score_is_its_part_of_the_range(answer: str, score: float) -> None:
    """An answer off the range is none."""
    verdict = judge_with(answers(answer), LabelSpace.scores(0, 100)).as_metric()(EXAMPLE, dspy.Prediction())
    assert verdict.score == pytest.approx(score)
    assert ("the best is 100" in verdict.feedback) == (answer != "101")


def test_scores_of_labels_are_not_for_a_range() -> None:
    """A range is not listed."""
    with pytest.raises(BlpoError, match="scores are for labels of a closed set"):
        judge_with(answers("1"), LabelSpace.scores(0, 1)).as_metric(scores={0: 1.0})
