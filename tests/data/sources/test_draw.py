"""Tests of sources.draw: seeded, balanced, repeatable."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from source_copies import picture

from blpo_dspy.data.images.prepare import ImageError, PixelPolicy
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.sources.draw import Source
from blpo_dspy.data.sources.drawn import Manifest
from blpo_dspy.data.sources.records import Listing, Record, Skipped
from blpo_dspy.data.sources.tasks import Task
from blpo_dspy.errors import BlpoError, DataError


@dataclass(frozen=True, kw_only=True)
class Shelf(Source):
    """A source of its own: labels and groups are given, an image is made from its number."""

    name = "shelf"
    page = "the shelf"
    task = Task(LabelSpace("a", "b"), "Judge this image.", size=4)

    rows: tuple[tuple[str, str | None], ...]
    gone: frozenset[int] = frozenset()
    backwards: bool = False
    same: int = 10**6
    shifted: int = 0

    def listing(self) -> Listing:
        """One record for each row."""
        records = [Record(f"r{i}", label, i, label, group) for i, (label, group) in enumerate(self.rows)]
        return Listing(tuple(records), ("a", "b"), ("label", "group"), Skipped())

    def fetch(self, records: Sequence[Record]) -> Iterator[tuple[Record, bytes | ImageError]]:
        """Images in either order; those that are gone are not there."""
        for record in reversed(records) if self.backwards else records:
            number = int(str(record.key))
            gone = ImageError("gone") if number in self.gone else None
            yield record, gone or picture(number % self.same + self.shifted)


def shelf(count: int, **options: Any) -> Shelf:
    """Both labels in turn, two images a group."""
    return Shelf(rows=tuple(("ab"[i % 2], f"g{i // 2}") for i in range(count)), **options)


def test_the_seed_decides_and_nothing_else() -> None:
    """The same seed draws the same images in the same order; another one draws others."""
    first, again, other = (shelf(100).draw(20, seed=seed) for seed in (1, 1, 2))
    assert first.ids == again.ids
    assert [e.image for e in first.examples] == [e.image for e in again.examples]
    assert first.ids != other.ids


def test_the_order_in_which_images_arrive_does_not_matter() -> None:
    """Also not where an image is drawn twice, of which one is kept, or is replaced."""
    options = {"same": 30, "gone": frozenset(range(5))}
    forwards, backwards = (shelf(100, backwards=b, **options).draw(20) for b in (False, True))
    assert forwards.ids == backwards.ids


def test_an_unusable_image_is_replaced_by_the_next_of_its_stratum() -> None:
    """Missing images cost no balance as long as there are others."""
    drawn = shelf(100, gone=frozenset(range(60))).draw(20)
    assert Counter(e.label for e in drawn.examples) == {"a": 10, "b": 10}
    assert all(int(id_[1:]) >= 60 for id_ in drawn.ids)
    assert drawn.report.skipped.counts["image missing"] > 0


def test_the_same_image_is_drawn_once() -> None:
    """Byte-identical images with nothing to tell them apart are one."""
    drawn = shelf(40, same=6).draw(40, allow_fewer=True)
    assert len({e.image.url for e in drawn.examples}) == len(drawn.examples) == 6
    assert drawn.report.skipped.counts == {"image already drawn": 34}


def test_a_shortfall_of_usable_images_is_reported_after_fetching() -> None:
    """Enough labels but too few images is a shortfall too, with the histogram of labels."""
    with pytest.raises(DataError, match="usable labels: a 10, b 10; skipped: image missing 2") as error:
        shelf(20, gone=frozenset({1, 3})).draw(20)
    assert error.value.problems == ("b: 8 of 10",)


def test_the_default_size_is_training_and_test_set_of_the_protocol() -> None:
    """Twice the size that the task states."""
    assert len(shelf(100).draw().examples) == 8


def test_what_does_not_divide_goes_to_the_largest_stratum() -> None:
    """An odd size is drawn exactly."""
    source = Shelf(rows=(("a", None),) * 3 + (("b", None),) * 9)
    assert Counter(e.label for e in source.draw(5).examples) == {"a": 2, "b": 3}


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["g", "h", "i", None])), min_size=4, max_size=24),
    st.integers(1, 12),
    st.integers(0, 3),
)
def test_a_draw_has_no_image_twice_and_its_quotas(rows: list[tuple[str, str | None]], size: int, seed: int) -> None:
    """Whatever the groups: each stratum has its share or all that there is."""
    drawn = Shelf(rows=tuple(rows)).draw(size, seed=seed, allow_fewer=True)
    assert len(set(drawn.ids)) == len(drawn.ids)
    there = Counter(label for label, _ in rows)
    found = Counter(e.label for e in drawn.examples)
    for label in "ab":
        assert found[label] in {min(there[label], size // 2), min(there[label], size - size // 2)}
    assert sum(found.values()) <= size


def test_saved_ids_draw_the_same_images_again(tmp_path: Path) -> None:
    """The file alone decides; size and seed of the new draw don't count."""
    drawn = shelf(100).draw(20, seed=7)
    drawn.save_ids(tmp_path / "ids.json")
    again = shelf(100).draw(4, seed=8, ids=tmp_path / "ids.json")
    assert again.ids == drawn.ids
    assert again.manifest == drawn.manifest == Manifest.load(tmp_path / "ids.json")
    assert [e.image for e in again.examples] == [e.image for e in drawn.examples]
    assert list(tmp_path.iterdir()) == [tmp_path / "ids.json"]


def test_images_that_changed_since_are_named() -> None:
    """Another label, other bytes, a missing row and a missing image are found, not drawn over in silence."""
    manifest = shelf(8).draw(8).manifest
    relabelled = Shelf(rows=tuple(("b" if i == 4 else "ab"[i % 2], f"g{i // 2}") for i in range(7)))
    with pytest.raises(DataError, match="2 of the 8 images") as error:
        relabelled.draw(ids=manifest)
    assert error.value.problems == (
        "r7: missing, or no longer usable",
        "r4: labelled b, but a when it was drawn",
    )
    with pytest.raises(DataError, match="8 of the 8 images") as error:
        shelf(8, shifted=1).draw(ids=manifest)
    assert error.value.problems[0] == "r0: another image than when it was drawn"
    with pytest.raises(DataError, match="1 of the 8 images") as error:
        shelf(8, gone=frozenset({2})).draw(ids=manifest)
    assert error.value.problems == ("r2: image missing: gone",)


def test_a_file_that_is_no_draw_is_refused(tmp_path: Path) -> None:
    """Not there, not JSON, another kind of file, and ids of another source."""
    path = tmp_path / "ids.json"
    with pytest.raises(BlpoError, match="cannot be read"):
        shelf(8).draw(ids=path)
    for text in ("{", "[]", "{}", '{"format": "other"}', '{"format": "blpo-dspy drawn images", "source": "s"}'):
        path.write_text(text)
        with pytest.raises(BlpoError, match="not a list of drawn images"):
            shelf(8).draw(ids=path)
    path.write_text(json.dumps({"format": "blpo-dspy drawn images", "source": "s", "revision": None, "images": []}))
    with pytest.raises(BlpoError, match="drawn from 's', not from 'shelf'"):
        shelf(8).draw(ids=path)


def test_a_split_keeps_strata_balanced_and_groups_whole() -> None:
    """The parts are disjoint, seeded, and carry the task's labels."""
    drawn = shelf(60).draw(60)
    splits = drawn.split(20, 10, 20, seed=3)
    groups = [{e.group for e in part} for part in (splits.train, splits.val, splits.test)]
    assert [len(splits.train), len(splits.val), len(splits.test)] == [20, 10, 20]
    assert not groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]
    assert Counter(e.label for e in splits.test) == {"a": 10, "b": 10}
    assert splits.labels == drawn.task.labels
    assert [e.id for e in drawn.split(20, 10, 20, seed=3).train] == [e.id for e in splits.train]


def test_progress_is_reported_and_the_pixel_policy_applies() -> None:
    """A caller can show how far fetching is; images are prepared as asked."""
    seen: list[tuple[int, int]] = []
    policy = PixelPolicy(max_side=16)
    drawn = shelf(100).draw(70, policy=policy, on_progress=lambda done, wanted: seen.append((done, wanted)))
    assert seen[-1] == (70, 70)
    assert len(seen) > 1
    assert [policy.prepare(e.image) for e in drawn.examples] == [e.image for e in drawn.examples]


@pytest.mark.parametrize("size", [0, -1, True, 2.5])
def test_an_impossible_size_is_refused(size: Any) -> None:
    """A size is a whole number of at least one."""
    with pytest.raises(BlpoError, match="size must be a whole number"):
        shelf(8).draw(size)
