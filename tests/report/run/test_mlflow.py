"""What MLflow is told of a run."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import dspy
import pytest
from typer.testing import CliRunner
from worlds import TRAIN, VALIDATION, mind, student, world

from blpo_dspy.cli.app import app
from blpo_dspy.data.sources.photographs import RATERS, write_dataset
from blpo_dspy.errors import BlpoError
from blpo_dspy.optimizers import BLPO
from blpo_dspy.programs import VisualJudge
from blpo_dspy.report.run.mlflow import MLflowCallback, log_run

# Folders need no database beside MLflow's light client; its telemetry would ask for the network.
os.environ.update(MLFLOW_ALLOW_FILE_STORE="true", MLFLOW_DISABLE_TELEMETRY="true", GIT_PYTHON_REFRESH="quiet")
mlflow = pytest.importorskip("mlflow", reason="MLflow is not installed (the extra blpo-dspy[mlflow])")


@pytest.fixture
def client(tmp_path: Path) -> Any:
    """MLflow's client on an empty folder."""
    return mlflow.MlflowClient(tracking_uri=(tmp_path / "store").as_uri())


def runs(client: Any, experiment: str) -> list[Any]:
    """Returns the runs of an experiment."""
    return list(client.search_runs([client.get_experiment_by_name(experiment).experiment_id]))


def files(client: Any, run: Any) -> dict[str, bytes]:
    """Returns the artifacts of a run."""
    listed = client.list_artifacts(run.info.run_id)
    return {file.path: Path(client.download_artifacts(run.info.run_id, file.path)).read_bytes() for file in listed}


def steps(client: Any, run: Any, name: str) -> dict[int, float]:
    """Returns a metric by step."""
    points = client.get_metric_history(run.info.run_id, name)
    assert len({point.step for point in points}) == len(points)
    return {point.step: point.value for point in points}


def compiled(tracked: MLflowCallback, script: Any = mind, **options: Any) -> VisualJudge:
    """Compiles in the small world."""
    lm = world(script)
    made = BLPO(prompt_model=lm, task_model=lm, **{"rounds": 2, "inner_steps": 1, "num_threads": 2, **options})
    with dspy.context(callbacks=[tracked]):
        program = made.compile(student(), trainset=TRAIN[::2], valset=VALIDATION[::2])
    assert isinstance(program, VisualJudge)
    return program


@pytest.mark.slow
@pytest.mark.parametrize("live", [True, False])
def test_a_compile_is_a_run_with_options_rounds_and_the_judge(client: Any, tmp_path: Path, live: bool) -> None:
    """The same figures, whether rounds are told as they end or at the end."""
    tracked = MLflowCallback(experiment="bright", run_name="first", tracking_uri=client.tracking_uri)
    program = compiled(tracked, on_round=tracked.on_round if live else None)
    (run,), found = runs(client, "bright"), program.detailed_results
    assert (run.info.run_name, run.info.status) == ("first", "FINISHED")
    assert {
        "rounds": "2",
        "guards.copied_words": "8",
        "examples.train": "21",
        "models.judge": "scripted/test",
    }.items() <= (run.data.params.items())
    assert steps(client, run, "round/mistakes") == {r.number + 1: len(r.batch.errors) for r in found.rounds}
    assert steps(client, run, "round/calls") == {r.number + 1: r.spent for r in found.rounds}
    assert steps(client, run, "validation/accuracy") == {v.after_round: v.agreement.accuracy for v in found.validations}
    assert run.data.metrics["compile/judge/calls"] == found.ledger["judge"].calls
    logged = files(client, run)
    (tmp_path / "judge.json").write_bytes(logged["judge.json"])
    assert VisualJudge.load(tmp_path / "judge.json").instruction == program.instruction
    assert json.loads(logged["result.json"])["returned"]["judge"] == program.instruction


@pytest.mark.slow
def test_rounds_show_while_the_run_goes_on(client: Any) -> None:
    """With `on_round`."""
    tracked = MLflowCallback(experiment="bright", tracking_uri=client.tracking_uri)
    seen: list[dict[int, float]] = []

    def look(completed: Any) -> None:
        tracked.on_round(completed)
        (run,) = runs(client, "bright")
        assert run.info.status == "RUNNING"
        seen.append(steps(client, run, "round/mistakes"))

    compiled(tracked, on_round=look)
    assert [sorted(one) for one in seen] == [[1], [1, 2]]


def test_a_run_that_fails_is_marked_with_the_reason(client: Any) -> None:
    """It says why."""
    tracked = MLflowCallback(experiment="bright", tracking_uri=client.tracking_uri)
    with pytest.raises(BlpoError):
        compiled(tracked, lambda seen: dspy.lm15.AuthError("wrong key"))
    (run,) = runs(client, "bright")
    assert run.info.status == "FAILED"
    assert "wrong key" in run.data.tags["reason"]


@pytest.mark.slow
def test_a_store_that_is_lost_on_the_way_does_not_end_the_run(client: Any) -> None:
    """What was paid for is worth more than a figure in MLflow."""
    tracked = MLflowCallback(experiment="bright", tracking_uri=client.tracking_uri)

    def lose(completed: Any) -> None:
        (run,) = runs(client, "bright")
        client.delete_run(run.info.run_id)
        tracked.on_round(completed)

    with pytest.warns(UserWarning, match="round 1 is not in MLflow"):
        assert compiled(tracked, on_round=lose, rounds=1).detailed_results.rounds


@pytest.mark.slow
def test_the_folder_of_a_run_is_logged_with_its_report(client: Any, tmp_path: Path) -> None:
    """As `blpo compile` leaves it, with the agreement on its test images."""
    folder, data = tmp_path / "first run", tmp_path / "data"
    write_dataset(data, RATERS["colour"], train=10, val=6, test=6)
    splits = ["--val", str(data / "val.csv"), "--test", str(data / "test.csv"), "--scale", "1-5", "--task", "Rate it."]
    size = ["--rounds", "1", "--inner-steps", "0", "--run-dir", str(folder), "--out", str(tmp_path / "judge.json")]
    done = CliRunner().invoke(app, ["compile", str(data / "train.csv"), *splits, *size])
    assert done.exit_code == 0, done.output
    log_run(folder, tracking_uri=client.tracking_uri)
    (run,) = runs(client, "blpo-dspy")
    result = json.loads((folder / "result.json").read_text())
    assert run.info.run_name == "first run"
    assert run.data.metrics["test/after/accuracy"] == result["after"]["test"]["accuracy"]
    assert files(client, run)["report.html"] == (folder / "report.html").read_bytes()


def test_without_mlflow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is paid."""
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(BlpoError, match=r"pip install \"blpo-dspy\[mlflow\]\""):
        MLflowCallback()


def test_a_store_that_cannot_be_used_is_said_before_anything_is_paid() -> None:
    """With what to check."""
    with pytest.raises(BlpoError, match=r"MLflow's store can't be used: .*check the tracking URI"):
        MLflowCallback(tracking_uri="gopher://nowhere")
