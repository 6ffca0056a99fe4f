"""What a table of verdicts has in the row of an image."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from blpo_dspy.agreement.verdicts import Verdict
from blpo_dspy.data.inputs import Inputs
from blpo_dspy.data.tables import TableRow
from blpo_dspy.programs.cascade import stages_of
from blpo_dspy.programs.visual_judge import VisualJudge

_GIVEN = "given_"


class Outcome(NamedTuple):
    """What a row is counted for.

    Attributes:
        kind: "label", "invalid" for an answer that states none, "none" for one that decides on none, or "error".
        label: Its label, as text.
        inconsistent: Whether its orders disagree, None where it was not judged in both.
        escalated: Whether it is escalated.
        served: Whether a server reported another version of the model.
    """

    kind: str
    label: str | None = None
    inconsistent: bool | None = None
    escalated: bool = False
    served: bool = False


UNUSABLE = Outcome("error")
"""That of a row which cannot be used."""


def row_of(verdict: Verdict) -> dict[str, Any]:
    """Returns what is kept of a verdict."""
    unlabelled = verdict.label is None and not verdict.failure
    row = {
        "label": verdict.label,
        "description": verdict.description,
        "reasoning": verdict.reasoning or None,
        "answer": verdict.answer if unlabelled else None,
        "invalid": verdict.invalid,
        "error": verdict.failure or None,
        **({"served_by": verdict.served_by} if verdict.served_by else {}),
    }
    more = {name: getattr(verdict, name) for name in ("inconsistent", "confidence", "escalate")}
    return {**row, **{name: value for name, value in more.items() if value is not None}}


def outcome_of(row: Mapping[str, Any]) -> Outcome:
    """Returns what a row is counted for."""
    kind, label = "label", row["label"]
    if row["error"] is not None or row["invalid"] or label is None:
        kind, label = "error" if row["error"] is not None else "invalid" if row["invalid"] else "none", None
    more = (row.get("inconsistent"), bool(row.get("escalate")), bool(row.get("served_by")))
    return Outcome(kind, None if label is None else str(label), *more)


def found_columns(judge: VisualJudge, *, both: bool) -> dict[str, type]:
    """The columns that a judge adds, with their types."""
    label_types: dict[bool, type] = {judge.labels.numeric: int, judge.labels.kind == "scores": float}
    columns: dict[str, type] = {"label": label_types.get(True, str)}
    if judge.evidence != "image":
        columns["description"] = str
    if judge.reasoning:
        columns["reasoning"] = str
    columns |= {"answer": str, "invalid": bool, **({"inconsistent": bool} if both else {}), "error": str}
    if any(stage.confidence is not None for stage in stages_of(judge)):
        columns["confidence"] = float
    return {**columns, **({"escalate": bool} if escalates_to_people(judge) else {})}


def escalates_to_people(judge: VisualJudge) -> bool:
    """Whether a judge, or the last judge of a cascade, escalates to people."""
    return stages_of(judge)[-1].threshold is not None


def free_name(name: str, taken: Collection[str], columns: Collection[str]) -> str:
    """A column's name that differs from those that the judge adds."""
    if name not in taken:
        return name
    name = _GIVEN + name
    while name in columns:
        name = _GIVEN + name
    return name


def picturing(inputs: Inputs) -> Callable[[TableRow, str], dict[str, str]]:
    """Returns what says of a row and its place what a table of verdicts has in the columns of the images.

    These are names and addresses, never an image itself.
    """
    columns = inputs.image_columns
    if len(columns) == 1 and not inputs.reader.columns.images[columns[0]].several:
        return lambda row, place: {columns[0]: place}
    return lambda row, place: {name: _named(row.values.get(name), row.where) for name in columns}


def _named(value: object, where: str) -> str:
    if isinstance(value, (list, tuple)):
        return "|".join(_named(part, where) for part in value)
    return value if isinstance(value, str) and value[:5].lower() != "data:" else where
