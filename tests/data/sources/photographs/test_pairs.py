"""Pairs of rated photographs."""

from __future__ import annotations

from collections import Counter

import pytest

from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.sources.photographs import RATERS, rated_pairs, rated_photographs

FORCED = LabelSpace.pairwise("left", "right")


@pytest.mark.slow
def test_no_photograph_is_in_two_pairs() -> None:
    """Nor in two splits; the same seed draws the same."""
    splits = rated_pairs(RATERS["colour"], seed=1, train=10, val=5, test=10)
    images = [image for pair in (*splits.train, *splits.val, *splits.test) for image in (pair.left, pair.right)]
    assert len(set(images)) == len(images) == 50
    assert splits.test == rated_pairs(RATERS["colour"], seed=1, train=10, val=5, test=10).test


@pytest.mark.parametrize("labels", [LabelSpace.pairwise("A", "B", tie="tie"), FORCED])
def test_the_label_follows_from_the_two_ratings(labels: LabelSpace) -> None:
    """Both places win equally often; there are ties only where they have a label."""
    rated = rated_photographs(RATERS["sharp"], seed=2, train=80, val=0, test=0)
    rating = {photo.image: int(photo.label) for photo in rated.train}
    pairs = rated_pairs(RATERS["sharp"], seed=2, train=40, val=0, test=0, labels=labels).train
    for pair in pairs:
        better = rating[pair.left] - rating[pair.right]
        assert pair.label == (labels.labels[0] if better > 0 else labels.labels[1] if better < 0 else labels.tie)
    counts = Counter(pair.label for pair in pairs)
    first, second, *ties = labels.labels
    assert abs(counts[first] - counts[second]) <= 1
    assert all(0 < counts[tie] < 20 for tie in ties)
