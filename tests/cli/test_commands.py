"""Every command, from data to reports, one after the other as a user runs them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from blpo_dspy.cli.app import app

pytestmark = [pytest.mark.slow, pytest.mark.wheel]

LABELLED = ["demo/train.csv", "--scale", "1-5", "--task", "Rate this photograph.", "--judge-model", "embedded"]
PROMISE = ["--agreement", "0.3", "--within", "1", "--confidence", "logprobs"]
SMALL = ["--rounds", "1", "--inner-steps", "1", "--batch-size", "4"]

# In an order in which each finds what it needs, with a file that it leaves.
COMMANDS = {
    "demo": (["--out", "demo", *SMALL], "demo/report.html"),
    "estimate": ([*LABELLED, *SMALL], None),
    "compile": ([*LABELLED, *SMALL, "--out", "judge.json", "--run-dir", "run"], "judge.json"),
    "evaluate": (["judge.json", "demo/test.csv", "--model", "embedded"], None),
    "calibrate": (["judge.json", "demo/test.csv", "--model", "embedded", *PROMISE, "--out", "sure.json"], "sure.json"),
    "judge": (["judge.json", "demo/images", "--model", "embedded", "--out", "labels.parquet"], "labels.parquet"),
    "compare": ([*LABELLED, "--optimizers", "none", "--max-calls", "100", "--out", "compared"], "compared/plot.png"),
    "report": (["run", "--out", "again.html"], "again.html"),
    "status": (["run"], None),
    "rank": (["verdicts.csv"], None),
    "sample": (["labels.parquet", "--n", "20", "--out", "to_label.csv"], "to_label.csv"),
    "population": (["said.csv", "--labels", "people.csv"], None),
    "label-studio": (["said.csv", "--out", "tasks.json"], "tasks.json"),
    "drift": (["judge.json", "--reference", "labels.parquet", "--current", "labels.parquet"], None),
}
SERVING = {"serve", "label", "review"}  # until they are stopped: see test_serve.py, test_label.py, test_demo.py
SAID = "image,label\n1,Safe\n2,Unsafe\n3,Safe\n4,Safe\n"
PEOPLE = "image,label,inclusion_probability\n1,Safe,0.5\n2,Unsafe,0.5\n"
VERDICTS = "model_a,model_b,label\na,b,A\nb,a,B\na,b,A\nb,a,A\na,b,tie\n"


def test_every_command_runs_and_leaves_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new command needs a line above."""
    monkeypatch.chdir(tmp_path)
    for name, text in {"verdicts": VERDICTS, "said": SAID, "people": PEOPLE}.items():
        Path(f"{name}.csv").write_text(text)
    assert {*COMMANDS, *SERVING} == set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    for name, (words, left) in COMMANDS.items():
        done = CliRunner().invoke(app, [name, *words], catch_exceptions=False)
        assert done.exit_code == 0, (name, done.stderr)
        assert done.stdout, name
        assert left is None or Path(left).stat().st_size > 0, name


def test_a_command_is_a_process_of_its_own(tmp_path: Path) -> None:
    """The module that the script `blpo` names runs, and says nothing on standard error."""
    (tmp_path / "verdicts.csv").write_text(VERDICTS)
    command = [sys.executable, "-m", "blpo_dspy.cli.app", "rank", "verdicts.csv"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout
