"""Checks before a run: whether the model sees, how large images may be, how the sets are."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import dspy
import numpy as np
from dspy.utils.exceptions import AdapterParseError
from PIL import Image

from blpo_dspy.data.fields import all_images
from blpo_dspy.data.images.prepare import ImageError, PixelPolicy, is_reference
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.models.adapter import one_call_adapter
from blpo_dspy.models.image_tokens import image_tokens
from blpo_dspy.text import as_data

# Of 64 bits: re-encoded, resized and slightly retouched copies stay below, different pictures are mostly around 32.
_NEAR = 4
_FLAT = 8  # a picture of so few differences has no shape to compare
_COLOURS: Mapping[str, tuple[int, int, int]] = {"red": (214, 32, 32), "blue": (32, 64, 214)}
_SIDE = 64  # of the generated pictures, in pixels
_FEWEST = 5  # examples of a label in a set
PROBES = len(_COLOURS) + 1
"""LM calls of `sees_pixels` and `send_largest` together."""


@dataclass(frozen=True)
class PixelProbe:
    """What a model said about a plain red and a plain blue picture."""

    answers: Mapping[str, str]

    @property
    def sees(self) -> bool:
        """Whether each answer names its picture's colour and not the other's."""
        return all(
            colour in said.casefold() and not any(other in said.casefold() for other in self.answers if other != colour)
            for colour, said in self.answers.items()
        )


class MainColour(dspy.Signature):
    """Name the colour that fills the image."""

    image: dspy.Image = dspy.InputField()
    colour: str = dspy.OutputField(desc="one English word")


class MainColours(dspy.Signature):
    """Name the colour that fills most of the images."""

    images: list[dspy.Image] = dspy.InputField()
    colour: str = dspy.OutputField(desc="one English word")


def sees_pixels(lm: dspy.BaseLM) -> PixelProbe:
    """Asks a model what colour two generated pictures have; two calls.

    Some servers drop images silently, and the model then answers from the text alone.

    Raises:
        dspy.utils.exceptions.LMError: If the model refuses the request, as one without vision may.
    """
    answers = {}
    for name, colour in _COLOURS.items():
        buffer = io.BytesIO()
        Image.new("RGB", (_SIDE, _SIDE), colour).save(buffer, "PNG")
        uri = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
        with dspy.context(lm=lm, adapter=one_call_adapter(), trace=[]):
            try:
                said: Any = dspy.Predict(MainColour)(image=dspy.Image(uri)).colour
            except AdapterParseError as error:
                said = error.lm_response
        answers[name] = as_data(said)[:200]
    return PixelProbe(answers)


def needed_policy(policy: PixelPolicy, examples: Sequence[dspy.Example]) -> PixelPolicy:
    """Returns a policy whose limits are no higher than the largest images need; a URL may lead to any."""
    sides, sizes = [], []
    for example in examples:
        for image in all_images(example):
            uri = policy.prepare(image).url
            if is_reference(uri):
                return policy
            data = base64.b64decode(uri.partition(",")[2])
            with Image.open(io.BytesIO(data)) as picture:
                sides.append(max(picture.size))
            sizes.append(len(data))
    return replace(policy, max_side=max(16, *sides), max_bytes=max(4096, *sizes))


def image_limits(policy: PixelPolicy, needed: PixelPolicy, models: Sequence[str], images: int = 1) -> str:
    """Returns in a sentence how large images are at most, under a policy and as needed here, and their tokens."""
    side, tokens = needed.max_side, []
    for model in models:
        count = image_tokens(model, side, side)
        span = f"{count.low:,}" if count.low == count.high else f"between {count.low:,} and {count.high:,}"
        tokens.append(f"{span} prompt tokens with {model}")
    together = "" if images == 1 else f"; a request has up to {images} images"
    return (
        f"an image is sent with at most {policy.max_side} pixels a side and {policy.max_bytes / 1e6:.2g} MB; the "
        f"largest here has {side} and {needed.max_bytes / 1e6:.2g} MB: at most {', '.join(tokens)}{together}"
    )


def send_largest(lm: dspy.BaseLM, policy: PixelPolicy, images: int = 1) -> None:
    """Sends a model images as large as a policy allows, in pixels and in bytes, in one call; any answer is accepted.

    Raises:
        dspy.utils.exceptions.LMError: If the model refuses it.
    """
    side = policy.max_side
    pixels = np.zeros((side, side, 3), dtype=np.uint8)
    noisy = min(side, int(0.95 * policy.max_bytes / pixels[0].nbytes))  # rows; noise doesn't shrink in a file
    pixels[:noisy] = np.random.default_rng(0).integers(0, 256, pixels[:noisy].shape)
    image = policy.prepare(Image.fromarray(pixels))
    with dspy.context(lm=lm, adapter=one_call_adapter(), trace=[]), suppress(AdapterParseError):
        dspy.Predict(MainColours)(images=[image] * images)


def difference_hash(image: dspy.Image) -> int | None:
    """Returns the 64-bit difference hash of an image: of 9 × 8 grey cells, which are brighter than the next.

    Source: N. Krawetz, "Kind of Like That" (2013). None for an image that is passed on by URL, cannot be decoded, or is
    too flat to compare.
    """
    if is_reference(image.url):
        return None
    try:
        uri = PixelPolicy(check="decode").prepare(image).url
    except ImageError:
        return None
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as picture:
        cells = np.asarray(picture.convert("L").resize((9, 8), Image.Resampling.BOX), dtype=np.int16)
    brighter = (cells[:, 1:] > cells[:, :-1]).ravel()
    flat = min(brighter.sum(), (~brighter).sum()) < _FLAT
    return None if flat else int("".join("1" if bit else "0" for bit in brighter), 2)


def near_duplicates(sets: Mapping[str, Sequence[dspy.Example]]) -> list[str]:
    """Returns one line for each pair of pictures in different sets that look alike, the closest first."""
    hashed = {
        name: [(e, known) for e in examples for i in all_images(e) if (known := difference_hash(i)) is not None]
        for name, examples in sets.items()
    }
    found = []
    for (name, first), (other, second) in combinations(hashed.items(), 2):
        if not first or not second:
            continue
        rows, columns = (np.array([known for _, known in part], dtype=np.uint64) for part in (first, second))
        for i, row in enumerate(rows):
            bits = np.unpackbits((columns ^ row).view(np.uint8).reshape(-1, 8), axis=1).sum(axis=1)
            for j in np.flatnonzero(bits <= _NEAR):
                a, b = first[i][0], second[j][0]
                found.append((int(bits[j]), f"{name} {a.get('id', i)} looks like {other} {b.get('id', j)}"))
    return [f"{line} ({bits} of 64 bits differ)" for bits, line in sorted(found)]


def scarce_labels(sets: Mapping[str, Sequence[dspy.Example]], labels: LabelSpace) -> list[str]:
    """Returns one line for each set in which a label has fewer than five examples."""
    lines = []
    for name, examples in sets.items():
        counts = Counter(example.label for example in examples)
        scarce = [f"{counts[label]} of label {label}" for label in labels.labels if counts[label] < _FEWEST]
        if examples and scarce:
            lines.append(f"{name} ({len(examples)} examples) holds few of some labels: {', '.join(scarce)}")
    return lines
