"""How the public API looks to a type checker: never run, only checked by mypy."""

from __future__ import annotations

from typing import Any

from blpo_dspy import (
    BLPO,
    Agreement,
    ArtifactError,
    BlpoError,
    BLPOResult,
    DataError,
    LabelSpace,
    ModelError,
    Models,
    PixelPolicy,
    Round,
    Trial,
    VisualJudge,
    __version__,
    embedded_lm,
    load_examples,
    make_lm,
    measure_agreement,
    split_examples,
)

version: str = __version__
errors: tuple[type[BlpoError], ...] = (ArtifactError, DataError, ModelError)
records: tuple[type, ...] = (Agreement, BLPOResult, PixelPolicy, Round, Trial)
functions: tuple[object, ...] = (embedded_lm, load_examples, measure_agreement, split_examples)
programs: tuple[type, ...] = (BLPO, VisualJudge)

safety: LabelSpace = LabelSpace("Safe", "Unsafe")
scale: LabelSpace = LabelSpace.ordinal(1, 5)
loss: float = safety.loss("Safe", "Unsafe")
problems: tuple[str, ...] = DataError("no rows").problems

lm: Any = make_lm("openai/gpt-4o", role="judge", temperature=0.2)
models: Models = Models.named("openai/gpt-4o", optimizer="openai/o3")
make_lm("openai/gpt-4o", role="referee")  # type: ignore[arg-type]
models.judge = lm  # type: ignore[misc]
