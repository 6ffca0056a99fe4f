"""`blpo compile --start`: a judge compiled further from where it stands."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from blpo_dspy.cli.app import app
from blpo_dspy.data.sources.photographs import RATERS, rated_photographs
from blpo_dspy.optimizers.bench.cards import known_prints, prints_of
from blpo_dspy.programs import VisualJudge

pytestmark = pytest.mark.slow

SMALL = ("--judge-model", "embedded", "--rounds", 1, "--inner-steps", 0, "--label-errors", 0)


def blpo(*arguments: object) -> Any:
    """Runs a command in this process; an unexpected exception is raised."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def test_a_table_serves_once(tmp_path: Path) -> None:
    """Validation and test images are others than those of the table; nothing is read before that is clear."""
    table = tmp_path / "labels.csv"
    words = ("--scale", "1-5", "--task", "x", "--out", tmp_path / "judge.json")
    for more in (("--val", table), ("--val", "v.csv", "--test", "./v.csv")):
        done = blpo("compile", table, *words, *more)
        assert done.exit_code == 2
        assert "TABLE, --val and --test are different tables" in done.stderr


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with old labels and a judge compiled with them, and with new labels, some of them on old images."""
    folder = tmp_path_factory.mktemp("further")
    drawn = rated_photographs(RATERS["colour"], train=25, val=5, test=20)
    rows = {"old": [*drawn.train], "new": [*drawn.train[:8], *drawn.val, *drawn.test]}
    for name, photographs in rows.items():
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["image", "label"])
            for i, photograph in enumerate(photographs):
                (folder / f"{name}{i}.png").write_bytes(photograph.image)
                writer.writerow([f"{name}{i}.png", photograph.label])
    task = ("--task", "Rate this photograph.", "--scale", "1-5", *SMALL)
    done = blpo("compile", folder / "old.csv", *task, "--out", folder / "old.json")
    assert done.exit_code == 0, done.stderr
    return folder


def test_a_judge_is_compiled_further_and_compared_with_its_parent_on_images_new_to_both(world: Path) -> None:
    """Its card knows what the parent was compiled with, and `evaluate` says so."""
    new = world / "new.json"
    done = blpo("compile", world / "new.csv", "--start", world / "old.json", *SMALL, "--out", new)
    assert done.exit_code == 0, done.stderr
    shown = " ".join(done.stdout.split())
    assert "known to the start added to train" in shown
    assert f"Against {world / 'old.json'} on the test images: mean loss" in shown
    before, after = (json.loads((world / f"{name}.json").read_text()) for name in ("old", "new"))
    assert after["judge"]["signature"]["fields"] == before["judge"]["signature"]["fields"]
    known = known_prints(VisualJudge.load(world / "old.json"))
    assert known <= known_prints(VisualJudge.load(new))
    for name in ("val", "test"):
        assert not known & prints_of(after["card"]["data"][name])
    noted = blpo("evaluate", new, world / "old.csv", "--model", "embedded", "--against", world / "old.json").stderr
    assert "of a judge that it was compiled from): its figures here are too good" in " ".join(noted.split())


def test_tables_of_their_own_with_images_of_the_parent_are_noted(world: Path) -> None:
    """They are used as they were given."""
    lines = (world / "new.csv").read_text().splitlines()
    (world / "fresh.csv").write_text("\n".join([lines[0], *lines[9:]]))
    words = ("--val", world / "old.csv", "--start", world / "old.json", *SMALL)
    done = blpo("estimate", world / "fresh.csv", *words)
    assert done.exit_code == 0
    assert "old.json was compiled with 10 of these 35 images (its train set)" in " ".join(done.stderr.split())


def test_a_confidence_of_the_parent_is_not_kept_and_that_is_said(world: Path) -> None:
    """It belongs to the parent's instructions."""
    VisualJudge.load(world / "old.json").confident("views").save(world / "sure.json")
    done = blpo("estimate", world / "new.csv", "--start", world / "sure.json", *SMALL)
    assert done.exit_code == 0
    assert "the confidence of" in done.stderr
    assert "is not kept: blpo calibrate finds that of the new judge" in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--task", "x", "--scale", "1-5"), "--start and --task, --scale: a judge.json has these of its own"),
        (("--reasoning",), "--start and --reasoning"),
        (("--out", "old.json"), "--out and --start both name"),
        (("--folds", "2"), "--folds judges every image by a judge that never saw it"),
        (("--start", "none.json"), "cannot be read"),
    ],
)
def test_options_that_contradict_the_start_are_refused(
    words: tuple[str, ...], said: str, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is read or paid for."""
    monkeypatch.chdir(world)
    given = ["new.csv", "--start", "old.json", "--out", "x.json", *SMALL, *words]
    done = blpo("compile", *given)
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr
    assert not (world / "x.json").exists()
