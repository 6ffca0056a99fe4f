"""What a call of `predict` is given: models, images, and what its judge can do."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dspy
import numpy as np
from PIL import Image

from blpo_dspy.data.images.prepare import ImageSource
from blpo_dspy.data.inputs import Inputs, check_usable, find_inputs
from blpo_dspy.data.tables import TableSource, in_memory
from blpo_dspy.errors import BlpoError, ModelError, check_kind, check_least, notice
from blpo_dspy.models.lm import Models, check_models
from blpo_dspy.models.prices import check_priced
from blpo_dspy.predictions.batches.api import BatchApi
from blpo_dspy.predictions.files import Output
from blpo_dspy.predictions.labelling import note_other_models
from blpo_dspy.predictions.outputs import check_escalated
from blpo_dspy.predictions.progress import Progress
from blpo_dspy.programs.cascade import Cascade, models_of_stages, stages_of
from blpo_dspy.programs.pairs import asked_in
from blpo_dspy.programs.visual_judge import VisualJudge
from blpo_dspy.workspace.workspace import current_workspace

MOST_NOTES = 5
"""How many notes on what is judged are shown."""


@dataclass(frozen=True)
class Processes:
    """Other processes that judge.

    Attributes:
        workers: How many are started here; or a `distributed.Client` of Dask or the address of its scheduler, whose
            workers judge: they see the same files under the same paths.
        max_in_flight: The most LM calls under way at once over all of them; each has as many as the workspace's threads
            if None.

    Raises:
        BlpoError: If a number is below 1.
    """

    workers: Any
    max_in_flight: int | None = None

    def __post_init__(self) -> None:
        for name in ("workers", "max_in_flight"):
            if isinstance(value := getattr(self, name), (int, float)):
                check_least(name, value, 1)


@dataclass(frozen=True)
class Job:
    """What a call of `predict` is given, as it names it, with the models of each judge."""

    judge: VisualJudge
    inputs: Inputs
    output: Output
    models: list[Models]
    processes: Processes | None = None
    batch: BatchApi | None = None
    escalated: Path | None = None
    max_calls: int | None = None
    max_usd: float | None = None
    partial: bool = False
    on_read: Callable[[int], None] = lambda done: None
    on_progress: Callable[[Progress], None] = lambda progress: None

    def __post_init__(self) -> None:
        if self.processes is not None and self.batch is not None:
            raise BlpoError(
                "other processes make plain calls; leave out batch_api=True, or workers=",
                option=("batch_api", "workers"),
            )
        check_escalated(self.escalated, self.output.path, self.judge)
        note_other_models(self.judge, self.models)
        max_usd = None if self.batch is not None else self.max_usd
        if max_usd is None:
            max_usd = current_workspace().left.get("max_usd")
        priced(self.judge, self.models, max_usd)
        check_plain(self.judge, batch=self.batch is not None, elsewhere=self.processes is not None)

    @property
    def both(self) -> bool:
        """Whether images are asked about in both orders."""
        return asked_in(self.judge.labels, self.judge.orders) > 1


def models_of(judge: VisualJudge) -> Models:
    """Returns the workspace's models, or else a judge's own or those of DSPy's settings; its own write instructions.

    Raises:
        ModelError: If there are none.
        BlpoError: If the workspace has a list of them.
    """
    given = current_workspace().models
    if given is not None:
        check_models(given)
        assert isinstance(given, Models)
        return given
    found = {role: getattr(judge, role).lm or dspy.settings.lm for role in ("judge", "verbalizer")}
    if None in found.values():
        raise ModelError("the judge has no model: open a Workspace(models=Models.named(…)), or dspy.configure(lm=…)")
    return Models(found["judge"], found["verbalizer"], found["judge"])


def priced(judge: VisualJudge, models: Sequence[Models], max_usd: float | None) -> None:
    """Checks that a cap in dollars can be kept.

    Raises:
        BlpoError: If a model that labels images has no known price.
    """
    used = zip(stages_of(judge), models, strict=True)
    check_priced(
        max_usd, [getattr(each, role) for stage, each in used for role in stage.roles], current_workspace().prices
    )


def given_models(judge: VisualJudge) -> list[Models]:
    """Returns the models of each judge of a cascade, or the only one: the workspace's, or else its own.

    Raises:
        ModelError: If there are none.
        BlpoError: If there are as many models as judges neither given nor one for all.
    """
    models = current_workspace().models
    return [models_of(stage) for stage in stages_of(judge)] if models is None else models_of_stages(judge, models)


def inputs_of(
    judge: VisualJudge,
    source: TableSource | Sequence[ImageSource],
    image_column: str | None,
    texts: Mapping[str, str] | None,
    allow_outside: bool,
) -> Inputs:
    """Returns the rows of a folder, a table or images, or raises `DataError` if none can be used.

    A warning is issued of what was renamed in a table.
    """
    if isinstance(source, (str, bytes, os.PathLike, Mapping, Image.Image, np.ndarray, dspy.Image)):
        source = [source]
    elif not in_memory(source):
        check_kind("source", source, Iterable, "folder, table or list of images", "predict(judge, 'photos', out=…)")
        source = list(source)
    found = find_inputs(
        source, fields=judge.fields, texts=texts, image_column=image_column, allow_outside=allow_outside
    )
    check_usable(found)
    for note in () if Path(found.name).is_dir() else found.notes[:MOST_NOTES]:
        notice(f"{found.name}: {note}")
    return found


def check_plain(judge: VisualJudge, *, batch: bool, elsewhere: bool) -> None:
    """Refuses what a judge that is asked several times cannot use."""
    if batch and judge.calls_per_image != len(set(judge.roles)):
        raise BlpoError(
            "a batch holds one answer of each model to an image, and this judge is asked several times; leave out "
            "batch_api=True, or use confidence='logprobs'",
            option=("batch_api", "confidence"),
        )
    if elsewhere and isinstance(judge, Cascade):
        raise BlpoError(
            "a cascade is judged in one process, which has the models of all its judges; leave out workers=",
            option="workers",
        )
    if isinstance(judge, Cascade):
        judge.check_calibrated()
