"""The labels that items of an analysis have, by position, and how far they are apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from blpo_dspy.agreement.resampling import Floats, Ints
from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import BlpoError, brief

# Losses of scores are rounded to such parts of the range where a test counts in whole steps.
_PARTS = 1000


@dataclass(frozen=True)
class Outcomes:
    """What an item may be labelled: all labels of a closed set; of a range of scores those that occur, lowest first."""

    labels: LabelSpace
    values: tuple[Label, ...]

    @classmethod
    def of(cls, labels: LabelSpace, given: Iterable[Label | None] = ()) -> Outcomes:
        """Returns the outcomes of items with these labels, None for an invalid answer."""
        if labels.score_range is None:
            return cls(labels, labels.labels)
        return cls(labels, tuple(sorted({labels.score(label) for label in given if label is not None})))

    def __len__(self) -> int:
        return len(self.values)

    def true_positions(self, given: Sequence[Label]) -> list[int]:
        """Returns the position of each human label."""
        found = self.positions(given)
        if len(self) in found:
            raise BlpoError(f"None is not one of the labels {self.labels.describe()}")
        return found

    def positions(self, given: Sequence[Label | None]) -> list[int]:
        """Returns the position of each label; len(self) for None, an invalid answer."""
        places = self._places
        strange = [label for label in given if label is not None and label not in places]
        if strange:
            raise BlpoError(f"{brief(repr(strange[0]))} is not one of the labels {self.labels.describe()}")
        return [len(self) if label is None else places[label] for label in given]

    @cached_property
    def _places(self) -> dict[Label, int]:
        return {label: place for place, label in enumerate(self.values)}

    @cached_property
    def scores(self) -> Floats:
        """The numbers that distances are between: scores, or the positions of levels."""
        if self.labels.score_range is None:
            return np.arange(len(self), dtype=np.float64)
        return np.array([self.labels.score(value) for value in self.values], dtype=np.float64)

    def distances(self, true: Ints, guess: Ints) -> Floats:
        """Returns how far predicted labels are from true ones, in `LabelSpace.unit`s; `LabelSpace.span` of no label."""
        if self.labels.score_range is None:
            return np.asarray(_distances(self.labels)[true, guess])
        valid = guess < len(self)
        off = np.full(np.shape(guess), float(self.labels.span))
        off[valid] = np.abs(self.scores[true[valid]] - self.scores[guess[valid]])
        return off

    def right(self, true: Ints, guess: Ints) -> npt.NDArray[np.bool_]:
        """Returns where a predicted label counts as right."""
        if self.labels.score_range is None:
            return np.asarray(true == guess)
        return self.distances(true, guess) / self.labels.span <= self.labels.tolerated

    def whole_steps(self, distances: Floats) -> Floats:
        """Returns distances, or differences between some, as whole numbers: of scores in thousandths of the range."""
        return distances if self.labels.score_range is None else np.rint(distances * (_PARTS / self.labels.span))


@lru_cache(maxsize=8)
def _distances(labels: LabelSpace) -> Floats:
    """The distance of each true label (row) and outcome (column, the last one invalid) of a closed set."""
    outcomes = [*labels.labels, None]
    losses = np.array([[labels.loss(label, outcome) for outcome in outcomes] for label in labels.labels])
    steps: Floats = np.rint(losses * labels.span)
    steps.flags.writeable = False  # as all callers get the same
    return steps
