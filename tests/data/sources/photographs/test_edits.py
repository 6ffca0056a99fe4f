"""Edited photographs beside their originals."""

from __future__ import annotations

import io
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from blpo_dspy.data.sources.photographs import RATERS, rated_edits
from blpo_dspy.data.sources.photographs.raters import Rater


def pixels(data: bytes) -> np.ndarray:
    """The pixels of a PNG."""
    return np.asarray(Image.open(io.BytesIO(data)), dtype=np.float64)


@pytest.mark.slow
def test_edits_are_balanced_by_label_and_no_picture_is_in_two() -> None:
    """The same seed draws the same."""
    splits = rated_edits(RATERS["colour"], seed=1, train=10, val=4, test=6)
    for part in (splits.train, splits.val, splits.test):
        assert len(set(Counter(edit.label for edit in part).values())) == 1
    edits = [*splits.train, *splits.val, *splits.test]
    assert len({edit.original for edit in edits}) == 20
    assert rated_edits(RATERS["colour"], seed=1, train=10, val=4, test=6).train == splits.train


def test_what_is_rated_is_the_change() -> None:
    """A rejected edit changes the picture by more than one that is kept, whatever flaw the original has."""
    edits = rated_edits(Rater({"underexposure": 1.0}, noise=0), train=24, val=0, test=0).train
    darker = {edit.label: [] for edit in edits}
    for edit in edits:
        darker[edit.label].append(pixels(edit.original).mean() - pixels(edit.candidate).mean())
    assert np.mean(darker["reject"]) > np.mean(darker["keep"]) + 10
