"""Several people per image in a run: how far they agree, and how far the judge agrees with each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dspy

from blpo_dspy.agreement.figures import pair_figure
from blpo_dspy.agreement.intervals import Interval, plain_intervals
from blpo_dspy.agreement.outcomes import Outcomes
from blpo_dspy.agreement.raters import (
    HumanAgreement,
    bootstrap_interval,
    human_agreement,
    mean_defined,
    pair_figures,
    rated_items,
    rater_intervals,
    value_of,
)
from blpo_dspy.agreement.resampling import Floats, Items
from blpo_dspy.agreement.verdicts import Verdict
from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.ratings import ratings_from_rows
from blpo_dspy.files import write_sheet


@dataclass(frozen=True)
class People:
    """What several people said about the images of a run.

    Attributes:
        rule: How their ratings became labels.
        raters: How many people there are; if it is unknown who gave which rating, the most that an image has.
        agreement: How far they agree with each other on all images, those without a label included.
        labels: The label that each item got; those without one were left out.
        tied: How many images were left out because no label won.
        unrated: How many because they have no rating.
    """

    rule: str
    raters: int
    agreement: HumanAgreement
    labels: Mapping[str, Label]
    tied: int
    unrated: int

    def describe(self) -> str:
        """Returns in a sentence how labels came about."""
        left = [f"{n} {why}" for n, why in ((self.tied, "with no winner"), (self.unrated, "not rated")) if n]
        return f"{self.raters} rater{'s' * (self.raters != 1)}, labels by {self.rule}" + (
            f", left out {' and '.join(left)}" if left else ""
        )

    def to_dict(self, ceiling: Ceiling) -> dict[str, Any]:
        """Returns plain data for JSON."""
        found = self.agreement
        return {
            "rule": self.rule,
            "raters": self.raters,
            "items": found.items,
            "ratings": found.ratings,
            "disagreeing": len(found.disagreements),
            "left_out": {"tied": self.tied, "unrated": self.unrated},
            **ceiling.to_dict(),
        }


@dataclass(frozen=True)
class Pairwise:
    """A mean kappa (of scores a rank correlation) over pairs of raters with its interval; None where undefined."""

    value: float | None
    interval: Interval | None


@dataclass(frozen=True)
class Ceiling:
    """How far people agree with each other, and a judge with them, on the same images.

    Attributes:
        images: How many, those left out for want of a label not among them.
        people: How far people agree with each other there.
        intervals: Of their kappa (of scores spearman) and alpha.
        before: The judge's mean kappa (likewise) with people before compiling, None if it was not measured.
        after: The same after compiling, or of the one judge there is.
        figure: Which one pairs are measured by, "kappa" or "spearman".
    """

    images: int
    people: HumanAgreement
    intervals: Mapping[str, Interval | None]
    before: Pairwise | None
    after: Pairwise | None
    figure: str = "kappa"

    @property
    def headline(self) -> str:
        """All of it in a sentence."""
        people, intervals = self.people, self.intervals
        if not people.items:
            return "no image was rated by two people, so how far they agree is not known"
        name = self.figure if getattr(people, self.figure) is not None else "alpha"
        alpha = f"; alpha {people.alpha:.2f}" if name == self.figure and people.alpha is not None else ""
        among = _in_words(getattr(people, name), intervals[name], alpha)
        figure = "Spearman" if self.figure == "spearman" else self.figure
        lead = f"people agree with each other at {figure if name == self.figure else name} {among}"
        if self.after is None:
            return f"{lead} on {self.images} images"
        judge = _in_words(self.after.value, self.after.interval)
        if self.before is not None:
            judge = f"{_in_words(self.before.value, self.before.interval)} before and {judge} after"
        return f"{lead}, the judge with people at {figure} {judge}, on the same {self.images} images"

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON."""
        judges = {"before": self.before, "after": self.after}
        ends = {when: None if kappa is None else kappa.interval for when, kappa in judges.items()}
        return {
            "images": self.images,
            self.figure: getattr(self.people, self.figure),
            "pairs": self.people.pairs,
            "alpha": self.people.alpha,
            "judge": {when: None if kappa is None else kappa.value for when, kappa in judges.items()},
            "intervals": plain_intervals({**self.intervals, **ends}),
            "headline": self.headline,
        }


def ceiling_of(
    labels: LabelSpace,
    examples: Sequence[dspy.Example],
    before: Sequence[Verdict] | None = None,
    after: Sequence[Verdict] | None = None,
    *,
    seed: int = 0,
) -> Ceiling:
    """Returns how far people agree on examples with `ratings`, and judges with them, as far as they were asked.

    The same seed gives the same intervals.
    """
    ratings = ratings_from_rows(
        labels, [(str(i), who, label) for i, e in enumerate(examples) for who, label in e.ratings]
    )
    return Ceiling(
        images=len(examples),
        people=human_agreement(ratings),
        intervals=rater_intervals(ratings, seed=seed),
        before=None if before is None else agreement_with_people(labels, examples, before, seed=seed),
        after=None if after is None else agreement_with_people(labels, examples, after, seed=seed),
        figure=pair_figure(labels),
    )


def agreement_with_people(
    labels: LabelSpace, examples: Sequence[dspy.Example], verdicts: Sequence[Verdict], *, seed: int = 0
) -> Pairwise:
    """Returns the judge's mean kappa with each person, as kappa between people is a mean over pairs of them.

    Of scores it is Spearman's correlation. Where it is unknown who gave which rating it is the figure with the combined
    label. Failed calls don't count.
    """
    answered = [(example, verdict) for example, verdict in zip(examples, verdicts, strict=True) if not verdict.failure]
    named = sorted({who for example, _ in answered for who, _ in example.ratings if who is not None})
    people: list[str | None] = [*named] or [None]
    ratings: list[dict[str | None, Label]] = [
        dict(example.ratings) if named else {None: example.label} for example, _ in answered
    ]
    stated = [label for given in ratings for label in given.values()]
    outcomes = Outcomes.of(labels, [*stated, *(verdict.label for _, verdict in answered)])
    table = []
    for given, (_, verdict) in zip(ratings, answered, strict=True):
        rated = [outcomes.positions([given[who]])[0] if who in given else None for who in people]
        table.append([*rated, *outcomes.positions([verdict.label])])
    judge = len(people)
    items, pairs = rated_items(table, judge + 1), [(person, judge) for person in range(judge)]

    def figure(drawn: Items) -> Floats:
        return mean_defined(pair_figures(outcomes, drawn, pairs, peers=False))

    choices = [len(outcomes)] * judge + [len(outcomes) + 1]
    return Pairwise(value_of(items, figure), bootstrap_interval(items, choices, figure, seed=seed))


def write_disagreements(path: Path, people: People) -> None:
    """Writes a CSV with the images on which people disagree, the widest disagreement first."""
    rows = [
        [found.item, people.labels.get(found.item, ""), f"{found.degree:.3f}", " | ".join(map(str, found.ratings))]
        for found in people.agreement.disagreements
    ]
    write_sheet(path, [["item", "label", "degree", "ratings"], *rows])


def _in_words(value: float | None, interval: Interval | None, more: str = "") -> str:
    """A figure with its ends, and more in the same brackets."""
    if value is None:
        return "–"
    ends = "" if interval is None else f"{interval.low:.2f} to {interval.high:.2f}"
    details = f"{ends}{more}".removeprefix("; ")
    return f"{value:.2f}" + (f" ({details})" if details else "")
