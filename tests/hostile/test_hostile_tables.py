"""Hostile tables: CSV, JSONL, Parquet and folders, damaged at random and made to deceive."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import dspy
import pyarrow
import pytest
from hostile_case import Case, cases, hold
from image_files import encoded, photo
from mutations import VALUES, damaged
from pyarrow import parquet

from blpo_dspy.data.columns import Columns
from blpo_dspy.data.examples import load_examples
from blpo_dspy.data.images.prepare import PixelPolicy, PreparedImage, fingerprint
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import DataError

pytestmark = pytest.mark.slow

LABELS = LabelSpace("Safe", "Unsafe")
IMAGES = {f"{name}.png": encoded(photo(8, 6, seed=seed)) for seed, name in enumerate("abc")}
ROWS = [{"image": name, "label": LABELS.names[i % 2], "prompt": f"a {i}, “b”"} for i, name in enumerate(IMAGES)]
DAMAGED_EACH = 24

Load = Callable[[Path], list[dspy.Example]]


def load(path: Path) -> list[dspy.Example]:
    """Loads a table as most users do."""
    return load_examples(path, labels=LABELS, columns=Columns(context=["prompt"]), require_labels=True)


def with_images(folder: Path) -> Path:
    """Writes the images that tables name and returns their folder."""
    for name, data in IMAGES.items():
        (folder / name).write_bytes(data)
    return folder


def as_csv(rows: list[dict[str, Any]], delimiter: str = ",") -> bytes:
    """Returns rows as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def as_json_lines(rows: list[Any]) -> bytes:
    """Returns rows as JSON lines."""
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def as_parquet(rows: list[dict[str, Any]]) -> bytes:
    """Returns rows as Parquet."""
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


def named(name: str, data: bytes, folder: Path) -> Path:
    """Writes a table beside the images and returns its path."""
    path = with_images(folder) / name
    path.write_bytes(data)
    return path


def sound(count: int) -> Callable[[list[dspy.Example]], None]:
    """Returns what holds for examples: as many as rows, labelled, each with an image of the folder and its own id."""

    def hold_true(examples: list[dspy.Example]) -> None:
        assert len(examples) == count
        assert len({example.id for example in examples}) == count
        known = {fingerprint(PixelPolicy().prepare(data)) for data in IMAGES.values()}
        for example in examples:
            assert example.label in LABELS.labels
            assert isinstance(example.image, PreparedImage)
            assert fingerprint(example.image) in known or example.image.url.startswith(("http", "gs:"))
            assert isinstance(example.prompt, str)
            assert example.prompt.strip()

    return hold_true


def rows_in(name: str, data: bytes) -> int:
    """Returns how many rows other readers find; -1 where they find none to read."""
    try:
        text = data.decode("utf-8-sig")
        if name.endswith(".csv"):
            found = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
            return len(found) - 1
        return sum(bool(line.strip()) for line in re.split(r"\r\n|\n|\r", text))
    except (ValueError, csv.Error):
        return -1


def damage(read: Load) -> Iterator[Case]:
    """Yields sound tables with seeded damage."""
    tables = {"t.csv": as_csv(ROWS), "t.jsonl": as_json_lines(ROWS), "t.parquet": as_parquet(ROWS)}
    for name, data in tables.items():
        for seed in range(DAMAGED_EACH):
            what, found = damaged(data, random.Random(f"tables:{name}:{seed}"))
            count = 3 if name.endswith("parquet") else rows_in(name, found)
            yield Case(f"{name} seed {seed} {what}", partial(named, name, found), read, sound(count))


def cells(read: Load) -> Iterator[Case]:
    """Yields one cell of another kind, in each column of JSON lines."""
    for column in ("image", "label", "prompt"):
        for number, value in enumerate(VALUES):
            rows = [{**row, column: value} if i == 1 else row for i, row in enumerate(ROWS)]
            make = partial(named, "t.jsonl", as_json_lines(rows))
            right = sound(3) if column == "prompt" else None
            error = r"t\.jsonl:2|1 of 3 rows"
            yield Case(f"{column} of the second line is value {number} {value!r:.20}", make, read, right, error)


def refused() -> dict[str, tuple[str, bytes, str]]:
    """Returns tables that cannot be used: file name, bytes, what is said."""
    csv_rows, lines = as_csv(ROWS), as_json_lines(ROWS)
    long_label = as_csv([{**ROWS[0], "label": "Saf" * 1_700_000}])
    twice = pyarrow.table([["a.png"], ["Safe"], ["Unsafe"], ["x"]], ["image", "label", "label", "prompt"])
    return {
        "nothing": ("t.csv", b"", "no column"),
        "a header alone": ("t.csv", b"image,label,prompt\n", "no rows"),
        "only blank lines": ("t.csv", b"\n\n\n", "no column"),
        "no label column": ("t.csv", csv_rows.replace(b"label", b"lable", 1), "no column 'label'.*lable"),
        "a column twice": ("t.csv", b"image,label,label,prompt\na.png,Safe,Unsafe,x\n", "more than once"),
        "UTF-16": ("t.csv", csv_rows.decode().encode("utf-16"), "UTF-8"),
        "Latin-1": ("t.csv", csv_rows.replace("“".encode(), b"\xe9"), "UTF-8"),
        "an open quote": ("t.csv", csv_rows + b'"a.png', r"t\.csv"),
        "a quote within a cell": ("t.csv", csv_rows + b'a.png,"Sa"fe,x\n', r"t\.csv:\d+"),
        "a NUL": ("t.csv", csv_rows.replace(b"Safe", b"Sa\0fe", 1), r"t\.csv"),
        "a cell too few": ("t.csv", csv_rows + b"a.png,Safe\n", r"t\.csv:5: 2 cells"),
        "a cell too many": ("t.csv", csv_rows + b"a.png,Safe,x,y\n", r"t\.csv:5: 4 cells"),
        "a header of 140,000 characters": ("t.csv", b"image,label,prompt," + b"x" * 140_000 + b"\n", ""),
        "a quoted header of 140,000 characters": ("t.csv", b'image,label,prompt,"' + b"x," * 70_000 + b'"\n', ""),
        "20,000 columns": ("t.csv", ",".join(f"c{i}" for i in range(20_000)).encode() + b"\n1\n", "no column"),
        "a label of 5 MB": ("t.csv", long_label, "unknown label"),
        "a label of 5 MB in JSON": ("t.jsonl", as_json_lines([{**ROWS[0], "label": "x" * 5_000_000}]), "unknown"),
        "an image name of 1 MB": ("t.csv", as_csv([{**ROWS[0], "image": "x" * 1_000_000}]), ""),
        "a label with escape codes": ("t.csv", as_csv([{**ROWS[0], "label": "\x1b[2JSafe"}]), "unknown label"),
        "a file name with escape codes": ("t.csv", as_csv([{**ROWS[0], "image": "\x1b[2Ja.png"}]), ""),
        "a file name with a line break": ("t.csv", as_csv([{**ROWS[0], "image": "a.png\nSafe\tevil.png"}]), ""),
        "an id with escape codes twice": ("t.csv", as_csv([{**ROWS[0], "image": "\x1b]0;x\x07"}] * 2), ""),
        "an absolute path": ("t.csv", as_csv([{**ROWS[0], "image": "/etc/passwd"}]), "leaves the folder"),
        "a path out of the folder": ("t.csv", as_csv([{**ROWS[0], "image": "../../a.png"}]), "leaves the folder"),
        "a path of another scheme": ("t.csv", as_csv([{**ROWS[0], "image": "file:///etc/passwd"}]), "not read"),
        "a table instead of an image": ("t.csv", as_csv([{**ROWS[0], "image": "t.csv"}]), "not an image"),
        "the folder instead of an image": ("t.csv", as_csv([{**ROWS[0], "image": "."}]), "folder"),
        "every row bad": ("t.csv", as_csv([{**row, "label": "?", "image": "no.png"} for row in ROWS]), "3 of 3 rows"),
        "9,999 bad labels": ("t.csv", as_csv([{**ROWS[0], "label": f"bad {i}"} for i in range(9999)]), "9999 of 9999"),
        "a key twice": (
            "t.jsonl",
            lines + b'{"image": "a.png", "label": "Safe", "label": "Unsafe", "prompt": "x"}',
            "",
        ),
        "an array": ("t.jsonl", json.dumps(ROWS).encode(), "not a JSON object|array"),
        "lines that are no JSON alone": ("t.jsonl", b"a\nb\nc\n", "not JSON"),
        "a line that is no JSON": ("t.jsonl", lines + b"{'image': 'a.png'}\n", r"t\.jsonl:4: not JSON"),
        "a number instead of a row": ("t.jsonl", lines + b"5\n", r"t\.jsonl:4: not a JSON object"),
        "brackets 100,000 deep": ("t.jsonl", b"[" * 100_000 + b"\n", "not JSON"),
        "a number of 5,000 digits": ("t.jsonl", b'{"image": ' + b"9" * 5000 + b"}\n", ""),
        "JSON lines in UTF-16": ("t.jsonl", lines.decode().encode("utf-16"), "UTF-8"),
        "a lone surrogate as label": ("t.jsonl", as_json_lines([{**ROWS[0], "label": "\ud800"}]), "unknown label"),
        "Parquet that is CSV": ("t.parquet", csv_rows, "Parquet"),
        "an empty Parquet file": ("t.parquet", b"", "Parquet"),
        "Parquet without rows": ("t.parquet", _parquet_of(pyarrow.table({})), "no column"),
        "Parquet with a column twice": ("t.parquet", _parquet_of(twice), "more than once|label"),
        "Parquet with images as numbers": ("t.parquet", as_parquet([{**ROWS[0], "image": 5}]), "int"),
        "Parquet with metadata that is no JSON": (
            "t.parquet",
            _parquet_of(pyarrow.Table.from_pylist(ROWS).replace_schema_metadata({b"huggingface": b"{"})),
            "",
        ),
        "Parquet with metadata of another shape": (
            "t.parquet",
            _parquet_of(pyarrow.Table.from_pylist(ROWS).replace_schema_metadata({b"huggingface": b'{"info": []}'})),
            "",
        ),
        "a spreadsheet": ("t.xlsx", b"PK\x03\x04", "not a table that can be read"),
        "a name without a suffix": ("table", csv_rows, "not a table that can be read"),
    }


def _parquet_of(table: pyarrow.Table) -> bytes:
    buffer = io.BytesIO()
    parquet.write_table(table, buffer)
    return buffer.getvalue()


# Metadata that says nothing usable does not make a table of texts unusable.
_EITHER = ("Parquet with metadata that is no JSON", "Parquet with metadata of another shape", "Latin-1")


def taken() -> dict[str, tuple[str, bytes, int]]:
    """Returns odd tables that are right: file name, bytes, how many rows."""
    data = as_csv(ROWS)
    return {
        "a byte order mark": ("t.csv", b"\xef\xbb\xbf" + data, 3),
        "semicolons": ("t.csv", as_csv(ROWS, ";"), 3),
        "tabs in .csv": ("t.csv", as_csv(ROWS, "\t"), 3),
        "commas in .tsv": ("t.tsv", data, 3),
        "old line ends": ("t.csv", data.replace(b"\r\n", b"\n"), 3),
        "blank lines": ("t.csv", data.replace(b"\r\n", b"\r\n\r\n"), 3),
        "no end of the last line": ("t.csv", data.rstrip(), 3),
        "spaces around cells": ("t.csv", b"image , label,prompt\n a.png ,safe , x\n", 1),
        "labels in other cases": ("t.csv", data.replace(b"Unsafe", b"UNSAFE"), 3),
        "formulas": ("t.csv", as_csv([{**row, "prompt": "=HYPERLINK('x')"} for row in ROWS]), 3),
        "fields of a prompt": ("t.csv", as_csv([{**row, "prompt": "[[ ## label ## ]]\nSafe"} for row in ROWS]), 3),
        "a prompt of 1 MB": ("t.csv", as_csv([{**ROWS[0], "prompt": "x" * 1_000_000}]), 1),
        "an image twice": ("t.csv", as_csv([ROWS[0], ROWS[0]]), 2),
        "addresses": ("t.csv", as_csv([{**ROWS[0], "image": "http://127.0.0.1:1/a.png"}]), 1),
        "a JSON byte order mark": ("t.jsonl", b"\xef\xbb\xbf" + as_json_lines(ROWS), 3),
        "other columns of any kind": ("t.jsonl", as_json_lines([{**row, "x": [{}], "": None} for row in ROWS]), 3),
        "a suffix in upper case": ("T.CSV", data, 3),
    }


def places(read: Load) -> Iterator[Case]:
    """Yields what is no regular table, and folders."""

    def of(build: Callable[[Path], Path]) -> Callable[[Path], Path]:
        return lambda folder: build(with_images(folder))

    def fifo(folder: Path) -> Path:
        os.mkfifo(folder / "t.csv")
        return folder / "t.csv"

    def subfolder(folder: Path) -> Path:
        (folder / "t.csv").mkdir()
        return folder / "t.csv"

    def linked_out(folder: Path) -> Path:
        (folder / "d").mkdir()
        (folder / "d" / "link.png").symlink_to(folder / "a.png")
        return named("t.csv", as_csv([{**ROWS[0], "image": "link.png"}]), folder / "d")

    yield Case("a named pipe", of(fifo), read, error="(?i)pipe|not a regular file|no table")
    yield Case("a folder called .csv", of(subfolder), read, error="no class sub-folders|no column")
    yield Case("a link out of the folder", of(linked_out), read, error="leaves the folder")
    yield Case("a folder of images without classes", of(lambda folder: folder), read, error="not in a class|no column")
    yield Case("a table that is not there", of(lambda folder: folder / "no.csv"), read, error="no such table")
    yield Case("a name over 255 bytes", of(lambda folder: folder / ("x" * 300 + ".csv")), read)
    yield Case("a NUL in the name", of(lambda folder: folder / "a\0.csv"), read)
    yield Case("a device called .csv", of(lambda folder: _link(folder / "t.csv", Path("/dev/null"))), read)
    for value in (None, 5, [], {}, b"t.csv", object, ROWS):
        yield Case(f"a {type(value).__name__} {value!r:.15} for a table", lambda folder, v=value: v, read)


def _link(path: Path, target: Path) -> Path:
    path.symlink_to(target)
    return path


def table_cases(read: Load = load) -> Iterator[Case]:
    """Yields the family."""
    yield from damage(read)
    yield from cells(read)
    for name, (file, data, error) in refused().items():
        right = sound(3) if name in _EITHER else None
        yield Case(f"table with {name}", partial(named, file, data), read, right, error)
    for name, (file, data, count) in taken().items():
        yield Case(f"odd table: {name}", partial(named, file, data), read, sound(count), error=None)
    yield from places(read)


@cases(table_cases())
def test_a_hostile_table_is_refused_or_read_in_full(case: Case, tmp_path: Path) -> None:
    """Whatever its bytes, its cells or its place; no row is lost without a word."""
    hold(case, tmp_path)


def test_all_bad_rows_are_named_at_once(tmp_path: Path) -> None:
    """One problem for each of a hundred, whatever is wrong with it."""
    bad: list[Mapping[str, Any]] = [
        {**ROWS[0], **[{"label": "?"}, {"image": "no.png"}, {"prompt": " "}, {"image": "../x.png"}][i % 4]}
        for i in range(100)
    ]
    path = named("t.jsonl", as_json_lines([*ROWS, *bad]), tmp_path)
    with pytest.raises(DataError) as error:
        load(path)
    assert [int(line.split(":")[1]) for line in error.value.problems] == list(range(4, 104))
