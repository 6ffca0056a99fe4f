"""Files that are whole or as they were before."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from blpo_dspy.agreement.label_errors import LikelyError, write_label_errors
from blpo_dspy.errors import BlpoError
from blpo_dspy.files import check_path, replacing, write_json


def test_what_is_written_takes_the_place_of_the_file_at_the_end(tmp_path: Path) -> None:
    """Nothing is left beside it, and it has the permissions of any other file."""
    target = tmp_path / "a.csv"
    target.write_text("old")
    with replacing(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    (tmp_path / "other").touch()
    assert target.stat().st_mode == (tmp_path / "other").stat().st_mode
    assert sorted(os.listdir(tmp_path)) == ["a.csv", "other"]


def test_an_error_while_writing_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    """Also where rows had been written."""
    target = tmp_path / "errors.csv"
    target.write_text("old")
    row = LikelyError("a", 1, 2, 1.0, 1, 0.25)
    with pytest.raises(TypeError):
        write_label_errors(target, [row, None])  # type: ignore[list-item]
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["errors.csv"]


@pytest.mark.parametrize("data", [{"x": float("nan")}, {"x": object()}])
def test_what_is_no_json_is_not_written(data: dict[str, object], tmp_path: Path) -> None:
    """The error names the file."""
    with pytest.raises(BlpoError, match=r"a\.json: not written"):
        write_json(tmp_path / "a.json", data)
    assert os.listdir(tmp_path) == []


def test_a_file_may_have_the_longest_name_there_is(tmp_path: Path) -> None:
    """Its temporary name isn't longer; one byte more is refused beforehand."""
    write_json(tmp_path / f"{'x' * 250}.json", {"a": 1})
    assert [len(file.name) for file in tmp_path.iterdir()] == [255]
    check_path(tmp_path / f"{'y' * 250}.json")
    for name in ("y" * 256, "a\0b"):
        with pytest.raises(BlpoError, match="no file can be written there"):
            check_path(tmp_path / name)
