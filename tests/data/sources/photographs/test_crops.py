"""Crops and degradations: the target effects hold whatever the picture."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest
from PIL import Image

from blpo_dspy.data.sources.photographs.crops import NAMES, SIDE, crop, photograph
from blpo_dspy.data.sources.photographs.degradations import degrade, draw_flaws
from blpo_dspy.embedded.sight import flaws
from blpo_dspy.embedded.sight.pixels import Pixels, luminance, png, saturation


def crops(count: int, seed: str = "crops") -> list[Pixels]:
    """Returns normalised crops of both photographs."""
    rng = random.Random(seed)
    return [crop(photograph(NAMES[i % 2]), rng) for i in range(count)]


def test_crops_look_alike_in_brightness_contrast_and_colour() -> None:
    """Normalising brings every crop into the same bands, whatever the photograph."""
    for pixels in crops(12):
        grey = luminance(pixels)
        channels = pixels.reshape(-1, 3).mean(axis=0)
        assert pixels.shape == (SIDE, SIDE, 3)
        assert 95 < grey.mean() < 145
        assert 32 < grey.std() < 64
        assert 0.2 < saturation(pixels).mean() < 0.45
        assert np.ptp(channels) / channels.mean() < 0.25


@pytest.mark.parametrize(("level", "brightness"), [(1, 60), (2, 34), (3, 17)])
def test_underexposure_brings_every_crop_to_the_same_brightness(level: int, brightness: int) -> None:
    """The effect is the target, not the amount."""
    for pixels in crops(4):
        dark = degrade(pixels, {flaws.UNDEREXPOSURE: level}, random.Random(0))
        assert luminance(dark).mean() == pytest.approx(brightness, abs=1)


@pytest.mark.parametrize(("level", "share"), [(1, 0.15), (2, 0.40), (3, 0.70)])
def test_overexposure_drives_a_share_of_every_crop_to_white(level: int, share: float) -> None:
    """The stated share of the luminance ends near white, whatever the crop."""
    for pixels in crops(4):
        bright = luminance(degrade(pixels, {flaws.OVEREXPOSURE: level}, random.Random(0)))
        assert np.quantile(bright, 1 - share) >= 205


@pytest.mark.parametrize(("level", "target"), [(1, 0.60), (2, 0.77), (3, 0.93)])
def test_oversaturation_brings_every_crop_to_the_same_saturation(level: int, target: float) -> None:
    """Pale and vivid crops end alike."""
    for pixels in crops(4):
        vivid = degrade(pixels, {flaws.OVERSATURATION: level}, random.Random(0))
        assert saturation(vivid).mean() == pytest.approx(target, abs=0.05)


@pytest.mark.parametrize("flaw", flaws.FLAWS)
def test_a_higher_level_changes_the_picture_more(flaw: str) -> None:
    """Each flaw grows from level to level."""
    for pixels in crops(3):
        changes = [
            float(np.abs(degrade(pixels, {flaw: level}, random.Random(0)) - pixels).mean()) for level in (1, 2, 3)
        ]
        assert 0 < changes[0] < changes[1] < changes[2]


def test_drawn_flaws_never_hide_each_other_and_are_at_most_two() -> None:
    """Zero, one and two flaws occur, all flaws and levels too."""
    rng = random.Random(1)
    drawn = [draw_flaws(rng) for _ in range(2000)]
    assert {len(x) for x in drawn} == {0, 1, 2}
    assert {flaw for x in drawn for flaw in x} == set(flaws.FLAWS)
    assert {level for x in drawn for level in x.values()} == {1, 2, 3}
    assert not any(frozenset(x) in flaws.HIDING for x in drawn)


def test_pictures_are_stored_without_loss() -> None:
    """PNG gives back the pixels."""
    pixels = np.rint(crops(1)[0])
    with Image.open(io.BytesIO(png(pixels))) as image:
        assert image.format == "PNG"
        assert np.array_equal(np.asarray(image), pixels)
