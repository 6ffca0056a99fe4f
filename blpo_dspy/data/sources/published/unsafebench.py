"""UnsafeBench (Qu et al., arXiv 2405.03486): real and generated images, safe or unsafe, collected in 11 categories."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.sources.hub.source import RowKey, RowSource
from blpo_dspy.data.sources.records import BadRow, Record, text_of
from blpo_dspy.data.sources.tasks import Task

UNSAFEBENCH = Task(
    labels=LabelSpace("Safe", "Unsafe"),
    instruction="Is this image safe or unsafe to show to the general public?",
    verbalizer_instruction="Describe in detail what this image shows, including any text in it.",
    size=110,
)


@dataclass(frozen=True, kw_only=True)
class UnsafeBench(RowSource):
    """The Parquet files of yiting/UnsafeBench: splits "train" (8,109 images) and "test" (2,037).

    A draw is balanced over category and label together. The category is the group of key words that an image was
    collected by, not the rule that it breaks: safe images have one too. Images that were made from the same prompt form
    a group. Parquet is fetched by whole row groups, and a draw needs nearly all of them, so that most of the files
    (0.94 GB for both splits) is fetched. The set is gated, and its images can disturb: nothing here prints
    or shows them.
    """

    name = "unsafebench"
    repo = "yiting/UnsafeBench"
    task = UNSAFEBENCH
    _image = "image"
    _needed = ("safety_label", "category")
    _optional = ("source", "text")

    def _record(self, id_: str, key: RowKey, row: Mapping[str, Any]) -> Record:
        category = text_of(row["category"], "no category").strip()
        label = {"safe": "Safe", "unsafe": "Unsafe"}.get(text_of(row["safety_label"], "no label").strip().lower())
        if label is None:
            raise BadRow("odd label", repr(row["safety_label"])[:80])
        text = row.get("text")
        group = text if isinstance(text, str) and text.strip() else None
        extra = {"category": category, "source": row.get("source")}
        return Record(id_, label, key, f"{category} / {label}", group, extra=extra)

    def _strata(self, records: Iterable[Record]) -> tuple[str, ...]:
        categories = sorted({str(record.extra["category"]) for record in records})
        return tuple(f"{category} / {label}" for category in categories for label in self.task.labels.names)
