"""How far a judge agrees with people, and how it compares with another one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy.utils.exceptions import LMAuthError
from judges import SAFETY, SCALE, answers, judge_with, picture, seen_by
from workspaces import shared

from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import BlpoError, BlpoWarning, ModelError
from blpo_dspy.optimizers.bench.cards import described
from blpo_dspy.programs import Cascade
from blpo_dspy.runs.measure import calibration_data, measure

TESTSET = [
    dspy.Example(image=dspy.Image(picture(10 * i)), label="Safe" if i % 4 else "Unsafe").with_inputs("image")
    for i in range(12)
]


def test_it_gives_figures_with_their_intervals_and_the_verdicts() -> None:
    """Of a judge that says Safe to everything, three quarters are right."""
    judge = judge_with(answers("Safe"), evidence="image")
    found = shared(measure, judge, TESTSET, progress=False)
    assert found.agreement.accuracy == 0.75
    interval = found.intervals["accuracy"]
    assert interval is not None
    assert interval.low < 0.75 < interval.high
    assert [verdict.label for verdict in found.verdicts] == ["Safe"] * 12
    assert (found.ledger.total.calls, found.paired) == (12, None)
    assert "accuracy 0.75 (" in found.summary()
    assert "macro-F1 " in found.summary()
    assert len(repr(found)) < 400
    assert "<table>" in found._repr_html_()


def test_two_judges_are_compared_on_the_same_images() -> None:
    """From the other one to this one."""
    good = judge_with(lambda seen: "Unsafe" if len(seen_by(good)) % 4 == 1 else "Safe", evidence="image")
    poor = judge_with(answers("Unsafe"), evidence="image", instruction="Judge badly.")
    found = shared(measure, good, TESTSET, against=poor, num_threads=1, progress=False)
    assert found.against is not None
    assert found.against.accuracy == 0.25
    assert found.paired is not None
    assert (found.paired.fixed, found.paired.broken) == (9, 0)
    assert "better" in found.summary()


def test_a_measurement_cut_short_resumes_from_its_folder(tmp_path: Path) -> None:
    """Without DSPy's cache; calls and verdicts are those of an undisturbed one."""
    expired = LMAuthError("the key has expired", model="scripted/test")
    judge = judge_with(lambda seen: expired if len(seen_by(judge)) == 6 else {"label": "Safe"}, evidence="image")
    options: dict[str, Any] = {"num_threads": 1, "progress": False, "run_dir": tmp_path / "run"}
    with pytest.raises(ModelError, match="the key has expired"):
        shared(measure, judge, TESTSET, **options)
    found = shared(measure, judge, TESTSET, **options)
    assert (len(seen_by(judge)), found.ledger.total.calls, found.ledger.total.failed) == (13, 13, 1)
    assert [verdict.label for verdict in found.verdicts] == ["Safe"] * 12
    assert shared(measure, judge, TESTSET, **options).verdicts == found.verdicts
    assert len(seen_by(judge)) == 13


def test_judges_of_different_tasks_cannot_be_compared() -> None:
    """Other labels, or other inputs."""
    judge = judge_with(answers("Safe"), evidence="image")
    for other in (judge_with(answers("3"), SCALE), judge_with(answers("Safe"), images=["photo"])):
        with pytest.raises(BlpoError, match="differ in their labels or inputs"):
            shared(measure, judge, TESTSET, against=other, progress=False)
    with pytest.raises(BlpoError, match="judge='x' is not a judge"):
        measure("x", TESTSET)  # type: ignore[arg-type]
    assert seen_by(judge) == []


def test_images_that_the_judge_was_compiled_with_are_remarked_on() -> None:
    """Figures on them are too good."""
    judge = judge_with(answers("Safe"), evidence="image")
    judge.card = {"data": {"train": described(TESTSET[:4])}}
    with pytest.warns(BlpoWarning, match=r"compiled with 4 of these 12 images \(its train set\)"):
        shared(measure, judge, TESTSET, progress=False)


def test_images_that_the_judge_was_calibrated_on_are_remarked_on() -> None:
    """A judge and a cascade; other images aren't."""
    judge = judge_with(answers("Safe"), evidence="image").confident("views")
    sure = judge.calibrated(0.5, {"data": described(TESTSET[:4])})
    with pytest.warns(BlpoWarning, match=r"calibrated on 4 of these 12 images: its threshold was chosen by them"):
        shared(measure, sure, TESTSET, progress=False)
    assert list(calibration_data(sure, TESTSET[4:])) == []
    cascade = Cascade([judge.calibrated(0.5), judge])
    cascade.card = {"calibration": {"data": described(TESTSET)}}
    assert [line.partition(":")[0] for line in calibration_data(cascade, TESTSET)] == ["exactly these images"]


def test_a_failed_call_and_an_answer_without_a_label_are_counted_apart() -> None:
    """Neither is a wrong label."""

    def script(seen):
        number = len(seen_by(judge))
        return "no idea" if number == 5 else "Safe"

    judge = judge_with(script, SAFETY, evidence="image")
    found = shared(measure, judge, TESTSET, num_threads=1, progress=False)
    assert (found.agreement.invalid, found.agreement.failed, found.agreement.n) == (1, 0, 12)
    assert "invalid 1" in found.summary()


def test_a_judge_of_pairs_is_measured_in_both_orders_unless_one_is_wanted() -> None:
    """Of a judge that always names the first image, every label changes with the order."""
    labels = LabelSpace.pairwise("A", "B")
    judge = judge_with(answers("A"), labels, images=["left", "right"], evidence="image")
    pairs = [
        dspy.Example(left=dspy.Image(picture(i)), right=dspy.Image(picture(99 + i)), label="A").with_inputs(
            "left", "right"
        )
        for i in range(4)
    ]
    found = shared(measure, judge, pairs, progress=False)
    assert (found.agreement.accuracy, found.agreement.flip_rate, found.agreement.invalid) == (0.0, 1.0, 0)
    assert "flip rate 1.00 (" in found.summary()
    assert found.ledger.total.calls == 8
    one = shared(measure, judge, pairs, progress=False, orders="one")
    assert (one.agreement.accuracy, one.agreement.flips, one.ledger.total.calls) == (1.0, None, 4)
