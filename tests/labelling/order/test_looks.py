"""The look of an image: near for alike pictures, far for others, none for what cannot be read."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageFilter

from blpo_dspy.labelling.order.looks import look_of


def png(image: Image.Image) -> bytes:
    """Its bytes."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def noise(seed: int, tint: tuple[float, float, float] = (1, 1, 1)) -> Image.Image:
    """A photograph of grain."""
    pixels = np.random.default_rng(seed).random((90, 120, 3)) * 255 * np.array(tint)
    return Image.fromarray(pixels.astype(np.uint8))


def distance(first: Image.Image, second: Image.Image) -> float:
    """Between their looks."""
    one, other = (look_of([("image", png(image))]) for image in (first, second))
    assert one is not None
    assert other is not None
    return float(np.linalg.norm(one - other))


def test_alike_pictures_are_near_and_others_far() -> None:
    """Another crop of the same grain, beside another colour or blur."""
    near = distance(noise(0), noise(1))
    assert near < distance(noise(0), noise(0, (1, 0.4, 0.4))) / 3
    assert near < distance(noise(0), noise(0).filter(ImageFilter.GaussianBlur(6))) / 3


def test_an_item_of_two_images_has_both_looks() -> None:
    """In order; a list of images has their mean."""
    first, second = png(noise(0)), png(noise(0, (0, 0, 1)))
    pair, turned = look_of([("a", first), ("b", second)]), look_of([("a", second), ("b", first)])
    several, other = look_of([("a", first), ("a", second)]), look_of([("a", second), ("a", first)])
    assert pair is not None
    assert several is not None
    assert len(pair) == 2 * len(several)
    assert not np.allclose(pair, turned)
    assert np.allclose(several, other)


def test_what_cannot_be_read_has_no_look() -> None:
    """A damaged file, and an address, which is never loaded."""
    assert look_of([("image", b"no image")]) is None
    assert look_of([("image", "http://127.0.0.1:9/a.png")]) is None
