"""The words the engine knows: what it writes it reads back, and it reads what others write."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blpo_dspy.data.sources.photographs import RATERS, ceiling_instruction, ceiling_verbalizer_instruction
from blpo_dspy.embedded import FLAWS
from blpo_dspy.embedded.reading import vocabulary as v

WEIGHTS = st.dictionaries(st.sampled_from(FLAWS), st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]))
LEVELS = st.dictionaries(st.sampled_from(FLAWS), st.integers(1, 3))


@pytest.mark.slow
@given(weights=WEIGHTS)
@settings(max_examples=50)
def test_written_weights_are_read_back(weights: dict[str, float]) -> None:
    """In any mixture."""
    assert v.read_weights(v.write_weights(weights)) == weights


@pytest.mark.slow
@given(levels=LEVELS, seed=st.integers(0, 999))
@settings(max_examples=50)
def test_written_levels_are_read_back(levels: dict[str, int], seed: int) -> None:
    """With those that are absent as 0."""
    absent = [flaw for flaw in FLAWS if flaw not in levels]
    text = v.write_levels(levels, absent, random.Random(seed))
    assert v.read_levels(text) == {**levels, **dict.fromkeys(absent, 0)}


@pytest.mark.slow
@given(weights=WEIGHTS, changes=WEIGHTS, rest=st.text("abc dx,\n", max_size=30))
@settings(max_examples=50)
def test_new_weights_leave_the_rest_of_an_instruction_word_for_word(
    weights: dict[str, float], changes: dict[str, float], rest: str
) -> None:
    """Only the engine's own sentences are rewritten."""
    before = v.reweighted(f"Rate it.{rest}", weights)
    after = v.reweighted(before, changes)
    assert after.startswith(f"Rate it.{rest}".strip())
    assert v.read_weights(after) == {**weights, **changes}


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        (
            "Blur is decisive; noise must not lower the rating, low contrast hardly matters.",
            {"blur": 1.0, "noise": 0.0, "low contrast": 0.25},
        ),
        ("Penalise grainy pictures heavily, but forgive a colour cast.", {"noise": 0.75, "colour cast": 0.0}),
        ("Slight blur counts strongly.", {"blur": 0.75}),
        ("Consider overexposure and underexposure.", {"overexposure": 0.5, "underexposure": 0.5}),
        ("- JPEG artifacts: minor fault\n- out-of-focus subject: critical", {"blocking": 0.25, "blur": 1.0}),
        ("Count noise strongly. Ignore noise.", {"noise": 0.0}),
        ("Rate the technical quality of this photograph.", {}),
    ],
)
def test_weights_are_read_from_what_others_write(text: str, weights: dict[str, float]) -> None:
    """Synonyms, clauses, lists; the later statement wins."""
    assert v.read_weights(text) == weights


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        ("The image is very noisy and slightly blurry.", {"noise": 3, "blur": 1}),
        ("Severe blur and slight noise, with moderate low contrast.", {"blur": 3, "noise": 1, "low contrast": 2}),
        ("Blur: severe. Noise: none. Blocking: slight.", {"blur": 3, "noise": 0, "blocking": 1}),
        ("There is no blur, noise or blocking.", {"blur": 0, "noise": 0, "blocking": 0}),
        ("It is underexposed.", {"underexposure": 2}),
        ("A bowl of fruit on a table by the window.", {}),
    ],
)
def test_levels_are_read_from_what_others_write(text: str, levels: dict[str, int]) -> None:
    """Before and after the flaw, denied, or without any degree."""
    assert v.read_levels(text) == levels


def test_an_instruction_asks_for_what_it_names_and_not_for_what_it_excludes() -> None:
    """Named flaws are requested, denied ones are not."""
    assert v.requested("Look for blur and grain. Do not mention any colour cast.") == ("blur", "noise")


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("Count blur at 60 %.", {"blur": 0.6}),
        ("Noise counts 60%, blur weighs 100 %; haze has a weight of 40 percent.", {"noise": 0.6, "blur": 1.0,
                                                                                   "low contrast": 0.4}),
        ("Count blur at 250 %.", {"blur": 1.0}),
        ("Noise that covers 60 % of the picture is decisive.", {"noise": 1.0}),
    ],
)  # fmt: skip
def test_a_share_is_a_weight_where_it_says_how_much_a_flaw_counts(text: str, weights: dict[str, float]) -> None:
    """At most the whole; another percentage is none."""
    assert v.read_weights(text) == weights


@pytest.mark.parametrize("name", RATERS)
def test_the_ceiling_instruction_states_every_weight_of_the_rater(name: str) -> None:
    """To the percent, after the task, which stays."""
    rater = RATERS[name]
    text = ceiling_instruction(rater, "Rate this photograph.")
    assert text.startswith("Rate this photograph.")
    stated = v.read_weights(text)
    assert set(stated) == set(FLAWS)
    assert stated == pytest.approx({flaw: rater.weights.get(flaw, 0.0) for flaw in FLAWS})
    asked = v.requested(ceiling_verbalizer_instruction(rater))
    assert set(asked) == {flaw for flaw in FLAWS if stated[flaw] > 0}
