"""Whether two sets of verdicts differ by more than chance: of labels, confidence and agreement, each tested once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from blpo_dspy.agreement.resampling import Floats, Ints

_LEAST_EXPECTED = 5.0  # Cochran's rule for the chi-square distribution


@dataclass(frozen=True)
class Shift:
    """A test of a difference in "labels", "confidence" or "agreement": its name, and its p-value.

    `corrected` is the p-value after Holm's correction for all tests that were made.
    """

    what: str
    test: str
    p_value: float
    corrected: float = 1.0


def label_shift(reference: Sequence[int], current: Sequence[int]) -> Shift:
    """Returns a test of whether labels are given as often as before, of how often each was given.

    Labels that are too rare for a chi-square test are taken together; of two that are rare, the test is Fisher's.
    """
    from scipy.stats import chi2_contingency, fisher_exact  # noqa: PLC0415 - slow to import, and needed only here

    table = np.array([reference, current], dtype=np.int64)
    table = table[:, table.sum(axis=0) > 0]
    if table.shape[1] < 2 or not table.sum(axis=1).all():
        return Shift("labels", "one label only", 1.0)
    table = _rare_together(table)
    if _expected(table).min() < _LEAST_EXPECTED and table.shape[1] == 2:
        return Shift("labels", "Fisher's exact", float(fisher_exact(table).pvalue))
    return Shift("labels", "chi-square", float(chi2_contingency(table, correction=False).pvalue))


def number_shift(what: str, reference: Sequence[float], current: Sequence[float]) -> Shift:
    """Returns a test of whether numbers are distributed as before: Kolmogorov and Smirnov's."""
    from scipy.stats import ks_2samp  # noqa: PLC0415

    if not reference or not current:
        return Shift(what, "too few to compare", 1.0)
    return Shift(what, "Kolmogorov-Smirnov", float(ks_2samp(reference, current).pvalue))


def paired_fall(before: Sequence[bool], after: Sequence[bool]) -> Shift:
    """Returns an exact test of whether fewer verdicts on the same images are right than before."""
    from scipy.stats import binomtest  # noqa: PLC0415

    broken = sum(was and not now for was, now in zip(before, after, strict=True))
    fixed = sum(now and not was for was, now in zip(before, after, strict=True))
    found = binomtest(broken, broken + fixed, alternative="greater").pvalue if broken + fixed else 1.0
    return Shift("agreement", "exact paired", float(found))


def fall(before: tuple[int, int], after: tuple[int, int]) -> Shift:
    """Returns Fisher's test of whether fewer are right than before, of (right, all) verdicts on other images."""
    from scipy.stats import fisher_exact  # noqa: PLC0415

    table = np.array([[right, n - right] for right, n in (before, after)], dtype=np.int64)
    return Shift("agreement", "Fisher's exact", float(fisher_exact(table, alternative="greater").pvalue))


def corrected(shifts: Sequence[Shift]) -> tuple[Shift, ...]:
    """Returns the tests with Holm's correction: by chance any is significant at most as often as one alone."""
    found = zip(shifts, holm([shift.p_value for shift in shifts]), strict=True)
    return tuple(replace(shift, corrected=p_value) for shift, p_value in found)


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns p-values adjusted by Holm's method (1979), in the given order."""
    adjusted, largest = [1.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def _rare_together(table: Ints) -> Ints:
    """Columns in which fewer than five are expected are added up; what is still rare then, to the next rarest."""
    while table.shape[1] > 2 and _expected(table).min() < _LEAST_EXPECTED:
        order = np.argsort(table.sum(axis=0), kind="stable")
        merged = table[:, order[:2]].sum(axis=1, keepdims=True)
        table = np.hstack([table[:, order[2:]], merged])
    return table


def _expected(table: Ints) -> Floats:
    return np.asarray(np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum())
