"""`blpo rank`, and the commands before it that a judge of pairs takes, as a user meets them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from blpo_dspy.cli.app import app
from blpo_dspy.data.sources.photographs import RATERS, rated_pairs

pytestmark = pytest.mark.slow

PAIRS = ("--images", "left,right", "--pairs", "A,B,tie")


def blpo(*arguments: object) -> Any:
    """Runs a command in this process; an unexpected exception is raised."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pairs in a table and a judge that was compiled with them."""
    folder = tmp_path_factory.mktemp("pairs")
    drawn = rated_pairs(RATERS["colour"], train=16, val=8, test=12)
    with (folder / "pairs.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["left", "right", "model_a", "model_b", "label"])
        for number, pair in enumerate([*drawn.train, *drawn.val, *drawn.test]):
            for name, image in (("l", pair.left), ("r", pair.right)):
                (folder / f"{number}{name}.png").write_bytes(image)
            models = [f"model {(number + i) % 3}" for i in (0, 1)]
            writer.writerow([f"{number}l.png", f"{number}r.png", *models, pair.label])
    task = ("--task", "Which photograph is better?", "--judge-model", "embedded", "--rounds", 1)
    done = blpo("compile", folder / "pairs.csv", *PAIRS, *task, "--run-dir", folder / "run", "--out", folder / "j.json")
    assert done.exit_code == 0, done.stderr
    assert "Orders  before another label in the other order" in done.stdout
    assert "; after another label in the other order" in " ".join(done.stdout.split())
    return folder


def test_the_report_states_how_often_the_order_decided(compiled: Path) -> None:
    """Before and after, with intervals."""
    page = (compiled / "run" / "report.html").read_text(encoding="utf-8")
    assert "Another label in the other order" in page
    record = json.loads((compiled / "run" / "result.json").read_text())
    assert record["after"]["test"]["flips"]["pairs"] > 0
    assert record["data"]["train"]["n"] > 0


def test_one_order_costs_half_the_calls(compiled: Path) -> None:
    """Nothing is said of the other order then."""
    arguments = ("evaluate", compiled / "j.json", compiled / "pairs.csv", "--model", "embedded", "--json")
    both, one = (json.loads(blpo(*arguments, *more).stdout) for more in ((), ("--orders", "one")))
    assert both["calls"]["judge"] == 2 * one["calls"]["judge"]
    assert both["intervals"]["flip_rate"]["low"] <= both["flip_rate"] <= both["intervals"]["flip_rate"]["high"]
    assert "flips" not in one
    assert "Orders: another label in the other order" in blpo(*arguments[:-1]).stdout


def test_pairs_are_judged_into_a_table_and_ranked(compiled: Path, tmp_path: Path) -> None:
    """The table keeps the columns with the models."""
    out = tmp_path / "verdicts.csv"
    judged = blpo("judge", compiled / "j.json", compiled / "pairs.csv", "--model", "embedded", "--out", out)
    assert judged.exit_code == 0
    assert "Orders  another label in the other order" in judged.stdout
    shown = blpo("rank", out)
    assert shown.exit_code == 0
    assert all(f"\nmodel {i} " in shown.stdout for i in range(3))
    assert "36 verdicts" in shown.stdout
    ranking = json.loads(blpo("rank", out, "--json").stdout)
    strengths = [model["strength"] for model in ranking["models"]]
    assert strengths == sorted(strengths, reverse=True)


def test_what_cannot_be_ranked_is_one_error(compiled: Path, tmp_path: Path) -> None:
    """A missing column, labels of another judge, and columns that are not two."""
    table = tmp_path / "t.csv"
    table.write_text("model_a,model_b,label\nx,y,left\n")
    for words, said in (
        ((compiled / "pairs.csv", "--columns", "model_a,other"), "or name their columns with --columns"),
        ((table,), "unknown label 'left'"),
        ((table, "--columns", "model_a"), "name two columns"),
        ((table, "--pairs", "left"), "is not FIRST,SECOND"),
    ):
        done = blpo("rank", *words)
        assert (done.exit_code, done.stdout) == (2, "")
        assert said in done.stderr


def test_labels_of_pairs_without_two_images_are_refused_before_any_call(compiled: Path) -> None:
    """The error says which option is missing, whether the table has a column `image` or not."""
    words = ("--pairs", "A,B,tie", "--task", "x", "--out", compiled / "other.json")
    for more in ((), ("--image-column", "left")):
        done = blpo("compile", compiled / "pairs.csv", *words, *more)
        assert done.exit_code == 2
        assert "compare two images" in done.stderr
        assert "--images" in done.stderr
