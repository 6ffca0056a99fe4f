"""The measurements of a run: the images, the agreement of both judges with people, and the paired comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from blpo_dspy.agreement.intervals import PairedComparison, compare_paired
from blpo_dspy.agreement.measure import Agreement, measure_agreement
from blpo_dspy.agreement.verdicts import with_orders
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.report.run.folder import RunFolder
from blpo_dspy.report.run.items import Item

WHEN = ("before", "after")


@dataclass(frozen=True)
class Where:
    """The images that figures are of: their name, and what a reader needs to know of them."""

    images: str
    about: str


TEST = Where("sealed test images", "On the sealed test images, which no prompt and no choice of the search has seen.")
FOLDS = Where(
    "images out of fold",
    "Out of fold: every image was judged once, by a judge that never saw it and was compiled on the other folds. These "
    "are figures of judges compiled alike, not of the one that was saved, which saw all images.",
)
VALIDATION = Where("validation images", "On the validation images, which the judge was picked on.")


@dataclass(frozen=True)
class Measured:
    """Both judges on the images whose figures count most: test, out of fold, or else validation.

    Attributes:
        labels: The label space.
        where: The images.
        agreements: Of "before" and "after", None where there are no figures.
        ceiling: Agreement of a judge whose instruction states the truth, where the truth is known.
        items: The images that both judges answered.
        n: The images that both were to judge.
        both: The agreement "before" and "after" on `items`.
        paired: The comparison on `items`, None if there are none.
        seed: Of the intervals.
    """

    labels: LabelSpace
    where: Where
    agreements: Mapping[str, Agreement | None]
    ceiling: Agreement | None
    items: tuple[Item, ...]
    n: int
    both: Mapping[str, Agreement]
    paired: PairedComparison | None
    seed: int


def measured_of(run: RunFolder) -> Measured:
    """Returns the figures of a run: out of fold or of the test set, else those of the validation set."""
    result = run.result
    labels, seed = LabelSpace.from_dict(result["labels"]), int(result["seed"])
    folds = result.get("folds")
    found = {when: agreement_in(folds or result[when], when if folds else "test") for when in WHEN}
    where, items = FOLDS if folds else TEST, tuple(item for item in run.items if item.answered)
    ceiling = agreement_in(result.get("ceiling") or {}, "test")
    if None in found.values():
        where, found, ceiling = VALIDATION, {when: agreement_in(result[when], "val") for when in WHEN}, None
    both = {when: _agreement(labels, items, when) for when in WHEN}
    return Measured(labels, where, found, ceiling, items, len(run.items), both, compared(labels, items, seed), seed)


def _agreement(labels: LabelSpace, items: Sequence[Item], when: str) -> Agreement:
    verdicts = [getattr(item, when) for item in items]
    agreement = measure_agreement(labels, [item.label for item in items], [verdict.label for verdict in verdicts])
    return with_orders(agreement, verdicts)


def agreement_in(record: Mapping[str, Any], name: str) -> Agreement | None:
    """Returns the agreement of that name in a record, None if it was not measured."""
    data = record.get(name)
    return None if data is None else Agreement.from_dict(data)


def compared(
    labels: LabelSpace, items: Sequence[Item], seed: int, figures: Sequence[str] | None = None
) -> PairedComparison | None:
    """Returns before against after on items that both judges answered, in some figures or all; None without items."""
    if not items:
        return None
    truth = [item.label for item in items]
    before, after = ([getattr(item, when).label for item in items] for when in WHEN)
    return compare_paired(labels, truth, before, after, seed=seed, figures=figures)
