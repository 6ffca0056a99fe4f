"""The rated photographs as data: balanced, repeatable, and silent about the truth."""

from __future__ import annotations

import csv
import random
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.sources.photographs import RATERS, rated_photographs, write_dataset
from blpo_dspy.errors import BlpoError


def rows(table: Path) -> list[dict[str, str]]:
    """Returns the rows of a table."""
    with table.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_the_files_are_balanced_by_label_and_complete(tmp_path: Path) -> None:
    """Every row's picture is there, every label equally often, no picture twice."""
    paths = write_dataset(tmp_path / "demo", RATERS["colour"], seed=3, train=20, val=10, test=15)
    names: list[str] = []
    for table, size in ((paths.train, 20), (paths.val, 10), (paths.test, 15)):
        data = rows(table)
        assert Counter(row["label"] for row in data) == dict.fromkeys("12345", size // 5)
        names += [row["image"] for row in data]
    assert len(set(names)) == 45 == len(list(paths.images.iterdir()))
    contents = set()
    for name in names:
        with Image.open(paths.folder / name) as image:
            assert image.format == "PNG"
            assert image.info == {}
        contents.add((paths.folder / name).read_bytes())
    assert len(contents) == 45
    assert "Creative Commons" in (paths.folder / "CREDITS.txt").read_text()


@pytest.mark.slow
def test_names_and_order_say_nothing_about_labels(tmp_path: Path) -> None:
    """Names are running numbers, shuffled; labels do not come sorted."""
    paths = write_dataset(tmp_path, RATERS["sharp"], train=25, val=0, test=25)
    data = rows(paths.train) + rows(paths.test)
    assert all(re.fullmatch(r"images/photo-\d{4}\.png", row["image"]) for row in data)
    numbers = [int(row["image"][-8:-4]) for row in data]
    labels = [int(row["label"]) for row in data]
    for sequence in (numbers, labels):
        assert sequence != sorted(sequence)
    mean = sum(numbers) / len(numbers)
    spread = sum((n - mean) * (y - 3) for n, y in zip(numbers, labels, strict=True))
    assert abs(spread) < 0.5 * sum((n - mean) ** 2 for n in numbers) ** 0.5 * sum((y - 3) ** 2 for y in labels) ** 0.5


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    """Everything follows from the seed."""
    folders = [tmp_path / name for name in "abc"]
    for folder, seed in zip(folders, (1, 1, 2), strict=True):
        write_dataset(folder, RATERS["sharp"], seed=seed, train=5, val=5, test=0)
    contents = [{p.name: p.read_bytes() for p in sorted(folder.rglob("*.*"))} for folder in folders]
    assert contents[0] == contents[1] != contents[2]


def test_labels_follow_the_rater() -> None:
    """Without noise each label is what the formula gives for the true flaws."""
    rater = type(RATERS["harsh"])(RATERS["harsh"].weights, noise=0)
    for row in rated_photographs(rater, train=20, val=0, test=0).train:
        assert row.label == rater.rate(row.levels, LabelSpace.ordinal(1, 5), random.Random(0))


def test_nominal_labels_are_balanced_too() -> None:
    """Ten photographs, five of each."""
    data = rated_photographs(RATERS["exposure"], train=10, val=0, test=0, labels=LabelSpace("keep", "reject")).train
    assert Counter(row.label for row in data) == {"keep": 5, "reject": 5}
    flawless = [row for row in data if not row.levels]
    assert all(row.label == "keep" for row in flawless)


@pytest.mark.parametrize("sizes", [(0, 0, 0), (-1, 5, 5)])
def test_sizes_that_make_no_sense_are_refused(sizes: tuple[int, int, int]) -> None:
    """Before anything is drawn."""
    with pytest.raises(BlpoError, match="sizes"):
        rated_photographs(RATERS["sharp"], train=sizes[0], val=sizes[1], test=sizes[2])


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A file stands where the folder should be."""
    (tmp_path / "taken").write_text("")
    with pytest.raises(BlpoError, match="taken"):
        write_dataset(tmp_path / "taken", RATERS["sharp"], train=5, val=0, test=0)


@pytest.mark.slow
def test_label_noise_moves_a_share_of_the_labels_a_level_off_and_leaves_the_photographs() -> None:
    """The same pictures and meanings; inwards at both ends; the same slips every time."""
    clean = rated_photographs(RATERS["sharp"], seed=2, train=100, val=0, test=0).train
    noisy = rated_photographs(replace(RATERS["sharp"], label_noise=0.3), seed=2, train=100, val=0, test=0).train
    assert [(row.image, row.meant, row.levels) for row in noisy] == [(r.image, r.label, r.levels) for r in clean]
    assert all(row.label == row.meant for row in clean)
    off = [abs(int(row.label) - int(row.meant)) for row in noisy]
    assert set(off) == {0, 1}
    assert 20 <= sum(off) <= 40
    assert {row.label for row in noisy} <= set(range(1, 6))
    again = rated_photographs(replace(RATERS["sharp"], label_noise=0.3), seed=2, train=100, val=0, test=0).train
    assert again == noisy
