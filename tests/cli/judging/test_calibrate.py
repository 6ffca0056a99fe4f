"""`blpo calibrate`, and what `blpo judge` does with its result."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import dspy
import pytest
from engines import ScriptedServer, completion
from typer.testing import CliRunner

from blpo_dspy.cli.app import app
from blpo_dspy.data.examples import load_examples
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.sources.photographs import RATERS, ceiling_instruction, write_dataset
from blpo_dspy.optimizers.bench.cards import described
from blpo_dspy.programs import Cascade, VisualJudge

pytestmark = pytest.mark.slow

SCALE = LabelSpace.ordinal(1, 5)
TASK = "Rate this photograph."
OFFLINE = ("--model", "embedded")


def blpo(*arguments: object) -> Any:
    """Runs a command in this process; an unexpected exception is raised."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rated photographs, a judge that is told the rater's taste, and one that isn't."""
    made = tmp_path_factory.mktemp("calibrate")
    write_dataset(made, RATERS["colour"], train=80, val=12, test=0)
    told = VisualJudge(SCALE, instruction=ceiling_instruction(RATERS["colour"], TASK), evidence="image")
    told.save(made / "told.json")
    VisualJudge(SCALE, instruction=TASK, evidence="image").save(made / "plain.json")
    options = ("--agreement", "0.75", "--confidence", "logprobs", "--out", made / "sure.json")
    assert blpo("calibrate", made / "told.json", made / "train.csv", *OFFLINE, *options).exit_code == 0
    return made


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_judge_is_calibrated_and_written(folder: Path, tmp_path: Path) -> None:
    """What it costs is said first; the promise, the tests and the file after that."""
    out = tmp_path / "out.json"
    done = blpo("calibrate", folder / "told.json", folder / "train.csv", *OFFLINE, "--agreement", "0.6", "--out", out)
    assert (done.exit_code, done.stderr.strip()) == (
        0,
        "Note: 5 LM calls an image for a confidence by votes: up to 400 LM calls for 80 images",
    )
    text = " ".join(done.stdout.split())
    assert text.startswith("With probability 0.9, at least 60% of its labels agree with people's (here")
    for shown in ("confidence labelled agreeing", "chosen", "judge alone 100.0%", "Calls 400; $0.00", f"Wrote {out}"):
        assert shown in text
    assert VisualJudge.load(out).threshold is not None


def test_a_judge_is_calibrated_on_the_labels_of_several_people(folder: Path, tmp_path: Path) -> None:
    """A table of repeated rows: those on which people are tied are counted; taken as single labels it is refused."""
    table, columns = folder / "two.csv", ["image", "label", "rater"]
    once = [{**row, "label": "high" if int(row["label"]) > 2 else "low"} for row in rows_of(folder / "train.csv")]
    people = [{**row, "rater": rater} for row in once for rater in ("ann", "bob")]
    people[0]["label"] = "low" if people[0]["label"] == "high" else "high"
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(people)
    judge, out = tmp_path / "judge.json", tmp_path / "out.json"
    VisualJudge(LabelSpace("low", "high"), instruction=TASK, evidence="image").save(judge)
    words = ("calibrate", judge, table, *OFFLINE, "--confidence", "logprobs", "--agreement", "0.5", "--out", out)
    done = blpo(*words, "--repeated-rows", "--rater-column", "rater")
    assert done.exit_code in (0, 1)
    assert "2 raters, labels by majority, left out 1 with no winner" in " ".join(done.stderr.split())
    assert f"of {len(once) - 1}" in " ".join(done.stdout.split())
    refused = blpo(*words)
    assert refused.exit_code == 2
    assert "make one label of several people's with --repeated-rows" in " ".join(refused.stderr.split())


def test_a_promise_that_cannot_be_kept_is_exit_code_1_and_no_file(folder: Path, tmp_path: Path) -> None:
    """As JSON, too: with how many labels would be needed, if any number would do."""
    options = (folder / "plain.json", folder / "train.csv", *OFFLINE, "--confidence", "views", "--agreement", "0.95")
    done = blpo("calibrate", *options, "--out", tmp_path / "out.json", "--json")
    record = json.loads(done.stdout)
    assert (done.exit_code, record["thresholds"], record["out"], record["coverage"]) == (1, None, None, 0.0)
    assert 160 <= record["calls"]["judge"] <= 240  # equal descriptions are judged once
    assert "Nothing was written." in blpo("calibrate", *options, "--out", tmp_path / "out.json").stdout
    assert not (tmp_path / "out.json").exists()


def test_a_calibrated_judge_labels_and_escalates(folder: Path, tmp_path: Path) -> None:
    """As lines, as JSON, and into a table with one beside it for people."""
    lines = blpo("judge", folder / "sure.json", folder / "val.csv", *OFFLINE).stdout.splitlines()
    assert all("\tconfidence " in line for line in lines)
    escalated = [line for line in lines if line.endswith("\tescalated")]
    assert 0 < len(escalated) < len(lines)
    printed = blpo("judge", folder / "sure.json", folder / "val.csv", *OFFLINE, "--json").stdout
    records = [json.loads(line) for line in printed.splitlines()]
    assert sum(record["escalate"] for record in records) == len(escalated)
    out, people = tmp_path / "o.csv", tmp_path / "people.csv"
    done = blpo("judge", folder / "sure.json", folder / "val.csv", *OFFLINE, "--out", out, "--escalate-to", people)
    assert f"People  {len(escalated)} of {len(lines)} images escalated; they are in {people}" in done.stdout
    assert len(rows_of(people)) == len(escalated)
    assert [row["escalate"] for row in rows_of(out)].count("True") == len(escalated)


def test_the_next_judge_is_asked_where_one_escalates(folder: Path, tmp_path: Path) -> None:
    """With a model of its own; the table has the label of the judge that was asked last."""
    options = ("--escalate-to", folder / "plain.json", "--escalate-model", "embedded?seed=1")
    done = blpo("judge", folder / "sure.json", folder / "images", *OFFLINE, *options, "--out", tmp_path / "o.csv")
    assert done.exit_code == 0
    assert "1 LM call an image, 1 more where judge 1 escalates: up to 184 LM calls for 92 images" in done.stderr
    assert "embedded, then embedded?seed=1" in done.stdout
    assert {row["confidence"] == "" for row in rows_of(tmp_path / "o.csv")} == {True, False}


def test_a_cascade_is_calibrated_written_and_used(folder: Path, tmp_path: Path) -> None:
    """Its file holds both judges, and `blpo judge` takes it like one."""
    out = tmp_path / "cascade.json"
    done = blpo(
        "calibrate", folder / "plain.json", folder / "train.csv", *OFFLINE, "--escalate-to", folder / "told.json",
        "--confidence", "logprobs", "--agreement", "0.55", "--within", 1, "--out", out,
    )  # fmt: skip
    assert done.exit_code == 0
    assert "judge 2 alone" in done.stdout
    assert isinstance(Cascade.load(out), Cascade)
    judged = blpo("judge", out, folder / "val.csv", *OFFLINE, "--out", tmp_path / "o.csv")
    assert judged.exit_code == 0
    assert len(rows_of(tmp_path / "o.csv")) == 12
    assert "accuracy" in blpo("evaluate", out, folder / "val.csv", *OFFLINE).stdout


@pytest.mark.parametrize(
    ("command", "options", "message"),
    [
        ("calibrate", ["--agreement", "1"], "--agreement 1.0 is not a number between 0 and 1"),
        ("calibrate", ["--risk", "0"], "--risk 0.0 is not a number between 0 and 1"),
        ("calibrate", ["--within", "4"], "--within 4: with 5 levels every label would agree"),
        ("calibrate", ["--out", "judge.txt"], "--out judge.txt: a judge is saved as JSON"),
        ("calibrate", ["--escalate-to", "people.csv"], "people.csv is a table for people"),
        ("calibrate", ["--votes", "3"], "--votes belongs to --confidence votes"),
        ("judge", ["--temperature", "1", "--confidence", "views"], "--temperature belongs to --confidence votes"),
        ("calibrate", ["--agreement", "0.99"], "80 labelled images are too few to promise an agreement of 0.99"),
        ("calibrate", ["--draw", "3"], "--draw belongs to --source"),
        ("calibrate", ["--temperature", "0", "--confidence", "votes"], "--temperature 0.0"),
        ("judge", ["--escalate-to", "people.csv"], "--escalate-to people.csv needs --out, where all verdicts go"),
        ("judge", ["--escalate-to", "a.csv", "--escalate-to", "b.csv"], "at most one table for people"),
        ("judge", ["--escalate-to", "TOLD"], "judge 1 of the cascade isn't calibrated"),
        ("judge", ["--escalate-to", "p.csv", "--out", "o.csv"], "the judge escalates nothing to people"),
        ("judge", ["--escalate-model", "embedded"], "--escalate-model is given 1 times, and there are 0 judges"),
    ],
)
def test_bad_input_is_one_error_and_nothing_is_written(
    command: str, options: list[str], message: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the flag as it was written."""
    monkeypatch.chdir(tmp_path)
    options = [str(folder / "told.json") if option == "TOLD" else option for option in options]
    data = folder / ("train.csv" if command == "calibrate" else "images")
    needed = ["--out", "out.json"] if command == "calibrate" and "--out" not in options else []
    done = blpo(command, folder / "told.json", data, *OFFLINE, *needed, *options)
    assert done.exit_code == 2
    assert message in " ".join(done.stderr.split())
    assert list(tmp_path.iterdir()) == []


def test_a_calibrated_judge_keeps_its_confidence(folder: Path) -> None:
    """Its threshold holds for no other; and a cascade is no part of another."""
    done = blpo("judge", folder / "sure.json", folder / "images", *OFFLINE, "--confidence", "votes")
    assert (done.exit_code, "is calibrated with a confidence of its own" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("command", "options", "calls"),
    [
        ("calibrate", ["--agreement", "0.5", "--risk", "0.5", "--votes", "2", "--confidence", "votes"], 24),
        ("evaluate", ["--no-cache", "--run-dir", "run"], 12),
    ],
)
def test_a_killed_command_pays_for_nothing_twice(
    command: str, options: list[str], calls: int, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DSPy's cache has the answers, also several votes; without it the store. The one under way is asked again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "EMPTY")
    monkeypatch.setenv("DSPY_CACHEDIR", str(tmp_path / "cache"))
    dspy.configure_cache(disk_cache_dir=tmp_path / "cache")
    out = ["--out", "out.json"] if command == "calibrate" else []
    said, killed, running = completion("[[ ## label ## ]]\n4\n\n[[ ## completed ## ]]"), 9, []

    def script(body: dict[str, Any]) -> tuple[int, dict[str, Any], dict[str, str]]:
        if len(server.bodies) == killed:
            running[0].kill()
            running[0].wait()
        return 200, said, {}

    with ScriptedServer(script) as server:
        model = ["--model", "openai/gpt-4o-mini", "--api-base", server.url, "--threads", "1"]
        words = [command, str(folder / "told.json"), str(folder / "val.csv"), *model, *options, *out]
        running.append(subprocess.Popen([sys.executable, "-m", "blpo_dspy.cli.app", *words]))
        assert running[0].wait(60) == -signal.SIGKILL
        assert len(server.bodies) == killed
        done = blpo(*words, "--json")
    assert done.exit_code in (0, 1)
    assert len(server.bodies) == calls + 1
    counted = json.loads(done.stdout)["calls"]
    # What the store has was paid for by this run, the call under way too; what the cache has, by anyone.
    paid, cached = (calls + 1, 0) if "--run-dir" in options else (calls - killed + 1, killed - 1)
    assert (counted["judge"], counted["cached"]) == (paid, cached)


def test_images_that_the_judge_was_trained_on_are_refused_by_name(folder: Path, tmp_path: Path) -> None:
    """As its card knows them; nothing is written."""
    judge = VisualJudge.load(folder / "told.json")
    examples = load_examples(folder / "train.csv", labels=SCALE, policy=judge.pixel_policy)
    judge.card = {"data": {"train": described(examples[:2])}}
    judge.save(tmp_path / "trained.json")
    done = blpo("calibrate", tmp_path / "trained.json", folder / "train.csv", *OFFLINE, "--out", tmp_path / "out.json")
    assert done.exit_code == 2
    assert "some of these images cannot calibrate the judge" in done.stderr
    assert done.stderr.count("in its train set") == 2
    assert not (tmp_path / "out.json").exists()
