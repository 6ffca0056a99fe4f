"""The student on the bench: what it says of its predictions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dspy
import pytest
from engines import scripted_lm
from judges import SAFETY, SCALE, answers, picture

from blpo_dspy.calls.workers import Workers
from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.optimizers.bench.bench import Bench, Predictors
from blpo_dspy.programs import VisualJudge


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
