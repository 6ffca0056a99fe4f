"""`blpo drift`, as a scheduler runs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from blpo_dspy.cli.app import app
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.programs import VisualJudge

pytestmark = pytest.mark.slow


def blpo(*arguments: object) -> Any:
    """Runs a command in this process; an unexpected exception is raised."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def test_the_exit_code_says_what_to_do(tmp_path: Path) -> None:
    """0 for no sign, 3 for look, 4 for re-align, 2 for what cannot be read."""
    judge = tmp_path / "judge.json"
    VisualJudge(LabelSpace("Safe", "Unsafe"), instruction="Is it safe?").save(judge)
    files = {}
    for name, labels in {"then": "SU" * 50, "now": "S" * 95 + "U" * 5, "truth": "SU" * 50}.items():
        files[name] = tmp_path / f"{name}.csv"
        rows = [f"{i}.png,{'Safe' if label == 'S' else 'Unsafe'}" for i, label in enumerate(labels)]
        files[name].write_text("\n".join(["image,label", *rows]))
    words = ("drift", judge, "--reference", files["then"], "--current")
    rest = blpo(*words, files["then"])
    assert (rest.exit_code, "No sign" in rest.stdout) == (0, True)
    look = blpo(*words, files["now"])
    assert look.exit_code == 3
    assert "Look: labels are given in other shares" in look.stdout
    fell = blpo(*words, files["now"], "--labels", files["truth"], "--json")
    assert (fell.exit_code, json.loads(fell.stdout)["verdict"]) == (4, "re-align")
    shown = blpo(*words, files["now"], "--labels", files["truth"])
    assert "agree with people" in shown.stdout
    assert blpo(*words, tmp_path / "none.csv").exit_code == 2
