"""Hostile stores: damaged, newer, of another program, or without room; through the command line."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hostile_case import check_text
from image_files import write_photos
from judges import SCALE
from typer.testing import CliRunner

from blpo_dspy.cli.app import app
from blpo_dspy.programs import VisualJudge
from blpo_dspy.workspace.store import FILE_NAME, Store

pytestmark = pytest.mark.slow

COUNT = 12
COMMANDS = {
    "judge": "judge judge.json photos --model embedded --out run/p.csv",
    "compile": "compile table.csv --scale 1-5 --task Rate. --judge-model embedded --rounds 1 --inner-steps 0 --sizes "
    "6,3,3 --unbalanced --run-dir run --out out.json",
    "label": "label photos --scale 1-5 --out run/labels.csv --port 1",
}

Damage = Callable[[Path], object]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with a table, a judge, and an unused store in `run`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    write_photos(tmp_path / "photos", COUNT)
    rows = [f"photos/{number:03}.png,{number % 5 + 1}" for number in range(COUNT)]
    (tmp_path / "table.csv").write_text("\n".join(["image,label", *rows]))
    VisualJudge(SCALE, instruction="Rate.", evidence="image").save(tmp_path / "judge.json")
    Store(tmp_path / "run" / FILE_NAME).close()
    return tmp_path


def blpo(command: str) -> tuple[int, str]:
    """Exit code and standard error of a command; an error that is not ours is raised."""
    done = CliRunner().invoke(app, COMMANDS[command].split(), catch_exceptions=False)
    return done.exit_code, done.stderr


def refusal(command: str) -> str:
    """The one line by which a command is refused."""
    code, said = blpo(command)
    lines = [line for line in said.splitlines() if line.startswith("Error: ")]
    assert (code, len(lines)) == (2, 1), said
    assert said.rstrip().endswith(lines[0])
    check_text(said)
    return lines[0]


def cut(size: int) -> Damage:
    """Returns what leaves the beginning of a file."""
    return lambda path: os.truncate(path, size)


def overwritten(start: int, data: bytes) -> Damage:
    """Returns what overwrites a part of a file."""

    def write(path: Path) -> None:
        with path.open("r+b") as file:
            file.seek(start)
            file.write(data)

    return write


def executed(*statements: str, afresh: bool = False) -> Damage:
    """Returns what runs SQL on a file, or on a new one in its place."""

    def execute(path: Path) -> None:
        if afresh:
            path.unlink()
        with closing(sqlite3.connect(path, isolation_level=None)) as store:
            for statement in statements:
                store.execute(statement)

    return execute


def folder_instead(path: Path) -> None:
    """Puts a folder in the place of a file."""
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, tuple[Damage, str]] = {
    "cut in its header": (cut(10), "is damaged"),
    "cut within a page": (cut(5000), "is damaged"),
    "text": (lambda path: path.write_text("a text, and no database\n" * 500), "is damaged"),
    "zeros": (lambda path: path.write_bytes(bytes(path.stat().st_size)), "is damaged"),
    "a header overwritten": (overwritten(16, b"\xff" * 84), "is damaged"),
    "pages overwritten": (overwritten(4096, bytes(5 * 4096)), "is damaged"),
    "a newer version": (executed("PRAGMA user_version=99"), r"newer version of blpo-dspy \(format 99, known is 2\)"),
    "of another program": (
        executed("PRAGMA journal_mode=WAL", "CREATE TABLE jobs (a)", afresh=True),
        "was not written by blpo-dspy",
    ),
    "of another program, versioned": (executed("PRAGMA user_version=2", afresh=True), "was not written by blpo-dspy"),
    "a folder": (folder_instead, "cannot be opened"),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("recipe", DAMAGES)
def test_a_store_that_cannot_be_used_is_refused_in_one_line_and_left(folder: Path, recipe: str, command: str) -> None:
    """It is named, with what is wrong and what to do."""
    path = folder / "run" / FILE_NAME
    damage, reason = DAMAGES[recipe]
    damage(path)
    before = path.read_bytes() if path.is_file() else None
    line = refusal(command)
    assert f"run/{FILE_NAME}: " in line
    assert re.search(reason, line), line
    assert "another folder" in line
    assert (path.read_bytes() if path.is_file() else None) == before
    assert [found.name for found in path.parent.iterdir()] == [FILE_NAME]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_that_may_not_be_written_is_refused_in_one_line(folder: Path, command: str) -> None:
    """Before any call."""
    (folder / "run" / FILE_NAME).unlink()
    (folder / "run").chmod(0o555)
    try:
        line = refusal(command)
    finally:
        (folder / "run").chmod(0o755)
    assert "run" in line
    assert not list((folder / "run").iterdir())


@contextmanager
def small_disk(at: Path) -> Iterator[None]:
    """Mounts a small disk at a folder; skips the test where this process may not mount."""
    at.mkdir(exist_ok=True)
    try:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=32m", "blpo-test", at], check=False, capture_output=True
        )
    except FileNotFoundError:
        pytest.skip("no mount on this system")
    if done.returncode:
        pytest.skip("this process may not mount")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", at], check=True)


@pytest.mark.parametrize("command", ["judge", "compile"])
@pytest.mark.parametrize("room", [0, 10_000, 60_000, 130_000])
def test_a_full_disk_is_said_in_one_line_and_the_command_resumes(folder: Path, room: int, command: str) -> None:
    """Wherever the room ends; once there is some, the same command does the rest."""
    run = folder / "run"
    (run / FILE_NAME).unlink()
    with small_disk(run):
        (run / "filler").write_bytes(bytes(2**25 - room - room % 4096))
        line = refusal(command)
        assert f"run/{FILE_NAME}: " in line
        assert "free space" in line
        (run / "filler").unlink()
        code, said = blpo(command)
        assert code == 0, said
