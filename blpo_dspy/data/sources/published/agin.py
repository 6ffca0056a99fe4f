"""AGIN (Chen et al., arXiv 2312.05476): how natural a generated image looks, as a mean opinion score."""

from __future__ import annotations

from dataclasses import dataclass

from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.sources.published.rated_folder import RatedFolder
from blpo_dspy.data.sources.tasks import Task

AGIN_TASK = Task(
    labels=LabelSpace.ordinal(1, 5),
    instruction="How natural does this image look? Rate from {low} (not natural at all) to {high} (completely "
    "natural).",
    size=100,
)


@dataclass(frozen=True, kw_only=True)
class AGIN(RatedFolder):
    """MOS_AGIN.csv and its images (6,049), which their authors share from their own page.

    Neither the scale of the scores nor the layout of the download is documented: the scale is inferred from the table
    or given, and images are found by name in any sub-folder. A mean over raters seldom reaches an end of the scale, so
    that "round" may leave the outer levels nearly empty where "quantile" fills them.
    """

    name = "agin"
    _site = "https://github.com/zijianchen98/AGIN"
    _table_name = "MOS_AGIN.csv"
    _name_column = "filename"
    _score_column = "MOS_nat"
    _base_task = AGIN_TASK
