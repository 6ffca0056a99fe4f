"""Several pictures in one request: their names, their sections, and what one has more of than another."""

from __future__ import annotations

import pytest

from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.embedded.reading.pictures import (
    beyond_original,
    difference,
    has_original,
    named_images,
    pair_labels,
    place_in_pair,
    section,
    sections,
)
from blpo_dspy.embedded.reading.request import Reading


def reading(**inputs: str) -> Reading:
    """A request with two pictures."""
    return Reading("chat", (), "", inputs, "", (b"first", b"second"), 2)


def test_pictures_have_the_names_of_their_inputs() -> None:
    """Where there are several; a picture within a text is none of them."""
    assert named_images(reading(left="\ue0000\ue001", right="\ue0001\ue001", prompt="x")) == {
        "left": b"first", "right": b"second",
    }  # fmt: skip
    assert named_images(reading(image="\ue0000\ue001", text="see \ue0001\ue001")) == {}


def test_sections_are_read_back() -> None:
    """One picture has none."""
    text = " ".join([section("left", "There is severe blur."), section("right", "No blur is visible.")])
    assert {name: report.strip() for name, report in sections(text).items()} == {
        "left": "There is severe blur.", "right": "No blur is visible.",
    }  # fmt: skip
    assert sections("Image left: There is severe blur.") == sections("There is severe blur.") == {}


@pytest.mark.parametrize(
    ("space", "labels"),
    [
        (LabelSpace.pairwise("A", "B", tie="tie"), ("A", "B", "tie")),
        (LabelSpace.pairwise("left one", "right one"), ("left one", "right one")),
        (LabelSpace("A", "B", "tie"), ()),
    ],
)
def test_the_labels_of_pairs_are_those_that_the_prompt_explains(space: LabelSpace, labels: tuple[str, ...]) -> None:
    """As the judge's field describes them."""
    assert pair_labels(f"one of the labels and nothing else: {space.describe()}") == labels
    assert [place_in_pair(label, labels) for label in labels] == [1, -1, 0][: len(labels)]


def test_a_difference_is_signed() -> None:
    """What both have alike counts for nothing."""
    levels = {"left": {"blur": 3, "noise": 1}, "right": {"noise": 1, "blocking": 2}}
    assert difference(levels) == {"blur": 3, "blocking": -2}


def test_an_edit_is_judged_by_what_the_original_does_not_have() -> None:
    """Whichever comes first; without an original by name the last picture is judged."""
    original, candidate = {"blur": 2, "noise": 3}, {"blur": 3, "noise": 3, "blocking": 1}
    for levels in ({"original": original, "candidate": candidate}, {"candidate": candidate, "original": original}):
        assert has_original(levels)
        assert beyond_original(levels) == {"blur": 1, "blocking": 1}
    assert beyond_original({"one": original, "other": candidate}) == candidate
