"""Several people per image in a run: how far they agree, and how far the judge agrees with each of them."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import dspy

from blpo_dspy.agreement import measure_agreement
from blpo_dspy.cells import spreadsheet_cell
from blpo_dspy.errors import BlpoError
from blpo_dspy.labelling import Verdict
from blpo_dspy.labels import Label, LabelSpace
from blpo_dspy.raters import HumanAgreement


@dataclass(frozen=True)
class People:
    """What several people said about the images of a run.

    Attributes:
        rule: How their ratings became labels.
        raters: How many people there are; if nobody knows who gave which rating, the most that an image has.
        agreement: How far they agree with each other.
        labels: The label that each item got; those without one were left out.
        tied: How many images were left out because no label won.
        unrated: How many because nobody rated them.
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
        return f"{self.raters} raters, labels by {self.rule}" + (f", left out {' and '.join(left)}" if left else "")

    def headline(self, before: float | None, after: float | None) -> str:
        """Returns in a sentence how far people agree with each other, and the judge with them; kappas or None."""
        people = self.agreement
        if not people.items:
            return "no image was rated by two people, so how far they agree is not known"
        measure, figure = ("kappa", people.kappa) if people.kappa is not None else ("alpha", people.alpha)
        alpha = f" (alpha {people.alpha:.2f})" if people.kappa is not None and people.alpha is not None else ""
        lead = f"people agree with each other at {measure} {_figure(figure)}{alpha}"
        if after is None:
            return lead
        change = "" if before is None else f"{_figure(before)} before and "
        return f"{lead}, the judge with people at kappa {change}{_figure(after)}{'' if before is None else ' after'}"

    def to_dict(self, before: float | None = None, after: float | None = None) -> dict[str, Any]:
        """Returns plain data for JSON; the judge's kappas with people before and after, None if not measured."""
        found = self.agreement
        return {
            "rule": self.rule,
            "raters": self.raters,
            "items": found.items,
            "ratings": found.ratings,
            "kappa": found.kappa,
            "pairs": found.pairs,
            "alpha": found.alpha,
            "disagreeing": len(found.disagreements),
            "left_out": {"tied": self.tied, "unrated": self.unrated},
            "judge": {"before": before, "after": after},
            "headline": self.headline(before, after),
        }


def kappa_with_people(
    labels: LabelSpace, examples: Sequence[dspy.Example], verdicts: Sequence[Verdict]
) -> float | None:
    """Returns the judge's mean kappa with each person, as kappa between people is a mean over pairs of them.

    Where nobody knows who gave which rating it is the kappa with the combined label. Failed calls don't count.

    Args:
        labels: The label space.
        examples: With `ratings`, as `load_rated` returns them.
        verdicts: What the judge said about each.
    """
    by_rater: defaultdict[str, list[tuple[Label, Label | None]]] = defaultdict(list)
    combined: list[tuple[Label, Label | None]] = []
    for example, verdict in zip(examples, verdicts, strict=True):
        if verdict.failure:
            continue
        combined.append((example.label, verdict.label))
        for rater, label in example.ratings:
            if rater is not None:
                by_rater[rater].append((label, verdict.label))
    pairs = list(by_rater.values()) or [combined]
    kappas = [measure_agreement(labels, [a for a, _ in both], [b for _, b in both]).kappa for both in pairs]
    defined = [kappa for kappa in kappas if kappa is not None]
    return fmean(defined) if defined else None


def write_disagreements(path: Path, people: People) -> None:
    """Writes a CSV with the images on which people disagree, the widest disagreement first.

    Raises:
        BlpoError: If the file cannot be written.
    """
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["item", "label", "degree", "ratings"])
            for found in people.agreement.disagreements:
                given = " | ".join(map(str, found.ratings))
                label = people.labels.get(found.item, "")
                row = [found.item, label, f"{found.degree:.3f}", given]
                writer.writerow(map(spreadsheet_cell, row))
    except OSError as error:
        raise BlpoError(f"{path}: cannot be written ({error.strerror or error})") from error


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
