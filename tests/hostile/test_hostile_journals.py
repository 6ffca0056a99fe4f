"""Hostile journals: lines damaged, of other types, in another order; of searches and of predictions."""

from __future__ import annotations

import json
import math
import random
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
from blpo_dspy.calls.journal import FILE_NAME
from blpo_dspy.predictions.journal import SUFFIX
from engines import scripted_lm
from hostile_case import Case, cases, hold
from image_files import write_photos
from judges import SAFETY, answers
from mutations import changed, damaged, places
from worlds import TRAIN, VALIDATION, student, world

from blpo_dspy.calls.budget import Budget
from blpo_dspy.calls.ledger import Ledger
from blpo_dspy.models.lm import Models
from blpo_dspy.optimizers import BLPO
from blpo_dspy.predictions.predict import predict
from blpo_dspy.programs import VisualJudge

pytestmark = pytest.mark.slow

CHANGED, LINES, DAMAGED = 48, 14, 18
PHOTOS = 3
KINDS = ("failed", "answer", "row", "record")
MAX_CALLS = 200


def searched(log_dir: Path) -> dict[str, Any]:
    """Aligns a judge, or continues to, and returns what was spent, what was asked now, and how it ended."""
    lm = world()
    optimizer = BLPO(
        prompt_model=lm,
        task_model=lm,
        rounds=1,
        inner_steps=1,
        batch_size=3,
        minibatch_size=6,
        num_threads=2,
        budget=Budget(max_calls=MAX_CALLS),
        log_dir=log_dir,
    )
    program = optimizer.compile(student(), trainset=TRAIN[::4], valset=VALIDATION[::6])
    found = program.detailed_results
    return {"ledger": found.ledger, "asked": len(lm.engine.seen), "instruction": found.returned.judge}


def predicted(folder: Path) -> dict[str, Any]:
    """Judges the photographs of a folder, or continues to, and returns the rows and what was spent."""
    lm = scripted_lm(answers())
    judge = VisualJudge(SAFETY, instruction="Judge how safe it is.", evidence="image")
    done = predict(judge, folder / "photos", out=folder / "p.jsonl", models=Models(lm, lm, lm), num_threads=2)
    rows = [json.loads(line) for line in (folder / "p.jsonl").read_text().splitlines()]
    return {"ledger": done.spent, "asked": len(lm.engine.seen), "rows": rows}


def same_each_time(entries: Iterable[dict[str, Any]]) -> bytes:
    """Returns the lines of a journal without what threads and clocks decide: its answers in order, their time."""
    run, *others = entries
    others.sort(key=lambda entry: (KINDS.index(entry["kind"]), entry.get("key", "")))
    for entry in others:
        if "usage" in entry:
            entry["usage"]["seconds"] = 0.25
    return b"".join(json.dumps(entry).encode() + b"\n" for entry in [run, *others])


@cache
def search_journal() -> bytes:
    """Returns the journal of a search that was completed."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        searched(Path(folder))
        run, *entries = map(json.loads, (Path(folder) / FILE_NAME).read_bytes().splitlines())
    answer = next(entry for entry in entries if entry["kind"] == "answer")
    failed = {"kind": "failed", "role": answer["role"], "usage": {**answer["usage"], "failed": 1}}
    return same_each_time([run, failed, *entries])


@cache
def prediction_journal() -> bytes:
    """Returns the journal of predictions that were completed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_photos(folder / "photos", PHOTOS)
        predicted(folder)
        return same_each_time(map(json.loads, (folder / f"p.jsonl{SUFFIX}").read_bytes().splitlines()))


def spent(ledger: Ledger) -> None:
    """What holds for every ledger: counts that can be, and no cap undercut by what a journal says."""
    for usage in ledger.roles.values():
        for name, value in asdict(usage).items():
            assert isinstance(value, (int, float)), (name, value)
            assert math.isfinite(value), (name, value)
            assert value >= 0, (name, value)


def search_went_on(result: dict[str, Any]) -> None:
    """What holds for a search that was continued: it asked no more than a new one would, and has a judge."""
    spent(result["ledger"])
    assert result["asked"] <= MAX_CALLS
    assert result["ledger"].total.calls >= result["asked"]
    assert isinstance(result["instruction"], str)
    assert result["instruction"].strip()


def predictions_went_on(result: dict[str, Any]) -> None:
    """What holds for predictions that were continued: each row has one of the labels, or is invalid, or an error."""
    spent(result["ledger"])
    assert result["asked"] <= PHOTOS
    assert len(result["rows"]) == PHOTOS
    for row in result["rows"]:
        assert isinstance(row["label"], str) + (row["invalid"] is True) + isinstance(row["error"], str) == 1, row
        assert row["invalid"] in (True, False)


def in_log(data: bytes, folder: Path) -> Path:
    """Writes the journal of a search and returns its folder."""
    (folder / "log").mkdir()
    (folder / "log" / FILE_NAME).write_bytes(data)
    return folder / "log"


def beside_table(data: bytes, folder: Path) -> Path:
    """Writes photographs and the journal of their predictions."""
    write_photos(folder / "photos", PHOTOS)
    (folder / f"p.jsonl{SUFFIX}").write_bytes(data)
    return folder


def with_line(lines: list[bytes], number: int, line: bytes) -> bytes:
    """Returns a journal one of whose lines is another one."""
    return b"".join(part + b"\n" for part in [*lines[:number], line, *lines[number + 1 :]])


def damage(name: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yields a journal with one value of a line changed, with lines in another order, and with damaged bytes."""
    lines = data.splitlines()
    entries = [json.loads(line) for line in lines]
    # The first line of each kind, the run's own aside: others of its kind hold the same.
    kinds = {(entry["kind"], entry.get("type")): number for number, entry in enumerate(entries) if number}
    spots = [(number, path) for number in kinds.values() for path in places(entries[number])]
    spots = [spot for spot in spots if len(spot[1]) <= 3]
    for seed in range(CHANGED):
        rng = random.Random(f"journals:{name}:{seed}")
        number, path = spots[seed % len(spots)] if seed < len(spots) else rng.choice(spots)
        what, entry = changed(entries[number], path, rng)
        kind = entries[number]["kind"]
        line = json.dumps(entry).encode()
        yield f"seed {seed} line {number + 1} ({kind}) {what}", with_line(lines, number, line)
    for seed in range(LINES):
        rng = random.Random(f"journals:{name}:lines:{seed}")
        order = list(lines)
        what = rng.choice(["twice", "drop", "swap", "blank", "array", "other kind", "join"])
        number = rng.randrange(1, len(lines) - 1)
        if what == "twice":
            order.insert(number, lines[number])
        elif what == "drop":
            del order[number]
        elif what == "swap":
            order[number], order[number + 1] = order[number + 1], order[number]
        elif what == "join":
            order[number : number + 2] = [lines[number] + lines[number + 1]]
        else:
            order[number] = {"blank": b"", "array": b"[1, 2]", "other kind": b'{"kind": "x", "key": "y"}'}[what]
        yield f"line seed {seed} {what} {number + 1}", b"".join(line + b"\n" for line in order)
    for seed in range(DAMAGED):
        what, found = damaged(data, random.Random(f"journals:{name}:bytes:{seed}"))
        yield f"bytes seed {seed} {what}", found


# What an answer's usage and outputs are never, and what they are only with a very odd provider.
_USAGE = {
    "a text of calls": {"calls": "x"},
    "calls below zero": {"calls": -100_000},
    "half a call": {"calls": 0.5},
    "tokens of null": {"prompt_tokens": None},
    "dollars that are none": {"usd": float("nan")},
    "dollars without end": {"usd": float("inf")},
    "dollars below zero": {"usd": -5.0},
    "a list of seconds": {"seconds": [1]},
    "an unknown count": {"ants": 1},
}
_OUTPUTS = ([5], [], [[]], "Safe", None, {"text": "Safe"}, [{"text": 5}], [True], 7)
_ODD: tuple[dict[str, Any], ...] = (
    *(
        {"outputs": [None]},
        {"outputs": [{}]},
        {"key": 5},
        {"role": "spy"},
        {"role": []},
        {"finish_reason": 5},
        {"served": 5},
    ),
)


def answered(data: bytes) -> Iterator[tuple[str, bool, int, bytes]]:
    """Yields a journal with an answer that says what none says: what, whether it has to be refused, line, bytes."""
    lines = data.splitlines()
    number = next(i for i, line in enumerate(lines) if json.loads(line)["kind"] == "answer")
    entry = json.loads(lines[number])

    def with_(**changes: Any) -> tuple[int, bytes]:
        return number + 1, with_line(lines, number, json.dumps({**entry, **changes}).encode())

    for value in _OUTPUTS:
        yield f"outputs {value!r}", True, *with_(outputs=value)
    for name, usage in _USAGE.items():
        yield name, True, *with_(usage={**entry["usage"], **usage})
    yield "usage that is a list", True, *with_(usage=[])
    for changes in _ODD:
        yield f"{changes!r}", False, *with_(**changes)


Continue = Callable[[Path], dict[str, Any]]


def journal_cases(search: Continue = searched, judge: Continue = predicted) -> Iterator[Case]:
    """Yields the family."""
    error = r"journal"
    for what, data in damage("search", search_journal()):
        yield Case(f"search: {what}", partial(in_log, data), search, search_went_on, error)
    for what, data in damage("predictions", prediction_journal()):
        yield Case(f"predictions: {what}", partial(beside_table, data), judge, predictions_went_on, error)
    for what, refused, line, data in answered(search_journal()):
        right, damage_said = (None, f"line {line} is damaged") if refused else (search_went_on, error)
        yield Case(f"search: answer with {what}", partial(in_log, data), search, right, damage_said)
    for what, refused, line, data in answered(prediction_journal()):
        right, damage_said = (None, f"line {line} is damaged") if refused else (predictions_went_on, error)
        yield Case(f"predictions: answer with {what}", partial(beside_table, data), judge, right, damage_said)
    for what, data in {"nothing": b"", "a picture": b"\x89PNG\r\n\x1a\n", "NUL": b"\0" * 4096}.items():
        yield Case(f"search: a file of {what}", partial(in_log, data), search, search_went_on, error)
        yield Case(f"predictions: a file of {what}", partial(beside_table, data), judge, predictions_went_on, error)


@cases(journal_cases())
def test_a_hostile_journal_is_refused_with_its_line_or_continued(case: Case, tmp_path: Path) -> None:
    """Unchanged where it is refused; where it is continued, nothing is undercut, lost or made up."""
    hold(case, tmp_path)


def test_a_sound_journal_is_continued_without_a_call(tmp_path: Path) -> None:
    """What the damaged ones are made of: without damage nothing is asked again."""
    for data, make, go_on in (
        (search_journal(), in_log, searched),
        (prediction_journal(), beside_table, predicted),
    ):
        shutil.rmtree(tmp_path)
        tmp_path.mkdir()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert go_on(make(data, tmp_path))["asked"] == 0
