"""The paper's four datasets and the open stand-in, drawn once and split in two halves (Appendix A)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dspy
from PIL import Image

from blpo_dspy import VisualJudge
from blpo_dspy.data.images.prepare import PixelPolicy
from blpo_dspy.data.sources import open_source
from blpo_dspy.data.sources.draw import Source
from blpo_dspy.data.sources.published import agin, agiqa3k, imagereward, seetrue, unsafebench
from blpo_dspy.data.sources.tasks import Task
from blpo_dspy.errors import BlpoError
from paper.measures import MEASURES


def _five_levels(task: Task) -> Task:
    return replace(task, instruction=task.instruction.format(low=1, high=5))


TASKS = {
    "unsafebench": unsafebench.UNSAFEBENCH,
    "seetrue": seetrue.SEETRUE,
    "imagereward": imagereward.IMAGEREWARD,
    "agin": _five_levels(agin.AGIN_TASK),
    "agiqa3k": _five_levels(agiqa3k.QUALITY),
}
PAPERS = ("unsafebench", "seetrue", "imagereward", "agin")
BY_HAND = ("agin", "agiqa3k")


@dataclass(frozen=True)
class PaperSet:
    """One dataset of the protocol.

    Attributes:
        name: As `open_source` takes it.
        task: What the judge is asked, and its authors' measure.
        train: The half to optimize on.
        test: The sealed half.
        seen: What was read and drawn, in words.
    """

    name: str
    task: Task
    train: Sequence[dspy.Example]
    test: Sequence[dspy.Example]
    seen: str

    @property
    def student(self) -> VisualJudge:
        """The judge that every method starts from: it looks at the image alone, as the paper's does."""
        return VisualJudge(
            self.task.labels,
            instruction=self.task.instruction,
            verbalizer_instruction=self.task.verbalizer_instruction,
            context=self.task.context,
            evidence="image",
        )


def open_sets(names: Sequence[str], local_dir: Path | None) -> dict[str, Source]:
    """Returns the sources; nothing is read yet.

    Raises:
        BlpoError: If there is none of a name, or one that is fetched by hand isn't there.
    """
    unknown = [name for name in names if name not in TASKS]
    if unknown or not names:
        raise BlpoError(f"unknown datasets {', '.join(unknown) or '(none given)'}; choose from {', '.join(TASKS)}")
    sources, problems = {}, []
    for name in names:
        copy = None if local_dir is None else local_dir / name
        options: dict[str, Any] = {"local_dir": copy} if copy is not None and copy.is_dir() else {}
        if name in BY_HAND:
            options["binning"] = "quantile"  # a mean opinion score has no classes; these are of equal number
        try:
            sources[name] = open_source(name, **options)
        except BlpoError as error:
            problems.append(f"{error} (here: --local-dir DIR with DIR/{name} in it, or other --datasets)")
    if problems:
        raise BlpoError("\n".join(problems))
    return sources


def draw(source: Source, size: int, ids: Path) -> PaperSet:
    """Returns the set with `size` images in each half; the same images again if `ids` was written before.

    Where the authors measure pairs within a prompt, several images of each prompt are drawn, into the same half.

    Raises:
        DataError: If the source can't be read, or has too few images of a label.
    """
    again = ids if ids.exists() else None
    paired = any(metric.groups == "group" for metric in MEASURES[source.name])
    drawn = source.draw(2 * size, seed=0, ids=again, distinct_groups=not paired, policy=PixelPolicy())
    ids.parent.mkdir(parents=True, exist_ok=True)
    drawn.save_ids(ids)
    halves = drawn.split(size, 0, size)
    return PaperSet(source.name, drawn.task, halves.train, halves.test, drawn.report.describe())


def stand_in(name: str) -> PaperSet:
    """Returns a set of the protocol's size with blank pictures, to estimate with before any image is fetched."""
    task, policy = TASKS[name], PixelPolicy()
    blank = Image.new("L", (1024, 768), 128)
    texts = dict.fromkeys(task.context, "a prompt of the usual length, with some adjectives in it")
    examples = []
    for i in range(task.size):
        blank.putpixel((i, 0), 0)  # no two alike, or they would be judged once
        image = policy.prepare(blank)
        label = task.labels.labels[i % len(task.labels)]
        examples.append(dspy.Example(image=image, label=label, **texts).with_inputs("image", *task.context))
    return PaperSet(name, task, examples, examples, "")
