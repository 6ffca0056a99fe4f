"""What people are to look at again after a run: review.json in its folder, without a pixel or an absolute path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from blpo_dspy.data.columns import Columns
from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.report.run.folder import read_data

FORMAT = "blpo-dspy review data"
REVIEW = "review.json"
REVIEWED = "reviewed.json"
"""The record of a review: which test images were relabelled by somebody who had seen the judge's label."""
DOUBTFUL, WRONG, DISAGREEMENT = "doubtful", "wrong", "disagreement"


@dataclass(frozen=True)
class ReviewTables:
    """Where the rows of a run come from.

    Attributes:
        paths: By split the table, from the folder of the run.
        images: The image inputs, as `load_examples` takes them.
        context: The context inputs.
        image_column: The column of the only image, where it has another name than its input.
        label_column: The column with the label.
        group_column: What stays together.
        reason_column: What people wrote beside the label.
        rater_columns: One column of labels for each rater.
        repeated: Whether each row is one rating of its images.
        rater_column: Who gave it.
        rule: How ratings became a label.
        allow_outside: Whether images may lie outside the folder of the table.
        require_labels: Whether rows without a label were refused.
    """

    paths: Mapping[str, str]
    images: tuple[str, ...]
    context: tuple[str, ...] = ()
    image_column: str | None = None
    label_column: str = "label"
    group_column: str | None = None
    reason_column: str | None = None
    rater_columns: tuple[str, ...] = ()
    repeated: bool = False
    rater_column: str | None = None
    rule: str = "majority"
    allow_outside: bool = False
    require_labels: bool = False

    @property
    def columns(self) -> Columns:
        """Which columns hold what, for their reader."""
        return Columns(
            images=self.images,
            image=self.image_column,
            label=self.label_column,
            context=self.context,
            group=self.group_column,
            reason=self.reason_column,
            raters=self.rater_columns,
            rater=self.rater_column,
        )


@dataclass(frozen=True)
class ReviewCase:
    """One row to look at again.

    Attributes:
        split: "train", "val" or "test"; "" for a row that is in none, as people's labels were tied.
        id: Its id.
        why: `DOUBTFUL`, `WRONG` or `DISAGREEMENT`.
        label: The label that the run used, None where people were tied.
        judged: What the compiled judge said, None where that is not known.
        description: What the verbalizer reported.
        reasoning: What the judge named as deciding, if it was asked.
        people: What each person said, where several did.
        print: What identifies images and context to later runs.
    """

    split: str
    id: str
    why: str
    label: Label | None
    judged: Label | None = None
    description: str = ""
    reasoning: str = ""
    people: tuple[Label, ...] = ()
    print: str = ""


@dataclass(frozen=True)
class ReviewData:
    """The content of review.json.

    Attributes:
        format: `FORMAT`.
        run: The identity of the run.
        labels: The label space.
        task: The judge instruction that it started from.
        tables: Where its rows come from; None of a run on examples in memory or on a published set.
        ids: By split the ids of its rows, in order.
        cases: What to look at, in order.
        models: The names of the run's models, by role.
        api_base: The server of those that are not `embedded`, None for the provider's.
    """

    format: str
    run: str
    labels: dict[str, Any]
    task: str
    tables: ReviewTables | None
    ids: Mapping[str, tuple[str, ...]]
    cases: tuple[ReviewCase, ...] = field(default=())
    models: Mapping[str, str] = field(default_factory=dict)
    api_base: str | None = None


def load_review_data(folder: Path) -> ReviewData:
    """Returns what `blpo compile --run-dir` or `blpo demo --out` left to look at again.

    Raises:
        BlpoError: If the folder holds no run, or one of an earlier version, or the file is damaged.
    """
    data: ReviewData = read_data(folder / REVIEW, ReviewData, FORMAT, "cases")
    return data


def by_example(cases: Sequence[ReviewCase]) -> tuple[ReviewCase, ...]:
    """Returns one case for each row: the first, with what others know of what people said."""
    found: dict[tuple[str, str], ReviewCase] = {}
    for case in cases:
        known = found.get((case.split, case.id))
        if known is None:
            found[case.split, case.id] = case
        elif case.people and not known.people:
            found[case.split, case.id] = replace(known, people=case.people)
    return tuple(found.values())
