"""Many images through one judge, in DSPy's threads; an image that cannot be judged costs none of the others."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import dspy
import numpy as np
from dspy.utils.exceptions import LMInvalidRequestError

from blpo_dspy.data.images.prepare import ImageSource, unwrapped
from blpo_dspy.data.tables import TableSource, in_memory, read_table, require_columns
from blpo_dspy.errors import BlpoError, ModelError, cause, check_kind, check_least, notice
from blpo_dspy.models.failures import FATAL_ERRORS

_NAMED_CAUSES, _NAMED_POSITIONS, _LONGEST_CAUSE = 3, 5, 600

Item: TypeAlias = "dspy.Example | Mapping[str, Any] | ImageSource"


@dataclass(frozen=True)
class Batch:
    """The results of a batch.

    Attributes:
        predictions: One per item, in order; None for one that failed.
        failures: The error of each item that failed, by position, in order.
    """

    predictions: list[dspy.Prediction | None]
    failures: dict[int, Exception]

    def warn(self) -> None:
        """Issues one warning that names how many failed, and why."""
        if self.failures:
            notice(
                f"{len(self.failures)} of {len(self.predictions)} images got no prediction (None in their place; "
                f"return_failed_examples=True returns them): {_causes(self.failures)}"
            )


class BatchStoppedError(ModelError):
    """A batch that was stopped, as its further calls would most likely have failed, too; what was answered is kept.

    Attributes:
        predictions: One per item, in order; None for one that failed or was not judged.
        failures: Why an item failed, by its position; without those that were not judged.
    """

    def __init__(
        self, why: str, predictions: Sequence[dspy.Prediction | None], failures: Mapping[int, Exception]
    ) -> None:
        self.predictions, self.failures = list(predictions), dict(failures)
        answered = sum(prediction is not None for prediction in predictions)
        kept = "in this error's .predictions, with None for the others, and .failures says why by position"
        super().__init__(
            f"{why}; {answered} of {len(self.predictions)} images were judged ({kept}): mend the cause, then judge the "
            "others"
        )


class _Judging:
    """The judge, as DSPy's threads call it: it ends at an error that every call would meet, or at too many.

    With `in_a_row` an answer sets the number of failed calls back to none.
    """

    def __init__(
        self, judge: Callable[..., dspy.Prediction], inputs: Sequence[Mapping[str, Any]], most: int, *, in_a_row: bool
    ) -> None:
        self._judge, self._inputs, self._most, self._in_a_row = judge, inputs, most, in_a_row
        self._lock, self._failed = threading.Lock(), 0
        self.failures: dict[int, Exception] = {}
        self.stopped: str | None = None
        self.cause: Exception | None = None

    def __repr__(self) -> str:
        return "judge"  # in DSPy's log

    def __call__(self, position: int) -> dspy.Prediction | None:
        if self.stopped is not None:
            return None
        try:
            prediction = self._judge(**self._inputs[position])
        except FATAL_ERRORS as error:
            self.failures[position] = error
            self._stop("the model cannot be used", error)
            return None
        except (BlpoError, LMInvalidRequestError) as error:
            self.failures[position] = error
            return None
        except Exception as error:  # dspy.Parallel, which logs it, takes any for that of one item
            self.failures[position] = error
            self._count(error)
            raise
        if self._in_a_row:
            with self._lock:
                self._failed = 0
        return prediction

    def _count(self, error: Exception) -> None:
        with self._lock:
            self._failed += 1
            if self._failed >= self._most:
                self._stop(f"{self._failed} calls failed{' in a row' if self._in_a_row else ''}", error)

    def _stop(self, why: str, error: Exception) -> None:
        if self.stopped is None:
            self.stopped, self.cause = f"the batch was stopped, as {why} ({cause(error, _LONGEST_CAUSE)})", error


def run_batch(
    judge: Callable[..., dspy.Prediction], inputs: Sequence[Mapping[str, Any]], max_errors: int | None, **options: Any
) -> Batch:
    """Calls a judge once for each of the inputs.

    Args:
        judge: The judge.
        inputs: The keyword arguments of each call.
        max_errors: How many calls may fail for another reason than their own image; if None as many in a row, without
            an answer between them, as DSPy's setting of that name says.
        **options: Those of `dspy.Parallel`.

    Raises:
        BlpoError: If the number of threads or of errors is not a possible one.
        BatchStoppedError: If the model refuses every call (a wrong key, no credit, an unknown model), or too many fail.
    """
    if options.get("num_threads") is not None:
        check_least("num_threads", options["num_threads"], 1)
    most = dspy.settings.max_errors if max_errors is None else max_errors
    check_least("max_errors", most, 0)
    judging = _Judging(judge, inputs, most, in_a_row=max_errors is None)
    # DSPy loses all answers where it counts the errors itself.
    parallel = dspy.Parallel(max_errors=len(inputs) + 1, **options)
    predictions = parallel([(judging, (position,)) for position in range(len(inputs))])
    failures = {i: error for i, error in sorted(judging.failures.items()) if predictions[i] is None}
    if judging.stopped is not None:
        raise BatchStoppedError(judging.stopped, predictions, failures) from judging.cause
    return Batch(predictions, failures)


def _causes(failures: Mapping[int, Exception]) -> str:
    """Why items failed: each cause once, the most frequent first, with the first positions."""
    positions: dict[str, list[int]] = {}
    for position, error in failures.items():
        positions.setdefault(cause(error, _LONGEST_CAUSE), []).append(position)
    ranked = sorted(positions.items(), key=lambda item: -len(item[1]))
    causes = [f"{cause} (position {_listed(found)})" for cause, found in ranked[:_NAMED_CAUSES]]
    more = len(ranked) - len(causes)
    return "; ".join([*causes, *([f"and {more} more causes"] if more else [])])


def _listed(positions: Sequence[int]) -> str:
    more = len(positions) - _NAMED_POSITIONS
    return ", ".join(map(str, positions[:_NAMED_POSITIONS])) + (f" and {more} more" if more > 0 else "")


def listed(items: Iterable[Item], names: Sequence[str]) -> list[Item]:
    """Returns the items of a batch: those of a list, or of a DataFrame or Dataset the inputs in each row."""
    if isinstance(items, (str, bytes, os.PathLike, Mapping, np.ndarray, dspy.Example, dspy.Image)):
        raise BlpoError(
            f"a batch is a list of images or examples, but a {type(items).__name__} is one; put it into a list. "
            "blpo_dspy.predict judges a folder or a table"
        )
    check_kind("examples", items, Iterable, "list of images or examples", "judge.batch([image, …])")
    if not in_memory(items) or isinstance(items, Sequence):
        return list(items)
    table = read_table(cast(TableSource, items), names)
    require_columns(table.name, table.columns, names, "a batch needs a column for each input of the judge", option=())
    return [{name: unwrapped(row.values[name]) for name in names} for row in table.rows]


def batch_inputs(items: Iterable[Item], names: Sequence[str]) -> list[dict[str, Any]]:
    """Returns the keyword arguments of a call for each item of a batch: an example, a mapping, or an image alone."""
    found = []
    for position, item in enumerate(items):
        if isinstance(item, dspy.Example):
            try:
                inputs = dict(item.inputs().items())
            except ValueError:  # DSPy's, which names neither the item nor what to set
                raise BlpoError(
                    f"item {position} of the batch has no inputs; write "
                    f"example.with_inputs({', '.join(map(repr, names))})"
                ) from None
        else:
            inputs = dict(item) if isinstance(item, Mapping) else {names[0]: item}
        if set(inputs) != set(names):
            raise BlpoError(
                f"this judge takes {', '.join(names)}, but item {position} of the batch has "
                f"{', '.join(map(str, inputs)) or 'nothing'}; give examples or dicts with these inputs"
            )
        found.append(inputs)
    return found
