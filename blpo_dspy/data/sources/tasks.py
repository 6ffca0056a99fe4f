"""The task of a judge for a dataset: labels, instructions to start from, and inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from blpo_dspy.data.fields import IMAGE
from blpo_dspy.data.labels.space import LabelSpace


@dataclass(frozen=True)
class Task:
    """Everything that a judge for a dataset starts from.

    Args:
        labels: The closed set of labels.
        instruction: The judge instruction p₀: the plain question, which the optimizer improves.
        verbalizer_instruction: The verbalizer instruction q₀; to describe the images in detail if None.
        context: Names of further text inputs in each example.
        evidence: What the judge reads, as `VisualJudge` takes it.
        size: Examples in the training set of the paper's protocol; its test set is of the same size.
        images: Names of the image inputs in each example, as `VisualJudge` takes them.
    """

    labels: LabelSpace
    instruction: str
    verbalizer_instruction: str | None = None
    context: tuple[str, ...] = ()
    evidence: Literal["both", "image", "description"] = "both"
    size: int = 100
    images: tuple[str, ...] = (IMAGE,)
