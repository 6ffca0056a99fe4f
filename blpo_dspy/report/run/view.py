"""The view model of a run's report, between its records and the page."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from blpo_dspy.agreement.intervals import agreement_intervals, interval_method
from blpo_dspy.agreement.measure import Agreement
from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.report.charts import Plane, Point, Series, line_chart, scatter_chart
from blpo_dspy.report.numbers import figure
from blpo_dspy.report.run.checks import (
    Doubts,
    FidelityTable,
    Humans,
    OutOfFold,
    StatedLabels,
    doubts_of,
    fidelity_of,
    humans_of,
    out_of_fold,
    stated_labels_of,
)
from blpo_dspy.report.run.figure_table import FigureTable, figure_table, right_in_words
from blpo_dspy.report.run.folder import RunFolder
from blpo_dspy.report.run.groups import GroupTable, groups_of
from blpo_dspy.report.run.headline import Headline, headline_of, models_and_day
from blpo_dspy.report.run.items import KINDS, Item, worth_showing
from blpo_dspy.report.run.measured import Where, agreement_in, measured_of
from blpo_dspy.report.words import Piece, word_diff

_UNSAFE = re.compile(r"unsafe|nsfw|harm|explicit|violen|gore|porn|sexual|nud|hate|disturb|toxic|shock", re.IGNORECASE)
_MOST_TRIALS, _MOST_LABELS = 40, 15
# The figure that the rounds are drawn by, and its name.
_CHARTED = {
    "nominal": ("accuracy", "accuracy"),
    "ordinal": ("kappa", "Cohen’s κ (quadratic weights)"),
    "scores": ("spearman", "Spearman’s ρ"),
}
_COSTS = {
    "calls": "Calls",
    "cached": "From memory",
    "failed": "Failed",
    "images": "Images sent",
    "prompt_tokens": "Prompt tokens",
    "completion_tokens": "Completion tokens",
    "usd": "US$",
}


@dataclass(frozen=True)
class Confusion:
    """How often each human label met each label of a judge; `shares` are of the row, in percent."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[int, int, bool], ...]], ...]


@dataclass(frozen=True)
class ShownItem:
    """An item with its picture as a data URI, if it is shown, and whether it was judged rightly before and after."""

    item: Item
    picture: str | None
    blurred: bool
    right: tuple[bool, bool]


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
    shown_gain: float | None
    kept_back_gain: float | None
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
    mistakes: int
    shown: int
    judged: int
    changed: bool
    texts: Texts
    candidates: tuple[Candidate, ...]
    left_out: int


@dataclass(frozen=True)
class Page:
    """Everything on the page, in its order."""

    task: str
    about: str
    headline: Headline
    warning: str
    repeatability: str
    where: Where
    figures: FigureTable
    humans: Humans | None
    folds: OutOfFold | None
    chart: str | None
    chart_measure: str
    instructions: Texts
    confusions: tuple[Confusion, ...]
    groups: tuple[GroupTable, ...]
    ordered: bool
    galleries: tuple[Gallery, ...]
    pictures: bool
    fidelity: FidelityTable | None
    stated: tuple[StatedLabels, ...]
    doubts: Doubts | None
    rounds: tuple[SearchRound, ...]
    guards: tuple[tuple[str, int, str], ...]
    ledger: tuple[tuple[str, Mapping[str, Any]], ...]
    costs: Mapping[str, str]
    facts: tuple[tuple[str, str], ...]
    options: tuple[tuple[str, str], ...]
    versions: tuple[tuple[str, str], ...]
    command: str
    scatter: str | None
    right: str
    unit: str
    method: str


def labels_to_blur(labels: LabelSpace, named: Sequence[str] | None) -> frozenset[str]:
    """Returns the labels whose pictures are blurred until clicked: those named, or those that sound unsafe if None.

    Raises:
        BlpoError: If one that is named is none of the labels.
    """
    if named is None:
        return frozenset(name for name in labels.names if _UNSAFE.search(name))
    return frozenset(str(labels.coerce(name)) for name in named)


def page_of(run: RunFolder, *, images: bool, blurred: frozenset[str]) -> Page:
    """Returns what the report of a run shows.

    Args:
        run: The run.
        images: Whether pictures are shown.
        blurred: Labels whose items are blurred until clicked.
    """
    result, measured = run.result, measured_of(run)
    labels = measured.labels
    chart, measure = _chart(result, labels)
    return Page(
        task=result["start"]["judge"],
        about=models_and_day(result["models"], run.on),
        headline=headline_of(measured),
        warning=str((result.get("sealed_test") or {}).get("warning") or ""),
        repeatability=str((result.get("repeatability") or {}).get("summary") or ""),
        where=measured.where,
        figures=figure_table(measured),
        humans=humans_of(result),
        folds=out_of_fold(result),
        chart=chart,
        chart_measure=measure,
        instructions=_texts(result["start"], result["compiled"]),
        confusions=_confusions(measured.agreements),
        groups=groups_of(measured),
        ordered=labels.ordered,
        galleries=_galleries(run, labels, images, blurred) if measured.items else (),
        pictures=images,
        fidelity=fidelity_of(result),
        stated=stated_labels_of(result),
        doubts=doubts_of(run, images=images, blur=blurred),
        rounds=tuple(_round(completed) for completed in result["rounds"]),
        guards=_guards(result["rounds"], result["validations"]),
        ledger=_ledger(result["ledger"]),
        costs=_COSTS,
        facts=_facts(result),
        options=tuple((name, _option(value)) for name, value in result["options"].items()),
        versions=tuple(result["versions"].items()),
        command=run.command,
        scatter=_scatter(measured.agreements, labels),
        right=right_in_words(labels),
        unit=labels.unit,
        method=interval_method(labels),
    )


def _chart(result: Mapping[str, Any], labels: LabelSpace) -> tuple[str | None, str]:
    name, measure = _CHARTED[labels.kind]
    points: list[Point] = []
    for validation in sorted(result["validations"], key=lambda v: (v["spent"], v["after_round"])):
        agreement = agreement_in(validation, "agreement")
        value = None if agreement is None else getattr(agreement, name)
        if agreement is None or value is None:
            continue
        interval = agreement_intervals(agreement)[name]
        number = validation["after_round"]
        what = f"after round {number}" if number else "start"
        text = f"{what}: {value:.2f} on {validation['examples']} images, {validation['spent']:,} calls"
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
        if agreement is None or not agreement.n or not 0 < len(agreement.labels) <= _MOST_LABELS:
            continue
        names = agreement.labels.names
        unlabelled = any(a is not None and a.unlabelled for a in agreements.values())
        rows = []
        for i, (name, counts) in enumerate(zip(names, agreement.confusion, strict=True)):
            total = sum(counts) or 1
            shown = counts if unlabelled else counts[:-1]
            rows.append((name, tuple((count, round(100 * count / total), i == j) for j, count in enumerate(shown))))
        made.append(Confusion(title, (*names, *(["no label"] if unlabelled else [])), tuple(rows)))
    return tuple(made)


def _scatter(agreements: Mapping[str, Agreement | None], labels: LabelSpace) -> str | None:
    """People's scores against those of each judge; None of a closed set."""
    scores = labels.score_range
    if scores is None:
        return None
    planes, texts = [], []
    for when, title in (("before", "Before"), ("after", "After")):
        agreement = agreements[when]
        if agreement is None or not agreement.n:
            continue
        valid = [(labels.score(true), labels.score(said)) for true, said in agreement.pairs if said is not None]
        planes.append(Plane(title, tuple(valid)))
        texts.append(f"{title.lower()}, {len(valid)} images, {figure(agreement.accuracy)} of them within the tolerance")
    text = f"people’s against the judge’s: {'; '.join(texts)}"
    return scatter_chart(planes, scores.low, scores.high, scores.tolerance, text) if planes else None


def _galleries(run: RunFolder, labels: LabelSpace, images: bool, blur: frozenset[str]) -> tuple[Gallery, ...]:
    def shown(item: Item) -> ShownItem:
        picture = run.picture(item.thumbnail) if images else None
        stated: set[Label | None] = {item.label, item.before.label, item.after.label}
        right = (labels.right(item.label, item.before.label), labels.right(item.label, item.after.label))
        return ShownItem(item, picture, any(str(label) in blur for label in stated), right)

    found = worth_showing(run.items, labels)
    return tuple(Gallery(kind, found[kind][0], tuple(shown(run.items[i]) for i in found[kind][1])) for kind in KINDS)


def _round(completed: Mapping[str, Any]) -> SearchRound:
    start, chosen = completed["start"], completed["chosen"]
    batch = completed["batch"]
    trials = completed["trials"]
    places = [i for i in range(len(trials)) if i < _MOST_TRIALS or i == chosen]
    return SearchRound(
        completed["number"] + 1,
        completed["spent"],
        len(batch["errors"]) + len(batch["kept_back"]),
        len(batch["errors"]),
        batch["searched"],
        completed["end"] != start,
        _texts(start, completed["end"]),
        tuple(_candidate(trials[i], start, taken=i == chosen) for i in places),
        len(trials) - len(places),
    )


def _candidate(trial: Mapping[str, Any], start: Mapping[str, str], *, taken: bool) -> Candidate:
    counts = {"answers without a label": trial["invalid"], "failed calls": trial["failed"]}
    return Candidate(
        {"start": "as the round began", "proposal": "proposed"}.get(trial["origin"], trial["origin"]),
        trial["score"],
        trial["shown_gain"],
        trial["kept_back_gain"],
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
    names = {"beforehand": "before it", "compile": "search", "measure": "after it", "unused": "earlier, of no use"}
    return tuple(
        (f"{names.get(phase, phase)}: {role}", usage)
        for phase, roles in ledger.items()
        for role, usage in roles.items()
        if usage["calls"] or usage["cached"]
    )


def _option(value: object) -> str:
    """The value of an option; of several in one only those that are set."""
    if not isinstance(value, Mapping):
        return str(value)
    return ", ".join(f"{name} {part}" for name, part in value.items() if part is not None) or "none"


def _test_use(sealed: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """How the test set was used by this run, and how often by any that is known of."""
    if not sealed:
        return ()
    known = f"; {sealed['times']} times in all, as far as is known" if sealed["times"] > 1 else ""
    return (("test set used", f"{sealed['used']}{known}"),)


def _facts(result: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    data, labels = result["data"], LabelSpace.from_dict(result["labels"])
    sets = [
        (f"{name} set", f"{part['n']:,} images, sha256 {part['sha256'][:16]}…")
        for name, part in data.items()
        if name != "how" and part["n"]
    ]
    return (
        ("Labels", ", ".join(labels.names) or labels.describe()),
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
        *(
            (("Reasons", f"of {n:,} training images, read by the optimizer model alone"),)
            if (n := result.get("reasons"))
            else ()
        ),
        ("Search ended", result["stop_reason"]),
        ("Time", str(timedelta(seconds=round(result["seconds"])))),
        ("Seed", str(result["seed"])),
    )
