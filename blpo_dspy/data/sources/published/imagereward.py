"""ImageRewardDB (Xu et al., arXiv 2304.05977): how well a generated image matches its prompt, 1 to 7."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.sources.draw import Fetched
from blpo_dspy.data.sources.hub.source import HubSource, open_images
from blpo_dspy.data.sources.records import BadRow, Listing, Record, collect, text_of, whole_of
from blpo_dspy.data.sources.tasks import Task
from blpo_dspy.data.tables import TableRow, read_table, require_columns
from blpo_dspy.errors import BlpoError

IMAGEREWARD = Task(
    labels=LabelSpace.ordinal(1, 7),
    instruction="How well does the image match the prompt it was made from? Rate from 1 (not at all) to 7 "
    "(completely).",
    verbalizer_instruction="Describe in detail what this image shows.",
    context=("prompt",),
    size=140,
)

_SPLITS = ("train", "validation", "test")
_COLUMNS = ("image_path", "prompt_id", "prompt", "image_text_alignment_rating", "rank")
_PATH = re.compile(r"images/(train|validation|test)/\1_(\d{1,3})/([^/]+)")


@dataclass(frozen=True, kw_only=True)
class ImageReward(HubSource):
    """A metadata table and the archives of zai-org/ImageRewardDB (24 GB), of which only drawn images are read.

    The label is the rating of text alignment, not the overall one. Four to nine images share a prompt, and splits keep
    a prompt whole. Low ratings are rare. Its authors measure pairs within a prompt, of which a draw with
    `distinct_groups=False` has many and any other hardly one.

    Args:
        split: "train", "validation" or "test".
    """

    name = "imagereward"
    repo = "zai-org/ImageRewardDB"
    task = IMAGEREWARD

    split: str = "train"

    def __post_init__(self) -> None:
        if self.split not in _SPLITS:
            raise BlpoError(f"ImageRewardDB has no split {self.split!r}; choose one of {', '.join(_SPLITS)}")

    def listing(self) -> Listing:
        """Returns the records of the split's metadata table."""
        name = f"metadata-{self.split}.parquet"
        table = read_table(self.hub.download(name), _COLUMNS)
        require_columns(f"{self.page}, {name}", table.columns, _COLUMNS)
        records, skipped = collect(((row.where, row) for row in table.rows), _record)
        return Listing(records, self.task.labels.names, table.columns, skipped)

    def _fetch_new(self, records: Sequence[Record]) -> Fetched:
        by_archive: dict[str, list[tuple[str, Record]]] = defaultdict(list)
        for record in records:
            archive, member = _place(str(record.key))
            by_archive[archive].append((member, record))
        for archive, members in sorted(by_archive.items()):
            images = open_images(self.hub, archive).read([member for member, _ in members])
            yield from zip((record for _, record in members), images, strict=True)


def _record(where: str, row: TableRow) -> Record:
    path = text_of(row.values["image_path"], "no image path")
    _place(path)
    prompt = text_of(row.values["prompt"], "no prompt")
    group = text_of(row.values["prompt_id"], "no prompt id")
    rating = whole_of(row.values["image_text_alignment_rating"], 1, 7, "odd rating")
    rank = whole_of(row.values["rank"], 1, 100, "odd rank")
    return Record(path, rating, path, str(rating), group, {"prompt": prompt}, {"preference": -rank})


def _place(path: str) -> tuple[str, str]:
    """The archive that holds an image, and the member; nothing else of the path is used."""
    found = _PATH.fullmatch(path)
    if found is None:
        raise BadRow("odd image path", repr(path)[:80])
    split, shard, member = found.groups()
    return f"images/{split}/{split}_{int(shard)}.zip", member
