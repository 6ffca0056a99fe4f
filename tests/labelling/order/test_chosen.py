"""What teaches most comes next, mixed with random draws that stay a fair sample."""

from __future__ import annotations

from collections import Counter
from statistics import fmean

import numpy as np
import pytest

from blpo_dspy.errors import BlpoError
from blpo_dspy.labelling.journal import Draw
from blpo_dspy.labelling.order.chosen import ChosenOrder, Opinion
from blpo_dspy.labelling.order.looks import Look
from blpo_dspy.labelling.order.ordering import RandomOrder

KEYS = [f"{i:03}" for i in range(100)]
EVEN = {key: Opinion("ab"[int(key) % 2], 0.0) for key in KEYS}


def blank(key: str) -> Look | None:
    """Every item looks the same."""
    return np.zeros(3, np.float32)


def chosen(opinions: dict[str, Opinion], count: int, look=blank, share: float = 1e-9) -> list[str]:
    """The first items of an order that hardly ever draws by chance."""
    return [key for key, _ in ChosenOrder(KEYS, opinions, look, share=share).upcoming((), count)]


def test_it_spreads_over_the_labels_of_the_judge() -> None:
    """A rare label gets as many as a common one, until none is left."""
    opinions = {key: Opinion("rare" if key < "010" else "common", 0.0) for key in KEYS}
    found = Counter(opinions[key].stratum for key in chosen(opinions, 40))
    assert found == {"rare": 10, "common": 30}
    assert Counter(opinions[key].stratum for key in chosen(opinions, 12)) == {"rare": 6, "common": 6}


def test_what_people_labelled_before_counts_and_is_not_chosen() -> None:
    """It is of the label that they gave; without it the order would begin with that."""
    opinions = {key: Opinion("ab"[int(key) % 2], 0.0) for key in KEYS[:20]}
    before = {key: Opinion("a", None) for key in KEYS[20:25]}
    order = ChosenOrder(KEYS, {**opinions, **before}, blank, share=1e-9)
    first = [key for key, _ in order.upcoming(KEYS[20:23], 3)]
    assert [opinions[key].stratum for key in first] == ["b"] * 3


def test_what_the_judge_doubts_comes_first() -> None:
    """Of looks that are all the same."""
    opinions = {key: Opinion("a", int(key) / 100) for key in KEYS}
    assert chosen(opinions, 5) == ["099", "098", "097", "096", "095"]


def test_of_equal_doubt_it_takes_what_looks_unlike_the_labelled() -> None:
    """Two clusters: the second item comes from the other one."""
    opinions = {key: Opinion("a", 0.5) for key in KEYS[:20]}

    def look(key: str) -> Look:
        return np.array([float(key < "003"), int(key) / 1e4], np.float32)

    first, second = chosen(opinions, 2, look)
    assert (first < "003") != (second < "003")


def test_an_image_that_cannot_be_read_is_the_last_of_its_shortlist() -> None:
    """And hides none of the others."""
    opinions = {key: Opinion("a", 0.5) for key in KEYS[:6]}
    found = chosen(opinions, 6, lambda key: None if key == "002" else blank(key))
    assert sorted(found) == KEYS[:6]
    assert "002" in (found[0], found[-1])


def test_few_images_are_decoded() -> None:
    """A shortlist for each label, not the whole collection."""
    seen = []

    def look(key: str) -> Look | None:
        seen.append(key)
        return blank(key)

    keys = [f"{i:05}" for i in range(5000)]
    ChosenOrder(keys, {key: Opinion("a", 0.0) for key in keys}, look).upcoming((), 4)
    assert 0 < len(seen) == len(set(seen)) < 40


def test_the_first_shortlists_are_looked_at_beforehand() -> None:
    """Then the first items of each label are chosen without a wait."""
    seen = []

    def look(key: str) -> Look | None:
        seen.append(key)
        return blank(key)

    ordering = ChosenOrder(KEYS, EVEN, look, share=1e-9)
    ordering.prepare().join(10)
    assert len(seen) == 48
    ordering.upcoming((), 4)
    assert len(seen) == 48 + 2


def test_a_share_of_the_draws_is_random_and_says_so() -> None:
    """Each is the next of the plain random sample that is not labelled yet."""
    found = ChosenOrder(KEYS, EVEN, blank, seed=3, share=0.3).upcoming((), 60)
    by = [draw.by for _, draw in found]
    assert 10 <= by.count("random") <= 26
    taken: set[str] = set()
    for key, draw in found:
        if draw.by == "random":
            assert [(key, draw)] == RandomOrder(KEYS, 3).upcoming(taken, 1)
        taken.add(key)


def test_the_order_depends_on_what_is_labelled_alone() -> None:
    """So that a restart, and another rater, get the same next."""
    whole = ChosenOrder(KEYS, EVEN, blank).upcoming((), 30)
    done = {key for key, _ in whole[:12]}
    assert ChosenOrder(KEYS, EVEN, blank).upcoming(done, 18) == whole[12:]


def test_without_a_verdict_an_item_is_drawn_by_chance_alone() -> None:
    """At the end all were shown."""
    found = ChosenOrder(KEYS, {"001": Opinion("a", 1.0)}, blank).upcoming((), 1000)
    assert sorted(key for key, _ in found) == KEYS
    assert {key for key, draw in found if draw.by == "chosen"} <= {"001"}


@pytest.mark.slow
def test_the_random_sample_is_fair_although_the_doubtful_are_chosen() -> None:
    """Over many seeds its share of doubtful images is theirs; that of all labelled is far from it."""
    opinions = {key: Opinion("a", 1.0 if key < "020" else 0.0) for key in KEYS}
    shares, naive = [], []
    for seed in range(400):
        ordering = ChosenOrder(KEYS, opinions, blank, seed=seed, share=0.4)
        shown = dict(ordering.upcoming((), 25))
        sample = [key for key, chance in ordering.inclusion(shown).items() if chance is not None]
        weights = {round(len(KEYS) * chance) for chance in ordering.inclusion(shown).values() if chance is not None}
        assert weights <= {len(sample)}
        if sample:
            shares.append(fmean(key < "020" for key in sample))
        naive.append(fmean(key < "020" for key in shown))
    assert fmean(shares) == pytest.approx(0.2, abs=0.03)
    assert fmean(naive) > 0.5


@pytest.mark.parametrize("share", [0, -0.1, 1.1])
def test_a_share_without_random_draws_is_refused(share: float) -> None:
    """No estimate would be valid."""
    with pytest.raises(BlpoError, match="no estimate would be valid"):
        ChosenOrder(KEYS, EVEN, blank, share=share)


def test_what_was_chosen_beyond_the_sample_has_no_probability() -> None:
    """Neither has a random draw with a gap before it."""
    ordering = ChosenOrder(KEYS, EVEN, blank)
    order = [key for key, _ in RandomOrder(KEYS).upcoming((), 10)]
    shown = {order[0]: Draw("random"), order[1]: Draw("chosen"), order[5]: Draw("chosen")}
    assert ordering.inclusion(shown) == {order[0]: 0.02, order[1]: 0.02, order[5]: None}
