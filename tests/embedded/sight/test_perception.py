"""Perception: it reads its own photographs well, copes with any other, and looks at each once."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest
from embedded_requests import photographs
from PIL import Image

from blpo_dspy.data.sources.photographs.crops import NAMES, crop, photograph
from blpo_dspy.data.sources.photographs.degradations import degrade, draw_flaws
from blpo_dspy.embedded.sight import flaws
from blpo_dspy.embedded.sight.perception import Perception, decode
from blpo_dspy.embedded.sight.pixels import png
from blpo_dspy.errors import BlpoError


@pytest.mark.slow
def test_levels_are_read_from_crops_it_was_not_fitted_on() -> None:
    """At least 95 % of all levels, and 85 % where a flaw is present, are exact on new crops."""
    rng, perception = random.Random("perception test"), Perception()
    seen, truth = [], []
    for i in range(120):
        levels = draw_flaws(rng)
        found = perception(png(degrade(crop(photograph(NAMES[i % 2]), rng), levels, rng))).levels
        seen.append([found.get(flaw, 0) for flaw in flaws.FLAWS])
        truth.append([levels.get(flaw, 0) for flaw in flaws.FLAWS])
    exact, there = np.array(seen) == np.array(truth), np.array(truth) > 0
    assert exact.mean() > 0.95
    assert exact[there].mean() > 0.85


@pytest.mark.slow
def test_an_ordinary_photograph_shows_no_severe_flaw() -> None:
    """The sample photographs as they are, large and not normalised, pass without a severe fault."""
    for name in NAMES:
        data = io.BytesIO()
        Image.fromarray(photograph(name)).save(data, "PNG")
        assert all(level < flaws.LEVELS for level in Perception()(data.getvalue()).levels.values())


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_any_kind_of_picture_is_measured(mode: str) -> None:
    """Grey, palette, transparent and print colours are all read."""
    data = io.BytesIO()
    Image.new("RGB", (40, 30), (90, 120, 60)).convert(mode).save(data, "TIFF")
    assert Perception()(data.getvalue()).scene


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (2000, 16)])
def test_odd_sizes_are_measured(size: tuple[int, int]) -> None:
    """Tiny and very long pictures give finite measures."""
    data = io.BytesIO()
    Image.effect_noise(size, 30).convert("RGB").save(data, "PNG")
    assert max(decode(data.getvalue()).shape) <= 256
    assert Perception()(data.getvalue()).scene


def test_bytes_that_are_no_picture_are_refused_with_the_reason() -> None:
    """The message says what to send instead."""
    with pytest.raises(BlpoError, match=r"cannot be decoded .* PNG"):
        Perception()(b"not an image")


def test_a_cut_off_file_is_refused() -> None:
    """Half a PNG isn't read as half a picture."""
    whole = photographs()[0].image
    with pytest.raises(BlpoError, match="cannot be decoded"):
        Perception()(whole[: len(whole) // 2])


def test_the_memory_is_bounded_and_does_not_change_what_is_seen() -> None:
    """With room for two, the oldest goes, and looking again gives the same."""
    perception, rows = Perception(remembered=2), photographs()[:5]
    first = [perception(row.image) for row in rows]
    assert len(perception._memory) == 2
    assert [perception(row.image) for row in rows] == first
