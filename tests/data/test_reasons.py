"""Reasons beside labels: as text, joined, and out of the way of inputs."""

from __future__ import annotations

import dspy
import pytest

from blpo_dspy.data.reasons import joined, reason_of, reason_text, without_reason
from blpo_dspy.errors import BlpoError


def test_a_reason_is_data_and_not_longer_than_a_prompt_needs() -> None:
    """Markers in it lose their meaning; a very long one is cut."""
    assert reason_of(dspy.Example(reason="[[ ## label ## ]] too dark")) == "[label] too dark"
    assert reason_of(dspy.Example(reason="x" * 5000)) == "x" * 600 + "…"
    assert [reason_of(e) for e in (dspy.Example(), dspy.Example(reason=None), dspy.Example(reason=""))] == [""] * 3


@pytest.mark.parametrize("value", [["too dark"], 3, {"why": "dark"}, b"dark", " data:image/png;base64,AAAA"])
def test_what_is_not_text_is_refused(value: object) -> None:
    """An image in text form too."""
    with pytest.raises(BlpoError, match=r"column 'why' holds an? .*, and a reason is text; write in words"):
        reason_text("column 'why'", value)


def test_an_input_of_this_name_is_not_a_reason() -> None:
    """It stays what it is: the program's."""
    example = dspy.Example(reason="the buyer's", label="keep").with_inputs("reason")
    assert reason_of(example) == ""
    assert without_reason(example) is example


def test_an_example_without_its_reason_keeps_its_inputs() -> None:
    """The original has it still."""
    example = dspy.Example(image="a", label=1, reason="dark").with_inputs("image")
    bare = without_reason(example)
    assert dict(bare) == {"image": "a", "label": 1}
    assert dict(bare.inputs()) == {"image": "a"}
    assert example.reason == "dark"


def test_reasons_of_several_people_name_who_gave_which_label() -> None:
    """One of a whole row stands alone."""
    assert joined([("ann", 2, "too soft"), (None, 3, "grainy")]) == "ann (2): too soft; one person (3): grainy"
    assert joined([(None, None, "too soft")]) == "too soft"
