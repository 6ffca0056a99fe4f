"""What a report says: the view model between a run's records and the page."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from blpo_dspy.agreement import Agreement
from blpo_dspy.labels import Label, LabelSpace
from blpo_dspy.report.beside import (
    Doubts,
    FidelityTable,
    Humans,
    OutOfFold,
    Told,
    doubts_of,
    fidelity_of,
    humans_of,
    out_of_fold,
    told_of,
)
from blpo_dspy.report.charts import Point, Series, line_chart
from blpo_dspy.report.items import KINDS, Item, worth_showing
from blpo_dspy.report.run import RunFolder
from blpo_dspy.report.words import Piece, word_diff
from blpo_dspy.statistics import (
    BETTER,
    METHOD,
    WORSE,
    Difference,
    Interval,
    PairedComparison,
    agreement_intervals,
    compare_paired,
)

_UNSAFE = re.compile(r"unsafe|nsfw|harm|explicit|violen|gore|porn|sexual|nud|hate|disturb|toxic|shock", re.IGNORECASE)
_MOST_GROUPS, _MOST_TRIALS, _MOST_LABELS = 40, 40, 15
_NAMES = {
    "accuracy": "Accuracy",
    "macro_f1": "Macro F1",
    "kappa": "Cohen’s κ",
    "spearman": "Spearman’s ρ",
    "mae": "Mean error (levels)",
    "invalid_rate": "Answers without a label",
}


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval."""

    value: float
    interval: Interval | None


@dataclass(frozen=True)
class Figure:
    """One row of the table of figures; `change` stands where the paired comparison has it."""

    name: str
    before: Estimate | None
    after: Estimate | None
    change: Difference | None
    ceiling: float | None


@dataclass(frozen=True)
class Headline:
    """The result in a sentence.

    Attributes:
        tone: "good", "bad" or "none".
        title: The result in a few words.
        before: The start's figure, ready to read.
        after: The compiled judge's.
        measure: What the figure is.
        sentences: What stands behind it.
    """

    tone: str
    title: str
    before: str
    after: str
    measure: str
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Confusion:
    """How often each human label met each label of a judge; `shares` are of the row, in percent."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[int, int, bool], ...]], ...]


@dataclass(frozen=True)
class Group:
    """Right answers before and after in a part of the test set."""

    name: str
    n: int
    before: int
    after: int
    verdict: str


@dataclass(frozen=True)
class ShownItem:
    """An item with its picture as a data URI, if it is shown."""

    item: Item
    picture: str | None
    blurred: bool


@dataclass(frozen=True)
class Gallery:
    """Items of one kind: how many there are, and those shown."""

    kind: str
    count: int
    shown: tuple[ShownItem, ...]


@dataclass(frozen=True)
class Texts:
    """Both instructions' changes."""

    judge: tuple[Piece, ...]
    verbalizer: tuple[Piece, ...]
    judge_changed: bool
    verbalizer_changed: bool


@dataclass(frozen=True)
class Candidate:
    """A row of the inner search."""

    origin: str
    score: float | None
    taken: bool
    verbalizer: str | None
    judge: tuple[Piece, ...] | None
    rejections: tuple[Mapping[str, str], ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class SearchRound:
    """A round: what it changed, and its candidates; `left_out` are those beyond the most shown."""

    number: int
    spent: int
    errors: int
    judged: int
    changed: bool
    texts: Texts
    candidates: tuple[Candidate, ...]
    left_out: int


@dataclass(frozen=True)
class Page:
    """Everything on the page, in its order."""

    task: str
    headline: Headline
    warning: str
    repeatability: str
    figures: tuple[Figure, ...]
    figures_set: str
    paired: PairedComparison | None
    humans: Humans | None
    folds: OutOfFold | None
    chart: str | None
    chart_measure: str
    instructions: Texts
    confusions: tuple[Confusion, ...]
    groups: tuple[tuple[str, tuple[Group, ...], int], ...]
    galleries: tuple[Gallery, ...]
    pictures: bool
    fidelity: FidelityTable | None
    told: tuple[Told, ...]
    doubts: Doubts | None
    rounds: tuple[SearchRound, ...]
    guards: tuple[tuple[str, int, str], ...]
    ledger: tuple[tuple[str, Mapping[str, Any]], ...]
    facts: tuple[tuple[str, str], ...]
    options: tuple[tuple[str, str], ...]
    versions: tuple[tuple[str, str], ...]
    command: str
    method: str = METHOD


def page_of(run: RunFolder, *, images: bool = True, blur: Sequence[str] | None = None) -> Page:
    """Returns what the report of a run shows.

    Args:
        run: The run.
        images: Whether pictures are shown.
        blur: Labels whose items are blurred until clicked; by default those that sound unsafe.
    """
    result = run.result
    labels = LabelSpace.from_dict(result["labels"])
    answered = [item for item in run.items if item.answered]
    paired = _paired(labels, answered)
    agreements = {when: _agreement(result[when], "test") for when in ("before", "after")}
    which = "test"
    if None in agreements.values():
        which, agreements = "val", {when: _agreement(result[when], "val") for when in ("before", "after")}
    ceiling = _agreement(result.get("ceiling") or {}, "test") if which == "test" else None
    chart, measure = _chart(result, labels)
    blurred = _blurring(labels, blur)
    return Page(
        task=result["start"]["judge"],
        headline=_headline(labels, paired, agreements, which),
        warning=str((result.get("sealed_test") or {}).get("warning") or ""),
        repeatability=str((result.get("repeatability") or {}).get("told") or ""),
        figures=_figures(agreements, paired, ceiling),
        figures_set=which,
        paired=paired,
        humans=humans_of(result),
        folds=out_of_fold(result),
        chart=chart,
        chart_measure=measure,
        instructions=_texts(result["start"], result["compiled"]),
        confusions=_confusions(agreements),
        groups=_groups(labels, answered),
        galleries=_galleries(run, labels, images, blurred),
        pictures=images,
        fidelity=fidelity_of(result),
        told=told_of(result),
        doubts=doubts_of(run, images=images, blur=blurred),
        rounds=tuple(_round(completed) for completed in result["rounds"]),
        guards=_guards(result["rounds"], result["validations"]),
        ledger=_ledger(result["ledger"]),
        facts=_facts(result),
        options=tuple((name, str(value)) for name, value in result["options"].items()),
        versions=tuple(result["versions"].items()),
        command=run.command,
    )


def _agreement(measured: Mapping[str, Any], which: str) -> Agreement | None:
    data = measured.get(which)
    return None if data is None else Agreement.from_dict(data)


def _paired(labels: LabelSpace, items: Sequence[Item]) -> PairedComparison | None:
    if not items:
        return None
    truth = [item.label for item in items]
    return compare_paired(labels, truth, [i.before.label for i in items], [i.after.label for i in items])


def _headline(
    labels: LabelSpace, paired: PairedComparison | None, agreements: Mapping[str, Agreement | None], which: str
) -> Headline:
    if paired is None:
        shown = [None if a is None else a.accuracy for a in agreements.values()]
        before, after = ("–" if value is None else f"{value:.0%}" for value in shown)
        reason = (
            "The sealed test set was not judged, so these figures come from the validation set. The judge was picked "
            "on that set, which flatters it: they are no evidence of a gain on new images."
            if which == "val" and shown != [None, None]
            else "Neither test nor validation figures were recorded."
        )
        return Headline("none", "Not measured on sealed test images", before, after, "validation accuracy", (reason,))
    difference = paired.differences[paired.headline]
    if paired.headline == "accuracy":
        measure, scale = "of the sealed test images judged as people did", 100.0
        before, after = (f"{value:.0%}" for value in (difference.before, difference.after))
        unit = " points"
    else:
        measure, scale = "levels of mean distance from the human rating (less is better)", len(labels) - 1.0
        before, after = (f"{value * scale:.2f}" for value in (difference.before, difference.after))
        unit = " levels"
    ends = [difference.change, difference.interval.low, difference.interval.high]
    digits = 0 if unit == " points" else 2
    change, low, high = (f"{value * scale:+.{digits}f}".replace("-", "−") for value in ends)
    titles = {BETTER: "Agrees with people better than before", WORSE: "Agrees with people less than before"}
    spans = "" if paired.verdict in titles else " An interval or test that allows for no change is no evidence of one."
    return Headline(
        {BETTER: "good", WORSE: "bad"}.get(paired.verdict, "none"),
        titles.get(paired.verdict, "Not distinguishable from no change"),
        before,
        after,
        measure,
        (
            f"Change {change}{unit}; {difference.interval.level:.0%} interval {low} to {high}; "
            f"exact paired test {'p < 0.001' if paired.p_value < 0.001 else f'p = {paired.p_value:.2g}'}.{spans}",
            f"Of {paired.n:,} images, {paired.fixed:,} were fixed and {paired.broken:,} broken.",
        ),
    )


def _figures(
    agreements: Mapping[str, Agreement | None], paired: PairedComparison | None, ceiling: Agreement | None
) -> tuple[Figure, ...]:
    intervals = {when: {} if a is None else agreement_intervals(a) for when, a in agreements.items()}

    def estimate(when: str, name: str) -> Estimate | None:
        value = getattr(agreements[when], name, None)
        return None if value is None else Estimate(value, intervals[when].get(name))

    rows = []
    for name, title in _NAMES.items():
        change = None if paired is None else paired.differences.get(name)
        row = Figure(title, estimate("before", name), estimate("after", name), change, getattr(ceiling, name, None))
        if row.before or row.after:
            rows.append(row)
    return tuple(rows)


def _chart(result: Mapping[str, Any], labels: LabelSpace) -> tuple[str | None, str]:
    name, measure = ("kappa", "Cohen’s κ (quadratic weights)") if labels.ordered else ("accuracy", "accuracy")
    points: list[Point] = []
    for validation in sorted(result["validations"], key=lambda v: (v["spent"], v["after_round"])):
        agreement = _agreement(validation, "agreement")
        value = None if agreement is None else getattr(agreement, name)
        if agreement is None or value is None:
            continue
        interval = agreement_intervals(agreement)[name]
        number = validation["after_round"]
        text = f"{f'after round {number}' if number else 'start'}: {value:.2f}, {validation['spent']:,} calls"
        returned = validation["instructions"] == result["compiled"] and not any(point.filled for point in points)
        ends = None if interval is None else (interval.low, interval.high)
        points.append(Point(value, ends, text, validation["spent"], returned))
    corners = tuple((point.spent, point.value) for point in points)
    return (line_chart([Series("", tuple(points), corners)], measure) if points else None), measure


def _texts(old: Mapping[str, str], new: Mapping[str, str]) -> Texts:
    return Texts(
        tuple(word_diff(old["judge"], new["judge"])),
        tuple(word_diff(old["verbalizer"], new["verbalizer"])),
        old["judge"] != new["judge"],
        old["verbalizer"] != new["verbalizer"],
    )


def _confusions(agreements: Mapping[str, Agreement | None]) -> tuple[Confusion, ...]:
    made = []
    for when, title in (("before", "Before"), ("after", "After")):
        agreement = agreements[when]
        if agreement is None or len(agreement.labels) > _MOST_LABELS:
            continue
        names = agreement.labels.names
        invalid = any(a is not None and a.invalid for a in agreements.values())
        rows = []
        for i, (name, counts) in enumerate(zip(names, agreement.confusion, strict=True)):
            total = sum(counts) or 1
            shown = counts if invalid else counts[:-1]
            rows.append((name, tuple((count, round(100 * count / total), i == j) for j, count in enumerate(shown))))
        made.append(Confusion(title, (*names, *(["no label"] if invalid else [])), tuple(rows)))
    return tuple(made)


def _groups(labels: LabelSpace, items: Sequence[Item]) -> tuple[tuple[str, tuple[Group, ...], int], ...]:
    tables = []
    for title, key in (("By human label", lambda item: str(item.label)), ("By group", lambda item: item.group)):
        rows, left_out = _grouped(labels, items, key)
        if len(rows) > 1:
            tables.append((title, rows, left_out))
    return tuple(tables)


def _grouped(labels: LabelSpace, items: Sequence[Item], key: Callable[[Item], str]) -> tuple[tuple[Group, ...], int]:
    parts: dict[str, list[Item]] = {}
    for item in items:
        parts.setdefault(key(item), []).append(item)
    order = {str(label): i for i, label in enumerate(labels.labels)}
    largest = sorted(parts, key=lambda name: -len(parts[name]))[:_MOST_GROUPS]
    rows = []
    for name in sorted(largest, key=lambda name: (order.get(name, len(order)), -len(parts[name]), name)):
        part = parts[name]
        paired = _paired(labels, part)
        assert paired is not None
        right = [sum(getattr(item, when).label == item.label for item in part) for when in ("before", "after")]
        rows.append(Group(name or "(none)", len(part), right[0], right[1], paired.verdict))
    return tuple(rows), len(parts) - len(largest)


def _blurring(labels: LabelSpace, blur: Sequence[str] | None) -> frozenset[str]:
    return frozenset(name for name in labels.names if _UNSAFE.search(name)) if blur is None else frozenset(blur)


def _galleries(run: RunFolder, labels: LabelSpace, images: bool, blur: frozenset[str]) -> tuple[Gallery, ...]:
    def shown(item: Item) -> ShownItem:
        picture = run.picture(item.thumbnail) if images else None
        stated: set[Label | None] = {item.label, item.before.label, item.after.label}
        return ShownItem(item, picture, any(str(label) in blur for label in stated))

    found = worth_showing(run.items, labels)
    return tuple(Gallery(kind, found[kind][0], tuple(shown(run.items[i]) for i in found[kind][1])) for kind in KINDS)


def _round(completed: Mapping[str, Any]) -> SearchRound:
    start, chosen = completed["start"], completed["chosen"]
    errors, guard = len(completed["batch"]["errors"]), len(completed["batch"]["guard"])
    trials = completed["trials"]
    places = [i for i in range(len(trials)) if i < _MOST_TRIALS or i == chosen]
    return SearchRound(
        completed["number"] + 1,
        completed["spent"],
        errors,
        errors + guard,
        completed["end"] != start,
        _texts(start, completed["end"]),
        tuple(_candidate(trials[i], start, taken=i == chosen) for i in places),
        len(trials) - len(places),
    )


def _candidate(trial: Mapping[str, Any], start: Mapping[str, str], *, taken: bool) -> Candidate:
    counts = {"answers without a label": trial["invalid"], "failed calls": trial["failed"]}
    return Candidate(
        {"start": "as the round began", "proposal": "proposed", "merge": "merged"}.get(
            trial["origin"], trial["origin"]
        ),
        trial["score"],
        taken,
        trial["verbalizer"],
        None if trial["judge"] is None else tuple(word_diff(start["judge"], trial["judge"])),
        tuple(trial["rejections"]),
        tuple(f"{count} {name}" for name, count in counts.items() if count),
    )


def _guards(
    rounds: Sequence[Mapping[str, Any]], validations: Sequence[Mapping[str, Any]]
) -> tuple[tuple[str, int, str], ...]:
    """Reason, how often, and an example of what was refused: proposals, and judges that a guard held back."""
    rejections = [r for completed in rounds for trial in completed["trials"] for r in trial["rejections"]]
    rejections += [
        {"reason": f"held back: {v['refused']}", "text": v["instructions"]["judge"]}
        for v in validations
        if v.get("refused")
    ]
    examples = {rejection["reason"]: rejection["text"] for rejection in reversed(rejections)}
    counted = Counter(rejection["reason"] for rejection in rejections).most_common(_MOST_TRIALS)
    return tuple((reason, count, examples[reason]) for reason, count in counted)


def _ledger(ledger: Mapping[str, Mapping[str, Any]]) -> tuple[tuple[str, Mapping[str, Any]], ...]:
    names = {"beforehand": "before it", "compile": "search", "measure": "after it"}
    return tuple(
        (f"{names.get(phase, phase)}: {role}", usage)
        for phase, roles in ledger.items()
        for role, usage in roles.items()
        if usage["calls"] or usage["cached"]
    )


def _test_use(sealed: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """How the test set was used by this run, and how often by any that is known of."""
    if not sealed:
        return ()
    known = f"; {sealed['times']} times in all, as far as is known" if sealed["times"] > 1 else ""
    return (("test set used", f"{sealed['used']}{known}"),)


def _facts(result: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    data = result["data"]
    sets = [
        (f"{name} set", f"{part['n']:,} images, sha256 {part['sha256'][:16]}…")
        for name, part in data.items()
        if name != "how"
    ]
    return (
        ("Labels", ", ".join(LabelSpace.from_dict(result["labels"]).names)),
        ("Data", data["how"]),
        *sets,
        *_test_use(result.get("sealed_test") or {}),
        *((f"{role} model", name) for role, name in result["models"].items()),
        (
            "The judge reads",
            {"both": "image and description", "image": "the image", "description": "the description"}.get(
                result["evidence"], result["evidence"]
            ),
        ),
        ("Search ended", result["stop_reason"]),
        ("Time", str(timedelta(seconds=round(result["seconds"])))),
        ("Seed", str(result["seed"])),
    )
