"""The view model of a run's report, between its records and the page."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from blpo_dspy.agreement.intervals import agreement_intervals, interval_method
from blpo_dspy.agreement.measure import Agreement
from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.report.charts import Plane, Point, Series, line_chart, scatter_chart
from blpo_dspy.report.numbers import figure
from blpo_dspy.report.run.checks import (
    doubts_of,
    fidelity_of,
    humans_of,
    out_of_fold,
    stated_labels_of,
)
from blpo_dspy.report.run.figure_table import figure_table, right_in_words
from blpo_dspy.report.run.folder import RunFolder
from blpo_dspy.report.run.groups import groups_of
from blpo_dspy.report.run.headline import headline_of, models_and_day
from blpo_dspy.report.run.items import Item, worth_showing
from blpo_dspy.report.run.measured import agreement_in, measured_of
from blpo_dspy.report.words import word_diff

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


def labels_to_blur(labels: LabelSpace, named: Sequence[str] | None) -> frozenset[str]:
    """Returns the labels whose pictures are blurred until clicked: those named, or those that sound unsafe if None.

    Raises:
        BlpoError: If one that is named is none of the labels.
    """
    if named is None:
        return frozenset(name for name in labels.names if _UNSAFE.search(name))
    return frozenset(str(labels.coerce(name)) for name in named)


def page_of(run: RunFolder, *, images: bool, blurred: frozenset[str]) -> dict[str, Any]:
    """Returns what the report of a run shows, by the names that its template has for it."""
    result, measured = run.result, measured_of(run)
    labels = measured.labels
    chart, chart_measure = _chart(result, labels)
    return {
        "task": result["start"]["judge"],
        "about": models_and_day(result["models"], run.on),
        "headline": headline_of(measured),
        "warning": str((result.get("sealed_test") or {}).get("warning") or ""),
        "repeatability": str((result.get("repeatability") or {}).get("summary") or ""),
        "where": measured.where,
        "figures": figure_table(measured),
        "humans": humans_of(result),
        "folds": out_of_fold(result),
        "chart": chart,
        "chart_measure": chart_measure,
        "instructions": _texts(result["start"], result["compiled"]),
        "confusions": _confusions(measured.agreements),
        "groups": groups_of(measured),
        "ordered": labels.ordered,
        "galleries": _galleries(run, labels, images, blurred) if measured.items else [],
        "pictures": images,
        "fidelity": fidelity_of(result),
        "stated": stated_labels_of(result),
        "doubts": doubts_of(run, images=images, blur=blurred),
        "rounds": list(map(_round, result["rounds"])),
        "guards": _guards(result["rounds"], result["validations"]),
        "ledger": _ledger(result["ledger"]),
        "costs": _COSTS,
        "facts": _facts(result),
        "options": [(name, _option(value)) for name, value in result["options"].items()],
        "versions": list(result["versions"].items()),
        "command": run.command,
        "scatter": _scatter(measured.agreements, labels),
        "right": right_in_words(labels),
        "unit": labels.unit,
        "method": interval_method(labels),
    }


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


def _texts(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, Any]:
    """How both instructions changed, and whether."""
    diffs = {name: word_diff(old[name], new[name]) for name in ("judge", "verbalizer")}
    return {**diffs, **{f"{name}_changed": old[name] != new[name] for name in diffs}}


def _confusions(agreements: Mapping[str, Agreement | None]) -> list[dict[str, Any]]:
    """How often each human label met each of a judge: the count, its percentage of the row, whether that is right."""
    made = []
    unlabelled = any(agreement is not None and agreement.unlabelled for agreement in agreements.values())
    for when, agreement in agreements.items():
        if agreement is None or not agreement.n or not 0 < len(agreement.labels) <= _MOST_LABELS:
            continue
        names, rows = agreement.labels.names, []
        for i, (name, counts) in enumerate(zip(names, agreement.confusion, strict=True)):
            total = sum(counts) or 1
            shown = counts if unlabelled else counts[:-1]
            rows.append((name, [(count, round(100 * count / total), i == j) for j, count in enumerate(shown)]))
        columns = (*names, *(["no label"] if unlabelled else []))
        made.append({"title": when.capitalize(), "columns": columns, "rows": rows})
    return made


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


def _galleries(run: RunFolder, labels: LabelSpace, images: bool, blur: frozenset[str]) -> list[dict[str, Any]]:
    """Items of each kind: how many there are, and those shown, with whether they were right before and after."""

    def shown(item: Item) -> dict[str, Any]:
        stated: list[Label | None] = [item.label, item.before.label, item.after.label]
        return {
            "item": item,
            "picture": run.picture(item.thumbnail) if images else None,
            "blurred": any(str(label) in blur for label in stated),
            "right": [labels.right(item.label, label) for label in stated[1:]],
        }

    found = worth_showing(run.items, labels)
    return [
        {"kind": kind, "count": count, "shown": [shown(run.items[place]) for place in places]}
        for kind, (count, places) in found.items()
    ]


def _round(completed: Mapping[str, Any]) -> dict[str, Any]:
    """A round: what it changed, and its candidates, of which `left_out` more are not shown."""
    start, batch, trials = completed["start"], completed["batch"], completed["trials"]
    places = [i for i in range(len(trials)) if i < _MOST_TRIALS or i == completed["chosen"]]
    return {
        "number": completed["number"] + 1,
        "spent": completed["spent"],
        "mistakes": len(batch["errors"]) + len(batch["kept_back"]),
        "shown": len(batch["errors"]),
        "judged": batch["searched"],
        "changed": completed["end"] != start,
        "texts": _texts(start, completed["end"]),
        "candidates": [{**_candidate(trials[i], start), "taken": i == completed["chosen"]} for i in places],
        "left_out": len(trials) - len(places),
    }


def _candidate(trial: Mapping[str, Any], start: Mapping[str, str]) -> dict[str, Any]:
    counts = {"answers without a label": trial["invalid"], "failed calls": trial["failed"]}
    return {
        **trial,
        "origin": {"start": "as the round began", "proposal": "proposed"}.get(trial["origin"], trial["origin"]),
        "judge": None if trial["judge"] is None else word_diff(start["judge"], trial["judge"]),
        "remarks": [f"{count} {name}" for name, count in counts.items() if count],
    }


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
    names = {
        "beforehand": "before the search",
        "compile": "search",
        "measure": "after the search",
        "unused": "earlier, not needed",
    }
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
