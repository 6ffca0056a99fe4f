"""Tests of sources.imagereward on synthetic copies (metadata table and shard archives)."""

from __future__ import annotations

import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from source_copies import picture, write_imagereward
from source_hub import LoopbackHub, point_at, serve

from blpo_dspy.data.sources import open_source
from blpo_dspy.errors import BlpoError, DataError


def path(number: int, split: str = "train") -> str:
    """Where an image lies; shards hold fifty images each."""
    return f"images/{split}/{split}_{number // 50 + 1}/{uuid.UUID(int=number)}.webp"


def row(number: int, **values: Any) -> dict[str, Any]:
    """A sound row; four images share a prompt, and two of them a rank."""
    return {
        "image_path": path(number),
        "prompt_id": f"{number // 4:06}-0093",
        "prompt": f"prompt {number // 4}",
        "classification": "Outdoor Scenes",
        "image_amount_in_total": 4,
        "rank": (1, 2, 2, 3)[number % 4],
        "overall_rating": 7 - number % 7,
        "image_text_alignment_rating": number % 7 + 1,
        "fidelity_rating": 6,
        **values,
    }


def write(folder: Path, rows: list[dict[str, Any]]) -> None:
    """A copy with a WebP image for each row."""
    write_imagereward(folder, rows, {r["image_path"]: picture(i, "WEBP") for i, r in enumerate(rows)})


def test_a_draw_is_balanced_over_the_seven_ratings(tmp_path: Path) -> None:
    """The label is the rating of text alignment, the prompt an input, and every image of another prompt."""
    write(tmp_path, [row(i) for i in range(280)])
    drawn = open_source("imagereward", local_dir=tmp_path).draw(35)
    assert Counter(e.label for e in drawn.examples) == dict.fromkeys(range(1, 8), 5)
    assert len({e.group for e in drawn.examples}) == 35
    example = drawn.examples[0]
    assert set(example.inputs().keys()) == {"image", "prompt"}
    assert example.image.url.startswith("data:image/webp")
    assert drawn.ids[0].startswith("images/train/train_1/")


@pytest.mark.slow
def test_pairs_of_a_prompt_are_drawn_where_they_are_wanted(tmp_path: Path) -> None:
    """The authors' measure compares images of one prompt."""
    write(tmp_path, [row(i) for i in range(280)])
    source = open_source("imagereward", local_dir=tmp_path)
    apart, together = source.draw(35).examples, source.draw(140, distinct_groups=False).examples
    assert len({e.group for e in apart}) == 35
    assert len({e.group for e in together}) < 140
    assert all(e.preference < 0 for e in together)


@pytest.mark.slow
def test_a_draw_among_many_prompts_has_pairs_where_they_are_wanted(tmp_path: Path) -> None:
    """Images of a prompt are too few among all for chance to bring two together; a split tears none of them apart."""
    write(tmp_path, [row(i, prompt_id=f"{i // 7:06d}-0001") for i in range(700)])
    drawn = open_source("imagereward", local_dir=tmp_path).draw(28, distinct_groups=False)
    assert Counter(e.label for e in drawn.examples) == dict.fromkeys(range(1, 8), 4)
    assert len({e.group for e in drawn.examples}) == 4
    halves = drawn.split(14, 0, 14)
    assert {e.group for e in halves.train}.isdisjoint(e.group for e in halves.test)


def test_bad_rows_are_skipped_and_counted(tmp_path: Path) -> None:
    """Ratings off the scale, null prompts, paths of another form and broken members."""
    rows = [row(i) for i in range(56)]
    rows += [
        row(60, image_text_alignment_rating=0),
        row(61, image_text_alignment_rating=8),
        row(62, image_text_alignment_rating=None),
        row(63, prompt=None),
        row(64, prompt_id=None),
        row(65, image_path="images/train/../../../etc/passwd"),
        row(66, image_path="images/test/train_1/a.webp"),
        row(67, image_path="/etc/passwd"),
        row(0),
    ]
    broken, empty, lost = (row(i, image_text_alignment_rating=7) for i in (70, 71, 72))
    images = {path(i): picture(i, "WEBP") for i in range(56)}
    images |= {broken["image_path"]: b"RIFF no image", empty["image_path"]: b""}
    write_imagereward(tmp_path, [*rows, broken, empty, lost], images)
    drawn = open_source("imagereward", local_dir=tmp_path).draw(105, allow_fewer=True)
    assert len(drawn.examples) == 56
    assert drawn.report.skipped.counts == {
        "odd rating": 3,
        "odd image path": 3,
        "image unusable": 2,
        "no prompt": 1,
        "no prompt id": 1,
        "repeated row": 1,
        "image missing": 1,
    }


def test_ratings_stored_as_other_numbers_are_read(tmp_path: Path) -> None:
    """The table may hold them as decimals, or as text."""
    write(tmp_path, [row(i, image_text_alignment_rating=float(i % 7 + 1), rank=str(i % 4 + 1)) for i in range(28)])
    assert len(open_source("imagereward", local_dir=tmp_path).draw(28).examples) == 28


def test_rare_ratings_are_a_shortfall(tmp_path: Path) -> None:
    """A rating that nobody gave is named with the histogram."""
    write(tmp_path, [row(i, image_text_alignment_rating=i % 6 + 2) for i in range(60)])
    with pytest.raises(DataError, match="1 0, 2 10, 3 10") as error:
        open_source("imagereward", local_dir=tmp_path).draw(70)
    assert error.value.problems == ("1: 0 of 10",)


@pytest.mark.slow
def test_over_http_only_the_archives_of_drawn_images_are_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One small table and a few members of a few shards cross the wire."""
    rows = [row(i, image_text_alignment_rating=min(i // 50, 6) + 1) for i in range(400)]
    write_imagereward(tmp_path / "copy", rows, {path(i): picture(i, "WEBP") * 6 for i in range(400)})
    with serve(LoopbackHub({"zai-org/ImageRewardDB": tmp_path / "copy"})) as hub:
        point_at(monkeypatch, hub.address, tmp_path / "caches")
        drawn = open_source("imagereward").draw(7)
    shards = {id_.rsplit("/", 1)[0] + ".zip" for id_ in drawn.ids}
    assert set(hub.sent) == shards | {"metadata-train.parquet"}
    assert drawn.manifest.revision == hub.commit("zai-org/ImageRewardDB")


def test_an_unpacked_shard_serves_as_well(tmp_path: Path) -> None:
    """A copy may hold a shard as a folder of its name."""
    rows = [row(i) for i in range(7)]
    write(tmp_path, rows)
    (tmp_path / "images/train/train_1.zip").unlink()
    (tmp_path / "images/train/train_1").mkdir()
    for i, r in enumerate(rows):
        (tmp_path / r["image_path"]).write_bytes(picture(i, "WEBP"))
    assert len(open_source("imagereward", local_dir=tmp_path).draw(7).examples) == 7


def test_a_split_that_is_none_of_theirs_is_refused() -> None:
    """The message lists the three that there are."""
    with pytest.raises(BlpoError, match="no split 'dev'; choose one of train, validation, test"):
        open_source("imagereward", split="dev")
