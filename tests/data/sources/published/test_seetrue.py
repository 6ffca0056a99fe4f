"""Tests of sources.seetrue on synthetic copies (CSV and archive), from a folder and over HTTP."""

from __future__ import annotations

import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from source_copies import picture, write_seetrue
from source_hub import LoopbackHub, point_at, serve

from blpo_dspy.data.sources import open_source
from blpo_dspy.errors import DataError

REPO = "yonatanbitton/SeeTRUE"


def row(number: int, **values: Any) -> dict[str, Any]:
    """A sound row; each text goes with two images, one that matches and one that doesn't."""
    return {
        "image": f"prompt={number // 2}, seed {number}.png",
        "text": f'A "text", number {number // 2},\nwith é and 猫',
        "label": number % 2,
        "original_dataset_id": str(number),
        "dataset_source": ("drawbench", "coco_t2i")[number // 2 % 2],
        **values,
    }


def write(folder: Path, rows: list[dict[str, Any]], missing: tuple[str, ...] = ()) -> None:
    """A copy with an image for each name that a row gives."""
    names = dict.fromkeys(str(row["image"]) for row in rows if row["image"])
    write_seetrue(folder, rows, {name: picture(i) for i, name in enumerate(names) if name not in missing})


def test_a_draw_is_balanced_and_carries_text_and_source(tmp_path: Path) -> None:
    """Both labels equally often; the text is an input, the source is known beside it."""
    write(tmp_path, [row(i) for i in range(40)])
    drawn = open_source("seetrue", local_dir=tmp_path).draw(20)
    assert Counter(e.label for e in drawn.examples) == {0: 10, 1: 10}
    example = drawn.examples[0]
    assert set(example.inputs().keys()) == {"image", "text"}
    assert "猫" in example.text
    assert {e.dataset_source for e in drawn.examples} == {"drawbench", "coco_t2i"}
    assert tuple(drawn.task.context) == ("text",)


def test_each_text_is_drawn_once_where_texts_suffice(tmp_path: Path) -> None:
    """Twenty texts with two images each give twenty images of different texts, and more only when those are used up."""
    write(tmp_path, [row(i) for i in range(40)])
    source = open_source("seetrue", local_dir=tmp_path)
    assert len({e.text for e in source.draw(20).examples}) == 20
    assert len({e.text for e in source.draw(30).examples}) == 20
    assert len({e.text for e in source.draw(20, distinct_groups=False).examples}) < 20


def test_a_text_stays_in_one_split(tmp_path: Path) -> None:
    """Training and test set share no text, though each text has two images."""
    write(tmp_path, [row(i) for i in range(40)])
    splits = open_source("seetrue", local_dir=tmp_path).draw(40).split(16, 8, 16)
    assert [len(splits.train), len(splits.val), len(splits.test)] == [16, 8, 16]
    texts = [{e.text for e in part} for part in (splits.train, splits.val, splits.test)]
    assert not texts[0] & texts[1]
    assert not texts[0] & texts[2]
    assert not texts[1] & texts[2]


def test_bad_rows_are_skipped_and_counted(tmp_path: Path) -> None:
    """Missing members, odd labels, empty texts, repeated and contradictory rows."""
    rows = [row(i) for i in range(40)]
    rows += [
        row(50, label=2),
        row(51, label=""),
        row(52, text=""),
        row(53, image=""),
        row(54, image="lost.png"),
        row(0),
        row(60, image="both.png", text="both"),
        row(61, image="both.png", text="both"),
    ]
    write(tmp_path, rows, missing=("lost.png",))
    with (tmp_path / "SeeTRUE.csv").open("a", encoding="utf-8") as file:
        file.write("too,few\n")
    drawn = open_source("seetrue", local_dir=tmp_path).draw(60, allow_fewer=True)
    assert len(drawn.examples) == 40
    assert drawn.report.skipped.counts == {
        "odd label": 2,
        "contradictory labels": 2,
        "no text": 1,
        "no image name": 1,
        "repeated row": 1,
        "unreadable row": 1,
        "image missing": 1,
    }


def test_one_image_may_have_several_texts(tmp_path: Path) -> None:
    """Rows with the same image and other texts are rows of their own, and stay in one split."""
    rows = [row(i, image=f"shared {i // 4}.png", text=f"text {i}") for i in range(32)]
    write(tmp_path, rows)
    drawn = open_source("seetrue", local_dir=tmp_path).draw(32)
    assert len(drawn.examples) == 32
    splits = drawn.split(16, 0, 16)
    assert not {e.image.url for e in splits.train} & {e.image.url for e in splits.test}


def test_the_card_calls_it_test_only(tmp_path: Path) -> None:
    """The result says so, for whoever tunes on it."""
    write(tmp_path, [row(i) for i in range(4)])
    told = open_source("seetrue", local_dir=tmp_path).draw(4).report.describe()
    assert "calls it a test set" in told
    assert "not for training" in told


def test_an_unpacked_archive_serves_as_well(tmp_path: Path) -> None:
    """A copy with the images in a folder gives the same draw as one with the archive."""
    write(tmp_path, [row(i) for i in range(12)])
    packed = open_source("seetrue", local_dir=tmp_path).draw(8)
    with zipfile.ZipFile(tmp_path / "images.zip") as archive:
        archive.extractall(tmp_path)
    (tmp_path / "images.zip").unlink()
    unpacked = open_source("seetrue", local_dir=tmp_path).draw(8)
    assert unpacked.ids == packed.ids
    assert [e.image for e in unpacked.examples] == [e.image for e in packed.examples]


def test_a_renamed_column_lists_the_columns_seen(tmp_path: Path) -> None:
    """The message names file, missing column and those that are there."""
    write(tmp_path, [row(0)])
    table = tmp_path / "SeeTRUE.csv"
    table.write_text(table.read_text(encoding="utf-8").replace("text,label", "caption,label"), encoding="utf-8")
    with pytest.raises(
        DataError, match=r"SeeTRUE\.csv: no column 'text'; the columns are: 'image', 'caption', 'label'"
    ):
        open_source("seetrue", local_dir=tmp_path).draw(2)


def test_over_http_only_drawn_members_are_fetched_and_only_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The draw of a folder and of the served repository are the same; a repeated draw costs no image again."""
    rows = [row(i) for i in range(400)]
    members = {str(r["image"]): picture(i) * 6 for i, r in enumerate(rows)}
    write_seetrue(tmp_path / "copy", rows, members)
    local = open_source("seetrue", local_dir=tmp_path / "copy").draw(20)
    with serve(LoopbackHub({REPO: tmp_path / "copy"})) as hub:
        point_at(monkeypatch, hub.address, tmp_path / "caches")
        drawn = open_source("seetrue", revision="main").draw(20)
        drawn.save_ids(tmp_path / "ids.json")
        sent = hub.sent.pop("images.zip")
        again = open_source("seetrue").draw(ids=tmp_path / "ids.json")
        assert "images.zip" not in hub.sent
    assert drawn.ids == local.ids == again.ids
    assert [e.image for e in drawn.examples] == [e.image for e in local.examples]
    sampled = sum(len(members[rows[int(id_.removeprefix("row "))]["image"]]) for id_ in drawn.ids)
    assert sampled < sent < sampled + 2**16 + 200 * 20
    assert sent < (tmp_path / "copy" / "images.zip").stat().st_size / 4


def test_the_published_revision_is_pinned() -> None:
    """Without a revision the one that this library knows is read."""
    assert open_source("seetrue").pinned == "6cc46a6e5d9388f44fdf9096d5387cd3b7988676"
