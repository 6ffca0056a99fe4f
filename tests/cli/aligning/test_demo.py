"""The demo, and every command on the scores that it makes."""

from __future__ import annotations

import csv
import json
import shlex
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest
from label_pages import answer, served
from typer.testing import CliRunner

from blpo_dspy.cli.app import app
from blpo_dspy.cli.screen import review_command
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.programs.visual_judge import VisualJudge

pytestmark = pytest.mark.slow

SCORES = ("--scores", "0-100")
SMALL = ("--rounds", "2", "--inner-steps", "1", "--batch-size", "6")
TASK = ("--task", "Rate this photograph from 0 (worst) to 100 (best).", "--judge-model", "embedded")


def blpo(*arguments: object) -> Any:
    """Runs a command in this process; an unexpected exception is raised."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def as_json(*arguments: object) -> Any:
    """What a command prints as JSON."""
    found = blpo(*arguments, "--json")
    assert found.exit_code == 0, found.output
    return json.loads(found.stdout)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small demo on scores; one training photograph has the label 32.5."""
    folder = tmp_path_factory.mktemp("scores") / "demo"
    assert blpo("demo", "--out", folder, *SCORES, *SMALL).exit_code == 0
    with (folder / "train.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    rows[0]["label"] = "32.5"
    with (folder / "train.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


def test_the_demo_ends_with_how_to_review_it(tmp_path: Path) -> None:
    """In one line that works as it stands."""
    assert review_command(tmp_path / "a demo").startswith(f"blpo review '{tmp_path}/a demo'")


@pytest.fixture(scope="module")
def compiled(demo: Path) -> Path:
    """The run folder of a judge compiled on the demo's photographs, with its judge beside it."""
    run = demo.parent / "run"
    sets = (demo / "train.csv", "--val", demo / "val.csv", "--test", demo / "test.csv")
    done = blpo(
        "compile", *sets, *SCORES, *TASK, *SMALL, "--out", run / "judge.json", "--run-dir", run, "--fidelity", "20"
    )
    assert done.exit_code == 0, done.output
    assert "within 10" in done.output
    assert "macro-F1" not in done.output
    return run


def test_the_demo_on_scores_brings_the_judge_nearer_to_the_rater(demo: Path) -> None:
    """Decimals and all parts of the range occur; the ceiling is nearer still."""
    record = json.loads((demo / "result.json").read_text())
    labels = LabelSpace.from_dict(record["labels"])
    assert labels == LabelSpace.scores(0, 100)
    before, after, ceiling = (record[when]["test"] for when in ("before", "after", "ceiling"))
    assert ceiling["mae"] < after["mae"] < before["mae"]
    truth = [true for true, _ in after["pairs"]]
    assert any(not float(true).is_integer() for true in truth)
    assert min(truth) < 20
    assert max(truth) > 80
    assert before["macro_f1"] is before["kappa"] is None


def test_a_judge_of_scores_is_compiled_evaluated_and_judges(compiled: Path, demo: Path) -> None:
    """A label such as 32.5 is one; the judge file holds the range, and what the judge says are numbers."""
    judge = VisualJudge.load(compiled / "judge.json")
    assert judge.labels == LabelSpace.scores(0, 100)
    evaluated = as_json("evaluate", compiled / "judge.json", demo / "test.csv", "--model", "embedded")
    assert evaluated["spearman"] == json.loads((compiled / "result.json").read_text())["after"]["test"]["spearman"]
    assert set(evaluated["intervals"]) >= {"spearman", "pearson", "mae", "accuracy"}
    out = compiled / "labels.csv"
    assert blpo("judge", compiled / "judge.json", demo / "test.csv", "--model", "embedded", "--out", out).exit_code == 0
    with out.open(newline="") as file:
        scores = [float(row["label"]) for row in csv.DictReader(file)]
    assert len(scores) == 100
    assert all(0 <= score <= 100 for score in scores)


def test_scores_lie_in_parquet_as_numbers(compiled: Path, demo: Path) -> None:
    """Whole ones beside decimals."""
    from pyarrow import parquet

    out = compiled / "labels.parquet"
    table = demo / "val.csv"
    assert blpo("judge", compiled / "judge.json", table, "--model", "embedded", "--out", out).exit_code == 0
    assert str(parquet.read_schema(out).field("label").type) == "double"


def test_the_report_of_scores_shows_what_scores_have(compiled: Path) -> None:
    """Correlations, the tolerance and a scatter plot; neither kappa nor a confusion matrix."""
    page = (compiled / "report.html").read_text()
    for words in ("Within 10 points", "Spearman’s ρ", "Pearson’s r", "Mean distance (points)", "People’s score"):
        assert words in page
    for words in ("Cohen’s κ", "Macro F1", "Confusions", "levels)"):
        assert words not in page


def test_folds_and_comparisons_take_scores(demo: Path, tmp_path: Path) -> None:
    """Every method is compared by Spearman's correlation."""
    run, out, few = tmp_path / "run", tmp_path / "judge.json", demo / "few.csv"
    few.write_text("".join((demo / "val.csv").read_text().splitlines(keepends=True)[:41]))
    options = (*SCORES, *TASK, "--rounds", "1", "--inner-steps", "0")
    folds = as_json("compile", few, *options, "--folds", "2", "--out", out, "--run-dir", run)
    assert set(folds["folds"]["over_folds"]["after"]) == {"spearman", "pearson", "mae", "accuracy"}
    assert "Pearson’s r" in (run / "report.html").read_text()
    options = (
        *SCORES,
        *TASK,
        "--optimizers",
        "none,blpo,apo-descriptions",
        "--max-calls",
        "150",
        "--out",
        tmp_path / "compared",
    )
    done = blpo("compare", few, "--sizes", "20,10,10", *options)
    assert done.exit_code == 0, done.output
    assert "Spearman" in done.output
    page = (tmp_path / "compared" / "report.html").read_text()
    assert "Test ρ" in page
    assert "F1" not in page


def test_the_calls_of_a_compile_on_scores_are_estimated(demo: Path) -> None:
    """Without a call."""
    assert as_json("estimate", demo / "train.csv", *SCORES, *TASK, *SMALL)


def test_a_bad_score_in_a_table_is_named_with_its_row(demo: Path, tmp_path: Path) -> None:
    """Before any call."""
    table = tmp_path / "table.csv"
    rows = "".join(
        f"{demo / 'images' / f'photo-{i:04d}.png'},{label}\n" for i, label in ((1, "32,5"), (2, 101), (3, 5))
    )
    table.write_text("image,label\n" + rows.replace("32,5", '"32,5"'))
    done = blpo("compile", table, *SCORES, *TASK, *SMALL, "--allow-outside", "--out", tmp_path / "judge.json")
    assert done.exit_code == 2
    text = " ".join(done.output.split())
    assert "table.csv:2" in text
    assert "table.csv:3" in text
    assert "write decimals with a point" in text
    assert "'101' is not a number from 0 to 100" in text
    assert not (tmp_path / "judge.json").exists()


def test_what_the_judge_still_gets_wrong_is_left_to_review(compiled: Path, demo: Path) -> None:
    """As many test and validation images as its figures count, and all doubtful labels."""
    for folder in (compiled, demo):
        record = json.loads((folder / "result.json").read_text())
        cases = json.loads((folder / "review.json").read_text())["cases"]
        reasons = [(case["split"], case["why"]) for case in cases]
        for split in ("val", "test"):
            agreement = record["after"][split]
            wrong = round((1 - agreement["accuracy"]) * agreement["n"])
            assert reasons.count((split, "wrong")) == wrong > 0
        assert reasons.count(("train", "doubtful")) == len(record["label_errors"]["found"])


@pytest.mark.wheel
def test_a_run_is_reviewed_and_its_tables_are_compiled_again(compiled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command that it prints takes them, and the splits are still apart."""
    with served(compiled, "review", ".") as page:
        origin = {"Origin": page.url.rsplit("/", 2)[0]}
        with httpx.Client(base_url=page.url, headers=origin) as client:
            view = client.get("state").json()
            assert "reveal" not in view["item"]
            view = client.post("act", json=answer(view, 50)).json()
            item = {name: view["item"][name] for name in ("position", "version")}
            decided = client.post("act", json={"do": "decide", **item, "decision": "relabel", "label": "50"})
            assert decided.json()["progress"]["labelled"] == 1
        _, said = page.stop(signal.SIGINT)
    words = shlex.split(said.partition("Next")[2].strip())
    assert words[:3] == ["blpo", "compile", "train.again.csv"]
    monkeypatch.chdir(compiled)
    assert [words[words.index(f"--{role}-model") + 1] for role in ("judge", "verbalizer", "optimizer")] == [
        "embedded"
    ] * 3
    done = blpo("estimate", *words[2:], *SMALL)
    assert done.exit_code == 0, done.output
