"""Likely label errors: examples on which a judge stably disagrees with the label, for people to look at again."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, fields
from typing import Any

import dspy

from blpo_dspy.agreement.verdicts import Verdict
from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.files import write_sheet

FILE_NAME = "label_errors.csv"
_LONG_SCALE = 4


@dataclass(frozen=True)
class LikelyError:
    """One example to look at again.

    Attributes:
        id: The example's id.
        label: The human label.
        judged: The label that the judge gave in the end.
        stability: The share of its answers, earlier ones included, that gave it, in [0, 1].
        answers: How many answers that is a share of.
        loss: How far the two labels are apart, in [0, 1].
        description: What the verbalizer reported.
        reasoning: What the judge named as deciding, if it was asked.
    """

    id: str
    label: Label
    judged: Label
    stability: float
    answers: int
    loss: float
    description: str = ""
    reasoning: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON."""
        return asdict(self)


def likely_label_errors(
    labels: LabelSpace,
    examples: Sequence[dspy.Example],
    verdicts: Sequence[Sequence[Verdict]],
    *,
    min_stability: float = 0.5,
) -> list[LikelyError]:
    """Returns the examples whose label a judge stably contradicts, the farthest labels first.

    Among equally far ones the stablest come first, then those with the most answers. On a scale of four or more levels
    a label next to that of the judge is not a likely error, as people differ there too; of scores, neither is one
    within twice the tolerance. Scores within the tolerance are the same answer.

    Args:
        labels: The label space.
        examples: Labelled examples.
        verdicts: For each example what the judge said about it, in the end first; failed calls don't count.
        min_stability: The least share of answers that must give the same label.
    """
    found = []
    for position, (example, said) in enumerate(zip(examples, verdicts, strict=True)):
        answers = [verdict for verdict in said if not verdict.failure]
        judged = answers[0].label if answers else None
        if judged is None or labels.right(example.label, judged):
            continue
        stability = sum(labels.right(judged, verdict.label) for verdict in answers) / len(answers)
        if stability < min_stability or _next_to(labels, example.label, judged):
            continue
        loss = labels.loss(example.label, judged)
        name = str(example.get("id", position))
        why = (answers[0].description or "", answers[0].reasoning)
        found.append(LikelyError(name, example.label, judged, stability, len(answers), loss, *why))
    return sorted(found, key=lambda error: (-error.loss, -error.stability, -error.answers))


def _next_to(labels: LabelSpace, label: Label, judged: Label) -> bool:
    if labels.kind == "scores":
        return labels.loss(label, judged) <= 2 * labels.tolerated
    return labels.ordered and len(labels) >= _LONG_SCALE and abs(labels.index(label) - labels.index(judged)) == 1


def with_examples(
    errors: Sequence[LikelyError], examples: Sequence[dspy.Example]
) -> list[tuple[LikelyError, dspy.Example]]:
    """Returns each error with the example that it is about."""
    by_id = {str(example.get("id", position)): example for position, example in enumerate(examples)}
    return [(error, by_id[error.id]) for error in errors]


def write_label_errors(path: str | os.PathLike[str], errors: Sequence[LikelyError]) -> None:
    """Writes a CSV for relabelling, with an empty column "new_label"."""
    header = [*(field.name for field in fields(LikelyError)), "new_label"]
    write_sheet(path, [header, *([*astuple(error), ""] for error in errors)])
