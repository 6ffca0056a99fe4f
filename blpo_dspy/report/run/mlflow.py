"""Runs in MLflow: options, figures by round, calls, the judge and its report. Needs the extra `blpo-dspy[mlflow]`."""

from __future__ import annotations

import contextlib
import importlib
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import dspy
from dspy.utils.callback import BaseCallback

from blpo_dspy.errors import BlpoError, notice
from blpo_dspy.optimizers.base import JudgeOptimizer
from blpo_dspy.optimizers.bench.records import BLPOResult, Round
from blpo_dspy.programs.visual_judge import VisualJudge
from blpo_dspy.report import load_run
from blpo_dspy.report.run.folder import RESULT
from blpo_dspy.report.run.page import damage_named

EXPERIMENT = "blpo-dspy"
_LONGEST_PARAMETER = 500  # characters; the least that MLflow's stores take
_AGREEMENT = ("accuracy", "macro_f1", "kappa", "spearman", "pearson", "mae", "invalid_rate", "flip_rate")
_FILES = ("judge.json", "result.json", "report.html", "label_errors.csv", "disagreements.csv", "drawn.json")

Figure = tuple[str, float, int]


class MLflowCallback(BaseCallback):
    """Logs every compile of this package's optimizers to MLflow.

    Example:
        >>> tracked = MLflowCallback(experiment="safety judge")
        >>> with dspy.context(callbacks=[tracked]):
        ...     judge = BLPO(prompt_model=lm, on_round=tracked.on_round).compile(start, trainset=trainset)

    `on_round` shows rounds as they end; without it they come with the rest when the run is over. A run that fails or
    is interrupted is marked so.

    Args:
        experiment: The experiment's name; it is made if it isn't there.
        run_name: The name of the runs; MLflow makes one up if None.
        tracking_uri: The store or server; MLflow's own setting if None.

    Raises:
        BlpoError: If MLflow isn't installed, or its store can't be used.
    """

    def __init__(
        self, *, experiment: str = EXPERIMENT, run_name: str | None = None, tracking_uri: str | None = None
    ) -> None:
        super().__init__()
        self._store = _Store(experiment, tracking_uri)
        self._run_name = run_name
        self._runs: dict[str, str] = {}
        self._logged: defaultdict[str, set[int]] = defaultdict(set)
        self._here = threading.local()

    def on_compile_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """A compile began."""
        if not isinstance(instance, JudgeOptimizer):
            return  # DSPy's own, inside one of ours
        sizes = {f"examples.{name}": len(inputs.get(f"{name}set") or ()) for name in ("train", "val")}
        models = {"optimizer": instance.prompt_model, "judge": instance.task_model or dspy.settings.lm}
        named = {f"models.{role}": lm.model for role, lm in models.items() if lm is not None}
        parameters = {**_flat(instance.options), **sizes, **named}
        self._runs[call_id] = self._here.run = self._store.begin(self._run_name, parameters)

    def on_round(self, completed: Round) -> None:
        """To be given to an optimizer as `on_round`; a store that is away doesn't end the run."""
        run = getattr(self._here, "run", None)
        if run is None:
            return
        try:
            self._store.figures(run, _of_rounds([completed.to_dict()]))
        except BlpoError as error:
            notice(f"round {completed.number + 1} is not in MLflow: {error}")
        else:
            self._logged[run].add(completed.number)

    def on_compile_end(self, call_id: str, outputs: Any | None, exception: BaseException | None = None) -> None:
        """A compile ended."""
        run = self._runs.pop(call_id, None)
        if run is None:
            return
        self._here.run = None
        logged = self._logged.pop(run, set())
        record = getattr(outputs, "detailed_results", None)
        if isinstance(record, BLPOResult):
            data = record.to_dict()
            rounds = [completed for completed in data["rounds"] if completed["number"] not in logged]
            self._store.figures(run, [*_of_rounds(rounds), *_of_validations(data["validations"], record.validated_on)])
            self._store.figures(run, _of_ledger("compile", data["ledger"]))
            with tempfile.TemporaryDirectory() as folder:
                if isinstance(outputs, VisualJudge):
                    outputs.save(Path(folder) / "judge.json")
                self._store.files(run, sorted(Path(folder).iterdir()))
            self._store.data(run, data, "result.json")
        self._store.end(run, "FINISHED" if exception is None else "FAILED", str(exception or ""))


def log_run(
    run_dir: str | Path,
    *,
    experiment: str = EXPERIMENT,
    run_name: str | None = None,
    tracking_uri: str | None = None,
) -> str:
    """Logs what `blpo compile --run-dir` or `blpo demo` left in a folder, the report included.

    Args:
        run_dir: The run's folder.
        experiment: As for `MLflowCallback`.
        run_name: Likewise; the folder's name if None.
        tracking_uri: Likewise.

    Returns:
        The id of the MLflow run.

    Raises:
        BlpoError: If the folder holds no run, MLflow isn't installed, or its store can't be used.
    """
    folder = Path(run_dir)
    result = load_run(folder).result
    with damage_named(folder / RESULT):  # all of it, before anything is logged
        parameters, figures = _parameters(result), _figures(result)
    store = _Store(experiment, tracking_uri)
    run = store.begin(run_name or folder.resolve().name, parameters)
    store.figures(run, figures)
    store.files(run, [folder / name for name in _FILES if (folder / name).is_file()])
    store.end(run, "FINISHED", "")
    return run


def _parameters(result: Mapping[str, Any]) -> dict[str, Any]:
    sizes = {f"examples.{name}": result["data"][name]["n"] for name in ("train", "val", "test")}
    return {**_flat(result["options"]), **sizes, **{f"models.{role}": name for role, name in result["models"].items()}}


def _figures(result: Mapping[str, Any]) -> list[Figure]:
    figures = [*_of_rounds(result["rounds"]), *_of_validations(result["validations"], "val")]
    for when in ("before", "after"):
        figures += _of_agreement(f"test/{when}", (result[when] or {}).get("test") or {}, 0)
    for part in ("compile", "measure"):
        figures += _of_ledger(part, result["ledger"][part])
    return figures


class _Store:
    """MLflow's client on one experiment, apart from the run that a program may have active."""

    def __init__(self, experiment: str, tracking_uri: str | None) -> None:
        try:
            mlflow = importlib.import_module("mlflow")
        except ModuleNotFoundError as error:
            raise BlpoError('MLflow is not installed: pip install "blpo-dspy[mlflow]"') from error
        self._error: type[Exception] = mlflow.exceptions.MlflowException
        self._metric = importlib.import_module("mlflow.entities").Metric
        self._parameter = importlib.import_module("mlflow.entities").Param
        with self._using():
            self._client = mlflow.MlflowClient(tracking_uri=tracking_uri)
            known = self._client.get_experiment_by_name(experiment)
            self._experiment = self._client.create_experiment(experiment) if known is None else known.experiment_id

    @contextlib.contextmanager
    def _using(self) -> Iterator[None]:
        try:
            yield
        except (self._error, ImportError) as error:  # its light client has no database
            raise BlpoError(f"MLflow's store can't be used: {error}; check the tracking URI") from error

    def begin(self, name: str | None, parameters: Mapping[str, Any]) -> str:
        listed = [self._parameter(key, str(value)[:_LONGEST_PARAMETER]) for key, value in parameters.items()]
        with self._using():
            run = str(self._client.create_run(self._experiment, run_name=name).info.run_id)
            self._client.log_batch(run, params=listed)
        return run

    def figures(self, run: str, figures: Iterable[Figure]) -> None:
        now = int(time.time() * 1000)
        metrics = [self._metric(name, value, now, step) for name, value, step in figures]
        with self._using():
            self._client.log_batch(run, metrics=metrics)

    def files(self, run: str, files: Sequence[Path]) -> None:
        with self._using():
            for file in files:
                self._client.log_artifact(run, str(file))

    def data(self, run: str, data: Mapping[str, Any], name: str) -> None:
        with self._using():
            self._client.log_dict(run, dict(data), name)

    def end(self, run: str, status: str, reason: str) -> None:
        with self._using():
            if reason:
                self._client.set_tag(run, "reason", reason[:_LONGEST_PARAMETER])
            self._client.set_terminated(run, status)


def _flat(options: Mapping[str, Any], lead: str = "") -> dict[str, Any]:
    """Options by dotted names."""
    flat: dict[str, Any] = {}
    for name, value in options.items():
        flat |= _flat(value, f"{lead}{name}.") if isinstance(value, Mapping) else {f"{lead}{name}": value}
    return flat


def _of_rounds(rounds: Sequence[Mapping[str, Any]]) -> Iterator[Figure]:
    """The figures of rounds, at the step of the round counted from 1."""
    for completed in rounds:
        step, batch, chosen = completed["number"] + 1, completed["batch"], completed["chosen"]
        score = None if chosen is None else completed["trials"][chosen]["score"]
        rejected = sum(len(trial["rejections"]) for trial in completed["trials"])
        yield "round/mistakes", float(len(batch["errors"])), step
        yield "round/judged", float(batch["searched"]), step
        yield "round/calls", float(completed["spent"]), step
        yield "round/rejections", float(rejected), step
        if score is not None:
            yield "round/score", float(score), step


def _of_validations(validations: Sequence[Mapping[str, Any]], measured_on: str) -> Iterator[Figure]:
    """The figures of validations, at the step of the round that led to them, 0 for the start."""
    lead = "validation" if measured_on == "val" else measured_on
    for validation in validations:
        step = validation["after_round"]
        yield f"{lead}/score", float(validation["score"]), step
        yield from _of_agreement(lead, validation["agreement"] or {}, step)


def _of_agreement(lead: str, agreement: Mapping[str, Any], step: int) -> Iterator[Figure]:
    for name in _AGREEMENT:
        if agreement.get(name) is not None:
            yield f"{lead}/{name}", float(agreement[name]), step


def _of_ledger(part: str, ledger: Mapping[str, Mapping[str, Any]]) -> Iterator[Figure]:
    """The cost of the calls by role; what is unknown is left out."""
    for role, usage in ledger.items():
        for name in ("calls", "cached", "failed", "prompt_tokens", "completion_tokens", "usd", "seconds"):
            if usage.get(name) is not None:
                yield f"{part}/{role}/{name}", float(usage[name]), 0
