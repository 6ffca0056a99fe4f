"""Sources that are fetched by hand: a folder of images and a CSV file with mean opinion scores."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.sources.draw import Fetched, Source
from blpo_dspy.data.sources.hub.names import ImageFolder
from blpo_dspy.data.sources.published.levels import Binning, Rule, Scale
from blpo_dspy.data.sources.records import Listing, Record, collect, number_of, strata_of, text_of
from blpo_dspy.data.sources.tasks import Task
from blpo_dspy.data.tables import TableRow, read_table, require_columns
from blpo_dspy.errors import BlpoError, DataError


@dataclass(frozen=True, kw_only=True)
class RatedFolder(Source):
    """Images with mean opinion scores, which become levels by a stated rule, or labels as they are.

    Args:
        local_dir: The folder with both the table and the images, which may lie in sub-folders.
        image_dir: The folder with the images, if they lie elsewhere.
        csv: The table, if it lies elsewhere or has another name.
        binning: How scores become levels; see `Binning`. With "scores" they stay scores, of the range `scale`.
        levels: How many levels.
        scale: Lowest and highest possible score; inferred from the scores if None, but for "scores".
    """

    _site: ClassVar[str]
    _table_name: ClassVar[str]
    _name_column: ClassVar[str]

    local_dir: str | os.PathLike[str] | None = None
    image_dir: str | os.PathLike[str] | None = None
    csv: str | os.PathLike[str] | None = None
    binning: Rule | Literal["scores"] = "round"
    levels: int = 5
    scale: Scale | None = None

    def __post_init__(self) -> None:
        if self.binning == "scores":
            if self.scale is None:
                raise BlpoError(
                    'binning="scores" needs the range of the scores: scale=(lowest, highest)', option="scale"
                )
            LabelSpace.scores(*self.scale)
        else:
            Binning(self.binning, self.levels, self.scale)
        if self.local_dir is None and (self.image_dir is None or self.csv is None):
            raise BlpoError(
                f"{self.name} has to be fetched by hand: see {self._site} for the download and its terms, then give "
                f"local_dir=… with {self._table_name} and the images in it, or image_dir=… and csv=…",
                option=("local_dir", "image_dir", "csv"),
            )

    @property
    def page(self) -> str:
        """Where the set is shared."""
        return self._site

    @property
    @abstractmethod
    def _score_column(self) -> str:
        """The column with the scores."""

    @property
    @abstractmethod
    def _base_task(self) -> Task:
        """The task on five levels."""

    @property
    def _prompt_column(self) -> str | None:
        """The column with the text an image was made from; None if there is none."""
        return None

    @property
    def task(self) -> Task:
        """The task of a judge: the question with both ends of the scale filled in."""
        task, labels = self._base_task, LabelSpace.ordinal(1, self.levels)
        if self.binning == "scores" and self.scale is not None:
            labels = LabelSpace.scores(*self.scale)
        low, high = (1, self.levels) if labels.score_range is None else labels.score_range.ends
        return replace(task, labels=labels, instruction=task.instruction.format(low=low, high=high))

    def listing(self) -> Listing:
        """Returns the records of the table, their scores made into levels."""
        path = self._table()
        needed = [name for name in (self._name_column, self._score_column, self._prompt_column) if name is not None]
        table = read_table(path, needed)
        require_columns(str(path), table.columns, needed, "name the right table with csv=…", option="csv")
        records, skipped = collect([(row.where, row) for row in table.rows], self._record)
        scores = [r.extra["score"] for r in records]
        labels, strata, stated = self._scored(scores) if self.binning == "scores" else self._levelled(scores)
        found = zip(records, labels, strata, strict=True)
        labelled = tuple(replace(r, label=label, stratum=str(stratum)) for r, label, stratum in found)
        note = f"labels: {self._score_column}, {stated}"
        skipped = skipped.and_unreadable(table.problems)
        return Listing(labelled, strata_of(labelled, self.task.labels), table.columns, skipped, (note,))

    def _levelled(self, scores: Sequence[float]) -> tuple[Sequence[Label], Sequence[Label], str]:
        """The levels of scores, which are their own strata, and how they came about."""
        assert self.binning != "scores"
        levels, stated = Binning(self.binning, self.levels, self.scale).apply(scores)
        return levels, levels, stated

    def _scored(self, scores: Sequence[float]) -> tuple[Sequence[Label], Sequence[Label], str]:
        """Scores as they are, the bin of each, and the range in words."""
        space = self.task.labels
        outside = [score for score in scores if score not in space]
        if outside:
            raise DataError(
                f"{len(outside)} scores such as {outside[0]:g} are not {space}; state scale=(lowest, highest)",
                option="scale",
            )
        labels = [space.coerce(score) for score in scores]
        return labels, space.strata(labels)[1], f"as they are, {space}"

    def _record(self, where: str, row: TableRow) -> Record:
        name = text_of(row.values[self._name_column], "no image name")
        score = number_of(row.values[self._score_column], "no score")
        prompt = None if self._prompt_column is None else text_of(row.values[self._prompt_column], "no prompt")
        context = {"prompt": prompt} if prompt is not None and "prompt" in self._base_task.context else {}
        return Record(name, f"{score:g}", name, "", prompt, context, {"score": score})

    def fetch(self, records: Sequence[Record]) -> Fetched:
        """Yields the images, found by name below the folder."""
        yield from zip(records, self._images.read([str(record.key) for record in records]), strict=True)

    @cached_property
    def _images(self) -> ImageFolder:
        folder = self.image_dir or self.local_dir
        assert folder is not None
        return ImageFolder(Path(folder).expanduser())

    def _table(self) -> Path:
        if self.csv is not None:
            return Path(self.csv).expanduser()
        assert self.local_dir is not None
        folder = Path(self.local_dir).expanduser()
        found = sorted(folder.rglob(self._table_name))
        if not found:
            raise DataError(f"{folder}: no {self._table_name} in it or below; name the table with csv=…", option="csv")
        return found[0]
