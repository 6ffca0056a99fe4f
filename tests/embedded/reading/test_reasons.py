"""Reasons as the embedded engine understands them: people's words, and what they say about a mistake."""

from __future__ import annotations

import json
from typing import Any

import pytest

from blpo_dspy.embedded.reading.evidence import Mistake, directions, mistakes
from blpo_dspy.embedded.reading.reasons import cut_out, named_in, taken_out
from blpo_dspy.embedded.reading.request import Reading
from blpo_dspy.embedded.sight.perception import Perception
from blpo_dspy.embedded.sight.senses import Senses, Traits

SENSES = Senses(0, Traits(), Perception())


def found(**error: Any) -> Mistake:
    """Returns the one mistake of a prompt."""
    errors = {"errors": json.dumps([error])}
    (mistake,) = mistakes(Reading("chat", (), "", errors, errors["errors"], (), 0), SENSES)
    return mistake


@pytest.mark.parametrize(
    ("reason", "flaws"),
    [
        ("ann (2): too soft; bob (3): grainy", ("blur", "noise")),
        ("way too blurry and over-exposed", ("blur", "overexposure")),
        ("I like it, not grainy at all", ()),
        ("no crisp edges", ("blur",)),
        ("boring subject", ()),
    ],
)
def test_people_are_understood_in_their_words(reason: str, flaws: tuple[str, ...]) -> None:
    """In the engine's own as well; what is denied is not spoken of."""
    assert named_in(reason) == flaws


def test_a_reason_is_neither_a_description_nor_a_label() -> None:
    """It is taken out of an object, and out of text that quotes it."""
    kept, reason = taken_out({"label": 2, "human_reason": "too soft", "description": "a street"})
    assert (kept, reason) == ({"label": 2, "description": "a street"}, "too soft")
    text, reason = cut_out("People gave the label 2: judge 2 too high. Beside the label they wrote: “too soft”")
    assert reason == "too soft"
    assert "too soft" not in text
    plain = "People gave the label 2: judge 2 too high. It has severe noise."
    assert cut_out(plain) == (plain, "")


def test_where_the_judge_is_too_high_people_weighed_what_they_speak_of() -> None:
    """Even if the description overlooks it."""
    shown = {"description": "There is severe noise.", "human_label": "2", "judge_label": "4"}
    assert found(**shown).blamed == {"noise": 3}
    mistake = found(**shown, human_reason="looks smeared")
    assert mistake.levels == {"blur": 2, "noise": 3}
    assert mistake.blamed == {"blur": 2}


def test_where_the_judge_is_too_low_people_forgave_what_they_do_not_speak_of() -> None:
    """Where they speak of all that is seen, nothing is set apart."""
    shown = {"description": "There is severe noise. There is slight blur.", "human_label": "4", "judge_label": "2"}
    assert found(**shown, human_reason="looks smeared").blamed == {"noise": 3}
    assert found(**shown, human_reason="smeared and grainy").blamed == {"noise": 3, "blur": 1}


def test_a_reason_without_a_flaw_changes_nothing() -> None:
    """The description alone counts."""
    shown = {"description": "There is severe noise.", "human_label": "2", "judge_label": "4"}
    assert found(**shown, human_reason="boring") == found(**shown)


def test_a_reason_gives_no_advice_on_weights() -> None:
    """A person who writes so speaks of a picture, not of the judge's instruction."""
    errors = {"errors": json.dumps([{"human_label": "2", "human_reason": "noise should count more", "feedback": ""}])}
    assert directions(Reading("chat", (), "", errors, errors["errors"], (), 0)) == {}
