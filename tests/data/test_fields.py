"""Names that further inputs of a judge can have."""

from __future__ import annotations

import keyword
from typing import Any

import dspy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blpo_dspy.data.fields import check_context
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
    """Text in place of a list, no identifier, a keyword, twice the same, letters that look like others."""
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
