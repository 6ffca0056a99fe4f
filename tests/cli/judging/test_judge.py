"""`blpo judge` on folders and tables, as a user meets it."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from engines import ScriptedServer
from processes import Command
from pyarrow import parquet
from typer.testing import CliRunner

from blpo_dspy.cli.app import app
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.sources.photographs import RATERS, write_dataset
from blpo_dspy.embedded.server.http import Options, start_server
from blpo_dspy.programs import VisualJudge

pytestmark = pytest.mark.slow

LABELS = LabelSpace.ordinal(1, 5)
OFFLINE = ("--model", "embedded")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a judge, one that takes a prompt, and rated photographs."""
    folder = tmp_path_factory.mktemp("world")
    write_dataset(folder / "photos", RATERS["colour"], seed=0, train=20, val=5, test=5)
    task = "Rate the technical quality of this photograph from 1 (worst) to 5 (best)."
    VisualJudge(LABELS, instruction=task).save(folder / "judge.json")
    VisualJudge(LABELS, instruction=task, context=["prompt"]).save(folder / "prompted.json")
    return folder


def blpo(*arguments: object) -> Any:
    """Runs a command in this process; an unexpected exception is raised."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# What it writes and says


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_a_folder_is_judged_into_a_table(suffix: str, world: Path, tmp_path: Path) -> None:
    """All photographs below it, in a folder made for the table; the labels are counted, the cost told."""
    out = tmp_path / "new" / f"p.{suffix}"
    done = blpo("judge", world / "judge.json", world / "photos", "--out", out, *OFFLINE)
    assert (done.exit_code, done.stderr) == (0, "Note: 4 files that are not images were skipped: 3 .csv, 1 .txt\n")
    lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert lines["Wrote"] == f"{out} (30 rows)"
    assert sum(int(part.rpartition(":")[2]) for part in lines["Labels"].split(", ")) == 30
    assert lines["Calls"].startswith("60 (judge 30, verbalizer 30)")
    read: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "parquet": lambda: parquet.read_table(out).to_pylist(),
        "csv": lambda: list(rows_of(out)),
        "jsonl": lambda: [json.loads(line) for line in out.read_text().splitlines()],
    }
    rows = read[suffix]()
    assert [row["image"] for row in rows] == [f"images/photo-{number:04}.png" for number in range(1, 31)]
    assert {str(row["label"]) for row in rows} <= set("12345")
    assert all(row["description"] for row in rows)


def test_the_same_command_again_is_free_and_json_tells_all(world: Path, tmp_path: Path) -> None:
    """One object on standard output."""
    command = ("judge", world / "judge.json", world / "photos" / "test.csv", "--out", tmp_path / "p.csv", *OFFLINE)
    first, second = (json.loads(blpo(*command, "--json").stdout) for _ in range(2))
    assert (first["rows"], first["judged"], first["calls"]["judge"], first["calls"]["verbalizer"]) == (5, 5, 5, 5)
    assert (second["judged"], second["calls"]["judge"], second["calls"]["verbalizer"]) == (0, 0, 0)
    assert first["labels"] == second["labels"]
    assert sum(usage["calls"] for usage in second["spent"].values()) == 10
    third = blpo(*command)
    assert third.stderr.splitlines()[-1] == "Note: 5 images: 5 known from earlier runs, 0 to judge"
    lines = (world / "photos" / "test.csv").read_text().splitlines()
    (world / "photos" / "fewer.csv").write_text("\n".join(lines[:-2]))
    fewer = blpo(*command[:2], world / "photos" / "fewer.csv", *command[3:]).stderr
    assert "Note: 3 images: 3 known from earlier runs, 0 to judge" in fewer
    assert "Note: 2 verdicts of earlier runs left out, as image or context is no longer there" in fewer
    assert third.stdout.startswith(f"Wrote   {tmp_path / 'p.csv'} (5 rows)\n")
    header = list(rows_of(tmp_path / "p.csv")[0])
    assert header[:3] == ["image", "given_label", "label"]


def test_a_column_without_a_name_is_kept_with_one_note(world: Path, tmp_path: Path) -> None:
    """Under a name by its position."""
    image = rows_of(world / "photos" / "test.csv")[0]["image"]
    table, out = world / "photos" / "unnamed.csv", tmp_path / "p.csv"
    table.write_text(f"image,\n{image},mine\n")
    try:
        done = blpo("judge", world / "judge.json", table, "--out", out, *OFFLINE)
    finally:
        table.unlink()
    assert done.stderr == "Note: 1 column has no name in the header, and is kept as 'column_2'\n"
    assert [row["column_2"] for row in rows_of(out)] == ["mine"]


def test_context_comes_from_columns_or_for_all_images_alike(world: Path, tmp_path: Path) -> None:
    """A table without the column, or a folder, needs the option."""
    table = world / "photos" / "prompted.csv"
    images = [row["image"] for row in rows_of(world / "photos" / "test.csv")]
    table.write_text("file,prompt\n" + "".join(f"{image},a photo\n" for image in images))
    try:
        judge, out = world / "prompted.json", tmp_path / "p.csv"
        assert blpo("judge", judge, table, "--image-column", "file", "--out", out, *OFFLINE).exit_code == 0
        assert [(row["file"], row["prompt"]) for row in rows_of(out)] == [(image, "a photo") for image in images]
    finally:
        table.unlink()
    folder = ("judge", world / "prompted.json", world / "photos" / "images", "--out", tmp_path / "f.csv", *OFFLINE)
    refused = blpo(*folder)
    assert (refused.exit_code, "give one --context NAME=TEXT for each" in refused.stderr) == (2, True)
    assert blpo(*folder, "--context", "prompt=a photo").exit_code == 0
    assert {row["prompt"] for row in rows_of(tmp_path / "f.csv")} == {"a photo"}


def test_single_images_may_go_to_a_table_and_folders_to_the_screen(world: Path, tmp_path: Path) -> None:
    """What is given tells what it is; a label stands in front of each image."""
    images = sorted((world / "photos" / "images").iterdir())[:3]
    assert blpo("judge", world / "judge.json", *images, "--out", tmp_path / "p.csv", *OFFLINE).exit_code == 0
    rows = rows_of(tmp_path / "p.csv")
    assert [row["image"] for row in rows] == [str(image) for image in images]
    shown = blpo("judge", world / "judge.json", world / "photos" / "images", *OFFLINE)
    assert shown.exit_code == 0
    lines = [line.split("\t") for line in shown.stdout.splitlines()]
    assert [name for _, name in lines] == [f"photo-{number:04}.png" for number in range(1, 31)]
    assert [label for label, _ in lines[:3]] == [row["label"] for row in rows]


def test_an_unreadable_image_in_the_middle_is_a_row_with_an_error(world: Path, tmp_path: Path) -> None:
    """The exit code says that not all got a label; repaired, it is the only one to be paid for. A link is noted."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for image in sorted((world / "photos" / "images").iterdir())[:5]:
        (folder / image.name).write_bytes(image.read_bytes())
    whole = (folder / "photo-0003.png").read_bytes()
    (folder / "photo-0003.png").write_bytes(whole[:1000])
    (folder / "x.png").symlink_to(world / "photos" / "images" / "photo-0003.png")
    command = ("judge", world / "judge.json", folder, "--out", tmp_path / "p.csv", *OFFLINE)
    done = blpo(*command)
    assert done.exit_code == 1
    assert "Errors  2 (in column error; the same command tries them again)" in done.stdout
    assert [bool(row["error"]) for row in rows_of(tmp_path / "p.csv")] == [False, False, True, False, False, True]
    said = "1 of 6 rows cannot be used and will have an error; the first is x.png: leaves the folder of the table"
    assert f"{said}; --allow-outside permits it" in " ".join(done.stderr.split())
    (folder / "x.png").unlink()
    (folder / "photo-0003.png").write_bytes(whole)
    again = blpo(*command)
    assert again.exit_code == 0
    assert "Calls   2 (judge 1, verbalizer 1); 8 in earlier sessions" in again.stdout
    assert not any(row["error"] for row in rows_of(tmp_path / "p.csv"))


def test_a_cap_stops_and_the_same_command_goes_on(world: Path, tmp_path: Path) -> None:
    """With what is kept, and where."""
    out = tmp_path / "p.csv"
    command = ("judge", world / "judge.json", world / "photos" / "test.csv", "--out", out, *OFFLINE)
    stopped = blpo(*command, "--max-calls", "4", "--threads", "1")
    assert (stopped.exit_code, out.exists()) == (1, False)
    assert f"2 of 5 rows are kept in {tmp_path}/workspace.sqlite. Repeat the command" in stopped.stdout
    assert blpo(*command).exit_code == 0
    assert len(rows_of(out)) == 5


def test_names_of_images_neither_forge_lines_nor_reach_the_terminal(world: Path, tmp_path: Path) -> None:
    """On the screen, in notes and in errors they are escaped; JSON and the table keep them."""
    photo = (world / "photos" / "images" / "photo-0001.png").read_bytes()
    name = "a.png\n5\tb\x1b[2J\u202e.png"
    folder = tmp_path / "odd"
    folder.mkdir()
    (folder / name).write_bytes(photo)
    (folder / f"bad {name}").write_bytes(b"no image")
    escaped = r"a.png\n5\tb\x1b[2J\u202e.png"
    told = blpo("judge", world / "judge.json", folder, *OFFLINE)
    good, bad = (line.split("\t") for line in told.stdout.splitlines())
    assert (len(good), good[1], bad[:2]) == (2, escaped, ["-", f"bad {escaped}"])
    assert told.stderr.replace("\n", "").isprintable()
    as_json = blpo("judge", world / "judge.json", folder, "--json", *OFFLINE).stdout
    assert [json.loads(line)["image"] for line in as_json.splitlines()] == [name, f"bad {name}"]
    assert as_json.replace("\n", "").isprintable()
    assert blpo("judge", world / "judge.json", folder, "--out", tmp_path / "p.csv", *OFFLINE).exit_code == 1
    assert [row["image"] for row in rows_of(tmp_path / "p.csv")] == [name, f"bad {name}"]


# What it refuses


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["photos", "--out", "p.xlsx"], "its name should end in .parquet, .csv or .jsonl"),
        (["photos", "--out", "photos"], "its name should end in"),
        (["empty", "--out", "p.csv"], "empty: no images"),
        (["photos/test.csv", "--out", "taken.csv"], "there is such a file already"),
        (["photos/test.csv", "--out", "photos/../photos/test.csv"], "this is the table to be judged"),
        (["photos/test.csv", "--out", "p.csv", "--image-column", "file"], "the columns are: 'image', 'label'"),
        (["photos/none.csv", "--out", "p.csv"], "no such table"),
        (["nowhere", "--out", "p.csv"], "nowhere: no such file"),
        (["photos", "photos/test.csv"], "one folder or table is judged at a time"),
        (["photos", "--max-calls", "5"], "--max-calls needs --out"),
        (["photos", "--out", "p.csv", "--context", "x=y"], "takes no context"),
        (["photos", "--out", "p.csv", "--context", "x"], "is not NAME=TEXT"),
        (["photos", "--out", "/proc/x/p.csv"], "cannot be written"),
        (["photos", "--out", "s3://bucket/p.xlsx"], "its name should end in .parquet, .csv or .jsonl"),
    ],
)
def test_what_cannot_work_is_refused_in_one_message(
    arguments: list[str], message: str, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing is written."""
    monkeypatch.chdir(world)
    (world / "empty").mkdir(exist_ok=True)
    (world / "taken.csv").write_text("mine")
    refused = blpo("judge", "judge.json", *arguments, *OFFLINE)
    assert refused.exit_code == 2
    assert message in refused.stderr.splitlines()[0] + refused.stderr.splitlines()[-1]
    assert (world / "taken.csv").read_text() == "mine"
    assert not list(world.glob("p.*"))


# Interruption


def test_output_that_nobody_reads_ends_the_command_quietly(world: Path) -> None:
    """As in `blpo judge … | true`: the exit code of a broken pipe and no word."""
    command = [sys.executable, "-m", "blpo_dspy.cli.app", "judge", "judge.json", "photos/train.csv", *OFFLINE]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        command, stdout=writing, stderr=subprocess.PIPE, text=True, cwd=world, timeout=60, check=False
    )
    os.close(writing)
    assert (done.stderr, done.returncode) == ("", 141)


def answered(log: Path) -> int:
    """How many requests a server has answered."""
    lines = log.read_text().splitlines() if log.exists() else []
    return sum(json.loads(line)["status"] == 200 for line in lines if "chat/completions" in line)


@pytest.mark.parametrize(
    ("status", "why", "most"), [(404, "cannot be used", 1), (400, "refused every one of the first 20 images", 29)]
)
def test_a_server_that_refuses_every_image_is_not_asked_about_all(
    status: int, why: str, most: int, world: Path, tmp_path: Path
) -> None:
    """One message, as compile has; a key that it repeats is in no file."""
    said = {"error": {"message": "no such model; you sent Bearer sk-of-nobody", "type": "x"}}
    with ScriptedServer(lambda body: (status, said, {})) as server:
        model = ["--model", "openai/x", "--api-base", server.url, "--threads", 1]
        done = blpo("judge", world / "judge.json", world / "photos", "--out", tmp_path / "p.csv", *model)
    assert done.exit_code == 2
    assert f"the model {why}: [openai/x] no such model; you sent Bearer ***" in done.stderr
    assert len(server.bodies) <= most
    assert b"sk-of-nobody" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())


@pytest.mark.parametrize(("how", "workers"), [(signal.SIGKILL, ()), (signal.SIGINT, ()), (signal.SIGINT, (1,))])
def test_a_run_cut_short_goes_on_and_pays_for_nothing_twice(
    how: signal.Signals, workers: tuple[int, ...], world: Path, tmp_path: Path
) -> None:
    """Kill -9 and Ctrl-C: the table is that of an undisturbed run, and what was under way alone is paid again."""
    log, out = tmp_path / "log.jsonl", tmp_path / "p.csv"
    with start_server(Options(latency_ms=30, log=log)) as address:
        model = ["--model", "openai/embedded", "--api-base", address, "--threads", "2"]
        several = [argument for number in workers for argument in ("--workers", str(number), "--max-in-flight", "2")]
        process = Command("judge", "judge.json", "photos", "--out", out, *model, *several, cwd=world)
        process.until(lambda: answered(log) >= 20)
        process.send_signal(how)
        code = process.wait()
        assert not out.exists()
        if how == signal.SIGINT:
            assert code == 130
            assert "Traceback" not in process.stderr
            assert "of 30 rows are kept in" in process.stderr
            assert "Repeat the command to resume from there." in process.stderr
        assert blpo("judge", world / "judge.json", world / "photos", "--out", out, *model).exit_code == 0
        assert 60 <= answered(log) <= 60 + 2
        whole = tmp_path / "undisturbed" / "p.csv"
        assert blpo("judge", world / "judge.json", world / "photos", "--out", whole, *model).exit_code == 0
    assert out.read_bytes() == whole.read_bytes()
