"""How the public API looks to a type checker: never run, only checked by mypy."""

from __future__ import annotations

from typing import Any

from blpo_dspy import (
    BLPO,
    ArtifactError,
    BlpoError,
    BlpoWarning,
    Budget,
    Cascade,
    Columns,
    DataError,
    LabelSpace,
    ModelError,
    Models,
    VisualJudge,
    Workspace,
    __version__,
    align,
    calibrate,
    compare,
    draw_to_label,
    estimate_population,
    load_examples,
    make_lm,
    measure,
    measure_agreement,
    measure_drift,
    predict,
    rank,
    split_examples,
)
from blpo_dspy.agreement.bradley_terry import Ranking
from blpo_dspy.agreement.measure import Agreement
from blpo_dspy.comparison.compare import Comparison
from blpo_dspy.optimizers import (
    APO,
    COPRO,
    GEPA,
    OPRO,
    SIMBA,
    Batch,
    BLPOResult,
    Guards,
    Instructions,
    Judgement,
    JudgeOptimizer,
    MIPROv2,
    Rejection,
    Round,
    RoundOptimizer,
    TextGrad,
    Trial,
    Validation,
)
from blpo_dspy.optimizers.estimate import Estimate, estimate
from blpo_dspy.predictions.progress import Progress
from blpo_dspy.runs.align import Alignment
from blpo_dspy.runs.calibration.calibrated import Calibrated
from blpo_dspy.runs.collection.drift import Drift
from blpo_dspy.runs.collection.population import Population
from blpo_dspy.runs.measure import Measurement

version: str = __version__
errors: tuple[type[BlpoError], ...] = (ArtifactError, DataError, ModelError)
warning: type[UserWarning] = BlpoWarning
records: tuple[type, ...] = (Batch, BLPOResult, Instructions, Judgement, Rejection, Round, Trial, Validation)
optimizers: tuple[type[JudgeOptimizer], ...] = (APO, BLPO, COPRO, GEPA, MIPROv2, OPRO, SIMBA, TextGrad)
by_rounds: tuple[type[RoundOptimizer], ...] = (APO, BLPO, OPRO, TextGrad)

safety: LabelSpace = LabelSpace("Safe", "Unsafe")
scale: LabelSpace = LabelSpace.ordinal(1, 5)
percent: LabelSpace = LabelSpace.scores(0, 100, 0.5, tolerance=5)
loss: float = safety.loss("Safe", "Unsafe")
problems: tuple[str, ...] = DataError("no rows").problems

lm: Any = make_lm("openai/gpt-4o", role="judge", temperature=0.2)
models: Models = Models.named("openai/gpt-4o", optimizer="openai/o3")
make_lm("openai/gpt-4o", role="referee")  # type: ignore[arg-type]
models.judge = lm  # type: ignore[misc]

optimizer: BLPO = BLPO(prompt_model=lm, rounds=2, guards=Guards(label_shift=0.1), seed=3, log_dir="runs")
letter: BLPO = BLPO.paper(prompt_model=lm, inner_steps=2, select="best")
budget: Budget = Budget(max_calls=100, max_usd=1.5)
steps: int = optimizer.inner_steps
examples: list[Any] = load_examples("labels.csv", labels=safety)
renamed: Columns = Columns(image="file", label="rating", context=["prompt"])
load_examples("labels.csv", labels=safety, columns=renamed)
Columns("rating")  # type: ignore[call-arg]
train: list[Any] = split_examples(examples, labels=safety).train
start: VisualJudge = VisualJudge(safety, instruction="Is it safe?", context=["prompt"], evidence="image")
judge: VisualJudge = optimizer.compile(start, trainset=examples, valset=None)
calls: int = judge.calls_per_image
predictions: Progress = predict(judge, "photos", out="predictions.csv", workers=2, max_calls=100)
comparison: Comparison = compare(
    start, trainset=examples, valset=examples, testset=examples, max_calls=600, seeds=(0, 1), out="x"
)
agreement: Agreement = measure_agreement(safety, ["Safe"], ["Unsafe"])
kappa: float | None = agreement.kappa
expected: Estimate = estimate(optimizer, start, trainset=examples)
VisualJudge(safety, instruction="Is it safe?", evidence="pixels")  # type: ignore[arg-type]
optimizer.compile(start, trainset=None)  # type: ignore[arg-type]
BLPO(prompt_model=lm, rounds="2")  # type: ignore[arg-type]
BLPO(prompt_model=lm, keep_back="some")  # type: ignore[arg-type]
BLPO(lm)  # type: ignore[call-arg]
BLPO.paper(prompt_model=lm, rounds="2")  # type: ignore[arg-type]
with Workspace("runs", models=models, max_usd=20, num_threads=16, prices={"openai/gpt-4o": (2.5, 10.0)}) as workspace:
    aligned: Alignment = align(start, train="labels.csv", run_dir="run", max_calls=600)
left: dict[str, float] = workspace.left
measured: Measurement = measure(aligned.judge, examples, against=start)
align(start)  # type: ignore[call-arg]

pairs: LabelSpace = LabelSpace.pairwise("A", "B", tie="tie")
ranking: Ranking = rank("predictions.parquet", labels=pairs, seed=1)

doubting: VisualJudge = judge.confident("votes", votes=7)
found: Calibrated = calibrate(doubting, "new_labels.csv", agreement=0.95, risk=0.05)
threshold: float | None = found.judge.threshold
cascade: Cascade = Cascade([doubting, judge.confident("logprobs")])
calibrate(cascade, examples).judge.save("cascade.json")
loaded: Cascade = Cascade.load("cascade.json")
judge.confident("stated")  # type: ignore[arg-type]
drawn: int = len(draw_to_label("predictions.csv", n=200, out="to_label.csv").chosen)
population: Population = estimate_population("predictions.csv", "to_label.csv", judge=judge, by="site")
drift: Drift = measure_drift(judge, "then.csv", "now.csv", labelled="labels.csv")
estimated: float = population.whole.estimates[0].interval.low
