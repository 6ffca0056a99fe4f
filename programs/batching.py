"""Many images through one judge, in DSPy's threads; an image that cannot be judged costs none of the others."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import dspy
from dspy.utils.exceptions import LMInvalidRequestError
from dspy.utils.parallelizer import ParallelExecutor

from blpo_dspy.errors import BlpoError
from blpo_dspy.images import ImageSource
from blpo_dspy.metering import FATAL_ERRORS

Item: TypeAlias = "dspy.Example | Mapping[str, Any] | ImageSource"


@dataclass(frozen=True)
class Batch:
    """What came of a batch.

    Attributes:
        predictions: One per item, in order; None where there is none.
        failures: Why there is none, by position, in order.
    """

    predictions: list[dspy.Prediction | None]
    failures: dict[int, Exception]

    def warn(self) -> None:
        """Warns of failures in one line."""
        if self.failures:
            position, error = next(iter(self.failures.items()))
            warnings.warn(
                f"{len(self.failures)} of {len(self.predictions)} images got no prediction (None in their place; "
                f"return_failed_examples=True names them); the first is number {position}: {error}",
                stacklevel=3,
            )


@dataclass(frozen=True)
class _Failure:
    """In place of a prediction: an error that is that of one image, and none for DSPy to count."""

    error: Exception


class _Judging:
    """The judge, as DSPy's threads call it: it doesn't go on after an error that every call would meet."""

    def __init__(self, judge: Callable[..., dspy.Prediction]) -> None:
        self._judge = judge
        self.fatal: Exception | None = None

    def __call__(self, inputs: Mapping[str, Any]) -> dspy.Prediction | _Failure:
        if self.fatal is not None:
            return _Failure(self.fatal)
        try:
            return self._judge(**inputs)
        except FATAL_ERRORS as error:
            self.fatal = error
            return _Failure(error)
        except (BlpoError, LMInvalidRequestError) as error:
            return _Failure(error)


def run_batch(
    judge: Callable[..., dspy.Prediction], inputs: Sequence[Mapping[str, Any]], max_errors: int | None, **options: Any
) -> Batch:
    """Calls a judge once for each of the inputs.

    Args:
        judge: The judge.
        inputs: The keyword arguments of each call.
        max_errors: How many calls may fail for another reason than their own image; DSPy's setting if None.
        **options: Those of DSPy's `ParallelExecutor`.

    Raises:
        LMError: If the model refuses every call: a wrong key, no credit, an unknown model.
        Exception: DSPy's own, once `max_errors` calls have failed.
    """
    judging = _Judging(judge)
    executor = ParallelExecutor(max_errors=max_errors, **options)
    outcomes = executor.execute(lambda position: judging(inputs[position]), range(len(inputs)))
    if judging.fatal is not None:
        raise judging.fatal
    failed = {position: outcome.error for position, outcome in enumerate(outcomes) if isinstance(outcome, _Failure)}
    predictions = [None if isinstance(outcome, _Failure) else outcome for outcome in outcomes]
    return Batch(predictions, dict(sorted({**executor.exceptions_map, **failed}.items())))


def listed(items: Iterable[Item]) -> list[Item]:
    """Returns the items of a batch.

    Raises:
        BlpoError: If they are one item, which would be taken apart.
    """
    if isinstance(items, (str, bytes, os.PathLike, Mapping, dspy.Example)):
        raise BlpoError(
            f"a batch is a list of images or examples, but a {type(items).__name__} is one; put it into a list. "
            "blpo_dspy.predict judges a folder or a table"
        )
    return list(items)


def inputs_of(items: Iterable[Item], names: Sequence[str]) -> list[dict[str, Any]]:
    """Returns the keyword arguments of a call for each item of a batch.

    Args:
        items: Examples with their inputs set, mappings of inputs, or images alone.
        names: What the judge takes, the image first.

    Raises:
        BlpoError: If an item lacks an input or has one too many, whatever their values.
    """
    found = []
    for position, item in enumerate(items):
        if isinstance(item, dspy.Example):
            inputs = dict(item.inputs().items())
        else:
            inputs = dict(item) if isinstance(item, Mapping) else {names[0]: item}
        if set(inputs) != set(names):
            raise BlpoError(
                f"this judge takes {', '.join(names)}, but item {position} of the batch has "
                f"{', '.join(map(str, inputs)) or 'nothing'}; give examples or dicts with these inputs"
            )
        found.append(inputs)
    return found
