"""The sealed test set: uses by other runs are found, counted and told; repeats of a run are none."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner
from worlds import TRAIN, student

from blpo_dspy.cli.app import app
from blpo_dspy.data.examples import load_examples
from blpo_dspy.data.sources.photographs import RATERS, write_dataset
from blpo_dspy.models.lm import Models
from blpo_dspy.optimizers import BLPO
from blpo_dspy.programs import VisualJudge
from blpo_dspy.runs.data.seal import run_of, seal
from blpo_dspy.runs.data.sets import Sets
from blpo_dspy.runs.jobs import Search

pytestmark = pytest.mark.slow

SMALL = [
    "--scale",
    "1-5",
    "--judge-model",
    "embedded",
    "--rounds",
    "1",
    "--inner-steps",
    "0",
    "--batch-size",
    "4",
    "--label-errors",
    "0",
]


def blpo(*arguments: object) -> Any:
    """Runs a command in this process; an unexpected exception is raised."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three tables of rated photographs; "fresh.csv" holds five more, "mixed.csv" these and four of "test.csv"."""
    folder = tmp_path_factory.mktemp("sealing")
    write_dataset(folder, RATERS["colour"], train=20, val=10, test=15)
    with (folder / "test.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for name, some in (("test", rows[:10]), ("fresh", rows[10:]), ("mixed", rows[6:])):
        write(folder / f"{name}.csv", some)
    return folder


def write(table: Path, rows: list[dict[str, str]]) -> None:
    """Writes a CSV."""
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def compiled(photos: Path, task: str, *arguments: object, test: str = "test.csv") -> tuple[dict[str, Any], str]:
    """What the record says of the test set, and the remarks."""
    sets = (photos / "train.csv", "--val", photos / "val.csv", "--test", photos / test)
    done = blpo("compile", *sets, "--task", task, *SMALL, *arguments, "--json")
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)["sealed_test"], done.stderr


def test_a_fresh_test_set_is_used_once_and_the_card_says_so(photos: Path, tmp_path: Path) -> None:
    """With its fingerprint and size; the day stands in the record alone, as cards don't depend on it."""
    found, told = compiled(photos, "Rate it.", "--out", tmp_path / "judge.json")
    assert (found["n"], found["used"], found["times"], found["earlier"]) == (10, "once, after compiling", 1, [])
    assert found["warning"] is None
    assert "used before" not in told
    card = json.loads((tmp_path / "judge.json").read_text())["card"]
    assert card["sealed_test"] == {name: found[name] for name in ("n", "sha256", "used", "times", "run")}
    assert card["sealed_test"]["sha256"] == card["data"]["test"]["sha256"]


def test_runs_beside_this_one_that_used_the_test_set_are_named_and_counted(photos: Path, tmp_path: Path) -> None:
    """A repeat of the same run is no further use; another test set is none at all."""
    out = ("--out", tmp_path / "out" / "judge.json")
    runs = tmp_path / "runs"
    compiled(photos, "Rate it.", *out, "--run-dir", runs / "one")
    shutil.rmtree(tmp_path / "out")
    second, told = compiled(photos, "Rate it well.", *out, "--run-dir", runs / "two")
    assert second["times"] == 2
    assert [use["file"] for use in second["earlier"]] == ["one/result.json"]
    assert f"this test set (10 images) has been used before, by one/result.json on {second['on']}" in told
    third, _ = compiled(photos, "Rate it best.", *out, "--run-dir", runs / "three")
    assert (third["times"], len(third["earlier"])) == (3, 2)
    shutil.rmtree(tmp_path / "out")
    again, told = compiled(photos, "Rate it.", *out, "--run-dir", runs / "one", "--threads", 2)
    assert again["run"] not in {use["run"] for use in again["earlier"]}
    fresh, told = compiled(photos, "Rate it.", *out, "--run-dir", runs / "four", test="fresh.csv")
    assert (fresh["times"], fresh["earlier"]) == (1, [])
    assert "used before" not in told


def test_a_test_set_that_shares_images_with_a_used_one_is_not_sealed(photos: Path, tmp_path: Path) -> None:
    """However their labels were corrected since."""
    with (photos / "mixed.csv").open(newline="") as file:
        rows = [{**row, "label": "3"} for row in csv.DictReader(file)]
    write(photos / "relabelled.csv", rows)
    for table in ("mixed.csv", "relabelled.csv"):
        out = ("--out", tmp_path / table / "judge.json")
        first, _ = compiled(photos, "Rate it.", *out)
        found, told = compiled(photos, "Rate it.", *out, test=table)
        assert "4 of the 9 images of this test set have been used before, by" in told
        assert (found["times"], found["earlier"][0]["images"]) == (2, 4)
        assert found["earlier"][0]["run"] == first["run"]


def test_a_comparison_uses_the_test_set_and_tells_of_earlier_uses(photos: Path, tmp_path: Path) -> None:
    """Whoever compares, picks the best and compiles it has seen the figures; repeating it is no new use."""
    sets = (photos / "train.csv", "--val", photos / "val.csv", "--test", photos / "test.csv")
    compare = (
        "compare", *sets, "--task", "Rate it.", "--scale", "1-5", "--judge-model", "embedded", "--optimizers", "none",
        "--max-calls", 100, "--out", tmp_path / "comparison",
    )  # fmt: skip
    for _ in range(2):
        assert "used before" not in blpo(*compare).stderr
    found, told = compiled(photos, "Rate it.", "--out", tmp_path / "judge.json", "--run-dir", tmp_path / "run")
    assert "been used before, by comparison/results.json: it is no longer sealed" in told
    assert found["times"] == 2
    assert "been used before, by run/result.json" in blpo(*compare).stderr


def test_the_judge_that_is_overwritten_tells_of_its_use(photos: Path, tmp_path: Path) -> None:
    """Also without run folders; the same command again is the same run, byte for byte."""
    out = tmp_path / "judge.json"
    compiled(photos, "Rate it.", "--out", out)
    first = out.read_bytes()
    compiled(photos, "Rate it.", "--out", out)
    assert out.read_bytes() == first
    second, told = compiled(photos, "Rate it well.", "--out", out)
    assert second["times"] == 2
    assert f"by {tmp_path.name}/judge.json: it is no longer sealed" in told
    third, _ = compiled(photos, "Rate it best.", "--out", out)
    assert third["times"] == 3


def test_a_test_set_that_was_not_judged_is_not_used_and_odd_files_tell_nothing(photos: Path, tmp_path: Path) -> None:
    """A cap that doesn't pay for the test leaves it sealed."""
    runs = tmp_path / "runs"
    for name, content in (("a", "not json"), ("b", "[]"), ("c", '{"sealed_test": {"sha256": 1}}'), ("d", "null")):
        (runs / name).mkdir(parents=True)
        (runs / name / "result.json").write_text(content)
    found, _ = compiled(photos, "Rate it.", "--out", tmp_path / "j.json", "--run-dir", runs / "x", "--max-calls", 50)
    assert (found["used"], found["times"], found["on"]) == ("not used", 0, None)
    found, _ = compiled(photos, "Rate.", "--out", tmp_path / "j.json", "--run-dir", runs / "y")
    assert (found["times"], found["earlier"]) == (1, [])


def test_evaluate_remarks_on_the_images_that_a_judge_was_compiled_with(photos: Path, tmp_path: Path) -> None:
    """Not on others."""
    compiled(photos, "Rate it.", "--out", tmp_path / "judge.json")
    remarks = [
        blpo("evaluate", tmp_path / "judge.json", photos / f"{name}.csv", "--model", "embedded").stderr
        for name in ("train", "val", "test")
    ]
    assert "was compiled with exactly these images (its train set)" in remarks[0]
    assert "(its val set)" in remarks[1]
    assert remarks[2] == ""
    rows = []
    for name in ("train", "test"):
        with (photos / f"{name}.csv").open(newline="") as file:
            rows += list(csv.DictReader(file))[:-1]
    write(photos / "both.csv", rows)
    done = blpo("evaluate", tmp_path / "judge.json", photos / "both.csv", "--model", "embedded")
    assert "was compiled with 19 of these 28 images (its train set): its figures here are too good" in done.stderr


def test_evaluate_remarks_on_the_images_of_a_judge_that_another_was_compiled_from(photos: Path, tmp_path: Path) -> None:
    """A judge that was compiled further, on other images, has seen those of its ancestor all the same."""
    compiled(photos, "Rate it.", "--out", tmp_path / "judge.json")
    parent, models = VisualJudge.load(tmp_path / "judge.json"), Models.named("embedded")
    optimizer = BLPO(prompt_model=models.optimizer, task_model=models.judge, rounds=1, inner_steps=1)
    others = load_examples(photos / "test.csv", labels=parent.labels)
    optimizer.compile(parent, trainset=others[::2], valset=others[1::2]).save(tmp_path / "child.json")
    remarks = [
        blpo("evaluate", tmp_path / "child.json", photos / f"{name}.csv", "--model", "embedded").stderr
        for name in ("train", "val", "test")
    ]
    assert "compiled with exactly these images (the train set of a judge that it was compiled from)" in remarks[0]
    assert "(the val set of a judge that it was compiled from): its figures here are too good" in remarks[1]
    assert "(its train set)" in remarks[2]
    assert "compiled from" not in remarks[2]


def test_reasons_make_another_run_of_the_same_test_set() -> None:
    """Reasons of validation and test rows, which nobody reads, do not."""
    parts = [[e.copy(id=f"{n}{i}") for i, e in enumerate(TRAIN[n : n + 3])] for n in (0, 3, 6)]
    said = [[example.copy(reason="too dark") for example in part] for part in parts]
    plain, unread, read = (
        run_of(student(), Sets(*sets, how=""), Search())
        for sets in (parts, [parts[0], *said[1:]], [said[0], *parts[1:]])
    )
    assert plain == unread != read
    assert seal(parts[2], plain, run_dir=None).sha256 == seal(said[2], plain, run_dir=None).sha256
