"""The page with figures: how far the raters of a table agree so far. No picture and no single label is on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from blpo_dspy.agreement.figures import pair_figure
from blpo_dspy.agreement.intervals import Interval
from blpo_dspy.agreement.raters import human_agreement, rater_intervals
from blpo_dspy.data.ratings import Ratings
from blpo_dspy.report.html import fill


@dataclass(frozen=True)
class PairRow:
    """Two raters: how many images both labelled, how many alike, and how far they agree."""

    raters: tuple[str, str]
    images: int
    alike: int
    value: float | None
    interval: Interval | None


@dataclass(frozen=True)
class AgreementPage:
    """The content of the page.

    Attributes:
        figure: What agreement is measured by, "kappa" or "spearman".
        raters: How many there are.
        images: How many images two or more of them labelled.
        alike: On how many of them all labels are the same.
        value: The mean over pairs of raters, None where it is undefined.
        interval: Its 95 % interval.
        alpha: Krippendorff's alpha.
        alpha_interval: Its 95 % interval.
        pairs: Each pair of raters.
    """

    figure: str
    raters: int = 0
    images: int = 0
    alike: int = 0
    value: float | None = None
    interval: Interval | None = None
    alpha: float | None = None
    alpha_interval: Interval | None = None
    pairs: Sequence[PairRow] = ()


def agreement_page(ratings: Ratings | None) -> str:
    """Returns the page as HTML; without ratings it says that there are none."""
    page = AgreementPage("kappa") if ratings is None else _measured(ratings)
    return fill("agreement.html", page, "blpo_dspy.labelling", "page")


def _measured(ratings: Ratings) -> AgreementPage:
    figure, found, ends = pair_figure(ratings.labels), human_agreement(ratings), rater_intervals(ratings)
    pairs = []
    for i, j in combinations(range(len(ratings.raters)), 2):
        both = [(row[i], row[j]) for row in ratings.table if row[i] is not None and row[j] is not None]
        two = Ratings(
            ratings.labels,
            tuple(map(str, range(len(both)))),
            tuple(both),
            (ratings.raters[i], ratings.raters[j]),
        )
        alike = sum(ratings.labels.right(a, b) for a, b in both if a is not None)
        measured = human_agreement(two) if both else None
        pairs.append(
            PairRow(
                (ratings.raters[i], ratings.raters[j]),
                len(both),
                alike,
                None if measured is None else getattr(measured, figure),
                rater_intervals(two)[figure] if both else None,
            )
        )
    return AgreementPage(
        figure,
        len(ratings.raters),
        found.items,
        found.items - len(found.disagreements),
        getattr(found, figure),
        ends[figure],
        found.alpha,
        ends["alpha"],
        pairs,
    )
