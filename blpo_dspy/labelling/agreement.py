"""The page with figures: how far the raters of a table agree so far. No picture and no single label is on it."""

from __future__ import annotations

from itertools import combinations
from typing import Any

from blpo_dspy.agreement.figures import pair_figure
from blpo_dspy.agreement.raters import human_agreement, rater_intervals
from blpo_dspy.data.ratings import Ratings
from blpo_dspy.report.html import fill


def agreement_page(ratings: Ratings | None) -> str:
    """Returns the page as HTML; without ratings it says that there are none."""
    page = {"images": 0, "pairs": []} if ratings is None else _measured(ratings)
    return fill("agreement.html", page, "blpo_dspy.labelling", "page")


def _measured(ratings: Ratings) -> dict[str, Any]:
    """How many images people agree on, and the figures: of all of them, and of each pair."""
    figure, found, ends = pair_figure(ratings.labels), human_agreement(ratings), rater_intervals(ratings)
    return {
        "figure": figure,
        "images": found.items,
        "alike": found.items - len(found.disagreements),
        "value": getattr(found, figure),
        "interval": ends[figure],
        "alpha": found.alpha,
        "alpha_interval": ends["alpha"],
        "pairs": [_pair(ratings, pair, figure) for pair in combinations(range(len(ratings.raters)), 2)],
    }


def _pair(ratings: Ratings, pair: tuple[int, int], figure: str) -> dict[str, Any]:
    """How far two raters agree on the images that both labelled."""
    answers = [tuple(row[place] for place in pair) for row in ratings.table]
    both = tuple(two for two in answers if None not in two)
    raters = tuple(ratings.raters[place] for place in pair)
    own = Ratings(ratings.labels, tuple(map(str, range(len(both)))), both, raters)
    return {
        "raters": raters,
        "images": len(both),
        "alike": sum(ratings.labels.right(a, b) for a, b in both if a is not None),
        "value": getattr(human_agreement(own), figure) if both else None,
        "interval": rater_intervals(own)[figure] if both else None,
    }
