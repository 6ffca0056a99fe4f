"""A metric of the user's: what it takes and what it returns."""

from __future__ import annotations

import math
from typing import Any

import dspy
import pytest

from blpo_dspy.errors import BlpoError
from blpo_dspy.optimizers.bench.scoring import check_metric, scored

EXAMPLE, PREDICTION = dspy.Example(label="a"), dspy.Prediction(label="a")


@pytest.mark.parametrize(
    ("said", "score"), [(0, 0.0), (1, 1.0), (0.25, 0.25), (True, 1.0), (dspy.Prediction(score=0.5, feedback="x"), 0.5)]
)
def test_a_score_is_any_number_from_0_to_1(said: Any, score: float) -> None:
    """As a number, a truth value or a prediction with one, as DSPy's metrics return them."""
    assert scored(lambda example, prediction: said, EXAMPLE, PREDICTION) == score


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (1.5, "1.5"),
        (-0.01, "-0.01"),
        (math.nan, "nan"),
        pytest.param(10**5000, "beyond any float", id="huge"),
        ("x", "'x'"),
        (None, "None"),
    ],
)
def test_a_value_out_of_range_or_not_a_number_is_named(said: Any, shown: str) -> None:
    """Instead of an error of Python's."""
    with pytest.raises(BlpoError, match=rf"the metric returned .*{shown}.*; BLPO needs a score in \[0, 1\]"):
        scored(lambda example, prediction: said, EXAMPLE, PREDICTION)


def test_a_metric_that_cannot_be_called_is_refused_by_its_signature() -> None:
    """One without a signature is taken as it is."""
    check_metric(lambda example, prediction, trace=None: 1.0)
    check_metric(min)
    for metric, said in (("accuracy", "is not callable"), (lambda example: 1.0, r"the metric takes \(example\)")):
        with pytest.raises(BlpoError, match=said):
            check_metric(metric)
