"""Tests of sources.evalmuse on a synthetic copy: a JSON list, and an archive cut into parts."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from source_copies import picture, write_evalmuse
from source_hub import LoopbackHub, point_at, serve

from blpo_dspy.data.sources import open_source
from blpo_dspy.errors import DataError


def row(number: int, **values: Any) -> dict[str, Any]:
    """A sound row: three raters who nearly agree."""
    level = number % 5 + 1
    return {
        "prompt_id": f"{number // 4:05}",
        "prompt": f"prompt {number // 4}",
        "type": "real",
        "img_path": f"SDXL-Turbo/{number:05}.png",
        "total_score": [level, level, min(level + 1, 5)],
        "element_score": {"cat (animal)": [1, 1, 0]},
        **values,
    }


def write(folder: Path, rows: list[dict[str, Any]], parts: int = 3) -> None:
    """A copy with an image for each row."""
    write_evalmuse(folder, rows, {r["img_path"]: picture(i) * 4 for i, r in enumerate(rows)}, parts)


def test_an_archive_in_parts_is_read_over_http_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images are found wherever the parts are cut, and only drawn ones cross the wire."""
    write(tmp_path / "copy", [row(i) for i in range(300)], parts=5)
    local = open_source("evalmuse", local_dir=tmp_path / "copy").draw(50)
    with serve(LoopbackHub({"DY-Evalab/EvalMuse": tmp_path / "copy"})) as hub:
        point_at(monkeypatch, hub.address, tmp_path / "caches")
        drawn = open_source("evalmuse").draw(50)
    assert Counter(e.label for e in drawn.examples) == dict.fromkeys(range(1, 6), 10)
    assert drawn.ids == local.ids
    assert [e.image for e in drawn.examples] == [e.image for e in local.examples]
    sent = sum(count for name, count in hub.sent.items() if name.startswith("images.zip"))
    assert sent < sum(f.stat().st_size for f in (tmp_path / "copy").glob("images.zip*")) / 3


def test_a_joined_archive_serves_as_well(tmp_path: Path) -> None:
    """As the card tells users to make it."""
    write(tmp_path, [row(i) for i in range(20)])
    parts = sorted(tmp_path.glob("images.zip.part-*"))
    (tmp_path / "images.zip").write_bytes(b"".join(part.read_bytes() for part in parts))
    for part in parts:
        part.unlink()
    assert len(open_source("evalmuse", local_dir=tmp_path).draw(10).examples) == 10


def test_bad_rows_are_skipped_and_counted(tmp_path: Path) -> None:
    """No scores, scores off the scale or no numbers, no prompt, no path."""
    rows = [row(i) for i in range(20)]
    odd = [{"total_score": []}, {"total_score": [3, 9]}, {"total_score": ["good"]}, {"prompt": None}, {"img_path": ""}]
    write_evalmuse(
        tmp_path,
        rows + [row(100 + i, **values) for i, values in enumerate(odd)],
        {r["img_path"]: picture(i) for i, r in enumerate(rows)},
        parts=1,
    )
    drawn = open_source("evalmuse", local_dir=tmp_path).draw(20)
    assert drawn.report.skipped.counts == {"odd score": 2, "no score": 1, "no prompt": 1, "no image path": 1}


@pytest.mark.parametrize("text", ["{}", "[]", "[1]", "[{", '[{"img_path": "a.png"}]'])
def test_another_kind_of_file_is_told(tmp_path: Path, text: str) -> None:
    """A table that is no list of objects with these columns is named."""
    write(tmp_path, [row(0)])
    (tmp_path / "train_list.json").write_text(text)
    with pytest.raises(DataError, match=r"train_list\.json: (not|no column)"):
        open_source("evalmuse", local_dir=tmp_path).draw(5)
