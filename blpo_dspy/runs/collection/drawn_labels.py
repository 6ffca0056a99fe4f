"""People's labels of a random draw from a judged collection: which of them count, and how much each stands for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from blpo_dspy.agreement.resampling import Floats, Ints
from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.tables import Table, TableRow, require_columns
from blpo_dspy.errors import BlpoError, DataError, brief, counted
from blpo_dspy.predictions.reading import (
    CHANCE,
    CHOSEN,
    DRAWN,
    LABEL,
    STRATUM,
    Verdicts,
    number_in,
    text_in,
)
from blpo_dspy.runs.collection.image_labels import ImageLabel, labels_by_image, people_notes, refuse_unusable

_FITS = 1e-6
_ROUNDED = 0.01  # how far probabilities that people rounded may be off


@dataclass(frozen=True)
class Given:
    """People's labels that count.

    Attributes:
        positions: Of each the row of its image among the predictions.
        labels: The labels.
        strata: The number of the stratum of each.
        chances: How likely each was drawn and labelled, in (0, 1].
        notes: A sentence for each kind of label that was combined from several, or set aside.
    """

    positions: Ints
    labels: tuple[Label, ...]
    strata: Ints
    chances: Floats
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Drawn:
    """An image of a draw; `label` is None where nobody gave one that counts."""

    position: int
    label: Label | None
    stratum: str
    chance: float


def labels_of_draw(
    people: Table, labels: LabelSpace, key: Sequence[str], verdicts: Verdicts, trained: frozenset[int]
) -> Given:
    """Returns people's labels of a random draw from a judged collection; of `trained` rows they don't count.

    Raises:
        DataError: If a column is missing, or naming all rows or strata that cannot be used.
        BlpoError: If no label counts, or the draw is not one from this collection.
    """
    require_columns(
        people.name,
        people.columns,
        [LABEL, CHANCE],
        advice=f"an estimate needs labels of a random draw: let `blpo sample` draw the images, or state in {CHANCE} "
        "with which probability each was drawn (n / N for n of N at random)",
        option=(),
    )
    drawn, notes = _drawn_images(people, labels, key, verdicts, trained)
    _check_design(people, drawn, len(verdicts.labels))
    numbers = {name: number for number, name in enumerate(dict.fromkeys(row.stratum for row in drawn))}
    there, answered = (
        Counter(row.stratum for row in drawn),
        Counter(row.stratum for row in drawn if row.label is not None),
    )
    kept = [row for row in drawn if row.label is not None]
    return Given(
        np.array([row.position for row in kept], dtype=np.int64),
        tuple(row.label for row in kept if row.label is not None),
        np.array([numbers[row.stratum] for row in kept], dtype=np.int64),
        np.array([row.chance * answered[row.stratum] / there[row.stratum] for row in kept]),
        notes,
    )


def _drawn_images(
    people: Table, labels: LabelSpace, key: Sequence[str], verdicts: Verdicts, trained: frozenset[int]
) -> tuple[list[_Drawn], tuple[str, ...]]:
    """The images that were drawn, and a sentence for each kind of label that is combined or set aside."""
    positions = {name: position for position, name in enumerate(verdicts.keys)}
    images, problems = labels_by_image(people, labels, key, positions, trained)
    drawn: list[_Drawn] = []
    of_draw: list[ImageLabel] = []
    undrawn, chosen = 0, 0
    for image in images:
        rows = [people.rows[number] for number in image.rows]
        design = _design(rows, problems)
        if design is not None:
            of_draw.append(image)
            drawn.append(_Drawn(positions[image.key], image.counting, *design))
        elif image.people:
            by_choice = any(text_in(row.values, DRAWN) == CHOSEN for row in rows)
            chosen, undrawn = chosen + by_choice, undrawn + (not by_choice)
    problems += _uneven(drawn)
    refuse_unusable(people, problems, verdicts.keys)
    if all(image.label is None for image in drawn):
        raise BlpoError(f"{people.name}: no row that was drawn has a label that counts; label some of the images first")
    blank = sum(not image.people for image in of_draw)
    aside = {
        f"{counted(chosen, 'label')} set aside: chosen as the judge was in doubt, not drawn at random": chosen,
        f"{counted(undrawn, 'label')} set aside: without {CHANCE}, so not of the draw": undrawn,
        f"{counted(blank, 'image')} of the draw not labelled; the others of their stratum stand for them": blank,
    }
    return drawn, (*(note for note, count in aside.items() if count), *people_notes(of_draw))


def _design(rows: Sequence[TableRow], problems: list[str]) -> tuple[str, float] | None:
    """The stratum and probability of an image, the same in all of its rows that state one; None if none does."""
    found: dict[tuple[str, float], str] = {}
    for row in rows:
        try:
            chance = _chance(row.values)
        except BlpoError as error:
            problems.append(f"{row.where}: {error}")
            continue
        if chance is not None:
            found.setdefault((text_in(row.values, STRATUM) or f"{chance:.9g}", chance), row.where)
    if len(found) > 1:
        first, *others = found.values()
        problems += [f"{other}: {CHANCE} or {STRATUM} differs from {first}, of the same image" for other in others]
    return next(iter(found), None)


def _chance(values: dict[str, Any]) -> float | None:
    chance = number_in(values, CHANCE)
    if chance is not None and not 0 < chance <= 1:
        raise BlpoError(f"{CHANCE} {chance:g} is not above 0 and at most 1")
    return chance


def _uneven(drawn: Sequence[_Drawn]) -> list[str]:
    """A problem for each stratum whose images were not equally likely to be drawn."""
    chances: dict[str, set[float]] = {}
    for row in drawn:
        chances.setdefault(row.stratum, set()).add(row.chance)
    return [
        f"{STRATUM} {brief(name)}: {CHANCE} differs within it ({min(found):g} to {max(found):g})"
        for name, found in chances.items()
        if max(found) - min(found) > _FITS * max(found)
    ]


def _check_design(people: Table, drawn: Sequence[_Drawn], images: int) -> None:
    """Refuses a draw that is not one from as many images, or of which whole strata are not labelled."""
    total = sum(1 / row.chance for row in drawn)
    if abs(total - images) > max(0.5, _ROUNDED * images):
        raise BlpoError(
            f"{people.name}: by {CHANCE} its {len(drawn):,} images were drawn from {total:,.0f}, but there are "
            f"{images:,} predictions; give the predictions that it was drawn from, and keep all rows of the draw, with "
            "an empty label where there is none"
        )
    labelled = {row.stratum for row in drawn if row.label is not None}
    missing = Counter({row.stratum: 0 for row in drawn if row.stratum not in labelled})
    for row in drawn:
        if row.stratum in missing:
            missing[row.stratum] += 1
    if missing:
        chance = {row.stratum: row.chance for row in drawn}
        problems = [
            f"{STRATUM} {brief(name)}: stands for {count / chance[name] / total:.1%} of the collection"
            for name, count in missing.items()
        ]
        raise DataError(f"{people.name}: no label counts in these strata; label an image of each:", problems)
