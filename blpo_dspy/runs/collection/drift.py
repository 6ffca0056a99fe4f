"""Signs that a judge's verdicts no longer mean what they did: other labels, confidence, model or agreement."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.tables import Table, TableSource, require_columns
from blpo_dspy.errors import BlpoError, brief, check_kind, counted
from blpo_dspy.notebook import html_table, one_line
from blpo_dspy.population.shifts import Shift, corrected, fall, label_shift, number_shift, paired_fall
from blpo_dspy.predictions.reading import (
    LABEL,
    SERVED_BY,
    Verdicts,
    key_columns,
    text_in,
    verdicts_in,
    whole_table,
)
from blpo_dspy.programs.visual_judge import VisualJudge
from blpo_dspy.runs.collection.image_labels import labels_by_image, people_notes, refuse_unusable, trained_rows

NO_SIGN, LOOK, REALIGN = "no sign", "look", "re-align"
_CODES = {NO_SIGN: 0, LOOK: 3, REALIGN: 4}
_ADVICE = {
    NO_SIGN: "nothing differs by more than chance",
    LOOK: "judge some of the current images yourself, and give their labels",
    REALIGN: "label some of the current images and compile from this judge on",
}
_NONE = "no label"


@dataclass(frozen=True)
class Right:
    """How many verdicts agree with people's labels, of how many, and on what."""

    right: int
    n: int
    on: str


@dataclass(frozen=True, repr=False)
class Drift:
    """What differs between verdicts then and now.

    Attributes:
        verdict: "no sign"; "look", where labels, confidence or model differ; or "re-align", where agreement fell.
        why: The reasons, a sentence each.
        shifts: The tests, with Holm's correction for all of them.
        labels: By label, or bin of scores, how often it was given then and now.
        confidence: Its mean then and now, None where it is unknown.
        models: The names of model versions that servers reported, then and now.
        agreement: How many verdicts agreed with people then and now; None without labels.
        alpha: The level of the tests.
        notes: What else bears on the verdict, a sentence each.
    """

    verdict: str
    why: tuple[str, ...]
    shifts: tuple[Shift, ...]
    labels: Mapping[str, tuple[int, int]]
    confidence: tuple[float | None, float | None]
    models: tuple[tuple[str, ...], tuple[str, ...]]
    agreement: tuple[Right | None, Right] | None
    alpha: float
    notes: tuple[str, ...]

    @property
    def code(self) -> int:
        """The exit code of `blpo drift`: 0 for no sign, 3 for look, 4 for re-align."""
        return _CODES[self.verdict]

    @property
    def wording(self) -> str:
        """The verdict in a sentence."""
        return f"{self.verdict}: {'; '.join(self.why) if self.why else _ADVICE[NO_SIGN]}" + (
            f"; {_ADVICE[self.verdict]}" if self.why else ""
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON."""
        return {**asdict(self), "code": self.code, "wording": self.wording}

    def rows(self) -> list[list[str]]:
        """Returns what was compared as the cells of a table, its header first."""
        rows = [["", "reference", "current"]]
        totals = [sum(counts[i] for counts in self.labels.values()) for i in (0, 1)]
        rows.append(["verdicts", *(f"{total:,}" for total in totals)])
        for name, counts in self.labels.items():
            rows.append(
                [name, *(f"{n / total:.1%}" if total else "–" for n, total in zip(counts, totals, strict=True))]
            )
        if self.confidence != (None, None):
            rows.append(["confidence", *("–" if mean is None else f"{mean:.2f}" for mean in self.confidence)])
        if self.agreement is not None:
            found = ("–" if each is None else f"{each.right} of {each.n} {each.on}" for each in self.agreement)
            rows.append(["agree with people", *found])
        if any(self.models):
            rows.append(["served by", *(", ".join(names) or "as asked" for names in self.models)])
        return rows

    def __repr__(self) -> str:
        return one_line(self, self.wording)

    def _repr_html_(self) -> str:
        return html_table([[self.verdict, *self.rows()[0][1:]], *self.rows()[1:]])


def measure_drift(
    judge: VisualJudge,
    reference: TableSource,
    current: TableSource,
    *,
    labelled: TableSource | None = None,
    key: Sequence[str] | None = None,
    alpha: float = 0.05,
    allow_outside: bool = False,
) -> Drift:
    """Compares a judge's verdicts with those of an earlier time, on the same images or on others.

    Label shares are compared by a chi-square test, scores and confidence by Kolmogorov and Smirnov's, and agreement
    with people's labels by an exact test: on images that both tables have, paired, if there are such; else with the
    agreement on the reference's images, or that which the judge's card states for its sealed test set. Where nothing
    has changed, any of the tests is significant at most with probability `alpha`.

    Args:
        judge: The judge, with its labels and card.
        reference: The table that `predict` wrote then.
        current: That of now.
        labelled: A table with people's labels, of current images and perhaps of the reference's, drawn uniformly. An
            image that several people labelled, in a row each, counts once, as for `estimate_population`.
        key: The columns by which an image is known in all tables; those that they share, if None.
        alpha: The level of the tests, in (0, 1).
        allow_outside: Whether labelled images may lie outside the folder of their table.

    Raises:
        DataError: If a table cannot be read or lacks a column, or naming all rows that cannot be used.
        BlpoError: If only one of the two tables states a confidence, or no label is of a current image.
    """
    check_kind("judge", judge, VisualJudge, "judge", "VisualJudge.load('judge.json')")
    if not 0 < alpha < 1:
        raise BlpoError(f"alpha={alpha!r} is not between 0 and 1", option="alpha")
    then_table, now_table = whole_table(reference), whole_table(current)
    people = None if labelled is None else whole_table(labelled)
    columns = () if people is None else key_columns(now_table, people, key)
    known = set(columns) <= set(then_table.columns)
    then = verdicts_in(then_table, judge.labels, columns if known else ())
    now = verdicts_in(now_table, judge.labels, columns)
    _check_confidence(then, now)
    labels, shift = _labels(judge.labels, then, now)
    shifts, notes = [shift], _failures(then, now)
    if then.has_confidence:
        sure = [[value for value in each.confidence if value is not None] for each in (then, now)]
        shifts.append(number_shift("confidence", *sure))
    else:
        notes.append("neither table states a confidence, so it is not compared")
    agreement = None
    if people is not None:
        assert labelled is not None
        trained = trained_rows(judge, people, labelled, allow_outside)
        agreement, fell, aside = _agreement(judge, people, columns, then, now, trained)
        shifts += [] if fell is None else [fell]
        notes += aside
    found, models = corrected(shifts), (_served(then), _served(now))
    verdict, why = _verdict(found, models, alpha)
    means = tuple(_mean_confidence(each) for each in (then, now))
    return Drift(verdict, why, found, labels, (means[0], means[1]), models, agreement, alpha, tuple(notes))


def _check_confidence(then: Verdicts, now: Verdicts) -> None:
    if then.has_confidence != now.has_confidence:
        without = now if then.has_confidence else then
        raise BlpoError(
            f"{without.table.name}: no confidence, but the other table has one; judge both with --confidence or neither"
        )


def _labels(labels: LabelSpace, then: Verdicts, now: Verdicts) -> tuple[dict[str, tuple[int, int]], Shift]:
    """How often each label was given, without rows that had an error, and the test of it."""
    answered = [[label for label, ok in zip(each.labels, _answered(each), strict=True) if ok] for each in (then, now)]
    given = [[label for label in found if label is not None] for found in answered]
    names, groups = labels.strata([*given[0], *given[1]])
    parts = (groups[: len(given[0])], groups[len(given[0]) :])
    counts = [Counter(part) for part in parts]
    shares = {str(name): (counts[0][name], counts[1][name]) for name in names}
    unlabelled = tuple(len(found) - len(known) for found, known in zip(answered, given, strict=True))
    if any(unlabelled):
        shares[_NONE] = (unlabelled[0], unlabelled[1])
    if labels.kind == "scores":
        return shares, number_shift("labels", *([labels.score(label) for label in known] for known in given))
    return shares, label_shift(*zip(*shares.values(), strict=True))


def _answered(verdicts: Verdicts) -> list[bool]:
    return [not text_in(row.values, "error") for row in verdicts.table.rows]


def _failures(then: Verdicts, now: Verdicts) -> list[str]:
    failed = [_answered(each).count(False) for each in (then, now)]
    if not any(failed):
        return []
    return [
        f"{counted(failed[0], 'row')} of the reference and {failed[1]:,} of the current ones had an error; left out"
    ]


def _mean_confidence(verdicts: Verdicts) -> float | None:
    known = [value for value in verdicts.confidence if value is not None]
    return fmean(known) if known else None


def _served(verdicts: Verdicts) -> tuple[str, ...]:
    return tuple(sorted({text_in(row.values, SERVED_BY) for row in verdicts.table.rows} - {""}))


_Found = tuple[tuple["Right | None", Right] | None, "Shift | None", list[str]]


def _agreement(
    judge: VisualJudge,
    people: Table,
    key: Sequence[str],
    then: Verdicts,
    now: Verdicts,
    trained: frozenset[int],
) -> _Found:
    """Agreement then and now, the test of its fall, and notes."""
    truth, notes = _truth(judge.labels, people, key, then, now, trained)

    def right(verdicts: Verdicts) -> dict[str, bool]:
        if not verdicts.keys:
            return {}
        rows = zip(verdicts.keys, verdicts.labels, _answered(verdicts), strict=True)
        return {name: judge.labels.right(truth[name], label) for name, label, ok in rows if ok and name in truth}

    before, after = right(then), right(now)
    if not after:
        raise BlpoError(f"{people.name}: no label that counts is of a current image; label some of those")
    both = [name for name in after if name in before]
    if both:
        pair = [[found[name] for name in both] for found in (before, after)]
        first, second = (Right(sum(each), len(both), "judged in both") for each in pair)
        return (first, second), paired_fall(*pair), notes
    current = Right(sum(after.values()), len(after), "labelled")
    earlier = Right(sum(before.values()), len(before), "labelled") if before else _sealed(judge)
    if earlier is None:
        notes.append("agreement is not compared: no label is of an image of the reference, and the card states none")
        return (None, current), None, notes
    return (earlier, current), fall((earlier.right, earlier.n), (current.right, current.n)), notes


def _truth(
    labels: LabelSpace,
    people: Table,
    key: Sequence[str],
    then: Verdicts,
    now: Verdicts,
    trained: frozenset[int],
) -> tuple[dict[str, Label], list[str]]:
    """People's labels that count, by image."""
    require_columns(people.name, people.columns, [LABEL], advice="", option=())
    images, problems = labels_by_image(people, labels, key, {*then.keys, *now.keys}, trained)
    refuse_unusable(people, problems, then.keys)
    truth = {image.key: label for image in images if (label := image.counting) is not None}
    return truth, people_notes(images)


def _sealed(judge: VisualJudge) -> Right | None:
    """The agreement on the sealed test set, as the judge's card states it."""
    try:
        found = judge.card["agreement"]["after"]["test"]
        n, accuracy = int(found["n"]), float(found["accuracy"])
    except (KeyError, TypeError, ValueError):
        return None
    return Right(round(n * accuracy), n, "of its test set") if n > 0 and 0 <= accuracy <= 1 else None


def _verdict(
    shifts: Sequence[Shift], models: tuple[tuple[str, ...], tuple[str, ...]], alpha: float
) -> tuple[str, tuple[str, ...]]:
    why = []
    words = {
        "labels": "labels are given in other shares",
        "confidence": "the confidence differs",
        "agreement": "agreement with people fell",
    }
    significant = [shift for shift in shifts if shift.corrected <= alpha]
    for shift in significant:
        why.append(f"{words[shift.what]} ({shift.test}, p = {shift.corrected:.2g} corrected for {len(shifts)} tests)")
    if models[0] != models[1]:
        then, now = (", ".join(names) or "the name asked for" for names in models)
        why.append(f"the server reports another model: {brief(then)} before, {brief(now)} now")
    if any(shift.what == "agreement" for shift in significant):
        return REALIGN, tuple(why)
    return LOOK if why else NO_SIGN, tuple(why)
