"""The test of the hostile tests: what is broken on purpose is caught, by the harness and by each family."""

from __future__ import annotations

import base64
import csv
import io
import json
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dspy
import pytest
from hostile_case import Case, HangError, hold, in_folder
from image_files import encoded, photo
from test_hostile_answers import answer_cases
from test_hostile_http import http_cases
from test_hostile_images import POLICY, image_cases
from test_hostile_judge_files import judge_file_cases, new_judge
from test_hostile_tables import LABELS, table_cases

from blpo_dspy.data.images.prepare import ImageError
from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import BlpoError, BlpoWarning
from blpo_dspy.programs import VisualJudge

pytestmark = pytest.mark.slow


def caught(case: Case, folder: Path, bound: float = 5.0) -> bool:
    """Returns whether a case fails."""
    folder.mkdir()
    try:
        hold(case, folder, bound)
    except (Exception, HangError):  # whatever a broken function does
        return True
    return False


def raising(error: BaseException) -> Callable[[Any], Any]:
    """Returns a function that raises an error."""

    def act(given: Any) -> Any:
        raise error

    return act


def refused_after(write: Callable[[Path], object]) -> Callable[[Path], Any]:
    """Returns a function that changes a folder before it refuses."""

    def act(folder: Path) -> Any:
        write(folder)
        raise BlpoError("no; give another one")

    return act


def forever(given: Any) -> Any:
    """Doesn't end, and takes every error for one of its own."""
    while True:
        try:
            time.sleep(0.05)
        except Exception:
            continue


class RawError(BlpoError):
    """An error that shows a text as it is."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.args = (text,)


def noticing(text: str) -> Callable[[Any], Any]:
    """Returns a function that warns with a text as it is."""
    return lambda given: warnings.warn(text, BlpoWarning, stacklevel=2)


def with_file(folder: Path) -> Path:
    """Writes a file that is to stay as it is."""
    (folder / "judge.json").write_text("{}")
    return folder


def right(result: Any) -> None:
    """Asserts nothing."""


def same(result: Any, expected: Any) -> None:
    """Asserts a result."""
    assert result == expected


def itself(folder: Path) -> Path:
    """Gives the empty folder."""
    return folder


BROKEN: dict[str, Case] = {
    "a foreign error": Case("x", in_folder(1), raising(KeyError("label"))),
    "an error of the family's base": Case("x", in_folder(1), raising(ValueError("no"))),
    "a foreign error where a result is right too": Case("x", in_folder(1), raising(TypeError("no")), right),
    "an error without a word": Case("x", in_folder(1), raising(BlpoError("  "))),
    "an error with a stack": Case("x", in_folder(1), raising(BlpoError("Traceback (most recent call last):\n  File"))),
    "an error with an address": Case("x", in_folder(1), raising(BlpoError("<x object at 0x7f00> is no judge"))),
    "an error with an escape code": Case("x", in_folder(1), raising(RawError("\x1b[2Jno such file"))),
    "an error that forges a line": Case("x", in_folder(1), raising(RawError("a\r\nSafe\tb"))),
    "an error of 5 MB": Case("x", in_folder(1), raising(RawError("unknown label " + "x\n" * 2_500_000))),
    "an error in one long line": Case("x", in_folder(1), raising(BlpoError("x" * 5000))),
    "an error that says something else": Case("x", in_folder(1), raising(BlpoError("no")), error="line 3"),
    "an error where the input is right": Case("x", in_folder(1), raising(BlpoError("no")), right, error=None),
    "a result where only an error is right": Case("x", in_folder(1), lambda given: given),
    "a wrong result": Case("x", in_folder(1), lambda given: given, lambda result: same(result, 2)),
    "a warning with an escape code": Case("x", in_folder(1), noticing("\x1b[2J"), right),
    "no end": Case("x", in_folder(1), forever, right),
    "a file that is left": Case("x", itself, refused_after(lambda f: (f / "p.csv").write_text("a\n"))),
    "a hidden file that is left": Case("x", itself, refused_after(lambda f: (f / ".p.csv.1a").write_text("a"))),
    "a file that is changed": Case("x", with_file, refused_after(lambda f: (f / "judge.json").write_text("{"))),
    "a file that is gone": Case("x", with_file, refused_after(lambda f: (f / "judge.json").unlink())),
    "a journal that is torn": Case(
        "x", itself, refused_after(lambda f: (f / "j.jsonl").write_text('{"a": 1}\n{"b')), keeps=("j.jsonl",)
    ),
    "half a table beside a result": Case("x", itself, lambda f: (f / "p.csv").write_text("a,b\n1,2\n3"), right),
    "half a judge beside a result": Case("x", itself, lambda f: (f / "judge.json").write_text('{"format": '), right),
    "a file of no known kind beside a result": Case("x", itself, lambda f: (f / "p.csv.tmp").write_text(""), right),
}

SOUND: dict[str, Case] = {
    "a clear error": Case("x", in_folder(1), raising(ImageError("no such file", "a.png")), error="no such file"),
    "a right result": Case("x", in_folder(1), lambda given: given + 1, lambda result: same(result, 2), error=None),
    "an error or a result": Case("x", in_folder(1), raising(BlpoError("no")), right),
    "what was paid for is kept": Case(
        "x", itself, refused_after(lambda f: (f / "j.jsonl").write_text('{"a": 1}\n')), keeps=("j.jsonl",)
    ),
    "a whole table": Case("x", itself, lambda f: (f / "p.csv").write_text("a,b\n1,2\n"), right),
}


@pytest.mark.parametrize("name", BROKEN)
def test_the_harness_catches(name: str, tmp_path: Path) -> None:
    """Each way of doing wrong fails."""
    assert caught(BROKEN[name], tmp_path / "case", bound=0.3)


@pytest.mark.parametrize("name", SOUND)
def test_the_harness_passes(name: str, tmp_path: Path) -> None:
    """Or what it catches would mean nothing."""
    assert not caught(SOUND[name], tmp_path / "case")


# Each family against a function that is broken in a way that users would suffer from.


def first_label(given: tuple[LabelSpace, object]) -> Label | None:
    """Reads an answer as the first label that it names."""
    space, answer = given
    found = [(str(answer).casefold().find(str(label).casefold()), label) for label in space.labels]
    named = sorted((place, i) for i, (place, _) in enumerate(found) if place >= 0)
    return found[named[0][1]][1] if named else None


def lenient_image(path: Path) -> Any:
    """Passes on whatever bytes there are, as an image."""
    return dspy.Image("data:image/png;base64," + base64.b64encode(path.read_bytes()).decode())


def lenient_table(path: Path) -> list[dspy.Example]:
    """Leaves out the rows of a CSV file that can't be used."""
    rows = csv.DictReader(io.StringIO(path.read_text(errors="replace")))
    found = [row for row in rows if row.get("label") in LABELS.labels and row.get("prompt")]
    image = POLICY.prepare(encoded(photo()))
    return [dspy.Example(**{**row, "image": image, "id": str(i)}).with_inputs("image") for i, row in enumerate(found)]


def lenient_judge(path: Path) -> VisualJudge:
    """Takes the default for whatever a file doesn't say."""
    judge = new_judge()
    try:
        judge.card = json.loads(path.read_bytes()).get("card", {})
    except (ValueError, AttributeError):
        judge.card = {}
    return judge


def guessing_server(given: Any) -> list[dict[str, Any]]:
    """Gives a label to whatever a server says."""
    return [{"label": "Safe", "invalid": False, "error": None}] * 2


def every(cases: Iterator[Case], step: int, part: str = "") -> list[Case]:
    """Returns some cases of a family."""
    return [case for case in cases if part in case.recipe][::step]


FAMILIES: dict[str, tuple[Callable[[], list[Case]], float]] = {
    "answers": (lambda: every(answer_cases(first_label), 4, " states two "), 0.9),
    "denials": (lambda: every(answer_cases(first_label), 4, " denies "), 0.9),
    "images": (lambda: every(image_cases(lenient_image), 10, " seed "), 0.9),
    "tables": (lambda: every(table_cases(lenient_table), 7, "table with"), 0.6),
    "judge files": (lambda: every(judge_file_cases(lenient_judge), 8, "load seed"), 0.6),
    "servers": (lambda: every(http_cases(guessing_server), 6, "status"), 1.0),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_catches_a_broken_function(family: str, tmp_path: Path) -> None:
    """Most cases of each fail where the function behind them guesses, forgives or throws away."""
    make, share = FAMILIES[family]
    cases = make()
    found = [caught(case, tmp_path / str(number)) for number, case in enumerate(cases)]
    assert len(found) >= 4
    assert sum(found) >= share * len(found), [case.recipe for case, bad in zip(cases, found, strict=True) if not bad]
