"""Tests of sources.unsafebench on synthetic Parquet copies, from a folder and over HTTP."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from source_copies import UNSAFEBENCH_CATEGORIES, picture, write_parquet, write_unsafebench
from source_hub import LoopbackHub, point_at, serve

from blpo_dspy.data.sources import open_source
from blpo_dspy.errors import DataError

KINDS = (("PNG", "RGB"), ("WEBP", "RGBA"), ("JPEG", "CMYK"), ("PNG", "P"), ("JPEG", "L"))


def row(number: int, **values: Any) -> dict[str, Any]:
    """A sound row; safe and unsafe ones of all categories in turn, in several formats and colour modes."""
    kind, mode = KINDS[number % len(KINDS)]
    return {
        "image": picture(number, kind, mode),
        "safety_label": ("Safe", "Unsafe")[number % 2],
        "category": UNSAFEBENCH_CATEGORIES[number // 2 % 11],
        "source": "Lexica",
        "text": None,
        **values,
    }


def test_a_draw_is_balanced_over_category_and_label(tmp_path: Path) -> None:
    """The default draw has ten images of each category for training and ten for testing, half of them unsafe."""
    write_unsafebench(tmp_path, [row(i) for i in range(22 * 12)], group=50)
    drawn = open_source("unsafebench", local_dir=tmp_path).draw()
    assert len(drawn.examples) == 220
    assert set(Counter((e.category, e.label) for e in drawn.examples).values()) == {10}
    splits = drawn.split(110, 0, 110)
    for part in (splits.train, splits.test):
        assert set(Counter((e.category, e.label) for e in part).values()) == {5}
    assert not {e.id for e in splits.train} & {e.id for e in splits.test}
    assert splits.labels == drawn.task.labels
    assert drawn.examples[0].inputs().keys() == ["image"]


def test_every_colour_mode_and_format_becomes_a_usable_image(tmp_path: Path) -> None:
    """Palette, grey, CMYK, transparency and WebP come out as images that models read."""
    write_unsafebench(tmp_path, [row(i) for i in range(22)])
    drawn = open_source("unsafebench", local_dir=tmp_path).draw(22)
    assert len(drawn.examples) == 22
    assert drawn.report.skipped.rows == ()
    types = {e.image.url.split(";")[0] for e in drawn.examples}
    assert types <= {"data:image/png", "data:image/jpeg", "data:image/webp"}


def test_bad_rows_are_skipped_and_counted(tmp_path: Path) -> None:
    """Null labels, unknown ones, null categories, missing and broken images do not end a draw, and are reported."""
    rows = [row(i) for i in range(44)]
    rows += [
        row(50, safety_label=None),
        row(51, safety_label="Unsure"),
        row(52, category=None),
        row(53, image=None, category="Rare", safety_label="Safe"),
        row(54, image=b"no image", category="Rare", safety_label="Safe"),
        row(55, image=picture(55)[:100], category="Rare", safety_label="Safe"),
        row(56, category="Rare", safety_label="Safe"),
        row(57, category="Rare", safety_label="Unsafe"),
    ]
    write_unsafebench(tmp_path, rows)
    drawn = open_source("unsafebench", local_dir=tmp_path).draw(48, allow_fewer=True)
    assert len(drawn.examples) == 46
    skipped = drawn.report.skipped
    kinds = {"image unusable": 2, "image missing": 1, "no label": 1, "odd label": 1, "no category": 1}
    assert skipped.counts == kinds
    assert "train/47: image missing: no image" in skipped.lines()
    assert "train/45: odd label: 'Unsure'" in skipped.lines()
    told = drawn.report.describe()
    assert "columns image, safety_label, category, source, text" in told
    assert "skipped: image unusable 2 (such as not an image" in told
    assert ", no label 1, odd label 1 (such as 'Unsure'), " in told
    assert "base64" not in told


def test_a_shortfall_prints_the_histogram_and_can_be_allowed(tmp_path: Path) -> None:
    """Too few images of a stratum are an error with all counts, unless fewer are allowed."""
    write_unsafebench(tmp_path, [row(i) for i in range(44) if i != 1])
    source = open_source("unsafebench", local_dir=tmp_path)
    with pytest.raises(DataError, match="allow_fewer=True") as error:
        source.draw(44)
    assert "Hate / Unsafe: 1 of 2" in str(error.value)
    assert "Hate / Safe 2, Hate / Unsafe 1" in str(error.value)
    assert len(source.draw(44, allow_fewer=True).examples) == 43


def test_a_stratum_without_any_image_is_a_shortfall(tmp_path: Path) -> None:
    """A category with safe images alone is not balanced, and is not passed over in silence."""
    write_unsafebench(tmp_path, [row(i) for i in range(44) if i % 22 != 1])
    with pytest.raises(DataError, match="Hate / Unsafe: 0 of 1"):
        open_source("unsafebench", local_dir=tmp_path).draw(22)


def test_images_of_one_prompt_are_a_group_and_a_missing_text_is_none(tmp_path: Path) -> None:
    """Images generated from the same text never part in a split; null and empty texts make no group."""
    texts = ["one prompt", None, "", " ", "one prompt", "another"]
    write_unsafebench(tmp_path, [row(i, text=texts[i % 6]) for i in range(44)])
    drawn = open_source("unsafebench", local_dir=tmp_path).draw(44)
    assert {e.get("group") for e in drawn.examples} == {"one prompt", "another", None}
    assert sum(e.get("group") is None for e in drawn.examples) > 15


def test_an_older_copy_without_texts_is_read(tmp_path: Path) -> None:
    """The texts came later, and nothing needs them."""
    import datasets

    features = {"image": datasets.Image(), **dict.fromkeys(("safety_label", "category"), datasets.Value("string"))}
    rows = [{name: row(i)[name] for name in features} for i in range(22)]
    write_parquet(tmp_path, rows, features)
    assert len(open_source("unsafebench", local_dir=tmp_path).draw(22).examples) == 22


def test_a_renamed_column_lists_the_columns_seen(tmp_path: Path) -> None:
    """The message names the column that is missing and those that are there."""
    import datasets

    features = {"image": datasets.Image(), **dict.fromkeys(("safety", "category"), datasets.Value("string"))}
    write_parquet(tmp_path, [{"image": picture(1), "safety": "Safe", "category": "Hate"}], features)
    with pytest.raises(DataError, match="no column 'safety_label'; the columns are: 'image', 'safety', 'category'"):
        open_source("unsafebench", local_dir=tmp_path).draw(2)


def test_several_splits_are_drawn_from_together(tmp_path: Path) -> None:
    """The authors score both splits merged; ids tell where an image is from."""
    write_unsafebench(tmp_path, [row(i) for i in range(22)], "train")
    write_unsafebench(tmp_path, [row(i) for i in range(22, 44)], "test")
    drawn = open_source("unsafebench", local_dir=tmp_path, split="train+test").draw(44)
    assert {id_.split("/")[0] for id_ in drawn.ids} == {"train", "test"}
    assert len(set(drawn.ids)) == 44


@pytest.mark.slow
def test_over_http_only_the_row_groups_of_drawn_images_are_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same draw as from a folder, of whose image bytes only a part crosses the wire; labels alone cost little."""
    noise = random.Random(0)
    rows = [row(i, image=picture(i) + noise.randbytes(60_000)) for i in range(110)]
    write_unsafebench(tmp_path / "copy", rows, group=2)
    (file,) = (tmp_path / "copy" / "data").iterdir()
    local = open_source("unsafebench", local_dir=tmp_path / "copy").draw(22)
    with serve(LoopbackHub({"yiting/UnsafeBench": tmp_path / "copy"})) as hub:
        point_at(monkeypatch, hub.address, tmp_path / "caches")
        source = open_source("unsafebench")
        source.listing()
        labels = hub.sent[f"data/{file.name}"]
        drawn = source.draw(22)
        assert drawn.manifest.revision == hub.commit("yiting/UnsafeBench")
    assert drawn.ids == local.ids
    assert [e.image for e in drawn.examples] == [e.image for e in local.examples]
    assert labels < 0.06 * file.stat().st_size
    assert hub.sent[f"data/{file.name}"] < 0.5 * file.stat().st_size
