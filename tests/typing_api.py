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
    Guards,
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

optimizer: BLPO = BLPO(prompt_model=lm, rounds=2, guards=Guards(label_shift=0.1), seed=3, log_dir="runs")
letter: BLPO = BLPO.paper(prompt_model=lm, inner_steps=2, select="best")
rounds: int = optimizer.rounds
BLPO(prompt_model=lm, rounds="2")  # type: ignore[arg-type]
BLPO(prompt_model=lm, error_search="some")  # type: ignore[arg-type]
BLPO(lm)  # type: ignore[call-arg]
BLPO.paper(prompt_model=lm, rounds="2")  # type: ignore[arg-type]
