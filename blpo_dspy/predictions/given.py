"""What a call of `predict` is given: models, images, and what its judge can do."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import dspy
import numpy as np
from PIL import Image

from blpo_dspy.data.images.prepare import ImageSource
from blpo_dspy.data.inputs import Inputs, check_usable, find_inputs
from blpo_dspy.data.labels.space import Orders
from blpo_dspy.data.tables import TableSource, in_memory
from blpo_dspy.errors import BlpoError, ModelError, check_kind, notice
from blpo_dspy.models.lm import Models, check_models
from blpo_dspy.models.prices import Prices, check_priced
from blpo_dspy.predictions.files import Output
from blpo_dspy.predictions.progress import Progress
from blpo_dspy.programs.cascade import Cascade, models_of_stages, stages_of
from blpo_dspy.programs.pairs import asked_in
from blpo_dspy.programs.visual_judge import VisualJudge
from blpo_dspy.workspace.outages import MAX_OUTAGE

MOST_NOTES = 5
"""How many notes on what is judged are shown."""


@dataclass(frozen=True)
class Job:
    """What a call of `predict` is given, as it names it, with the models of each judge."""

    judge: VisualJudge
    inputs: Inputs
    output: Output
    models: list[Models]
    orders: Orders
    prices: Prices | None = None
    max_outage: float = MAX_OUTAGE
    on_read: Callable[[int], None] = lambda done: None
    on_progress: Callable[[Progress], None] = lambda progress: None
    partial: bool = False

    @property
    def both(self) -> bool:
        """Whether images are asked about in both orders."""
        return asked_in(self.judge.labels, self.orders) > 1


def models_of(judge: VisualJudge, given: Models | None = None) -> Models:
    """Returns the models given, or else a judge's own or those of DSPy's settings; the judge's writes instructions.

    Raises:
        ModelError: If there are none.
        BlpoError: If what is given is something else.
    """
    if given is not None:
        check_models(given)
        return given
    found = {role: getattr(judge, role).lm or dspy.settings.lm for role in ("judge", "verbalizer")}
    if None in found.values():
        raise ModelError("the judge has no model: give models=Models.named(…), or dspy.configure(lm=…)")
    return Models(found["judge"], found["verbalizer"], found["judge"])


def priced(judge: VisualJudge, models: Sequence[Models], max_usd: float | None, prices: Prices | None) -> None:
    """Checks that a cap in dollars can be kept.

    Raises:
        BlpoError: If a model that labels images has no known price.
    """
    used = zip(stages_of(judge), models, strict=True)
    check_priced(max_usd, [getattr(each, role) for stage, each in used for role in stage.roles], prices)


def given_models(judge: VisualJudge, models: Models | Sequence[Models] | None) -> list[Models]:
    """Returns the models of each judge of a cascade, or the only one: those given, or else its own.

    Raises:
        ModelError: If there are none.
        BlpoError: If there are as many models as judges neither given nor one for all.
    """
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
            "a cascade is judged in one process, which has the models of all its judges; leave out workers= and "
            "cluster=",
            option=("workers", "cluster"),
        )
    if isinstance(judge, Cascade):
        judge.check_calibrated()
