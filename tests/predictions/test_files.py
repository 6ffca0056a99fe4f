"""Tables of predictions in three formats."""

from __future__ import annotations

import csv
import datetime
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from blpo_dspy.errors import BlpoError
from blpo_dspy.predictions.files import Output, check_target, write_rows

DAY = datetime.datetime(2026, 11, 24)
ROWS: list[dict[str, Any]] = [
    {"image": "a.png", "score": -1.5, "mixed": 1, "tags": ["x", "y"], "day": DAY, "label": 3, "invalid": False},
    {"image": "=1+1", "score": None, "mixed": "two", "tags": None, "day": None, "label": None, "invalid": True},
    {"image": "b\nc \ud800.png", "score": float("nan"), "mixed": None, "tags": [], "day": DAY, "label": 5},
]
COLUMNS = list(ROWS[0])
TYPES = {"image": str, "label": int, "invalid": bool}


def write(path: Path, rows: list[dict[str, Any]] = ROWS) -> Path:
    """Writes the rows."""
    write_rows(path, COLUMNS, lambda: iter(rows), TYPES)
    return path


def test_a_csv_opens_in_a_spreadsheet_and_runs_nothing(tmp_path: Path) -> None:
    """Formulas get an apostrophe, numbers none, lists are JSON, what is missing is empty."""
    with write(tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        first, second, third = csv.DictReader(file)
    assert first == {
        "image": "a.png", "score": "-1.5", "mixed": "1", "tags": '["x", "y"]', "day": str(DAY), "label": "3",
        "invalid": "False",
    }  # fmt: skip
    assert (second["image"], second["score"], second["label"], second["invalid"]) == ("'=1+1", "", "", "True")
    assert (third["image"], third["score"]) == ("b\nc ?.png", "")


def test_json_lines_keep_the_kinds_of_values(tmp_path: Path) -> None:
    """NaN, which JSON doesn't know, is null."""
    first, second, third = map(json.loads, write(tmp_path / "t.jsonl").read_text(encoding="utf-8").splitlines())
    assert first == {**ROWS[0], "day": str(DAY)}
    assert second == ROWS[1]
    assert (third["score"], third["tags"], third["image"]) == (None, [], "b\nc ?.png")


def test_parquet_keeps_the_types_of_columns(tmp_path: Path) -> None:
    """One with texts among other values is text; those that are known have their type, even if all is missing."""
    found = parquet.read_table(write(tmp_path / "t.parquet"))
    kinds = {field.name: str(field.type) for field in found.schema}
    assert kinds == {
        "image": "string", "score": "double", "mixed": "string", "tags": "list<element: string>",
        "day": "timestamp[us]", "label": "int64", "invalid": "bool",
    }  # fmt: skip
    first, second, third = found.to_pylist()
    assert first == {**ROWS[0], "mixed": "1"}
    assert (second["image"], second["mixed"], second["label"]) == ("=1+1", "two", None)
    assert (third["image"], third["invalid"]) == ("b\nc ?.png", None)
    empty = parquet.read_table(write(tmp_path / "e.parquet", [{"image": "a"}] * 2000))
    assert [str(empty.schema.field(name).type) for name in ("label", "mixed")] == ["int64", "string"]
    assert empty.num_rows == 2000


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_table_is_complete_or_as_it_was(suffix: str, tmp_path: Path) -> None:
    """Whatever happens while it is written; no other file is left."""
    path = write(tmp_path / f"t{suffix}")
    before = path.read_bytes()

    def failing() -> Iterator[Mapping[str, Any]]:
        yield ROWS[0]
        raise OSError(28, "No space left on device")

    with pytest.raises(BlpoError, match="No space left on device"):
        write_rows(path, COLUMNS, failing, TYPES)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["t.xlsx", "t", "t.json", "folder.csv"])
def test_a_target_that_cannot_be_written_is_refused(name: str, tmp_path: Path) -> None:
    """Before any call."""
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(BlpoError, match=r"should end in .parquet, .csv or .jsonl|a folder of this name"):
        check_target(tmp_path / name)
    check_target(tmp_path / "T.CSV")


@pytest.mark.parametrize("out", [None, 3, ["p.csv"]])
def test_what_is_no_path_is_refused_as_an_output(out: Any) -> None:
    """By its name."""
    with pytest.raises(BlpoError, match=r"out=.* is not a path of a file; write out="):
        Output.at(out)
