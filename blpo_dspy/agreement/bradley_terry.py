"""Models ranked by verdicts on pairs of their images: Bradley and Terry (1952), with bootstrap intervals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from blpo_dspy.agreement.intervals import LEVEL, Interval, percentile_interval
from blpo_dspy.agreement.resampling import Floats
from blpo_dspy.errors import BlpoError, brief
from blpo_dspy.notebook import html_table, one_line

METHOD = "percentile bootstrap of the verdicts, smoothed by one verdict with a random winner"
_RESAMPLES = 500
# Keeps the strength of a model finite that won, or lost, all of its comparisons; next to a few verdicts it is nothing.
_RIDGE = 0.01
_SHARES = (1.0, 0.5, 0.0)
_MOST_GROUPS = 5


@dataclass(frozen=True)
class Comparison:
    """A verdict on images of two models: the first model's share of the win, 1, 0, or 0.5 for a tie."""

    first: str
    second: str
    share: float


@dataclass(frozen=True)
class Ranked:
    """A model among others.

    Attributes:
        model: Its name.
        verdicts: Verdicts on its images.
        wins: How many of them it won, a tie counting one half.
        strength: Its log-odds: of two models the first wins with probability 1 / (1 + exp(second − first)). The mean
            over all models is 0.
        interval: Of the strength.
    """

    model: str
    verdicts: int
    wins: float
    strength: float
    interval: Interval


@dataclass(frozen=True, repr=False)
class Ranking:
    """Models ranked by verdicts on pairs of their images.

    Attributes:
        models: The strongest first.
        verdicts: How many verdicts it rests on.
        ties: How many of them are ties.
        left_out: Rows without a verdict, which count for nothing.
    """

    models: tuple[Ranked, ...]
    verdicts: int
    ties: int
    left_out: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON."""
        return {**asdict(self), "models": [asdict(model) for model in self.models]}

    def rows(self) -> list[list[str]]:
        """Returns the models as the cells of a table, its header first."""
        rows = [["model", "verdicts", "wins", "strength", "95% interval"]]
        for each in self.models:
            ends = f"{each.interval.low:+.2f} to {each.interval.high:+.2f}"
            rows.append([each.model, f"{each.verdicts:,}", f"{each.wins:g}", f"{each.strength:+.2f}", ends])
        return rows

    def __repr__(self) -> str:
        models = ", ".join(f"{each.model} {each.strength:+.2f}" for each in self.models)
        return one_line(self, f"{self.verdicts:,} verdicts: {models}")

    def _repr_html_(self) -> str:
        return html_table(self.rows())


def bradley_terry(comparisons: Sequence[Comparison], *, seed: int = 0, resamples: int = _RESAMPLES) -> Ranking:
    """Returns the models of some verdicts, the strongest first.

    Args:
        comparisons: The verdicts.
        seed: The same seed gives the same intervals.
        resamples: Number of bootstrap resamples.

    Raises:
        BlpoError: If there is no verdict, or models were never compared with each other, directly or by way of others.
    """
    if not comparisons:
        raise BlpoError("there is no verdict, so no model can be ranked")
    names = sorted({name for one in comparisons for name in (one.first, one.second)})
    pairs = sorted({(one.first, one.second) for one in comparisons})
    _check_connected(names, pairs)
    counted = Counter(comparisons)
    kinds = [Comparison(first, second, share) for first, second in pairs for share in _SHARES]
    counts = np.array([counted[kind] for kind in kinds], dtype=np.float64)
    estimate = _strengths(names, kinds, counts)
    distinct, places = np.unique(_resampled(counts, resamples, seed), axis=0, return_inverse=True)
    draws = np.stack([_strengths(names, kinds, drawn) for drawn in distinct])[places.ravel()]
    rows = []
    for i, name in enumerate(names):
        there = [one for one in comparisons if name in (one.first, one.second)]
        own = [one.share if one.first == name else 1 - one.share for one in there]
        interval = percentile_interval(float(estimate[i]), draws[:, i], LEVEL, METHOD)
        assert interval is not None
        rows.append(Ranked(name, len(own), sum(own), float(estimate[i]), interval))
    ties = sum(one.share == 0.5 for one in comparisons)
    return Ranking(tuple(sorted(rows, key=lambda row: (-row.strength, row.model))), len(comparisons), ties)


def _resampled(counts: Floats, resamples: int, seed: int) -> Floats:
    """Counts of resampled verdicts, each with one more on some pair: of a model that won all, one may be lost."""
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(int(counts.sum()), counts / counts.sum(), size=resamples).astype(np.float64)
    alike = rng.choice(len(counts), size=resamples, p=counts / counts.sum()) // len(_SHARES) * len(_SHARES)
    drawn[np.arange(resamples), alike + rng.choice([0, len(_SHARES) - 1], size=resamples)] += 1
    return drawn


def _strengths(names: Sequence[str], kinds: Sequence[Comparison], counts: Floats) -> Floats:
    """The strengths: logistic regression without intercept, each verdict a win of either side by its share."""
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - slow to import

    place = {name: i for i, name in enumerate(names)}
    sides = np.zeros((len(kinds), len(names)))
    for row, kind in enumerate(kinds):
        sides[row, place[kind.first]], sides[row, place[kind.second]] = 1.0, -1.0
    shares = np.array([kind.share for kind in kinds])
    model = LogisticRegression(C=1 / _RIDGE, fit_intercept=False, tol=1e-6, max_iter=1000, solver="newton-cg")
    outcomes = np.repeat([1, 0], len(kinds))
    model.fit(np.vstack([sides, sides]), outcomes, np.concatenate([shares * counts, (1 - shares) * counts]))
    found = np.asarray(model.coef_[0], dtype=np.float64)
    return np.asarray(found - found.mean(), dtype=np.float64)


def _check_connected(names: Sequence[str], pairs: Sequence[tuple[str, str]]) -> None:
    """Refuses models of which the verdicts say nothing about how they compare."""
    group: dict[str, str] = {name: name for name in names}
    for first, second in pairs:
        one, other = group[first], group[second]
        group = {name: one if of == other else of for name, of in group.items()}
    groups: Mapping[str, list[str]] = {of: [name for name in names if group[name] == of] for of in group.values()}
    if len(groups) > 1:
        listed = "; ".join(brief(", ".join(group)) for group in list(groups.values())[:_MOST_GROUPS])
        raise BlpoError(
            f"the models fall into {len(groups)} groups that were never compared with each other: {listed}; rank each "
            "group by itself, or add verdicts between them"
        )
