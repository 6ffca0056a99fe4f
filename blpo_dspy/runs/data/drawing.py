"""The labelled examples of a run drawn from a published set, as the command line asks for them."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import dspy

from blpo_dspy.data.fields import IMAGE, check_context
from blpo_dspy.data.images.prepare import PixelPolicy
from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.sources import SOURCES, open_source
from blpo_dspy.data.sources.draw import Source
from blpo_dspy.data.sources.drawn import Drawn, Manifest
from blpo_dspy.data.sources.published.rated_folder import RatedFolder
from blpo_dspy.data.sources.tasks import Task
from blpo_dspy.errors import BlpoError
from blpo_dspy.runs.data.sets import Sets, sizes_in_words
from blpo_dspy.runs.options.start import Data, SourceChoice, Start
from blpo_dspy.workspace.watch import Watch


def label_pairs(text: str, labels: LabelSpace) -> dict[str, Label]:
    """Returns which label stands for what, from "0:Safe,1:Unsafe".

    Raises:
        BlpoError: If the text is not of that form or names an unknown label.
    """
    pairs = [pair.partition(":") for pair in text.split(",")]
    if not all(colon and written.strip() for written, colon, _ in pairs):
        raise BlpoError(f"label_names={text} is not of the form label_names=0:Safe,1:Unsafe")
    return {written.strip(): labels.coerce(label.strip()) for written, _, label in pairs}


_HUB = "huggingface"


def draw_sets(start: Start, seed: int, watch: Watch) -> tuple[Task, Sets, list[str]]:
    """Returns the task of a source with what overrides it, the sets drawn from it, and what was seen, line by line.

    Raises:
        DataError: If the source cannot be read or has too few images.
        BlpoError: If an option doesn't fit the source.
    """
    choice = start.data.source
    assert choice is not None
    source = open_choice(choice, start.data, start.space, start.task)
    manifest = None if choice.manifest is None else Manifest.load(choice.manifest)
    usual = source.task.size  # of train and test in the paper, and half of it for the validation that it does without
    sizes = start.sizes or (usual, usual // 2, usual)
    drawn = _draw(source, sum(sizes), seed, manifest, PixelPolicy(), watch)
    task = _overridden(source, start)
    drawn = replace(drawn, examples=_fitting(drawn.examples, task, source), task=task)
    if manifest is not None and manifest.splits and start.sizes is None:
        by_id = {example.id: example for example in drawn.examples}
        parts = {name: [by_id[id_] for id_ in manifest.splits[name]] for name in ("train", "val", "test")}
        how = f"as {choice.manifest} has it"
    else:
        if start.sizes is None:
            sizes = _scaled(sizes, len(drawn.examples))
        splits = drawn.split(*sizes, seed=seed)
        parts, how = {"train": splits.train, "val": splits.val, "test": splits.test}, splits.how
    ids = {name: tuple(example.id for example in part) for name, part in parts.items()}
    revision = "" if drawn.manifest.revision is None else f" at revision {drawn.manifest.revision[:12]}"
    how = f"{sizes_in_words(parts, task.labels)}; drawn from {drawn.manifest.source}{revision}, {how}"
    manifest = replace(drawn.manifest, splits=ids)
    sets = Sets(parts["train"], parts["val"], parts["test"], how, manifest=manifest)
    return task, sets, drawn.report.describe().splitlines()


def draw_set(
    data: Data, task: Task, size: int | None, seed: int, policy: PixelPolicy, watch: Watch
) -> tuple[list[dspy.Example], list[str]]:
    """Returns images of a source for a judge with this task, and what was seen, line by line.

    Of a manifest with the splits of a compile, the test split is drawn.

    Raises:
        DataError: If the source cannot be read or has too few images.
        BlpoError: If an option or the judge doesn't fit the source.
    """
    choice = data.source
    assert choice is not None
    data = replace(data, images=task.images, context=task.context)
    source = open_choice(choice, data, task.labels, task.instruction)
    manifest = None if choice.manifest is None else Manifest.load(choice.manifest)
    if manifest is not None and manifest.splits:
        test = set(manifest.splits["test"])
        manifest = replace(manifest, images=tuple(entry for entry in manifest.images if entry.id in test))
    drawn = _draw(source, size or source.task.size, seed, manifest, policy, watch)
    return _fitting(drawn.examples, task, source), drawn.report.describe().splitlines()


def open_choice(choice: SourceChoice, data: Data, labels: LabelSpace | None, task: str | None) -> Source:
    """Returns the source that the options name.

    Raises:
        BlpoError: If there is none, or an option doesn't belong to it.
    """
    given, chosen = _given(choice), choice.source or ""
    if data.images != (IMAGE,):
        raise BlpoError(
            f"--source {chosen}: what is drawn has one input `image`, but there are {', '.join(data.images)}; "
            "write a table with a column for each image"
        )
    if "/" in chosen:
        if labels is None or task is None:
            raise BlpoError(
                f"{chosen} is not a source with a task of its own: give --task, and --labels, --scale or --scores"
            )
        if "label_names" in given:
            given["label_names"] = label_pairs(given["label_names"], labels)
        of_table: dict[str, Any] = {
            "id": chosen,
            "labels": labels,
            "instruction": task,
            "columns": data.columns,
        }
        twice = sorted(set(given) & {*of_table, "image_column", "label_column", "context", "group_column"})
        if twice:
            raise BlpoError(f"--source-option {twice[0]}=…: this has an option of its own, or follows from --source")
        return open_source(_HUB, **given, **of_table)
    published = [name for name in SOURCES if name != _HUB]
    if chosen.lower() not in published:
        raise BlpoError(
            f"no source {chosen!r}; --source takes owner/name of a dataset on the Hub, or one of {', '.join(published)}"
        )
    if (data.image_column, data.label_column, data.group_column) != (None, "label", None):
        raise BlpoError(
            f"{chosen} knows its own columns: --image-column, --label-column and --group-column are for tables "
            "and for --source owner/name"
        )
    return open_source(chosen.lower(), **given)


def _given(choice: SourceChoice) -> dict[str, Any]:
    """The fields of a source's class that the options set."""
    given: dict[str, Any] = {}
    for pair in choice.source_option:
        name, equals, value = pair.partition("=")
        if not equals:
            raise BlpoError(f"--source-option {pair!r} is not NAME=VALUE; write it as in --source-option split=test")
        if name == "token":
            raise BlpoError("a token doesn't belong on a command line: set HF_TOKEN, or use `hf auth login`")
        given[name.strip()] = _value(name.strip(), value.strip())
    if choice.local_dir is not None:
        given["local_dir"] = choice.local_dir
    return given


def _value(name: str, text: str) -> Any:
    """A value of the type that a field has."""
    try:
        if name == "levels":
            return int(text)
        if name == "scale":
            low, high = re.split(r"\s*-\s*", text)
            return float(low), float(high)
    except ValueError:
        raise BlpoError(f"--source-option {name}={text}: write it as in levels=5 or scale=0-100") from None
    return text


def _draw(source: Source, size: int, seed: int, manifest: Manifest | None, policy: PixelPolicy, watch: Watch) -> Drawn:
    watch.begin(f"drawing images from {source.identity}", size)

    def progress(done: int, wanted: int) -> None:
        watch.show(f"drawing images from {source.identity}", done, f"{done}/{wanted}")

    return source.draw(size, seed=seed, ids=manifest, policy=policy, on_progress=progress)


def _scaled(sizes: tuple[int, int, int], total: int) -> tuple[int, int, int]:
    """Sizes in the same proportions that add up to a total."""
    train, val = (round(total * size / sum(sizes)) for size in sizes[:2])
    return train, val, total - train - val


def _overridden(source: Source, start: Start) -> Task:
    """The source's task, with what the options say instead."""
    task, context = source.task, start.data.context
    said: dict[str, Any] = {
        "labels": start.space,
        "instruction": start.task,
        "verbalizer_instruction": start.verbalizer_instruction,
        "context": None if context is None else check_context(context),
        "evidence": start.evidence,
    }
    if start.space is not None and (start.space.kind == "scores") != (task.labels.kind == "scores"):
        own = " (with --source-option binning=scores and scale=LOWEST-HIGHEST they are scores)"
        raise BlpoError(
            f"{source.identity} has the labels {task.labels}{own * isinstance(source, RatedFolder)}, not {start.space}"
        )
    return replace(task, **{name: value for name, value in said.items() if value is not None})


def _fitting(examples: list[dspy.Example], task: Task, source: Source) -> list[dspy.Example]:
    """The examples with the labels and inputs of a task."""
    fitting = []
    for example in examples:
        try:
            label = task.labels.coerce(example.label)
        except BlpoError:
            theirs = source.task.labels.describe()
            raise BlpoError(
                f"the labels of {source.identity} are {theirs}, but {example.label!r} is none of the labels here: "
                f"{task.labels}"
            ) from None
        missing = [name for name in task.context if not isinstance(example.get(name), str)]
        if missing:
            there = ", ".join(source.task.context) or "none"
            raise BlpoError(f"{source.identity} has no text {missing[0]!r} for each image; its context is: {there}")
        fitting.append(example.copy(label=label).with_inputs(IMAGE, *task.context))
    return fitting
