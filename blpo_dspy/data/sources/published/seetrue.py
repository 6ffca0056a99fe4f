"""SeeTRUE (Yarom et al., arXiv 2305.10400): does a text match an image? Yes (1) or no (0)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.sources.draw import Fetched
from blpo_dspy.data.sources.hub.names import ImageFolder
from blpo_dspy.data.sources.hub.source import HubSource, open_images
from blpo_dspy.data.sources.hub.zips import ZipImages
from blpo_dspy.data.sources.records import Listing, Record, collect, text_of, whole_of
from blpo_dspy.data.sources.tasks import Task
from blpo_dspy.data.tables import TableRow, read_table, require_columns

SEETRUE = Task(
    labels=LabelSpace(0, 1),
    instruction="Does the image match the text? Answer 1 if it does and 0 if it does not.",
    verbalizer_instruction="Describe in detail what this image shows.",
    context=("text",),
    size=200,
)

_TABLE = "SeeTRUE.csv"
_COLUMNS = ("image", "text", "label")
_OPTIONAL = ("original_dataset_id", "dataset_source")


@dataclass(frozen=True, kw_only=True)
class SeeTRUE(HubSource):
    """SeeTRUE.csv and images.zip of yonatanbitton/SeeTRUE; of the archive (5.4 GB) only drawn images are read.

    Texts recur with many images, so that splits keep a text whole.
    """

    name = "seetrue"
    repo = "yonatanbitton/SeeTRUE"
    _known_revision = "6cc46a6e5d9388f44fdf9096d5387cd3b7988676"
    task = SEETRUE

    def listing(self) -> Listing:
        """Returns the records of SeeTRUE.csv."""
        table = read_table(self.hub.download(_TABLE), _COLUMNS + _OPTIONAL)
        require_columns(f"{self.page}, {_TABLE}", table.columns, _COLUMNS)
        rows = [(f"row {number}", row) for number, row in enumerate(table.rows)]
        records, skipped = collect(rows, _record)
        note = (
            "The card of SeeTRUE calls it a test set, for research only and not for training. To tune a judge's "
            "instructions on part of it is your choice to make; say so where you report results."
        )
        return Listing(records, self.task.labels.names, table.columns, skipped.and_unreadable(table.problems), (note,))

    def _fetch_new(self, records: Sequence[Record]) -> Fetched:
        names = [str(record.key) for record in records]
        yield from zip(records, self._images.read(names, "images"), strict=True)

    @cached_property
    def _images(self) -> ZipImages | ImageFolder:
        return open_images(self.hub, "images.zip")


def _record(id_: str, row: TableRow) -> Record:
    image = text_of(row.values["image"], "no image name")
    text = text_of(row.values["text"], "no text")
    label = whole_of(row.values["label"], 0, 1, "odd label")
    source = row.values.get("dataset_source") or "unknown"
    return Record(id_, label, image, str(label), text, {"text": text}, {"dataset_source": source})
