"""The inputs of a judge: named images and further texts, the names that they can have, and their values."""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dspy
import numpy as np
from PIL import Image

from blpo_dspy.data.images.prepare import PixelPolicy, fingerprint
from blpo_dspy.errors import BlpoError, brief, check_kind
from blpo_dspy.text import as_data

IMAGE = "image"
"""The image input of a judge that has one and gives it no other name."""

# Fields of the judge and the verbalizer, of an example, and of DSPy's chat format, which ends with "completed".
_OURS = frozenset({"label", "description", "reasoning", "answer", "id", "group", "completed"})
# Arguments that DSPy's calls reserve.
_DSPYS = frozenset({"self", "signature", "new_signature", "demos", "config", "lm", "prediction"})
_IMAGE_INPUT = re.compile(r"([^:]*?)\s*(?::\s*(?:dspy\.)?(?:Image|(list)\[\s*(?:dspy\.)?Image\s*\])\s*)?")


@dataclass(frozen=True)
class ImageInput:
    """An image input of this name: one image, or, with `several`, a list of them."""

    name: str
    several: bool = False

    def __str__(self) -> str:
        return f"{self.name}: list[dspy.Image]" if self.several else self.name

    @property
    def annotation(self) -> Any:
        """Its type in a signature."""
        return list[dspy.Image] if self.several else dspy.Image

    def prepare(self, value: Any, policy: PixelPolicy) -> Any:
        """Returns the image, or the list of them, under a pixel policy."""
        is_list = isinstance(value, (list, tuple))
        if is_list != self.several:
            takes = "a list of images" if self.several else "one image"
            raise BlpoError(f"input {self.name!r} takes {takes}, got {'a list' if is_list else type(value).__name__}")
        if not self.several:
            return policy.prepare(value)
        if not value:
            raise BlpoError(f"input {self.name!r} takes a list of images, got an empty one")
        return [policy.prepare(image) for image in value]


@dataclass(frozen=True)
class InputFields:
    """What a judge takes: its images in order, at least one, then the names of its context texts."""

    images: tuple[ImageInput, ...] = (ImageInput(IMAGE),)
    context: tuple[str, ...] = ()

    @classmethod
    def of(cls, images: Sequence[str] = (IMAGE,), context: Sequence[str] = ()) -> InputFields:
        """Returns the inputs of these names; "photos: list[dspy.Image]" names a list of images.

        Raises:
            BlpoError: If there is no image, or a name is taken, given twice, or not an identifier.
        """
        texts = check_context(context)
        return cls(check_images(images, texts), texts)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all inputs, in order."""
        return (*(image.name for image in self.images), *self.context)

    def check(self, inputs: Mapping[str, Any]) -> None:
        """Checks that each input has a value, and that there is no other."""
        missing = [name for name in self.names if inputs.get(name) is None]
        unknown = [name for name in inputs if name not in self.names]
        if missing or unknown:
            wrong = [
                f"{what}: {brief(', '.join(names))}"
                for what, names in (("missing", missing), ("unknown", unknown))
                if names
            ]
            raise BlpoError(f"this judge takes {', '.join(self.names)}; {', '.join(wrong)}")

    def prepare(self, inputs: Mapping[str, Any], policy: PixelPolicy) -> dict[str, Any]:
        """Returns the inputs as predictors take them: images under the pixel policy, context as plain data."""
        self.check(inputs)
        texts = {name: context_text(name, inputs[name]) for name in self.context}
        return {**{image.name: image.prepare(inputs[image.name], policy) for image in self.images}, **texts}


def check_images(images: Sequence[str], context: Sequence[str] = ()) -> tuple[ImageInput, ...]:
    """Returns image inputs by their names; "photos: list[dspy.Image]" names a list of images.

    Args:
        images: The names, in order.
        context: The names of the text inputs beside them.

    Raises:
        BlpoError: If there is none, or a name is taken, given twice, or not an identifier.
    """
    if isinstance(images, str):
        raise BlpoError(f"images is a list of names, got the text {images!r}; write images=[{images!r}]")
    check_kind("images", images, Sequence, "list of names", "images=['image']")
    found = []
    for text in images:
        match = _IMAGE_INPUT.fullmatch(text.strip()) if isinstance(text, str) else None
        if match is None:
            raise BlpoError(
                f"image input {brief(repr(text))} is neither a name nor one with a type, as in 'photos: "
                "list[dspy.Image]'",
                option="images",
            )
        _check_name("image", match[1], frozenset())
        found.append(ImageInput(match[1], bool(match[2])))
    names = [image.name for image in found]
    if not found or len({*names, *context}) < len(names) + len(context):
        raise BlpoError(
            f"the inputs {', '.join([*names, *context]) or 'none'} must hold at least one image, each name once",
            option="images",
        )
    return tuple(found)


def check_context(context: Sequence[str]) -> tuple[str, ...]:
    """Returns the names of context inputs if all can be fields of a DSPy signature in addition to those of the judge.

    Raises:
        BlpoError: If a name is taken, given twice, or not an identifier.
    """
    if isinstance(context, str):
        raise BlpoError(f"context is a list of names, got the text {context!r}; write [{context!r}]")
    check_kind("context", context, Sequence, "list of names", "context=['prompt']")
    for name in context:
        _check_name("context", name, frozenset({IMAGE}))
    if len(set(context)) < len(context):
        raise BlpoError(f"context names {list(context)} are not all different")
    return tuple(context)


def _check_name(what: str, name: object, taken: frozenset[str]) -> None:
    """Only ASCII letters are allowed, as other letters can look like them: two fields would look the same."""
    if not isinstance(name, str) or not (name.isidentifier() and name.isascii()) or keyword.iskeyword(name):
        raise BlpoError(f"{what} name {name!r} is not an identifier; rename the column to letters a to z, digits and _")
    if name in _OURS | _DSPYS | taken or name.startswith("_") or hasattr(dspy.Signature, name):
        raise BlpoError(f"{what} name {name!r} is taken by the judge or DSPy; rename the column")


def context_text(name: str, value: Any) -> str:
    """Returns the text of a context input, as data.

    Raises:
        BlpoError: If it is or holds an image or other media, whose bytes would become text.
    """
    media = _media(value)
    if media is not None:
        raise BlpoError(
            f"context input {name!r} takes text, but holds a {type(media).__module__.partition('.')[0]} "
            f"{type(media).__name__}; an image goes into an input of its own: images=('image', {name!r})"
        )
    return as_data(value)


def holds_media(value: Any) -> bool:
    """Whether a value is or holds an image or other media."""
    return _media(value) is not None


def _media(value: Any) -> Any:
    """The first image or other media in a value, None if there is none."""
    if isinstance(value, (dspy.Type, Image.Image, bytes, bytearray, memoryview, np.ndarray)):
        return value
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple, set)) else ()
    return next((media for part in parts if (media := _media(part)) is not None), None)


def images_of(example: dspy.Example) -> dict[str, tuple[dspy.Image, ...]]:
    """Returns the images among an example's inputs by their names: the only one, or those of a list.

    Of an example whose inputs are not marked, all fields count.
    """
    marked = getattr(example, "_input_keys", None) is not None
    found: dict[str, tuple[dspy.Image, ...]] = {}
    for name, value in (example.inputs() if marked else example).items():
        images = value if isinstance(value, (list, tuple)) else (value,)
        if images and all(isinstance(image, dspy.Image) for image in images):
            found[name] = tuple(images)
    return found


def all_images(example: dspy.Example) -> list[dspy.Image]:
    """Returns all images of an example, in the order of its inputs."""
    return [image for images in images_of(example).values() for image in images]


def image_prints(example: dspy.Example) -> list[str]:
    """Returns the fingerprint of each image of an example."""
    return [fingerprint(image) for image in all_images(example)]


def texts_of(example: dspy.Example) -> dict[str, str]:
    """Returns an example's other inputs, as text."""
    images = images_of(example)
    return {name: str(value) for name, value in example.inputs().items() if name not in images}
