"""Labelled images from a published set, on the command line: synthetic copies of the published layouts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from source_copies import UNSAFEBENCH_CATEGORIES, picture, write_parquet, write_rated_folder, write_seetrue
from source_copies import write_unsafebench as write_unsafe
from source_hub import LoopbackHub, point_at, serve
from typer.testing import CliRunner

from blpo_dspy.cli.app import app
from blpo_dspy.programs.visual_judge import VisualJudge

SMALL = ["--rounds", "1", "--inner-steps", "0", "--batch-size", "4", "--judge-model", "embedded"]


def blpo(*arguments: object) -> Any:
    """Runs a command in this process; an unexpected exception is raised."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture
def unsafe(tmp_path: Path) -> Path:
    """A copy of UnsafeBench with four images of each category and label, and what is wrong with one more."""
    rows = [
        {
            "image": picture(number),
            "safety_label": ("Safe", "Unsafe")[number % 2],
            "category": UNSAFEBENCH_CATEGORIES[number // 2 % 11],
            "source": "Lexica",
            "text": None,
        }
        for number in range(22 * 4)
    ]
    write_unsafe(tmp_path / "unsafe", [*rows, {**rows[0], "image": picture(999), "safety_label": "Unsure"}])
    return tmp_path / "unsafe"


@pytest.fixture
def seetrue(tmp_path: Path) -> Path:
    """A copy of SeeTRUE with 40 texts, each with one image."""
    rows = [
        {
            "image": f"{number}.png",
            "text": f"text {number}",
            "label": number % 2,
            "original_dataset_id": number,
            "dataset_source": "drawbench",
        }
        for number in range(40)
    ]
    write_seetrue(tmp_path / "seetrue", rows, {f"{number}.png": picture(number) for number in range(40)})
    return tmp_path / "seetrue"


@pytest.fixture
def rated(tmp_path: Path) -> Path:
    """A Hub dataset with class labels as numbers, a text and a group, under other column names."""
    import datasets

    features = {"photo": datasets.Image(), "verdict": datasets.Value("int64"), "caption": datasets.Value("string")}
    rows = [{"photo": picture(n), "verdict": n % 2, "caption": f"caption {n // 2}"} for n in range(30)]
    rows = [{("image" if name == "photo" else name): value for name, value in row.items()} for row in rows]
    features = {("image" if name == "photo" else name): value for name, value in features.items()}
    write_parquet(tmp_path / "rated", rows, features)
    return tmp_path / "rated"


@pytest.mark.slow
def test_compile_takes_task_labels_and_sizes_from_a_source(unsafe: Path, tmp_path: Path) -> None:
    """Like a table; what was seen is noted, and nothing but the judge and the names of its images is written."""
    out = tmp_path / "out" / "judge.json"
    done = blpo(
        "compile", "--source", "unsafebench", "--local-dir", unsafe, "--sizes", "44,22,22", "--out", out, *SMALL
    )
    assert done.exit_code == 0, done.stderr
    flat = " ".join(done.stdout.split())
    assert "train 44 (22 per label), val 22 (11 per label), test 22 (11 per label); drawn from unsafebench" in flat
    assert "Note: drawn 88 of 88 usable images" in done.stderr
    assert "Note: skipped: odd label 1" in done.stderr
    beside = {path.name for path in out.parent.iterdir()} - {"judge.label_errors.csv"}
    assert beside == {"judge.json", "judge.drawn.json"}
    judge = VisualJudge.load(out)
    assert (judge.labels.labels, judge.context) == (("Safe", "Unsafe"), ())
    assert "safe or unsafe to show to the general public" in flat


@pytest.mark.slow
def test_a_manifest_repeats_the_draw_and_its_splits_whatever_the_seed(unsafe: Path, tmp_path: Path) -> None:
    """With the same ids in every set; evaluate takes its test set alone."""
    source = ("--source", "unsafebench", "--local-dir", unsafe)
    out = ("--out", tmp_path / "judge.json", "--json", *SMALL)
    run = tmp_path / "run"
    first = json.loads(blpo("compile", *source, "--sizes", "22,10,12", "--run-dir", run, *out).stdout)
    again = json.loads(blpo("compile", *source, "--manifest", run / "drawn.json", "--seed", 9, *out).stdout)
    other = json.loads(blpo("compile", *source, "--sizes", "22,10,12", "--seed", 9, *out).stdout)
    for name in ("train", "val", "test"):
        assert again["data"][name] == first["data"][name]
    assert other["data"]["test"] != first["data"]["test"]
    judged = blpo(
        "evaluate", tmp_path / "judge.json", *source, "--manifest", run / "drawn.json", "--model", "embedded", "--json"
    )
    assert judged.exit_code == 0, judged.stderr
    assert json.loads(judged.stdout)["n"] == 12


def test_without_sizes_a_source_gives_the_papers(seetrue: Path, tmp_path: Path) -> None:
    """200 for training, 200 for testing and half as many for validation, or the shortfall in the words of options."""
    done = blpo("compile", "--source", "seetrue", "--local-dir", seetrue, "--out", tmp_path / "judge.json", *SMALL)
    assert (done.exit_code, done.stdout) == (2, "")
    assert (
        "too few usable images; take smaller --sizes (evaluate: --draw) or another split. The histogram" in done.stderr
    )
    assert "1: 20 of 250" in done.stderr


def test_what_the_user_says_counts_for_more_than_the_source(seetrue: Path, tmp_path: Path) -> None:
    """Task, labels in another order, evidence, verbalizer instruction, and a context without the text."""
    out = tmp_path / "judge.json"
    done = blpo(
        "compile", "--source", "seetrue", "--local-dir", seetrue, "--sizes", "16,8,16", "--task", "Is it so?",
        "--labels", "1,0", "--context", "", "--evidence", "image", "--verbalizer-instruction", "Say it.",
        "--out", out, *SMALL,
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    judge = VisualJudge.load(out)
    assert (judge.labels.labels, judge.context, judge.evidence) == ((1, 0), (), "image")
    assert "Is it so?" in done.stdout
    assert "Say it." in done.stdout
    assert "for research only" in done.stderr


@pytest.mark.slow
def test_estimate_and_compare_take_a_source_too(seetrue: Path, tmp_path: Path) -> None:
    """The comparison keeps the names of the drawn images."""
    source = ("--source", "seetrue", "--local-dir", seetrue, "--sizes", "16,8,16", "--judge-model", "embedded")
    estimated = blpo("estimate", *source, "--json")
    assert json.loads(estimated.stdout)["test_calls"] == 2 * 2 * 16
    done = blpo("compare", *source, "--max-calls", 40, "--optimizers", "none", "--out", tmp_path / "cmp")
    assert done.exit_code == 0, done.stderr
    names = json.loads((tmp_path / "cmp" / "drawn.json").read_text())["splits"]
    assert {name: len(ids) for name, ids in names.items()} == {"train": 16, "val": 8, "test": 16}


@pytest.mark.slow
def test_any_dataset_of_the_hub_is_a_source_by_its_columns(
    rated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its id, over HTTP; numbers stand for labels, and a text and a group come along."""
    hub = LoopbackHub({"somebody/photos": rated})
    with serve(hub):
        point_at(monkeypatch, hub.address, tmp_path / "caches")
        done = blpo(
            "compile", "--source", "somebody/photos", "--source-option", "label_names=0:keep,1:drop", "--labels",
            "keep,drop", "--task", "Keep it?", "--label-column", "verdict", "--context", "caption", "--group-column",
            "caption", "--sizes", "12,6,6", "--out", tmp_path / "judge.json", "--json", *SMALL,
        )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert f"drawn from somebody/photos at revision {hub.commit('somebody/photos')[:12]}" in done.stdout
    judge = VisualJudge.load(tmp_path / "judge.json")
    assert (judge.labels.labels, judge.context) == (("keep", "drop"), ("caption",))


def test_options_of_a_source_have_their_types(tmp_path: Path) -> None:
    """Levels and the scale of scores are numbers."""
    rows = [{"filename": f"{n}.png", "MOS_nat": f"{100 * (n % 3) / 2}"} for n in range(18)]
    members = {f"{n}.png": picture(n) for n in range(18)}
    write_rated_folder(tmp_path / "agin", "MOS_AGIN.csv", rows, members, "images")
    done = blpo(
        "compile", "--source", "agin", "--local-dir", tmp_path / "agin", "--source-option", "levels=3",
        "--source-option", "scale=0-100", "--sizes", "6,6,6", "--out", tmp_path / "judge.json", *SMALL,
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert VisualJudge.load(tmp_path / "judge.json").labels.labels == (1, 2, 3)
    assert "scores on a scale from 0 to 100 (given)" in done.stderr


WRONG = {
    "neither": ((), "name the labelled images once"),
    "both": (("t.csv", "--source", "seetrue"), "name the labelled images once"),
    "unknown": (
        ("--source", "imagenet"),
        "no source 'imagenet'; --source takes owner/name of a dataset on the Hub, or one of",
    ),
    "an option without a value": (("--source", "seetrue", "--source-option", "split"), "is not NAME=VALUE"),
    "an unknown option": (("--source", "seetrue", "--source-option", "colour=red"), "no option colour"),
    "a token": (("--source", "seetrue", "--source-option", "token=abc"), "doesn't belong on a command line"),
    "levels": (("--source", "agin", "--source-option", "levels=many"), "levels=many: write it as in levels=5"),
    "columns": (("--source", "seetrue", "--label-column", "x"), "knows its own columns"),
    "val": (("--source", "seetrue", "--val", "v.csv"), "--val and --test name tables"),
    "raters": (("--source", "seetrue", "--rater-columns", "a,b"), "are for a TABLE of your own"),
    "sizes": (("--source", "seetrue", "--sizes", "10,20"), "--sizes '10,20' is not TRAIN,VAL,TEST"),
    "no task": (("--source", "me/mine", "--labels", "a,b"), "give --task, and --labels, --scale or --scores"),
    "by hand": (("--source", "agin"), "has to be fetched by hand: see https://github.com/zijianchen98/AGIN"),
    "an own option": (
        ("--source", "me/mine", "--labels", "a,b", "--task", "x", "--source-option", "id=me/other"),
        "this has an option of its own",
    ),
    "a manifest for a table": (
        ("t.csv", "--task", "x", "--scale", "1-5", "--manifest", "m.json"),
        "belong to --source",
    ),
    "no manifest": (("--source", "seetrue", "--manifest", "/nowhere.json"), "/nowhere.json: cannot be read"),
}


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG)
def test_options_that_contradict_each_other_are_told_in_one_message(case: Any, tmp_path: Path) -> None:
    """Before anything is fetched or written."""
    arguments, message = case
    done = blpo("compile", *arguments, "--out", tmp_path / "judge.json")
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr
    assert re.fullmatch(r"Error: .*\n", done.stderr)
    assert not list(tmp_path.iterdir())


def test_offline_a_gate_and_a_renamed_column_are_one_message_each(
    unsafe: Path, seetrue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the way out in the words of the command line."""
    compile_ = ("compile", "--out", tmp_path / "judge.json", "--source")
    offline = blpo(*compile_, "seetrue")
    assert "needs the Hugging Face Hub, which cannot be reached" in offline.stderr
    assert "pass --local-dir" in offline.stderr
    table = seetrue / "SeeTRUE.csv"
    table.write_text(table.read_text().replace("label", "human_label", 1))
    renamed = blpo(*compile_, "seetrue", "--local-dir", seetrue)
    assert "no column 'label'; the columns are: 'image', 'text', 'human_label'" in renamed.stderr
    assert "pin an older --source-option revision=…, or use a copy with --local-dir" in renamed.stderr
    hub = LoopbackHub({"yiting/UnsafeBench": unsafe}, gated={"yiting/UnsafeBench": 403})
    with serve(hub):
        point_at(monkeypatch, hub.address, tmp_path / "caches")
        gated = blpo(*compile_, "unsafebench")
    assert "log in at https://huggingface.co/datasets/yiting/UnsafeBench, accept the terms there" in gated.stderr
    assert gated.stderr.rstrip().endswith("set HF_TOKEN")
    for done in (offline, renamed, gated):
        assert (done.exit_code, done.stdout) == (2, "")
        assert re.fullmatch(r"Error: .*\n", done.stderr)


@pytest.mark.slow
def test_a_judge_of_other_labels_or_texts_is_told(unsafe: Path, seetrue: Path, tmp_path: Path) -> None:
    """By evaluate, which takes labels and context from the judge."""
    out = tmp_path / "judge.json"
    blpo("compile", "--source", "unsafebench", "--local-dir", unsafe, "--sizes", "22,22,22", "--out", out, *SMALL)
    done = blpo("evaluate", out, "--source", "seetrue", "--local-dir", seetrue, "--draw", 4)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "the labels of seetrue are 0, 1" in done.stderr
    many = blpo("evaluate", out, "--source", "unsafebench", "--local-dir", unsafe, "--draw", 2000)
    assert "take smaller --sizes (evaluate: --draw) or another split. The" in many.stderr
    good = blpo("evaluate", out, "--source", "unsafebench", "--local-dir", unsafe, "--draw", 22, "--json")
    assert json.loads(good.stdout)["n"] == 22


@pytest.mark.slow
def test_mean_opinion_scores_are_levels_or_scores_and_never_one_for_the_other(tmp_path: Path) -> None:
    """A level is not read as a score: the message says how the source gives scores."""
    rows = [
        {"name": f"{i}.jpg", "prompt": f"p{i}", "mos_quality": f"{5 * i / 39:.3f}", "mos_align": "1.0"}
        for i in range(40)
    ]
    write_rated_folder(
        tmp_path / "set", "data.csv", rows, {r["name"]: picture(i) for i, r in enumerate(rows)}, "images"
    )
    command = ["compile", "--source", "agiqa3k", "--local-dir", tmp_path / "set", "--sizes", "10,5,10", *SMALL]
    refused = blpo(*command, "--scores", "0-5", "--out", tmp_path / "judge.json")
    assert refused.exit_code == 2
    assert "binning=scores" in " ".join(refused.stderr.split())
    options = ["--source-option", "binning=scores", "--source-option", "scale=0-5"]
    done = blpo(*command, *options, "--out", tmp_path / "judge.json")
    assert done.exit_code == 0, done.output
    assert str(VisualJudge.load(tmp_path / "judge.json").labels) == "a number from 0 to 5 (decimals are allowed)"
