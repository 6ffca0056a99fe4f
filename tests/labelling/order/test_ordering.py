"""A plain random sample: its order, and the probability with which it includes an image."""

from __future__ import annotations

from collections import Counter

from blpo_dspy.labelling.journal import Draw
from blpo_dspy.labelling.order.ordering import RandomOrder

KEYS = [f"{i:04}" for i in range(100)]


def order(keys: list[str], seed: int = 0) -> list[str]:
    """The whole order."""
    return [key for key, _ in RandomOrder(keys, seed).upcoming((), len(keys))]


def test_the_order_depends_on_seed_and_items_alone() -> None:
    """Not on their order, nor on what else there is."""
    assert order(KEYS) == order(KEYS[::-1])
    assert order(KEYS, 1) != order(KEYS)
    few = [key for key in order(KEYS) if key < "0050"]
    assert order(KEYS[:50]) == few


def test_what_is_done_is_left_out() -> None:
    """And the rest keeps its order."""
    whole = order(KEYS)
    done = set(whole[::2])
    assert [key for key, _ in RandomOrder(KEYS).upcoming(done, 10)] == whole[1:20:2]
    assert RandomOrder(KEYS).upcoming(KEYS, 10) == []


def test_each_image_is_as_likely_as_any_other_to_be_among_the_first() -> None:
    """Over many seeds; 400 draws of 10 of 20 are within five standard deviations of half."""
    counts = Counter(key for seed in range(400) for key in order(KEYS[:20], seed)[:10])
    assert len(counts) == 20
    assert all(abs(count - 200) < 5 * 10 for count in counts.values())


def test_the_probability_is_the_share_that_was_shown() -> None:
    """Whoever was shown them, and whatever came of it; it ends before the first that nobody was shown."""
    whole = order(KEYS)
    ordering = RandomOrder(KEYS)
    draws = {key: Draw("random") for key in (*whole[:5], whole[19])}
    draws["other"] = Draw("judge", probability=0.3)
    draws[whole[5]] = draws[whole[50]] = Draw("chosen")
    found = ordering.inclusion(draws)
    assert found == {**dict.fromkeys(whole[:6], 0.06), "other": 0.3, whole[19]: None, whole[50]: None}
    assert ordering.inclusion({}) == {}
