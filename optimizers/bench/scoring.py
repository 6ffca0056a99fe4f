"""A metric of the user's: what it has to take and to return."""

from __future__ import annotations

import inspect
import math
import reprlib
from collections.abc import Callable
from typing import Any

import dspy

from blpo_dspy.errors import BlpoError

Metric = Callable[..., Any]

_NEEDED = (
    "write metric(example, prediction), or metric(example, prediction, trace=None), that returns a score in [0, 1]"
)


def check_metric(metric: object) -> None:
    """Checks that a metric can be called, before anything is paid for that it is to score.

    Raises:
        BlpoError: If it can't be called with an example and a prediction.
    """
    if not callable(metric):
        raise BlpoError(f"metric={metric!r} is not callable; {_NEEDED}")
    try:
        signature = inspect.signature(metric)
    except ValueError:  # some callables written in C have no signature
        return
    try:
        signature.bind(dspy.Example(), dspy.Prediction())
    except TypeError as error:
        raise BlpoError(
            f"the metric takes {signature}, not an example and a prediction ({error}); {_NEEDED}"
        ) from error


def scored(metric: Metric, example: dspy.Example, prediction: dspy.Prediction) -> float:
    """Returns what a metric says of a prediction.

    Raises:
        BlpoError: If that is not a score in [0, 1].
    """
    result = metric(example, prediction)
    given = result.get("score") if isinstance(result, dspy.Prediction) else result
    try:
        score, shown = float(given), repr(given)
    except OverflowError:
        score, shown = math.inf, "a number beyond any float"
    except (TypeError, ValueError):
        score, shown = math.nan, reprlib.repr(given)
    if not 0 <= score <= 1:
        raise BlpoError(f"the metric returned {shown}; BLPO needs a score in [0, 1], 1 for full agreement")
    return score
