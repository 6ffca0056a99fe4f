"""What a draw returns: examples, their task, and a report."""

from __future__ import annotations

import os
from dataclasses import dataclass

import dspy

from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.sources.manifest import Manifest
from blpo_dspy.data.sources.records import Skipped
from blpo_dspy.data.sources.tasks import Task
from blpo_dspy.data.splits import Splits, split_examples


@dataclass(frozen=True)
class Report:
    """What was read and drawn.

    Args:
        page: The web page with the description.
        columns: The columns of its table.
        pool: Usable records per stratum.
        drawn: Drawn ones per stratum.
        skipped: Rows and images that were skipped.
        notes: What a user should know about these labels.
    """

    page: str
    columns: tuple[str, ...]
    pool: dict[str, int]
    drawn: dict[str, int]
    skipped: Skipped
    notes: tuple[str, ...]

    def describe(self) -> str:
        """Returns the report in a few lines; without the names of images."""
        strata = ", ".join(f"{name} {self.drawn.get(name, 0)} of {count}" for name, count in self.pool.items())
        lines = [
            f"{self.page}: columns {', '.join(self.columns)}",
            f"drawn {sum(self.drawn.values())} of {sum(self.pool.values())} usable images: {strata}",
            f"skipped: {self.skipped.describe()}",
            *self.notes,
        ]
        return "\n".join(lines)


@dataclass(frozen=True)
class Drawn:
    """Labelled images, fetched and prepared.

    Args:
        examples: With `image` and the context texts as inputs, `label`, `id`, `stratum`, perhaps `group`, and further
            fields of the source.
        task: The task of a judge for them.
        manifest: Names the images, so that the draw can be repeated.
        report: What was read and drawn.
    """

    examples: list[dspy.Example]
    task: Task
    manifest: Manifest
    report: Report

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the examples, in order."""
        return tuple(entry.id for entry in self.manifest.images)

    def save_ids(self, path: str | os.PathLike[str]) -> None:
        """Writes the ids of these images, for the `ids` of another draw.

        Raises:
            BlpoError: If the file cannot be written.
        """
        self.manifest.save(path)

    def split(self, train: int, val: int, test: int, *, seed: int = 0) -> Splits[dspy.Example]:
        """Returns disjoint splits of these sizes, each balanced over the strata as the draw is; groups are kept whole.

        Raises:
            DataError: If the draw has too few images, or groups don't fit into these sizes.
        """
        strata = LabelSpace(*self.report.drawn)
        marked = [
            dspy.Example(image=e.image, group=e.get("group"), label=e.stratum, position=i)
            for i, e in enumerate(self.examples)
        ]
        parts = split_examples(marked, labels=strata, sizes=(train, val, test), seed=seed)
        train_, val_, test_ = (
            [self.examples[e.position] for e in part] for part in (parts.train, parts.val, parts.test)
        )
        return Splits(train_, val_, test_, self.task.labels, parts.how)
