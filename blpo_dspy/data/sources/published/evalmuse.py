"""EvalMuse-40K (Han et al., arXiv 2412.18150): how well a generated image matches its prompt, by several raters."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.sources.base import Fetched, HubSource, open_images
from blpo_dspy.data.sources.hub.names import ImageFolder
from blpo_dspy.data.sources.hub.ranges import joined
from blpo_dspy.data.sources.hub.zips import ZipImages
from blpo_dspy.data.sources.metrics import AuthorMetric, plcc, srcc
from blpo_dspy.data.sources.published.levels import Binning
from blpo_dspy.data.sources.records import BadRow, Listing, Record, collect, number_of, text_of
from blpo_dspy.data.sources.tasks import Task
from blpo_dspy.data.tables import require_columns
from blpo_dspy.errors import DataError

EVALMUSE = Task(
    labels=LabelSpace.ordinal(1, 5),
    instruction="How well does the image match the prompt it was made from? Rate from 1 (not at all) to 5 "
    "(completely).",
    verbalizer_instruction="Describe in detail what this image shows.",
    context=("prompt",),
    metrics=(AuthorMetric("SRCC", srcc, truth="score"), AuthorMetric("PLCC", plcc, truth="score")),
    size=100,
)

_TABLE = "train_list.json"
_COLUMNS = ("prompt_id", "prompt", "img_path", "total_score")


@dataclass(frozen=True, kw_only=True)
class EvalMuse(HubSource):
    """train_list.json and the archive of DY-Evalab/EvalMuse (55 GB, in parts), of which only drawn images are read.

    The label is the mean of the raters' scores, rounded; the published test list has no labels.
    """

    name = "evalmuse"
    repo = "DY-Evalab/EvalMuse"
    task = EVALMUSE

    def listing(self) -> Listing:
        """Returns the records of train_list.json."""
        path = self.hub.download(_TABLE)
        try:
            rows = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DataError(f"{self.page}, {_TABLE}: not JSON ({error}); fetch it again") from None
        if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
            raise DataError(f"{self.page}, {_TABLE}: not a list of objects; pin an older revision=")
        columns = tuple(dict.fromkeys(name for row in rows for name in row))
        require_columns(f"{self.page}, {_TABLE}", columns, _COLUMNS)
        records, skipped = collect(((f"row {number}", row) for number, row in enumerate(rows)), _record)
        return Listing(records, self.task.labels.names, columns, skipped, ("labels: mean scores rounded to 1 to 5",))

    def _fetch_new(self, records: Sequence[Record]) -> Fetched:
        names = [str(record.key) for record in records]
        yield from zip(records, self._images.read(names, "images"), strict=True)

    @cached_property
    def _images(self) -> ZipImages | ImageFolder:
        parts = self.hub.names("images.zip.part-*")
        if not parts:
            return open_images(self.hub, "images.zip")
        return ZipImages(lambda: joined([self.hub.open(part) for part in parts]), "images.zip")


def _record(where: str, row: dict[str, Any]) -> Record:
    path = text_of(row.get("img_path"), "no image path")
    prompt = text_of(row.get("prompt"), "no prompt")
    scores = row.get("total_score")
    if not isinstance(scores, list) or not scores:
        raise BadRow("no score")
    numbers = [number_of(score, "odd score") for score in scores]
    if not all(1 <= number <= 5 for number in numbers):
        raise BadRow("odd score", repr(scores)[:80])
    mean = sum(numbers) / len(numbers)
    (level,), _ = Binning(scale=(1, 5)).apply([mean])
    group = str(row.get("prompt_id") or prompt)
    return Record(where, level, path, str(level), group, {"prompt": prompt}, {"score": mean})
