"""The command line, as a user meets it: what it prints, what it writes, and what it says when something is wrong."""

from __future__ import annotations

import csv
import html
import itertools
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import Command
from raw_servers import Raw, raw_server
from stores import answers
from typer.testing import CliRunner

import blpo_dspy
from blpo_dspy.cli.app import app
from blpo_dspy.embedded.server.http import Options, Service, start_server
from blpo_dspy.programs.visual_judge import VisualJudge

pytestmark = pytest.mark.slow

TASK = "Rate the technical quality of this photograph."
SMALL = ["--rounds", "1", "--inner-steps", "1", "--batch-size", "4"]


def blpo(*arguments: object) -> Any:
    """Runs a command in this process; an unexpected exception is raised."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    if result.exit_code == 2:
        assert "Traceback" not in result.stderr
    return result


def fresh(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs a command in a process of its own."""
    command = [sys.executable, "-m", "blpo_dspy.cli.app", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=200, check=False)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder and the output of a small demo."""
    folder = tmp_path_factory.mktemp("demo") / "new" / "folder"
    done = blpo("demo", "--out", folder, *SMALL)
    assert (done.exit_code, done.stderr) == (0, "")
    return folder, done.stdout


@pytest.fixture
def photos(demo: tuple[Path, str], tmp_path: Path) -> Path:
    """A folder with a small table (30 rows, 6 per label) of real image files, a validation and a test table."""
    (tmp_path / "images").mkdir()
    for name, per_label in (("train", 6), ("val", 2), ("test", 2)):
        rows = read_rows(demo[0] / f"{name}.csv")
        kept = [row for label in "12345" for row in [r for r in rows if r["label"] == label][:per_label]]
        write_rows(tmp_path / f"{name}.csv", kept)
        for row in kept:
            shutil.copy(demo[0] / row["image"], tmp_path / row["image"])
    return tmp_path


@pytest.fixture
def server() -> Iterator[str]:
    """The address of the embedded engine behind HTTP."""
    with start_server() as address:
        yield address


def read_rows(table: Path) -> list[dict[str, str]]:
    """The rows of a CSV."""
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


def write_rows(table: Path, rows: list[dict[str, str]]) -> None:
    """Writes a CSV."""
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def compile_in(folder: Path, *arguments: object, table: str = "train.csv", task: str = TASK) -> Any:
    """Compiles with a folder's tables into `judge.json` there."""
    out = () if "--out" in arguments else ("--out", folder / "judge.json")
    scale = () if {"--labels", "--scale"} & set(arguments) else ("--scale", "1-5")
    return blpo("compile", folder / table, "--task", task, *scale, *out, *arguments)


def files_in(folder: Path) -> set[str]:
    """The names of all files below a folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


# --- help and version -------------------------------------------------------------------------------------------------


def test_help_shows_options_under_headings_and_commands_in_a_line_each() -> None:
    """Each option once, those of a command itself last."""
    told = blpo("compile", "--help").stdout
    assert [line for line in told.splitlines() if re.fullmatch(r"[A-Z].*:", line)] == [
        "Arguments:", "Published images:", "Labelled images:", "Several people per image:", "Start:", "Models:",
        "Search:", "Guards:", "Workspace:", "Options:",
    ]  # fmt: skip
    options = re.findall(r"^  (--[a-z-]+)", told, re.MULTILINE)
    assert len(set(options)) == len(options) > 40
    assert told.index("Models:") < told.index("--judge-model") < told.index("Search:") < told.index("--rounds")
    assert "..." not in blpo("--help").stdout.partition("Commands:")[2]


def test_help_answers_without_loading_anything_heavy(tmp_path: Path) -> None:
    """Of every command; DSPy and its company take seconds to load."""
    heavy = {"dspy", "litellm", "datasets", "sklearn", "scipy", "numpy", "PIL", "pyarrow"}
    code = (
        "import sys\nfrom blpo_dspy.cli.app import app\n"
        "from typer.main import get_command\n"
        "for words in [[], *([name] for name in get_command(app).commands)]:\n"
        "    try: app([*words, '--help'])\n"
        "    except SystemExit as stopped: assert stopped.code in (0, None), words\n"
        f"print('LOADED', sorted({heavy!r} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert "LOADED []" in done.stdout
    words = ("demo", "compile", "estimate", "compare", "evaluate", "judge", "rank", "report", "status")
    for word in (*words, "--version", "--judge-model", "--max-calls", "--optimizers", "--no-images"):
        assert word in done.stdout


def test_the_version_is_the_packages() -> None:
    """`blpo --version`."""
    assert blpo("--version").stdout == f"blpo-dspy {blpo_dspy.__version__}\n"


def test_an_unknown_option_and_a_missing_one_are_usage_errors() -> None:
    """With the usage and exit code 2."""
    for arguments in (("demo", "--nonsense"), ("demo",), ("compile", "x.csv", "--scale", "1-5"), ("nonsense",)):
        assert blpo(*arguments).exit_code == 2


# --- demo -------------------------------------------------------------------------------------------------------------


def test_demo_prints_the_table_and_both_instructions(demo: tuple[Path, str]) -> None:
    """Before, after and ceiling on the test split; where each instruction started and what became of it."""
    folder, shown = demo
    rows = {tuple(line.split()[:2]) for line in shown.splitlines() if re.match(r"(val|test) ", line)}
    assert rows == {("val", "before"), ("val", "after"), ("test", "before"), ("test", "after"), ("test", "ceiling")}
    assert "offline engine, not a multimodal LLM" in shown
    flat = " ".join(shown.split())
    judge = VisualJudge.load(folder / "judge.json")
    for text in ("Describe this image in detail.", judge.instruction, judge.verbalizer_instruction):
        assert text in flat
    assert "Taste colour cast 0.9, oversaturation 0.75" in flat


def test_demo_writes_photographs_tables_judge_and_record(demo: tuple[Path, str]) -> None:
    """Real files; the record holds the figures that the table shows, and no image."""
    folder, shown = demo
    tables = {name: read_rows(folder / f"{name}.csv") for name in ("train", "val", "test")}
    assert {name: len(rows) for name, rows in tables.items()} == {"train": 100, "val": 60, "test": 100}
    assert all((folder / row["image"]).is_file() for rows in tables.values() for row in rows)
    text = (folder / "result.json").read_text()
    record = json.loads(text)
    assert not re.search(r"[A-Za-z0-9+/]{200}", text), "an image in the record"
    expected = {"before", "after", "ceiling", "rounds", "calls", "seconds", "stop_reason", "seed", "versions"}
    assert expected <= set(record)
    assert set(record["calls"]) == {"judge", "verbalizer", "optimizer", "cached"}
    assert {"n", "accuracy", "macro_f1", "kappa", "invalid"} <= set(record["after"]["val"])
    shown_f1 = {tuple(line.split()[:2]): line.split()[4] for line in shown.splitlines() if line.startswith("test ")}
    for name, agreement in (("before", record["before"]), ("after", record["after"]), ("ceiling", record["ceiling"])):
        assert agreement["test"]["n"] == 100
        assert shown_f1["test", name] == f"{agreement['test']['macro_f1']:.2f}"
    assert record["ceiling"]["test"]["macro_f1"] > record["before"]["test"]["macro_f1"] + 0.3
    assert len(record["rounds"]) == 1
    assert record["versions"]["blpo-dspy"] == blpo_dspy.__version__


def test_a_demo_with_reasons_says_so_in_table_card_record_and_report(tmp_path: Path) -> None:
    """Its rater writes beside the labels; the search is another one than without."""
    done = blpo("demo", "--out", tmp_path, "--reasons", *SMALL)
    assert (done.exit_code, done.stderr) == (0, "")
    tables = [read_rows(tmp_path / f"{name}.csv") for name in ("train", "val", "test")]
    assert all(0 < sum(bool(row["why"]) for row in rows) < len(rows) for rows in tables)
    written = sum(bool(row["why"]) for row in tables[0])
    record, card = json.loads((tmp_path / "result.json").read_text()), VisualJudge.load(tmp_path / "judge.json").card
    assert record["reasons"] == card["reasons"] == written
    report = (tmp_path / "report.html").read_text()
    assert f"of {written} training images, read by the optimizer model alone" in report
    assert "People wrote" in report


def test_the_calls_of_a_demo_are_those_of_compiling_and_of_the_three_final_measurements(
    demo: tuple[Path, str],
) -> None:
    """Each judge and each test image once, two calls a piece, and nothing but that beside the search."""
    record = json.loads((demo[0] / "result.json").read_text())
    final, search = record["ledger"]["measure"], record["ledger"]["compile"]
    for role in ("judge", "verbalizer"):
        answered = final[role]["calls"] + final[role]["cached"]
        # Two judges label from pixels and from text; each image has been described by both before.
        labelled = {"judge": 4, "verbalizer": 2}[role] * record["fidelity"]["after"]["n"]
        assert answered == 300 + labelled + record["label_errors"]["looked_at"]
        assert record["calls"][role] == final[role]["calls"] + search[role]["calls"]
    assert record["calls"]["optimizer"] == search["optimizer"]["calls"]


def test_a_judge_gives_a_fresh_process_in_another_folder_the_same_figures(
    demo: tuple[Path, str], tmp_path: Path
) -> None:
    """From its file alone, which is small."""
    folder, _ = demo
    shutil.copy(folder / "judge.json", tmp_path / "mine.json")
    assert (tmp_path / "mine.json").stat().st_size < 64 * 1024
    done = fresh("evaluate", "mine.json", folder / "test.csv", "--model", "embedded", "--json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    expected = json.loads((folder / "result.json").read_text())["after"]["test"]
    measured = json.loads(done.stdout)
    assert {name: measured[name] for name in expected} == expected


def test_the_card_tells_how_the_judge_was_made_and_nothing_of_the_machine(demo: tuple[Path, str]) -> None:
    """Options, seed, data and agreement; no time, path, count of calls or model."""
    folder, _ = demo
    card, record = VisualJudge.load(folder / "judge.json").card, json.loads((folder / "result.json").read_text())
    assert (card["rounds"], card["seed"], card["stop_reason"]) == (1, 0, record["stop_reason"])
    assert card["options"]["optimizer"] == "BLPO"
    assert card["options"]["batch_size"] == 4
    assert {name: part["n"] for name, part in card["data"].items()} == {"train": 100, "val": 60, "test": 100}
    assert card["agreement"] == {when: record[when] for when in ("before", "after")}
    assert not re.search(r"second|calls|embedded|thread|/", json.dumps(card))


def test_demo_takes_a_taste_from_a_file_and_prints_pure_json(tmp_path: Path) -> None:
    """The flaws that weigh in the file are those that the ceiling is told."""
    rater = tmp_path / "rater.json"
    rater.write_text('{"noise": 0.9, "underexposure": 0.8, "blocking": 0.6}')
    done = blpo("demo", "--out", tmp_path / "demo", "--rater", rater, "--seed", 3, "--threads", 2, "--json", *SMALL)
    record = json.loads(done.stdout)
    assert record["rater"] == {"noise": 0.9, "underexposure": 0.8, "blocking": 0.6}
    assert record["seed"] == 3
    written = json.loads((tmp_path / "demo" / "result.json").read_text())
    assert record["data"].pop("how").replace(f"{tmp_path / 'demo'}", ".") == written["data"].pop("how")
    assert record == written


@pytest.mark.parametrize(
    ("rater", "message"),
    [
        ('{"blur": 2}', "weight of 'blur' is 2"),
        ('{"ugliness": 1}', "unknown flaw 'ugliness'"),
        ("{", "cannot read a rater"),
        ('{"blur": 0.2}', "cannot fill every label"),
    ],
)
def test_a_taste_that_cannot_be_used_ends_the_demo_with_one_message(rater, message, tmp_path: Path) -> None:
    """Before any judge is written."""
    (tmp_path / "rater.json").write_text(rater)
    done = blpo("demo", "--out", tmp_path / "demo", "--rater", tmp_path / "rater.json", *SMALL)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: ")
    assert message in done.stderr
    assert not files_in(tmp_path) & {"demo/judge.json", "demo/result.json", "demo/train.csv"}


def test_demo_leaves_a_folder_with_somebody_elses_tables_alone(tmp_path: Path) -> None:
    """`--out .` must not cost anyone a train.csv."""
    (tmp_path / "train.csv").write_text("precious")
    done = blpo("demo", "--out", tmp_path, *SMALL)
    assert done.exit_code == 2
    assert "train.csv is there and would be overwritten" in done.stderr
    assert files_in(tmp_path) == {"train.csv"}


# --- compile ----------------------------------------------------------------------------------------------------------


def test_compile_splits_a_single_table_and_says_how(photos: Path) -> None:
    """Nothing but the judge is written, and it is said that no real model judged."""
    before = files_in(photos)
    done = compile_in(photos, *SMALL)
    assert done.exit_code == 0
    flat = " ".join(done.stdout.split())
    assert re.search(r"train \d+ \(.*val \d+ \(.*test \d+ \(.*split 40/20/40 within each label, seed 0", flat)
    assert "no model is named" in done.stderr
    assert files_in(photos) - before == {"judge.json"}
    card = VisualJudge.load(photos / "judge.json").card
    assert sum(part["n"] for part in card["data"].values()) == 30


def test_compile_takes_tables_of_their_own_for_val_and_test(photos: Path) -> None:
    """Each is used whole, and the record names every image's set."""
    result = photos / "out" / "result.json"
    done = compile_in(
        photos, *SMALL, "--val", photos / "val.csv", "--test", photos / "test.csv", "--result", result, "--json",
        "--judge-model", "embedded",
    )  # fmt: skip
    assert (done.exit_code, done.stderr) == (0, "")
    record = json.loads(done.stdout)
    assert record == json.loads(result.read_text())
    assert [record["data"][name]["n"] for name in ("train", "val", "test")] == [30, 10, 10]
    assert record["before"]["test"]["n"] == record["after"]["test"]["n"] == 10
    assert record["ceiling"] is None
    assert set(record["data"]["test"]["ids"]) == {row["image"] for row in read_rows(photos / "test.csv")}


@pytest.mark.parametrize(("option", "own", "sizes"), [("--val", "val", [15, 10, 15]), ("--test", "test", [20, 10, 10])])
def test_what_has_no_table_is_split_off_the_first(option, own, sizes, photos: Path) -> None:
    """One of the two may be given alone."""
    done = compile_in(photos, *SMALL, option, photos / f"{own}.csv", "--json")
    record = json.loads(done.stdout)
    assert [record["data"][name]["n"] for name in ("train", "val", "test")] == sizes


def test_reasons_are_read_from_the_training_table_and_need_not_be_in_the_others(photos: Path) -> None:
    """Where the test table has some, the report shows them; one that the training table lacks is an error."""
    for name in ("train", "test"):
        write_rows(photos / f"{name}.csv", [{**row, "why": f"as {name}"} for row in read_rows(photos / f"{name}.csv")])
    own = ("--val", photos / "val.csv", "--test", photos / "test.csv")
    done = compile_in(photos, *SMALL, *own, "--reason-column", "why", "--run-dir", photos / "run", "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["reasons"] == 30
    shown = json.loads((photos / "run" / "report.json").read_text())["items"]
    assert {item.get("reason") for item in shown} <= {"as test", None}
    assert any("reason" in item for item in shown)
    missing = compile_in(photos, *SMALL, *own, "--reason-column", "wy")
    assert missing.exit_code == 2
    assert "no column 'wy'" in missing.stderr
    source = blpo("compile", "--source", "agin", "--reason-column", "why", "--out", photos / "x.json")
    assert (source.exit_code, "--reason-column is for a TABLE of your own" in source.stderr) == (2, True)


@pytest.mark.parametrize("evidence", ["image", "description"])
def test_compile_passes_evidence_instructions_and_columns_on(evidence, photos: Path) -> None:
    """The judge's file says what it reads; context columns become inputs."""
    rows = [
        {
            "file": row["image"],
            "stars": row["label"],
            "prompt": f"picture {number}",
            "shoot": "first" if number < 3 else "",
        }
        for number, row in enumerate(read_rows(photos / "train.csv"))
    ]
    write_rows(photos / "mine.csv", rows)
    done = compile_in(
        photos, *SMALL, "--minibatch-size", 8, "--evidence", evidence, "--verbalizer-instruction", "Say what disturbs.",
        "--image-column", "file", "--label-column", "stars", "--context", "prompt", "--group-column", "shoot",
        table="mine.csv",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert "groups kept whole" in " ".join(done.stdout.split())
    judge = VisualJudge.load(photos / "judge.json")
    assert (judge.evidence, judge.context) == (evidence, ("prompt",))
    assert judge.card["options"]["minibatch_size"] == 8
    assert "Say what disturbs." in done.stdout
    mean = blpo("evaluate", photos / "judge.json", photos / "mine.csv", "--image-column", "file", "--label-column",
                "stars")  # fmt: skip
    assert mean.exit_code == 0
    image = photos / rows[0]["file"]
    assert blpo("judge", photos / "judge.json", image, "--context", "prompt=a=b").exit_code == 0
    refused = blpo("judge", photos / "judge.json", image)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "takes prompt" in refused.stderr


def test_a_judge_that_reasons_says_why_in_the_record_and_on_the_cards(photos: Path) -> None:
    """Every answer has its evidence; without the option none has."""
    run = photos / "run"
    record = json.loads(compile_in(photos, *SMALL, "--reasoning", "--run-dir", run, "--json").stdout)
    assert record["reasoning"] is VisualJudge.load(photos / "judge.json").reasoning is True
    items = json.loads((run / "report.json").read_text())["items"]
    said = {item["after"]["reasoning"] for item in items if item.get("thumbnail")}
    assert said
    assert "" not in said
    page = html.unescape((run / "report.html").read_text())
    assert all(text in page for text in said)
    assert json.loads(compile_in(photos, *SMALL, "--json").stdout)["reasoning"] is False


def test_the_papers_algorithm_is_measured_on_val_too(photos: Path) -> None:
    """It validates nothing itself; single options of it can still be set."""
    done = compile_in(photos, "--paper", "--rounds", 1, "--inner-steps", 1, "--json")
    record = json.loads(done.stdout)
    assert record["validations"] == []
    assert record["options"]["minibatch_size"] is None
    assert record["options"]["shown_right"] == 0
    assert record["before"]["val"]["n"] == record["after"]["val"]["n"] == record["data"]["val"]["n"]


def test_nominal_labels_are_measured_without_a_scale(photos: Path) -> None:
    """Keep or reject, with no error in levels."""
    rows = [
        {"image": row["image"], "label": "keep" if int(row["label"]) > 3 else "reject"}
        for row in read_rows(photos / "train.csv")
    ]
    write_rows(photos / "two.csv", rows)
    done = compile_in(
        photos, *SMALL, "--labels", "keep,reject", table="two.csv", task="Keep or reject this photograph?"
    )
    assert done.exit_code == 0
    assert "mean error" not in done.stdout
    assert VisualJudge.load(photos / "judge.json").labels.labels == ("keep", "reject")


def test_over_http_with_many_threads_the_judge_is_the_same_bytes_as_in_process(photos: Path, server: str) -> None:
    """Whatever the threads and however the model is reached; the models are in the record instead."""
    made = []
    for name, *model in (
        ("here", "--judge-model", "embedded", "--threads", 1),
        ("there", "--judge-model", "openai/embedded", "--api-base", server, "--threads", 16),
    ):
        out = photos / name / "judge.json"
        done = compile_in(photos, "--rounds", 2, "--inner-steps", 1, "--out", out, "--json", *model)
        assert done.exit_code == 0, done.stderr
        made.append((out.read_bytes(), json.loads(done.stdout)))
    (here, first), (there, second) = made
    assert here == there
    assert (first["models"]["judge"], second["models"]["judge"]) == ("embedded", "openai/embedded")
    assert sum(first["calls"].values()) == sum(second["calls"].values())  # the one in process keeps no cache
    assert server not in json.dumps(second), "the address is in the record"


def test_calls_stay_within_their_cap_with_the_test_split_in_it(photos: Path) -> None:
    """A cap that pays for it keeps room for the test; one that doesn't leaves the test unjudged and says so."""
    enough = json.loads(compile_in(photos, "--max-calls", 300, "--json").stdout)
    assert enough["after"]["test"]["n"] + enough["after"]["test"]["failed"] == enough["data"]["test"]["n"]
    assert sum(enough["calls"].values()) - enough["calls"]["cached"] <= 300
    done = compile_in(photos, "--max-calls", 60, "--json")
    little = json.loads(done.stdout)
    assert little["before"]["test"] is little["after"]["test"] is None
    assert sum(little["calls"].values()) - little["calls"]["cached"] <= 60
    assert "--max-calls 60 doesn't pay for" in done.stderr
    assert "calls, before and after, may take half of it" in done.stderr


def test_doubtful_labels_are_listed_beside_the_judge_where_there_is_no_folder_of_the_run(photos: Path) -> None:
    """What was paid for is of use; with a folder, they are in it, and the last line is how to review them."""
    rows = read_rows(photos / "train.csv")
    ends = {"1": "5", "5": "1"}
    wrong = [next(row for row in rows if row["label"] == label) for label in ends]
    write_rows(photos / "train.csv", [{**r, "label": ends[r["label"]]} if r in wrong else r for r in rows])
    others = ("--val", photos / "val.csv", "--test", photos / "test.csv")
    done = compile_in(photos, *others, "--max-calls", 300, "--result", photos / "result.json")
    found = json.loads((photos / "result.json").read_text())["label_errors"]["found"]
    assert found, "the labels that are at the other end of the scale"
    assert [row["id"] for row in read_rows(photos / "judge.label_errors.csv")] == [each["id"] for each in found]
    assert "judge.label_errors.csv" in done.stdout.replace("\n", "")
    folder = photos / "run"
    done = compile_in(photos, "--max-calls", 60, "--run-dir", folder, "--out", photos / "other.json")
    assert done.stdout.splitlines()[-1].startswith(f"Review  blpo review {folder}")
    assert (folder / "label_errors.csv").is_file()
    assert not (photos / "other.label_errors.csv").exists()


def test_images_with_two_labels_are_remarked_on(photos: Path) -> None:
    """People disagree; that is no error."""
    rows = read_rows(photos / "train.csv")
    write_rows(photos / "twice.csv", [*rows, {**rows[0], "label": "1" if rows[0]["label"] != "1" else "2"}])
    done = compile_in(photos, *SMALL, table="twice.csv")
    assert done.exit_code == 0
    assert "1 image has more than one label" in done.stderr


# --- bad input --------------------------------------------------------------------------------------------------------


def spoilt(photos: Path) -> None:
    """Rows with every kind of flaw in `bad.csv`."""
    image = Path(read_rows(photos / "train.csv")[0]["image"])
    whole = (photos / image).read_bytes()
    (photos / "images" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (photos / "images" / "empty.png").touch()
    (photos / "images" / "text.jpg").write_text("not an image")
    cells = [
        (str(image), "3"), (str(image), "excellent"), (str(image), ""), ("images/nowhere.png", "1"), ("", "2"),
        ("images/cut.png", "1"), ("images/empty.png", "1"), ("images/text.jpg", "1"), ("../../etc/passwd", "1"),
    ]  # fmt: skip
    write_rows(photos / "bad.csv", [{"image": image, "label": label} for image, label in cells])


def test_every_bad_row_is_in_one_list(photos: Path) -> None:
    """With the reason for each; good rows are not in it."""
    spoilt(photos)
    done = compile_in(photos, "--val", photos / "val.csv", "--require-labels", table="bad.csv")
    assert (done.exit_code, done.stdout) == (2, "")
    listed = [line for line in done.stderr.splitlines() if line.startswith("  - ")]
    assert len(listed) == 8
    for row, reason in enumerate(
        ("unknown label 'excellent'", "empty label", "no such file", "no image", "cut.png: ", "empty.png: ",
         "text.jpg: not an image", "leaves the folder"), start=3,
    ):  # fmt: skip
        assert any(f"bad.csv:{row}" in line and reason in line for line in listed), (row, reason, listed)
    assert "Traceback" not in done.stderr


def test_images_elsewhere_are_used_if_they_are_allowed(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The message names the option, which all commands with a table take."""
    elsewhere = tmp_path_factory.mktemp("tables")
    rows = [{**row, "image": str(photos / row["image"])} for row in read_rows(photos / "train.csv")]
    write_rows(elsewhere / "train.csv", rows)
    refused = compile_in(elsewhere, *SMALL)
    assert (refused.exit_code, files_in(elsewhere)) == (2, {"train.csv"})
    assert f"{rows[0]['image']}: leaves the folder of the table; --allow-outside permits it" in refused.stderr
    assert compile_in(elsewhere, *SMALL, "--allow-outside").exit_code == 0
    measured = ("evaluate", elsewhere / "judge.json", elsewhere / "train.csv")
    assert [blpo(*measured, *more).exit_code for more in ((), ("--allow-outside",))] == [2, 0]


def test_what_a_folder_holds_beside_images_is_noted(photos: Path) -> None:
    """And a label that no training image has."""
    for row in read_rows(photos / "train.csv"):
        if row["label"] != "3":
            (photos / "sorted" / row["label"]).mkdir(parents=True, exist_ok=True)
            shutil.copy(photos / row["image"], photos / "sorted" / row["label"])
    (photos / "sorted" / "1" / "notes.txt").write_text("to do")
    done = compile_in(photos, *SMALL, table="sorted")
    assert done.exit_code == 0
    assert "Note: sorted: 1 file that is not an image was skipped: 1 .txt\n" in done.stderr
    assert done.stderr.count("Note: no training example has the label 3 (1: ") == 1


def test_images_of_one_label_are_refused_with_the_histogram(photos: Path) -> None:
    """There is nothing to learn."""
    write_rows(photos / "one.csv", [{**row, "label": "5"} for row in read_rows(photos / "train.csv")])
    done = compile_in(photos, *SMALL, table="one.csv")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "have the same label (1: 0, 2: 0, 3: 0, 4: 0, 5: 12)" in done.stderr


def test_the_bad_rows_of_two_tables_come_together(photos: Path) -> None:
    """So that both can be repaired at once."""
    for name in ("one", "two"):
        write_rows(photos / f"{name}.csv", [{"image": f"images/{name}.png", "label": "1"}])
    done = compile_in(photos, "--val", photos / "one.csv", "--test", photos / "two.csv")
    assert done.exit_code == 2
    assert "2 tables cannot be used" in done.stderr
    assert "images/one.png" in done.stderr
    assert "images/two.png" in done.stderr


BAD_COMPILES = {
    "a missing column": (["--label-column", "stars"], "'image', 'label'; name yours with --label-column"),
    "a missing context column": (["--context", "prompt"], "no column 'prompt'"),
    "a reserved context column": (["--context", "label"], "'label'"),
    "no labels": (["--labels", ""], "empty label"),
    "labels that do not fit": (["--labels", "Safe,Unsafe"], "30 of 30 rows cannot be used"),
    "a reversed scale": (["--scale", "5-1"], "--scale '5-1' is not a scale"),
    "a negative scale": (["--scale", "-2-2"], "--scale '-2-2' is not a scale"),
    "labels and a scale": (["--labels", "a,b", "--scale", "1-5"], "exclude each other"),
    "a target of another kind": (["--out", "judge.pkl"], "should end in .json"),
    "a target that cannot be written": (["--out", "/proc/x/judge.json"], "cannot be made or written to"),
    "a model without a provider": (["--judge-model", "openai/"], "lacks its model"),
    "an address without a scheme": (["--judge-model", "openai/x", "--api-base", "localhost:1"], "has no scheme"),
}


@pytest.mark.parametrize("arguments", BAD_COMPILES.values(), ids=BAD_COMPILES)
def test_bad_input_ends_with_one_message_and_nothing_written(arguments, photos: Path) -> None:
    """On standard error, with exit code 2."""
    before = files_in(photos)
    done = compile_in(photos, *arguments[0])
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: ")
    assert arguments[1] in done.stderr
    assert files_in(photos) == before


def test_an_empty_task_a_missing_table_and_shared_images_are_told(photos: Path) -> None:
    """Each in one message."""
    assert "--task is empty" in compile_in(photos, task=" ").stderr
    assert "nowhere.csv: no such table" in compile_in(photos, table="nowhere.csv").stderr
    shutil.copy(photos / "val.csv", photos / "again.csv")
    shared = compile_in(photos, "--val", photos / "val.csv", "--test", photos / "again.csv").stderr
    assert "10 images are in more than one of train, val, test" in shared
    both = compile_in(photos, "--result", photos / "judge.json").stderr
    assert "--out and --result both name" in both


def test_a_target_is_checked_before_the_models_are_called(photos: Path, tmp_path_factory: Any) -> None:
    """An unwritable one costs nothing."""
    log = tmp_path_factory.mktemp("log") / "calls.jsonl"
    with start_server(Options(log=log)) as address:
        done = compile_in(
            photos, "--judge-model", "openai/embedded", "--api-base", address, "--out", photos / "train.csv" / "j.json"
        )
    assert done.exit_code == 2
    assert "a file, not a folder" in done.stderr
    assert not log.exists()


def test_a_server_of_ones_own_needs_its_address(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its provider's default would be tried again and again."""
    monkeypatch.delenv("HOSTED_VLLM_API_BASE", raising=False)
    options = ["--scale", "1-5", "--task", TASK, "--judge-model", "hosted_vllm/q", "--out", photos / "none.json"]
    refused = blpo("compile", photos / "train.csv", *options)
    assert refused.exit_code == 2
    assert "hosted_vllm/q has no address: give --api-base" in refused.stderr


def test_a_server_that_is_not_there_is_told_at_once(photos: Path) -> None:
    """By every command, without waiting for retries."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        compile_in(photos, *SMALL)
        model = ["--model", "openai/embedded", "--api-base", address]
        began = time.monotonic()
        for done in (
            compile_in(photos, "--judge-model", "openai/embedded", "--api-base", address),
            blpo("evaluate", photos / "judge.json", photos / "test.csv", *model),
            blpo("judge", photos / "judge.json", photos / read_rows(photos / "test.csv")[0]["image"], *model),
        ):
            assert (done.exit_code, done.stdout) == (2, "")
            assert "no server answers at 127.0.0.1" in done.stderr
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("command", ["compile", "estimate", "compare", "evaluate", "judge"])
def test_every_command_that_calls_models_takes_their_timeout(command, judge: Path, photos: Path) -> None:
    """One that is no time is refused as the models are made, which shows that it got there."""
    model = ["--timeout", "0", "--model" if command in ("evaluate", "judge") else "--judge-model", "openai/x"]
    if command == "judge":
        done = blpo("judge", judge, photos / read_rows(photos / "test.csv")[0]["image"], *model)
    elif command == "evaluate":
        done = blpo("evaluate", judge, photos / "test.csv", *model)
    else:
        out = {"compile": ["--out", photos / "j.json"], "compare": ["--out", photos / "c", "--max-calls", 9]}
        words = [photos / "train.csv", "--task", TASK, "--scale", "1-5", *out.get(command, []), *model]
        done = blpo(command, *words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "timeout must be a" in done.stderr


@pytest.mark.parametrize("command", ["evaluate", "judge"])
def test_a_judges_answers_come_from_dspys_cache_unless_it_is_to_ask_anew(command, judge, photos, tmp_path) -> None:
    """As in a compile."""
    log, counts = tmp_path / "log", []
    with start_server(Options(log=log)) as address:
        for option in ([], [], ["--no-cache"]):
            done = blpo(
                command, judge, photos / "test.csv", "--model", "openai/embedded", "--api-base", address, *option
            )
            assert done.exit_code == 0, done.stderr
            counts.append(len(log.read_text().splitlines()))
    assert counts == [counts[0], counts[0], 2 * counts[0]]


def test_a_wrong_key_is_told_once(photos: Path) -> None:
    """HTTP 401, with what the provider said."""
    before = files_in(photos)
    with start_server(Options(api_key="right")) as address:
        done = compile_in(photos, "--judge-model", "openai/embedded", "--api-base", address)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.count("Incorrect API key") == 1
    assert files_in(photos) == before


DOWN = '{"error": {"message": "the upstream is down"}}'


def _send(status: int, body: bytes) -> Any:
    return lambda request: request.send(status, body, Retry_After="0.01")


@pytest.mark.parametrize(
    ("failing", "cap"),
    [
        (_send(503, DOWN.encode()), ("--max-calls", 15)),
        (_send(503, DOWN.encode()), ("--max-calls", 40, "--paper", "--evidence", "image")),
        (_send(503, DOWN.encode()), ("--max-calls", 15, "--paper", "--evidence", "image")),
        (_send(429, DOWN.encode()), ("--max-seconds", 4)),
        (_send(502, b"<html>" + b"x" * 2_000_000), ("--max-calls", 15)),
        (lambda request: request.trickle(0.2), ("--max-calls", 15)),
    ],
    ids=["503", "503-paper", "503-paper-no-search", "429", "502", "trickle"],
)
def test_a_server_that_answers_nothing_is_one_message_whatever_the_cap(
    failing: Any, cap: tuple[object, ...], photos: Path
) -> None:
    """A cap that failed calls have used up leaves no judge, no record and no report behind; the store stays."""
    with raw_server(failing) as address:
        model = ["--judge-model", "openai/x", "--api-base", address, "--timeout", 0.5, "--no-cache", "--run-dir"]
        tables = ["--val", photos / "val.csv", "--test", photos / "test.csv"]
        done = compile_in(photos, *cap, *model, photos / "run", *tables)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.count("Error:") == 1
    assert len(done.stderr) < 2000
    assert {path.name for path in (photos / "run").rglob("*") if path.is_file()} == {"workspace.sqlite"}
    assert not (photos / "judge.json").exists()


def test_a_run_that_an_outage_ended_goes_on_from_its_store(photos: Path) -> None:
    """When the server is back, with the answers that were paid for."""
    answered, paid = threading.Event(), 10
    service, count = Service(Options()), itertools.count()

    def script(request: Raw) -> None:
        if not answered.is_set() and next(count) >= paid:
            request.send(503, DOWN.encode(), Retry_After="0.01")
            return
        reply = service.reply("POST", request.path, None, request.body)
        request.send(reply.status, json.dumps(reply.body).encode())

    with raw_server(script) as address:
        options = [*SMALL, "--judge-model", "openai/embedded", "--api-base", address, "--max-outage", 0, "--threads", 2]
        tables = ["--val", photos / "val.csv", "--test", photos / "test.csv", "--run-dir", photos / "run"]
        ended = compile_in(photos, *options, *tables)
        assert (ended.exit_code, ended.stderr.count("the upstream is down")) == (2, 1)
        assert answers(photos / "run") == paid
        answered.set()
        done = compile_in(photos, *options, *tables)
    assert done.exit_code == 0, done.stderr
    assert (photos / "judge.json").exists()


@pytest.mark.parametrize("value", ["inf", "1e400"])
def test_a_cap_without_an_end_is_refused_before_anything_is_paid_for(value: str, photos: Path) -> None:
    """It would be none."""
    before = files_in(photos)
    done = compile_in(photos, *SMALL, "--max-seconds", value)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "--max-seconds inf is not a finite number; leave it out for no cap" in done.stderr
    assert files_in(photos) == before


def test_a_model_that_answers_garbage_ends_with_a_plain_statement(photos: Path) -> None:
    """Not with a judge; to measure such a judge is possible, and shows that no answer was valid."""
    compile_in(photos, *SMALL)
    judge = (photos / "judge.json").read_bytes()
    with start_server(Options(garbage=True)) as address:
        model = ["--model", "openai/embedded", "--api-base", address]
        done = compile_in(photos, "--judge-model", "openai/embedded", "--api-base", address)
        measured = blpo("evaluate", photos / "judge.json", photos / "test.csv", *model, "--json")
        judged = blpo("judge", photos / "judge.json", photos / read_rows(photos / "test.csv")[0]["image"], *model)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "stated no label" in done.stderr
    assert (photos / "judge.json").read_bytes() == judge
    agreement = json.loads(measured.stdout)
    assert (agreement["n"], agreement["invalid"], agreement["accuracy"]) == (10, 10, 0.0)
    assert judged.exit_code == 1
    assert "no label in the answer" in judged.stdout


def test_an_optimizer_that_answers_garbage_ends_with_a_plain_statement(photos: Path) -> None:
    """Nothing was searched, so no judge is written as if something had been."""
    before = files_in(photos)
    with start_server(Options(garbage=True)) as address:
        done = compile_in(photos, *SMALL, "--optimizer-model", "openai/embedded", "--api-base", address)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "the optimizer model wrote no usable instruction in 4 answers" in done.stderr
    assert files_in(photos) == before


def test_rejected_proposals_are_counted_by_their_reasons(photos: Path) -> None:
    """A search of which nothing came is not to look like one that found nothing better."""
    done = compile_in(photos, *SMALL, "--rounds", 4, "--max-instruction-tokens", 28)
    assert done.exit_code == 0
    said = " ".join(done.stdout.split())
    assert re.search(r"Refused (\d+) proposals: the instruction is longer than 28 tokens \(\1\)", said)
    assert "Refused" not in compile_in(photos, *SMALL).stdout


# --- evaluate and judge -----------------------------------------------------------------------------------------------


@pytest.fixture
def judge(demo: tuple[Path, str]) -> Path:
    """A saved judge."""
    return demo[0] / "judge.json"


def test_evaluate_prints_the_figures_and_the_confusions(judge: Path, photos: Path) -> None:
    """With the counts of invalid answers."""
    done = blpo("evaluate", judge, photos / "test.csv", "--model", "embedded")
    assert (done.exit_code, done.stderr) == (0, "")
    assert re.search(r"split +judge +n +accuracy +macro-F1 +kappa +mean error +invalid\n", done.stdout)
    assert re.search(r"test\.csv +judge\.json +10 ", done.stdout)
    rows = re.findall(r"^[1-5](?: +(?:\d+|·)){5}$", done.stdout, re.MULTILINE)
    assert sum(int(cell) for row in rows for cell in row.split()[1:] if cell != "·") == 10


def test_a_file_that_is_no_judge_is_refused(photos: Path) -> None:
    """By both commands that read one."""
    (photos / "cut.json").write_text('{"format": "blpo')
    for command in ("evaluate", "judge"):
        for name, message in (("cut.json", "not valid JSON"), ("none.json", "cannot be read")):
            done = blpo(command, photos / name, photos / "test.csv")
            assert done.exit_code == 2
            assert message in done.stderr


def test_judge_prints_a_label_for_each_image_in_their_order(judge: Path, photos: Path) -> None:
    """Tab-separated, the label first."""
    images = [str(photos / row["image"]) for row in read_rows(photos / "test.csv")]
    done = blpo("judge", judge, *images, "--model", "embedded")
    assert (done.exit_code, done.stderr) == (0, "")
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert [image for _, image in lines] == images
    assert {label for label, _ in lines} <= set("12345")


def test_judge_shows_what_cannot_be_labelled_in_its_place_and_exits_with_1(judge: Path, photos: Path) -> None:
    """The other images get their labels all the same; JSON has one object per line."""
    spoilt(photos)
    good = photos / read_rows(photos / "test.csv")[0]["image"]
    images = [photos / "nowhere.png", good, photos / "images" / "text.jpg"]
    done = blpo("judge", judge, *images, "--model", "embedded", "--json")
    assert (done.exit_code, done.stderr) == (1, "")
    first, second, third = (json.loads(line) for line in done.stdout.splitlines())
    assert set(first) == {"image", "label", "answer", "description", "invalid", "error"}
    assert (first["label"], first["error"]) == (None, "no such file")
    assert second["image"] == str(good)
    assert second["label"] in range(1, 6)
    assert (second["invalid"], second["error"]) == (False, None)
    assert second["description"]
    assert "not an image" in third["error"]
    text = blpo("judge", judge, *images, "--model", "embedded")
    assert text.exit_code == 1
    assert [line.split("\t")[0] for line in text.stdout.splitlines()] == ["-", str(second["label"]), "-"]


def test_the_json_of_judge_is_a_table_that_evaluate_reads(judge: Path, photos: Path) -> None:
    """A judge agrees with itself."""
    done = blpo("judge", judge, *sorted((photos / "images").glob("*1.png")), "--model", "embedded", "--json")
    (photos / "labels.jsonl").write_text(done.stdout)
    agreement = json.loads(blpo("evaluate", judge, photos / "labels.jsonl", "--model", "embedded", "--json").stdout)
    assert agreement["accuracy"] == 1.0


# --- interruption -----------------------------------------------------------------------------------------------------


def test_ctrl_c_ends_a_run_at_once_with_one_line(photos: Path) -> None:
    """Exit code 130, no file, no wait for calls under way."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        mute.settimeout(120)
        address = f"http://127.0.0.1:{mute.getsockname()[1]}/v1"
        words = ["compile", "train.csv", "--scale", "1-5", "--task", TASK, "--out", "judge.json"]
        process = Command(*words, "--judge-model", "openai/mute", "--api-base", address, cwd=photos)
        calls = [mute.accept()[0] for _ in range(3)]  # the first only finds out whether anyone is there
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130  # the calls under way would never be answered
        for call in calls:
            call.close()
    (line,) = process.stderr.splitlines()
    assert line.startswith("Interrupted; no result was written.")
    assert not (photos / "judge.json").exists()


def test_compile_tells_what_the_library_warns_of_and_keeps_it_in_the_record(photos: Path) -> None:
    """A cap that hardly pays; once."""
    command = ["compile", photos / "train.csv", "--scale", "1-5", "--task", TASK, "--judge-model", "embedded", *SMALL]
    command += ["--max-calls", "120", "--run-dir", photos / "run", "--out", photos / "judge.json"]
    first = blpo(*command)
    assert first.stderr.count("--max-calls 120 hardly pays for") == 1
    warned = json.loads((photos / "run" / "result.json").read_text())["warnings"]
    assert ["hardly pays for" in line for line in warned] == [True, False]
    assert "--max-calls 120 pays for judging " in first.stderr
    assert "validation images before and after the search, too few to pick a judge by" in warned[1]


# --- estimate ---------------------------------------------------------------------------------------------------------


def test_estimate_takes_compiles_options_and_holds_for_the_run(photos: Path) -> None:
    """No call, no file; the calls of the compile that follows lie within what was said."""
    before = files_in(photos)
    options = [photos / "train.csv", "--scale", "1-5", "--task", TASK, "--judge-model", "embedded", *SMALL, "--json"]
    estimated = json.loads(blpo("estimate", *options, "--latency", "0.5").stdout)
    assert files_in(photos) == before
    ledger = json.loads(blpo("compile", *options, "--out", photos / "judge.json").stdout)["ledger"]["compile"]
    for role, figures in estimated["roles"].items():
        assert 0 < ledger[role]["calls"] <= figures["calls"]["most"]
    assert estimated["in_all"]["calls"]["most"] > estimated["calls"]["most"]


def test_a_price_of_a_model_that_is_not_asked_is_told(photos: Path) -> None:
    """It is most likely misspelt, and would leave the dollars unknown."""
    options = ["--scale", "1-5", "--task", TASK, "--judge-model", "openai/gpt-4o", *SMALL]
    prices = ["--price", "gpt-4o=1,2", "--price", "openai/gpt-4o=1,2"]
    done = blpo("estimate", photos / "train.csv", *options, *prices)
    assert "--price gpt-4o has no effect: the models are openai/gpt-4o" in done.stderr
    assert done.stderr.count("has no effect") == 1


# Paths and streams that cannot be written


@pytest.mark.parametrize(
    "arguments",
    [
        ["compile", "train.csv", "--task", TASK, "--scale", "1-5", "--out", f"{'x' * 300}.json"],
        ["compile", "train.csv", "--task", TASK, "--scale", "1-5", "--out", "j.json", "--run-dir", "x" * 300],
        ["compile", f"{'x' * 300}.csv", "--task", TASK, "--scale", "1-5", "--out", "j.json"],
        ["evaluate", f"{'x' * 300}.json", "test.csv"],
        ["report", "x" * 300],
    ],
)
def test_a_name_that_no_file_can_have_is_refused_in_one_message(
    arguments: list[str], photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is asked or written."""
    monkeypatch.chdir(photos)
    before = sorted(photos.iterdir())
    done = blpo(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].startswith("Error: xxx")
    assert "File name too long" in done.stderr
    assert sorted(photos.iterdir()) == before


def streamed(command: str, *, cwd: Path) -> tuple[int, str]:
    """Runs `blpo` in a shell, which sets its standard output; returns the exit code and what it said."""
    line = f"{sys.executable} -m blpo_dspy.cli.app {command}"
    done = subprocess.run(line, shell=True, stderr=subprocess.PIPE, text=True, cwd=cwd, timeout=200, check=False)
    return done.returncode, done.stderr


def test_a_full_standard_output_is_one_message_and_the_judge_is_kept(photos: Path) -> None:
    """The result cannot be printed, but was written."""
    small = f"--task Rate. --scale 1-5 --val val.csv --test test.csv {' '.join(SMALL)} --max-calls 60"
    code, told = streamed(f"compile train.csv {small} --out judge.json --json > /dev/full", cwd=photos)
    assert code == 2
    last = told.splitlines()[-1]
    assert last == (
        "Error: standard output cannot be written (No space left on device); what was written to files is kept"
    )
    assert VisualJudge.load(photos / "judge.json").card


def test_a_closed_standard_output_is_refused_before_anything_is_asked(photos: Path) -> None:
    """In one message."""
    code, told = streamed("compile train.csv --task Rate. --scale 1-5 --out judge.json >&-", cwd=photos)
    assert (code, told) == (2, "Error: standard output is closed; redirect it to a file, or to /dev/null\n")
    assert not (photos / "judge.json").exists()


# --- several images, rows without labels, sizes -----------------------------------------------------------------------


def test_two_images_a_row_go_the_whole_way(photos: Path) -> None:
    """Compiled, evaluated, judged and reported by the names of their columns."""
    found = read_rows(photos / "train.csv")
    rows = [
        {"candidate": row["image"], "original": found[i - i % 2]["image"], "label": row["label"]}
        for i, row in enumerate(found)
    ]
    write_rows(photos / "pairs.csv", rows)
    named = ("--images", "candidate,original", "--max-calls", 150, "--run-dir", photos / "run")
    done = compile_in(photos, *named, table="pairs.csv")
    assert done.exit_code == 0, done.stderr
    assert json.loads((photos / "judge.json").read_text())["images"] == ["candidate", "original"]
    report = (photos / "run" / "report.html").read_text()
    assert "run" in report
    evaluated = blpo("evaluate", photos / "judge.json", photos / "pairs.csv")
    assert evaluated.exit_code == 0, evaluated.stderr
    out = photos / "verdicts.csv"
    assert blpo("judge", photos / "judge.json", photos / "pairs.csv", "--out", out).exit_code == 0
    assert [row["candidate"] for row in read_rows(out)] == [row["candidate"] for row in rows]
    refused = blpo("judge", photos / "judge.json", photos / "images")
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
    assert "this judge takes candidate, original: name a table with such columns" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--images", "image,label"], "image name 'label' is taken"),
        (["--images", "image,views"], "no column 'views'"),
        (["--images", "image,image"], "each name once"),
        (["--images", "image: list[str]"], "'image: list[str]' is neither a name nor one with a type"),
        (["--images", "image,other", "--image-column", "image"], "--image-column"),
        (["--unbalanced"], "--unbalanced belongs to --sizes of a TABLE"),
    ],
)
def test_names_of_images_that_cannot_be_used_are_refused(arguments: list[str], message: str, photos: Path) -> None:
    """In one message, before any call."""
    done = compile_in(photos, *arguments)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1), done.stderr
    assert message in done.stderr
    assert not (photos / "judge.json").exists()


def test_rows_without_a_label_are_left_out_or_refused(photos: Path) -> None:
    """By default a note counts them."""
    rows = read_rows(photos / "train.csv")
    write_rows(photos / "partly.csv", [*rows, {**rows[0], "label": ""}, {**rows[1], "label": ""}])
    done = compile_in(photos, "--max-calls", 60, table="partly.csv")
    assert done.exit_code == 0, done.stderr
    assert "partly.csv: 2 rows have no label and are left out (30 remain)" in done.stderr
    refused = compile_in(photos, "--require-labels", "--out", photos / "other.json", table="partly.csv")
    assert refused.exit_code == 2
    assert "partly.csv:32: empty label in column 'label'" in refused.stderr


def test_sizes_may_keep_the_proportions_of_the_table(photos: Path) -> None:
    """A label that is twice as frequent stays so."""
    rows = [row for row in read_rows(photos / "train.csv") if row["label"] in "12"]
    write_rows(photos / "few.csv", [*rows[:6], *rows[6:9]])
    options = ("--scale", "1-2", "--sizes", "3,3,3", "--max-calls", 40)
    done = compile_in(photos, "--unbalanced", *options, table="few.csv")
    assert done.exit_code == 0, done.stderr
    assert "train 3 (1: 2, 2: 1)" in done.stdout + done.stderr
