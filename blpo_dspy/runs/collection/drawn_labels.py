"""People's labels of a random draw from a judged collection: which of them count, and how much each stands for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from blpo_dspy.agreement.resampling import Floats, Ints
from blpo_dspy.data.examples import item_prints, load_images
from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.tables import Table, TableSource, require_columns
from blpo_dspy.errors import BlpoError, DataError, brief, counted
from blpo_dspy.optimizers.bench.cards import known_prints
from blpo_dspy.predictions.reading import (
    CHANCE,
    CHOSEN,
    DRAWN,
    LABEL,
    NOT_PREDICTED,
    STRATUM,
    Verdicts,
    key_of,
    number_in,
    refuse_unusable,
    repeated,
    text_in,
)
from blpo_dspy.programs.visual_judge import VisualJudge

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
        notes: A sentence for each kind of label that was set aside.
    """

    positions: Ints
    labels: tuple[Label, ...]
    strata: Ints
    chances: Floats
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Drawn:
    """A row of a draw; `label` is None where nobody gave one that counts."""

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
    drawn, notes = _drawn_rows(people, labels, key, verdicts, trained)
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


def _drawn_rows(
    people: Table, labels: LabelSpace, key: Sequence[str], verdicts: Verdicts, trained: frozenset[int]
) -> tuple[list[_Drawn], tuple[str, ...]]:
    """The rows that were drawn, and a sentence for each kind of label that is set aside."""
    known = {name: position for position, name in enumerate(verdicts.keys)}
    keys = [key_of(row.values, key) for row in people.rows]
    problems = repeated([row.where for row in people.rows], keys)
    drawn, undrawn, chosen, blank, own = [], 0, 0, 0, 0
    for number, (row, name) in enumerate(zip(people.rows, keys, strict=True)):
        try:
            label = labels.coerce(row.values[LABEL]) if text_in(row.values, LABEL) else None
            chance = _chance(row.values)
            if name and name not in known:
                raise BlpoError(f"{brief(name)} {NOT_PREDICTED}")
        except BlpoError as error:
            problems.append(f"{row.where}: {error}")
            continue
        if chance is None:
            if label is not None:
                by_choice = text_in(row.values, DRAWN) == CHOSEN
                chosen, undrawn = chosen + by_choice, undrawn + (not by_choice)
            continue
        blank += label is None
        if label is not None and number in trained:
            own, label = own + 1, None
        drawn.append(_Drawn(known.get(name, -1), label, text_in(row.values, STRATUM) or f"{chance:.9g}", chance))
    problems += _uneven(people, drawn)
    refuse_unusable(people, problems, verdicts.keys)
    if all(row.label is None for row in drawn):
        raise BlpoError(f"{people.name}: no row that was drawn has a label that counts; label some of the images first")
    aside = {
        f"{counted(chosen, 'label')} set aside: chosen as the judge was in doubt, not drawn at random": chosen,
        f"{counted(undrawn, 'label')} set aside: without {CHANCE}, so not of the draw": undrawn,
        f"{counted(own, 'label')} set aside: the judge or an ancestor of it was compiled with the image": own,
        f"{counted(blank, 'image')} of the draw not labelled; the others of their stratum stand for them": blank,
    }
    return drawn, tuple(note for note, count in aside.items() if count)


def _chance(values: dict[str, Any]) -> float | None:
    chance = number_in(values, CHANCE)
    if chance is not None and not 0 < chance <= 1:
        raise BlpoError(f"{CHANCE} {chance:g} is not above 0 and at most 1")
    return chance


def _uneven(people: Table, drawn: Sequence[_Drawn]) -> list[str]:
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
            f"{people.name}: by {CHANCE} its {len(drawn):,} rows were drawn from {total:,.0f} images, but there are "
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


def trained_rows(judge: VisualJudge, people: Table, labelled: TableSource, allow_outside: bool) -> frozenset[int]:
    """Returns the rows with an image that the judge, or one that it was compiled from, was compiled with.

    Raises:
        DataError: If an image cannot be read.
    """
    known = known_prints(judge)
    if not known:
        return frozenset()
    examples = load_images(
        labelled,
        images=judge.images,
        context=judge.context,
        policy=judge.pixel_policy,
        allow_outside=allow_outside,
    )
    assert len(examples) == len(people.rows)
    return frozenset(number for number, example in enumerate(examples) if item_prints([example]) in known)
