"""The inputs of a judge: which names they can have, and which values."""

from __future__ import annotations

import keyword
from typing import Any

import dspy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import encoded
from PIL import Image

from blpo_dspy.data.fields import InputFields, check_context, check_images, images_of, texts_of
from blpo_dspy.data.images.prepare import PixelPolicy
from blpo_dspy.errors import BlpoError


@pytest.mark.parametrize(
    "name",
    [
        "label", "image", "description", "reasoning", "answer", "id", "group", "completed", "lm", "config", "demos",
        "self", "instructions", "fields", "_x",
    ],
)  # fmt: skip
def test_a_name_that_the_judge_or_dspy_uses_cannot_be_context(name: str) -> None:
    """The error says what to do."""
    with pytest.raises(BlpoError, match=f"'{name}' is taken by the judge or DSPy; rename the column"):
        check_context([name])


@pytest.mark.parametrize(
    "context",
    ["prompt", ["a prompt"], ["class"], [""], ["1st"], ["prompt", "prompt"], ["l\u0430bel"], ["\uff4cabel"], [None]],
)
def test_a_name_that_no_input_can_have_is_refused(context: Any) -> None:
    """Text instead of a list, no identifier, a keyword, twice the same, letters that look like others."""
    with pytest.raises(BlpoError, match="context"):
        check_context(context)


@settings(max_examples=20, derandomize=True, deadline=None)
@given(st.sampled_from([*dir(dspy.Signature), *keyword.kwlist]) | st.text("abcdeilmt_", min_size=1, max_size=6))
def test_every_permitted_name_makes_a_signature(name: str) -> None:
    """What passes the check works in DSPy."""
    try:
        check_context([name])
    except BlpoError:
        return
    signature = dspy.Signature("image: dspy.Image -> label: str").append(name, dspy.InputField(), str)
    assert list(signature.input_fields) == ["image", name]


PNG = encoded(Image.new("RGB", (8, 8), "red"))


@pytest.mark.parametrize(
    ("text", "name", "several"),
    [
        ("image", "image", False),
        ("candidate: dspy.Image", "candidate", False),
        ("photos: list[dspy.Image]", "photos", True),
        (" photos :list[ Image ] ", "photos", True),
    ],
)
def test_an_image_input_is_one_image_or_a_list_by_its_type(text: str, name: str, several: bool) -> None:
    """The type is written as in a signature of DSPy."""
    (image,) = check_images([text])
    assert (image.name, image.several) == (name, several)
    assert check_images([str(image)]) == (image,)


@pytest.mark.parametrize(
    "images",
    [
        (),
        "image",
        ["a", "a"],
        ["a b"],
        ["photos: list"],
        ["photos: list[str]"],
        ["label"],
        ["fields"],
        [None],
        ["a:"],
        5,
    ],
)
def test_image_inputs_that_no_signature_can_have_are_refused(images: Any) -> None:
    """None at all, a text instead of a list, twice the same, another type, a name that is taken."""
    with pytest.raises(BlpoError, match="image"):
        check_images(images)


def test_an_input_is_an_image_or_a_text() -> None:
    """A name cannot be both."""
    with pytest.raises(BlpoError, match="each name once"):
        InputFields.of(["picture"], ["picture"])


@pytest.mark.parametrize(
    ("inputs", "problem"),
    [
        ({"left": PNG, "views": [PNG]}, "missing: prompt$"),
        ({"left": PNG, "views": [PNG], "prompt": "x", "right": PNG}, "; unknown: right$"),
        ({"left": PNG, "views": PNG, "prompt": "x"}, "'views' takes a list of images, got bytes"),
        ({"left": PNG, "views": [], "prompt": "x"}, "'views' takes a list of images, got an empty one"),
        ({"left": [PNG, PNG], "views": [PNG], "prompt": "x"}, "'left' takes one image, got a list"),
        ({"left": "a cat on a mat", "views": [PNG], "prompt": "x"}, "a cat on a mat: no such file"),
        ({"left": PNG, "views": [PNG, "a dog"], "prompt": "x"}, "a dog: no such file"),
        ({"left": PNG, "views": [PNG], "prompt": PNG}, "context input 'prompt' takes text, but holds a builtins bytes"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused(inputs: dict[str, Any], problem: str) -> None:
    """Each error names the input and says what it takes."""
    with pytest.raises(BlpoError, match=problem):
        InputFields.of(["left", "views: list[dspy.Image]"], ["prompt"]).prepare(inputs, PixelPolicy())


def test_images_are_found_among_the_inputs_by_what_they_are() -> None:
    """Whatever their names; fields that are no inputs don't count, unless no inputs are marked."""
    image, other = (PixelPolicy().prepare(encoded(Image.new("RGB", (8, 8), colour))) for colour in ("red", "blue"))
    example = dspy.Example(shot=image, views=[image, other], note="x", mask=other, label="A")
    assert images_of(example) == {"shot": (image,), "views": (image, other), "mask": (other,)}
    example = example.with_inputs("shot", "views", "note")
    assert images_of(example) == {"shot": (image,), "views": (image, other)}
    assert texts_of(example) == {"note": "x"}
