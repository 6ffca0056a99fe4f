"""What a whole judged collection is like, from the judge's verdicts on all of it and people's labels on a part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from blpo_dspy.agreement.intervals import Interval
from blpo_dspy.agreement.resampling import Floats
from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.tables import TableSource, require_columns
from blpo_dspy.errors import BlpoError, counted
from blpo_dspy.notebook import html_table, one_line
from blpo_dspy.population.cells import Sample
from blpo_dspy.population.estimates import Estimate, estimate_mean, estimate_share
from blpo_dspy.predictions.reading import (
    LABEL,
    Verdicts,
    key_columns,
    space_of,
    text_in,
    verdicts_in,
    whole_table,
)
from blpo_dspy.programs.visual_judge import VisualJudge
from blpo_dspy.runs.collection.drawn_labels import Given, labels_of_draw
from blpo_dspy.runs.collection.image_labels import trained_rows

_MOST_GROUPS = 100
_FEW = 30
_TIE = 0.5
_Chosen = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Group:
    """Estimates for a collection, or for the part of it that has one value in a column.

    Attributes:
        name: That value; "" for the whole collection.
        images: How many images the judge was given.
        labelled: How many of them have a label that counts.
        estimates: A share for each label that there are names for, the mean of levels or scores, the win rate of pairs.
        missing: Why there are none, or no mean; "" if there are.
    """

    name: str
    images: int
    labelled: int
    estimates: tuple[Estimate, ...]
    missing: str = ""


@dataclass(frozen=True, repr=False)
class Population:
    """What a judged collection is like.

    Attributes:
        whole: The estimates for all of it.
        groups: Those for its parts.
        by: The column that the parts have a value each of, "" if there are none.
        level: Nominal coverage of the intervals.
        notes: Labels that were set aside, and what else bears on the numbers, a sentence each.
    """

    whole: Group
    groups: tuple[Group, ...]
    by: str
    level: float
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON."""
        groups = [_plain(group) for group in self.groups]
        return {**_plain(self.whole), "by": self.by, "groups": groups, "level": self.level, "notes": list(self.notes)}

    def summary(self) -> str:
        """Returns the estimates for the whole with their intervals, a line each."""
        return "\n".join(" ".join(cells[:3]) for cells in self.rows()[1 : len(self.whole.estimates) + 1])

    def rows(self) -> list[list[str]]:
        """Returns the estimates as the cells of a table, its header first."""
        head = [
            "",
            "estimate",
            f"{self.level:.0%} interval",
            "labels alone",
            "judge alone (not valid)",
            "weight",
            "worth",
        ]
        rows = [head, *([estimate.what, *_cells(estimate)] for estimate in self.whole.estimates)]
        for group in self.groups:
            rows += [[f"{group.name}: {estimate.what}", *_cells(estimate)] for estimate in group.estimates]
            if group.missing:
                rows.append([group.name, "–", group.missing, *[""] * (len(head) - 3)])
        return rows

    def __repr__(self) -> str:
        return one_line(self, "; ".join(self.summary().splitlines()))

    def _repr_html_(self) -> str:
        return html_table(self.rows())


def estimate_population(
    predictions: TableSource,
    labelled: TableSource,
    *,
    judge: VisualJudge | None = None,
    labels: LabelSpace | None = None,
    by: str | None = None,
    key: Sequence[str] | None = None,
    level: float = 0.95,
    allow_outside: bool = False,
) -> Population:
    """Estimates what a judged collection is like, with intervals that are valid although the judge errs.

    By prediction-powered inference: the verdicts on the whole collection, corrected by how people's labels on a random
    part of it differ from them. There is the share of each name or level, the mean of levels and of scores, and the
    win rate of the first image of pairs, a tie counting half. A useless judge costs next to nothing, a good one saves
    labels.

    What was drawn is the image, so an image counts once, however many people labelled it: its label is that of the
    majority, as `combine_raters` makes it (where levels or scores have none their median, of two the lower one), and
    the estimate is that of a collection labelled so. An image on which people are tied between names has no label and
    counts as drawn and not labelled. Such images are often the hard ones: if there are many, have another person label
    them.

    Args:
        predictions: The table that `predict` wrote for the collection. Images without a label of the judge count.
        labelled: The table that `draw_to_label` wrote, with people's labels. Of a draw of your own it has the column
            `inclusion_probability`, the probability in (0, 1] with which each image was drawn, and `stratum` where it
            differs. Rows with an empty label were drawn and not labelled: within their stratum, by chance, one hopes.
            Several rows of an image are the labels of several people, whom the column `rater`, if there is one, names.
        judge: The judge: labels of images that it, or a judge it was compiled from, was compiled with are set aside.
        labels: The labels, where the judge is not given; those in the tables if None.
        by: A column of the predictions: estimates for each of its values too.
        key: The columns by which an image is known in both tables; those that both have, if None.
        level: Nominal coverage in (0, 1).
        allow_outside: Whether images that are read to compare them with the judge's may lie outside the labels' folder.

    Raises:
        DataError: If a table cannot be read or lacks a column, or naming all rows that cannot be used: an image that is
            not among the predictions, or there twice there or by the same rater; an unknown label; an inclusion
            probability outside (0, 1], or different ones of the same image.
        BlpoError: If there is no label, or the draw is not one from this collection.
    """
    if not 0 < level < 1:
        raise BlpoError(f"level={level!r} is not between 0 and 1", option="level")
    people, collection = whole_table(labelled), whole_table(predictions)
    if judge is not None:
        labels = judge.labels
    elif labels is None:
        labels = space_of((collection, LABEL), (people, LABEL))
    key = key_columns(collection, people, key)
    if by is not None:
        require_columns(collection.name, collection.columns, [by], advice="", option="by")
    verdicts = verdicts_in(collection, labels, key)
    trained = frozenset[int]() if judge is None else trained_rows(judge, people, labelled, allow_outside)
    given = labels_of_draw(people, labels, key, verdicts, trained)
    groups = {} if by is None else _groups(verdicts, by)
    maker = _Maker(labels, verdicts, given, level)
    notes = [*given.notes, *_remarks(verdicts, given)]
    parts = tuple(maker.group(name, chosen) for name, chosen in groups.items())
    whole = maker.group("", np.ones(len(verdicts.labels), dtype=bool))
    if not whole.estimates:
        raise BlpoError(f"{people.name}: {whole.missing}; label more of the images")
    if whole.missing:
        notes.append(f"there is no mean: {whole.missing}")
    return Population(whole, parts, by or "", level, tuple(notes))


def _groups(verdicts: Verdicts, by: str) -> dict[str, _Chosen]:
    values = np.array([text_in(row.values, by) for row in verdicts.table.rows], dtype=object)
    names = sorted(set(values))
    if len(names) > _MOST_GROUPS:
        raise BlpoError(
            f"by={by!r} has {len(names):,} values; name a column with at most {_MOST_GROUPS}, as each needs labels of "
            "its own",
            option="by",
        )
    return {name or "(empty)": values == name for name in names}


def _remarks(verdicts: Verdicts, given: Given) -> list[str]:
    notes = []
    if (silent := sum(label is None for label in verdicts.labels)) == len(verdicts.labels):
        notes.append("the judge gave no image a label, so the estimates rest on people's alone")
    elif silent:
        notes.append(f"{counted(silent, 'image')} without a label of the judge; they count, by people's labels")
    if len(given.labels) < _FEW:
        notes.append(
            f"{counted(len(given.labels), 'label')} only: intervals are wide, and that of a mean is approximate"
        )
    return notes


@dataclass(frozen=True)
class _Numbers:
    """Labels of the judge and of people as numbers: one figure of the collection is the mean of the latter."""

    what: str
    judged: Floats
    people: Floats


class _Maker:
    """Makes the estimates of a collection or of a group of it."""

    def __init__(self, labels: LabelSpace, verdicts: Verdicts, given: Given, level: float) -> None:
        self._given, self._level, self._scale = given, level, _scale(labels)
        self._paired = labels.paired
        self._answered = np.array([label is not None for label in verdicts.labels]) | np.array(verdicts.undecided)
        codes = {label: code for code, label in enumerate(labels.labels)}
        judged, people = (
            np.array([-1 if label is None else codes.get(label, -1) for label in found])
            for found in (verdicts.labels, given.labels)
        )
        self._shares = [
            _Numbers(str(label), (judged == code).astype(float), (people == code).astype(float))
            for label, code in codes.items()
        ]
        self._mean = None if self._scale is None else _numbers(self._scale.what, labels, verdicts, given)

    def group(self, name: str, chosen: _Chosen) -> Group:
        """Returns the estimates for the chosen images."""
        inside = chosen[self._given.positions]
        images, count = int(chosen.sum()), int(inside.sum())
        if not count:
            return Group(name, images, 0, (), "no image of it is labelled")
        found = [
            estimate_share(each.what, self._sample(each, chosen, inside), level=self._level) for each in self._shares
        ]
        missing = ""
        if self._mean is not None and self._scale is not None:
            sample, answered = self._sample(self._mean, chosen, inside), bool(self._answered[chosen].any())
            scale, how = self._scale, {"judged": answered, "share": self._paired}
            try:
                found.append(estimate_mean(scale.what, sample, scale.span, scale.step, level=self._level, **how))
            except BlpoError as error:
                missing = str(error)
        return Group(name, images, count, tuple(found), missing)

    def _sample(self, numbers: _Numbers, chosen: _Chosen, inside: _Chosen) -> Sample:
        given = self._given
        return Sample(
            values=numbers.people[inside],
            judged=numbers.judged[given.positions][inside],
            strata=given.strata[inside],
            chances=given.chances[inside],
            collection=numbers.judged[chosen],
            sizes=np.bincount(given.strata),
        )


@dataclass(frozen=True)
class _Scale:
    """Labels as numbers: what their mean is, their ends, and the step that matters."""

    what: str
    span: tuple[float, float]
    step: float


def _scale(labels: LabelSpace) -> _Scale | None:
    """How labels are numbers, None for names."""
    if labels.paired:
        return _Scale(f"win rate of {labels.labels[0]}", (0.0, 1.0), _TIE)
    if labels.score_range is not None:
        low, high = labels.score_range.low, labels.score_range.high
        return _Scale("mean", (low, high), labels.tolerated * labels.span or labels.span / 10)
    if labels.kind == "nominal":
        return None
    what = "mean" if labels.numeric else f"mean ({labels.names[0]} = 1)"
    return _Scale(what, (_number(labels, labels.labels[0]), _number(labels, labels.labels[-1])), 1.0)


def _number(labels: LabelSpace, label: Label) -> float:
    """A label as a number."""
    if labels.paired:
        return (1.0, 0.0, _TIE)[labels.index(label)]
    if labels.kind == "scores" or labels.numeric:
        return float(label)
    return float(labels.index(label) + 1)


def _numbers(what: str, labels: LabelSpace, verdicts: Verdicts, given: Given) -> _Numbers:
    """Labels as numbers; where the judge gave none, the mean of the others, which says nothing."""
    judged = np.array([np.nan if label is None else _number(labels, label) for label in verdicts.labels])
    if labels.paired:
        judged[np.array(verdicts.undecided)] = _TIE
    known = ~np.isnan(judged)
    judged = np.where(known, judged, judged[known].mean() if known.any() else 0.0)
    return _Numbers(what, judged, np.array([_number(labels, label) for label in given.labels]))


def _plain(group: Group) -> dict[str, Any]:
    return {**asdict(group), "estimates": [estimate.to_dict() for estimate in group.estimates]}


def _cells(estimate: Estimate) -> list[str]:
    """The cells of an estimate in a table."""

    def shown(value: float) -> str:
        return f"{value:.1%}" if estimate.share else f"{value:.2f}"

    def ends(interval: Interval) -> str:
        return f"{shown(interval.low)} to {shown(interval.high)}"

    alone = "–" if estimate.judged is None else shown(estimate.judged)
    worth = "–" if estimate.worth is None else f"{estimate.worth:,} labels"
    return [
        shown(estimate.value),
        ends(estimate.interval),
        ends(estimate.labelled_interval),
        alone,
        f"{estimate.weight:.2f}",
        worth,
    ]
