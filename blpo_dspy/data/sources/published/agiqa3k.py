"""AGIQA-3K (Li et al., arXiv 2306.04717): quality and text alignment of generated images, as mean opinion scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.sources.published.rated_folder import RatedFolder
from blpo_dspy.data.sources.tasks import Task
from blpo_dspy.errors import BlpoError

QUALITY = Task(
    labels=LabelSpace.ordinal(1, 5),
    instruction="How good is the perceptual quality of this image? Rate from {low} (bad) to {high} (excellent).",
    size=100,
)
ALIGNMENT = Task(
    labels=LabelSpace.ordinal(1, 5),
    instruction="How well does the image match the prompt it was made from? Rate from {low} (not at all) to {high} "
    "(completely).",
    verbalizer_instruction="Describe in detail what this image shows.",
    context=("prompt",),
    size=100,
)


@dataclass(frozen=True, kw_only=True)
class AGIQA3K(RatedFolder):
    """data.csv and its images (2,982); "quality" is the openly shared stand-in for AGIN's naturalness.

    Images of one prompt form a group.

    Args:
        aspect: "quality" or "alignment".
    """

    name = "agiqa3k"
    _site = "https://github.com/lcysyzxdxc/AGIQA-3k-Database"
    _table_name = "data.csv"
    _name_column = "name"
    _prompt_column = "prompt"

    aspect: Literal["quality", "alignment"] = "quality"

    def __post_init__(self) -> None:
        if self.aspect not in ("quality", "alignment"):
            raise BlpoError(f"aspect {self.aspect!r} is unknown; choose quality or alignment")
        super().__post_init__()

    @property
    def _score_column(self) -> str:
        return "mos_quality" if self.aspect == "quality" else "mos_align"

    @property
    def _base_task(self) -> Task:
        return QUALITY if self.aspect == "quality" else ALIGNMENT
