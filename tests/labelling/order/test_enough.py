"""How exactly the labels so far tell a judge's agreement, and what more of them would add."""

from __future__ import annotations

import pytest

from blpo_dspy.agreement.intervals import proportion_interval
from blpo_dspy.labelling.order.enough import enough


@pytest.mark.parametrize(("n", "right"), [(20, None), (40, 31), (100, 100)])
def test_the_width_is_that_of_the_interval_of_a_share(n: int, right: int | None) -> None:
    """Wilson's; without a judge that of a half, which no judge exceeds."""
    found, interval = (
        enough(n, right, images=1000, share=1.0),
        proportion_interval(n // 2 if right is None else right, n),
    )
    assert found is not None
    assert interval is not None
    assert found["half_width"] == pytest.approx((interval.high - interval.low) / 2, abs=1e-6)
    assert found["later_half_width"] < found["half_width"]


def test_of_fifty_more_only_the_random_ones_count() -> None:
    """As many as the share says, and no more than there are images."""
    assert [enough(40, None, images=1000, share=share)["later_labels"] for share in (1.0, 0.3)] == [90, 55]  # type: ignore[index]
    few = enough(40, None, images=60, share=1.0)
    assert few is not None
    assert (few["later_labels"], "with all, " in few["text"]) == (60, True)
    done = enough(60, 50, images=60, share=1.0)
    assert done is not None
    assert done["text"].endswith("points.")


def test_the_sentence_says_what_is_known() -> None:
    """With a judge and without; nothing of a handful."""
    judged, plain = enough(40, 31, images=500, share=0.3), enough(40, None, images=500, share=1.0)
    assert judged is not None
    assert plain is not None
    assert judged["text"] == "The judge agrees on 31 of 40 random images: 62% to 88%, ±13 points; with 50 more, ±11."
    assert plain["text"] == "40 random images tell a judge’s agreement to ±15 points at worst; with 50 more, ±10."
    assert enough(4, 4, images=500, share=0.3) is None
