"""What may be labelled automatically so that a level of agreement is kept: exact tests over a sequence of settings.

Learn then test (Angelopoulos et al., arXiv 2110.01052). A setting, such as a confidence threshold, selects some of the
labelled images. Its null hypothesis is that the agreement on what it selects, in the population that the images were
drawn from, is below the level. Given how many it selects, the number of agreeing labels is binomial, so that the exact
binomial test is valid, and passing it means that the lower Clopper-Pearson bound is at least the level.

The settings, their order and the places where their sequence starts must not depend on the data. Then fixed-sequence
testing keeps the probability of any wrong pass below the risk: the sequence goes on where a test passes, at the same
risk, and ends where one fails. With several starts each has an equal share of the risk, and where the sequence reaches
the next start it takes its share along (the fallback procedure of Wiens 2003). A single start is best where the first
setting selects many images; where it may select too few to pass, later starts are what makes use of the others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from blpo_dspy.agreement.resampling import Floats, Ints
from blpo_dspy.errors import BlpoError

Bools: TypeAlias = npt.NDArray[np.bool_]

POWER = 0.8
"""With this probability the labels that are said to be needed suffice."""
_MOST_LABELS = 100_000


@dataclass(frozen=True)
class SettingTest:
    """The test of one setting.

    Attributes:
        selected: How many of the labelled images it selects.
        agreeing: How many of these the judge labelled as people did.
        risk: The probability of a wrong pass that it was tested at; 0 if it was not, as the sequence had ended.
        p_value: Of the null hypothesis that the agreement is below the level; 1 if it selects none.
        passed: Whether that was rejected.
    """

    selected: int
    agreeing: int
    risk: float
    p_value: float
    passed: bool

    @property
    def agreement(self) -> float | None:
        """The share that agrees, None if nothing is selected."""
        return self.agreeing / self.selected if self.selected else None


def check_promise(level: float, risk: float) -> None:
    """Checks the level of agreement and the risk of a guarantee."""
    for name, value in (("agreement", level), ("risk", risk)):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1:
            raise BlpoError(f"{name}={value!r} is not a number between 0 and 1, such as 0.9", option=name)


def sequence_tests(
    counts: Sequence[tuple[int, int]], level: float, risk: float, starts: Sequence[int] = (0,)
) -> list[SettingTest]:
    """Returns the tests of settings, in order; with probability 1 − risk no setting that passes is below the level.

    Args:
        counts: For each setting how many it selects, and how many of these agree.
        level: The agreement to keep, in (0, 1).
        risk: The probability with which it may fail, in (0, 1).
        starts: The places where the sequence starts, each with an equal share of the risk.
    """
    from scipy.stats import binom  # noqa: PLC0415  (slow to import, and needed only here)

    selected, agreeing = np.array(counts).T
    p_values = np.where(selected > 0, binom.sf(agreeing - 1, selected, level), 1.0)
    found: list[SettingTest] = []
    taken_along = 0.0
    for place, (many, right) in enumerate(counts):
        at, p_value = taken_along + risk / len(starts) * (place in starts), float(p_values[place])
        found.append(SettingTest(many, right, at, p_value, p_value <= at))
        taken_along = at if found[-1].passed else 0.0
    return found


def lower_bound(test: SettingTest) -> float:
    """Returns the one-sided Clopper-Pearson bound of the agreement, at the risk of its test; 0 if that is 0."""
    from scipy.stats import beta  # noqa: PLC0415

    if not test.agreeing or not test.risk:
        return 0.0
    return float(beta.ppf(test.risk, test.agreeing, test.selected - test.agreeing + 1))


def least_selected(level: float, risk: float) -> int:
    """Returns how many images a setting has to select at least to pass, where all of them agree."""
    return math.ceil(math.log(risk) / math.log(level) - 1e-9)


def labels_needed(tests: Sequence[SettingTest], n: int, level: float) -> int | None:
    """Returns of how many labelled images some would suffice for a tested setting, with probability `POWER`.

    Agreement and share of what a setting selects, of n images, are taken for those of the population. None if no
    setting's agreement is above the level, or if more than 100,000 would be needed.
    """
    needed = [
        math.ceil(_selected_needed(test, level) * n / test.selected)
        for test in tests
        if test.risk and test.agreement is not None and test.agreement > level
    ]
    return min((count for count in needed if count <= _MOST_LABELS), default=None)


def _selected_needed(test: SettingTest, level: float) -> int:
    """How many a setting has to select so that its test passes with probability `POWER`, by bisection."""
    from scipy.stats import binom  # noqa: PLC0415

    def suffices(selected: int) -> bool:
        least = binom.isf(test.risk, selected, level) + 1  # the fewest that agree with a p-value of at most the risk
        return bool(binom.sf(least - 1, selected, test.agreeing / test.selected) >= POWER)

    low, high = least_selected(level, test.risk) - 1, _MOST_LABELS + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if suffices(middle) else (middle, high)
    return high


def staircase(grids: Sequence[Sequence[float]]) -> list[tuple[float, ...]]:
    """Returns the settings of judges in a row, in the order in which they are tested: a threshold for each judge.

    All begin at their highest threshold. Then that of the last judge falls to its lowest, then that of the judge before
    it, and so on: a step labels more images automatically, or leaves fewer to the later, dearer judges.

    Args:
        grids: The thresholds of each judge, highest first.
    """
    setting = [grid[0] for grid in grids]
    found = [tuple(setting)]
    for place in reversed(range(len(grids))):
        for threshold in grids[place][1:]:
            setting[place] = threshold
            found.append(tuple(setting))
    return found


def accepting(confidences: Floats, setting: Sequence[float]) -> Ints:
    """Returns for each image the place of the first judge whose confidence reaches its threshold, -1 if there is none.

    Args:
        confidences: Shape (judges, images); -1 where a judge gives no label that could be accepted.
        setting: The threshold of each judge.
    """
    reached = (confidences >= np.asarray(setting)[:, None]) & (confidences >= 0)
    return np.where(reached.any(axis=0), reached.argmax(axis=0), -1)


def counts_of(confidences: Floats, right: Bools, settings: Sequence[Sequence[float]]) -> list[tuple[int, int]]:
    """Returns how many images each setting selects, and how many of these labels are right; see `accepting`."""
    found = []
    images = np.arange(confidences.shape[1])
    for setting in settings:
        by = accepting(confidences, setting)
        found.append((int((by >= 0).sum()), int((right[by, images] & (by >= 0)).sum())))
    return found
