"""Ranges of scores: construction, loss, and reading scores out of answers and cells."""

from __future__ import annotations

import copy
import json
import math
import pickle
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from blpo_dspy.data.labels.scores import BINS, ScoreRange, quantile_bins
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import BlpoError

PERCENT = LabelSpace.scores(0, 100)
TENTHS = LabelSpace.scores(0, 1, 0.1)
SIGNED = LabelSpace.scores(-1, 1)
HALVES = LabelSpace.scores(0, 10, 0.5)
RANGES = [PERCENT, TENTHS, SIGNED, HALVES, LabelSpace.scores(1, 5), LabelSpace.scores(0, 1000)]

checked = settings(max_examples=150, deadline=None, derandomize=True)


def bounds_of(space: LabelSpace) -> ScoreRange:
    """Returns the range of a space that has one."""
    assert space.score_range is not None
    return space.score_range


@st.composite
def scored(draw: st.DrawFn, count: int = 1) -> tuple[LabelSpace, list[float]]:
    """Draws a range and some scores of it, to a tenth of its steps or to three decimals."""
    space = draw(st.sampled_from(RANGES))
    found = bounds_of(space)
    parts = draw(st.lists(st.floats(0, 1), min_size=count, max_size=count))
    return space, [found.at(part) for part in parts]


# --- construction ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ((5, 1), "from a lower to a higher number, got 5 to 1"),
        ((3, 3), "from a lower to a higher number"),
        (("0", 100), "low='0' is not a number"),
        ((0, None), "high=None is not a number"),
        ((0, True), "high=True is not a number"),
        ((0, math.inf), "high=inf is not a number"),
        ((math.nan, 1), "low=nan is not a number"),
        ((0, 100, 7), "step=7 does not divide the range"),
        ((0, 100, 0), "step=0 does not divide"),
        ((0, 100, -1), "step=-1 does not divide"),
        ((0, 100, "1"), "step='1' is not a number"),
    ],
)
def test_a_range_that_is_none_is_refused(given: tuple[Any, ...], reason: str) -> None:
    """The error names the argument and says what is wrong with it."""
    with pytest.raises(BlpoError, match=reason):
        LabelSpace.scores(*given)


@pytest.mark.parametrize("tolerance", [-1, 100, math.nan, "5", True])
def test_a_tolerance_outside_the_range_is_refused(tolerance: Any) -> None:
    """Neither may all answers be right, nor none."""
    with pytest.raises(BlpoError, match="tolerance="):
        LabelSpace.scores(0, 100, tolerance=tolerance)


def test_a_range_is_equal_to_itself_however_it_is_written_copied_or_stored() -> None:
    """Whole numbers and floats alike; JSON, pickle and deepcopy keep everything."""
    for space in [*RANGES, LabelSpace.scores(0, 100, tolerance=3.5)]:
        for other in (
            LabelSpace.from_dict(json.loads(json.dumps(space.to_dict()))),
            pickle.loads(pickle.dumps(space)),
            copy.deepcopy(space),
        ):
            assert other == space
            assert hash(other) == hash(space)
    assert LabelSpace.scores(0.0, 100.0) == PERCENT != LabelSpace.scores(0, 100, tolerance=3)
    assert PERCENT.kind == "scores"
    assert PERCENT


@pytest.mark.parametrize(
    "change",
    [{"low": 200}, {"low": "0"}, {"tolerance": None}, {"step": 7}, {"labels": []}, {"high": None}],
)
def test_a_changed_record_of_a_range_is_refused(change: dict[str, Any]) -> None:
    """What to_dict doesn't write is no range."""
    with pytest.raises(BlpoError):
        LabelSpace.from_dict({**PERCENT.to_dict(), **change})


def test_a_range_says_in_words_what_a_score_is() -> None:
    """As a prompt states it."""
    assert PERCENT.describe() == "a number from 0 to 100 (decimals are allowed)"
    assert HALVES.describe() == "a number from 0 to 10 (in steps of 0.5)"


# --- loss ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@given(scored(count=2))
@checked
def test_the_loss_is_the_distance_as_a_part_of_the_range(case: tuple[LabelSpace, list[float]]) -> None:
    """In [0, 1], symmetric, 0 for equal scores alone, 1 from end to end and for no answer."""
    space, (a, b) = case
    found = bounds_of(space)
    assert space.loss(a, b) == pytest.approx(abs(a - b) / (found.high - found.low))
    assert 0 <= space.loss(a, b) == space.loss(b, a) <= 1
    assert (space.loss(a, b) == 0) == (a == b)
    assert space.loss(*found.ends) == space.loss(a, None) == 1


@given(scored(count=2))
@checked
def test_right_is_what_is_within_the_tolerance(case: tuple[LabelSpace, list[float]]) -> None:
    """And that is what a tolerated loss says; no answer never is."""
    space, (a, b) = case
    tolerance = bounds_of(space).tolerance
    assume(abs(abs(a - b) - tolerance) > 1e-6)
    assert space.right(a, b) == (abs(a - b) < tolerance) == (space.loss(a, b) <= space.tolerated)
    assert space.right(a, a)
    assert not space.right(a, None)


def test_the_tolerance_itself_is_within_the_tolerance() -> None:
    """In decimals that binary fractions miss, too."""
    assert PERCENT.right(32.5, 42.5)
    assert LabelSpace.scores(0, 1).right(0.7, 0.8)
    assert not PERCENT.right(32.5, 42.6)
    assert LabelSpace.scores(0, 100, tolerance=0).right(32.5, 32.5)


def test_a_deviation_is_stated_in_points() -> None:
    """With the tolerance, where it is within it."""
    assert PERCENT.direction(50, 62.5) == "judge 12.5 too high"
    assert PERCENT.direction(50, 47.8) == "judge 2.2 too low (within the tolerance of 10)"
    assert PERCENT.direction(50, 50.0) == ""
    assert PERCENT.direction(50, None) == "judge gave no valid label"


def test_a_label_that_is_no_score_has_no_loss() -> None:
    """Off the range, off the steps, or text."""
    for strange in (101, -0.1, "50", True):
        with pytest.raises(BlpoError, match="is not a number from 0 to 100"):
            PERCENT.loss(strange, 50)
    with pytest.raises(BlpoError, match=r"in steps of 0\.5"):
        HALVES.loss(1, 1.2)


# --- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@given(scored(), st.sampled_from(["{}", " {} ", "**{}**", "Score: {}", "score = {}.", '"{}"', "{} points", "({})"]))
@checked
def test_a_score_is_read_in_any_wrapping(case: tuple[LabelSpace, list[float]], form: str) -> None:
    """And is a whole number where it is one."""
    space, (score,) = case
    read = space.parse(form.format(score))
    assert read == score
    assert isinstance(read, int) == float(score).is_integer()


@pytest.mark.parametrize(
    "answer",
    [
        "73.5",
        "73.50",
        "+73.5",
        73.5,
        "73.5/100",
        "73.5 / 100",
        "73.5 out of 100",
        "Score: 73.5",
        "**73.5**",
        "**Score:** 73.5/100",
        "Final answer: the score is 73.5.",
        "I would rate this image 73.5",
        '{"score": 73.5}',
        '{"reason": "2 faults", "score": "73.5/100"}',
        "<think>80? no</think>73.5",
        "73.5 (on a scale of 0-100)",
        "73.5\nIt has 2 faults.",
        "Score: 73.5, since it is blurry",
    ],
)
def test_answers_that_state_a_score(answer: object) -> None:
    """The forms in which models write scores."""
    assert PERCENT.parse(answer) == 73.5


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "none",
        "nan",
        "inf",
        "100.1",
        "101",
        "-1",
        "1e2",
        "73,5",
        "1,000",
        "73.5 or 80",
        "70-80",
        "70 to 80",
        "70\n80",
        "Score: 70. Score: 80.",
        "not 73.5",
        "maybe 70",
        "73.5/10",
        "73.5%",
        "7 3",
        "seventy",
        "9" * 400,
        None,
        True,
    ],
)
def test_answers_that_state_no_score_or_two(answer: object) -> None:
    """Nothing is guessed: out of range, two numbers, a range of numbers, another scale."""
    assert PERCENT.parse(answer) is None


@pytest.mark.slow
@given(scored(count=2))
@checked
def test_two_different_scores_are_no_answer(case: tuple[LabelSpace, list[float]]) -> None:
    """On one line or on two."""
    space, (a, b) = case
    assume(a != b)
    for answer in (f"{a} or {b}", f"{a}\n{b}", f"Score: {a}. Score: {b}."):
        assert space.parse(answer) is None


def test_a_score_between_two_steps_is_none() -> None:
    """It is not moved to the nearest one."""
    assert HALVES.parse("7.5") == 7.5
    assert HALVES.parse("7.3") is None
    assert TENTHS.parse("0.3") == 0.3
    assert LabelSpace.scores(0, 10, 1).parse("7.5") is None


@pytest.mark.slow
@given(st.text(max_size=60))
@checked
def test_any_text_is_a_score_of_the_range_or_none(text: str) -> None:
    """No text raises."""
    for space in (PERCENT, SIGNED, HALVES):
        read = space.parse(text)
        assert read is None or read in space


@pytest.mark.slow
@given(scored())
@checked
def test_a_cell_is_the_score_it_states(case: tuple[LabelSpace, list[float]]) -> None:
    """As a number or as text, in a form that tables have it in."""
    space, (score,) = case
    for cell in (score, float(score), str(score), f" {float(score)} ", f"{score:e}"):
        assert space.coerce(cell) == pytest.approx(score)


@pytest.mark.parametrize("cell", ["101", -1, "", "good", None, True, math.nan, "nan", "1e400", "0x10", "1_0", "50 60"])
def test_a_cell_that_is_no_score_is_refused(cell: object) -> None:
    """The error names the cell and the range."""
    with pytest.raises(BlpoError, match="is not a number from 0 to 100"):
        PERCENT.coerce(cell)


def test_a_cell_with_a_decimal_comma_is_refused_with_the_way_to_write_it() -> None:
    """It might also be two numbers."""
    with pytest.raises(BlpoError, match="write decimals with a point"):
        PERCENT.coerce("32,5")


# --- parts of the range ----------------------------------------------------------------------------------------------


@pytest.mark.slow
@given(st.lists(st.integers(0, 1000).map(lambda n: n / 10), min_size=1, max_size=80), st.integers(1, 12))
@checked
def test_bins_hold_equal_scores_together_and_in_order(scores: list[float], least: int) -> None:
    """Each score has a bin, bins don't overlap, and equal numbers fill them as far as ties allow."""
    names, bins = quantile_bins(scores, least)
    assert set(bins) == set(names)
    assert len(names) <= BINS
    places = {score: names.index(name) for score, name in zip(scores, bins, strict=True)}
    assert [places[score] for score in sorted(places)] == sorted(places.values())
    for score, name in zip(scores, bins, strict=True):
        assert names.index(name) == places[score]
    if len(set(scores)) == len(scores) and len(scores) >= BINS * least:
        assert len(names) == BINS
        sizes = [bins.count(name) for name in names]
        assert max(sizes) - min(sizes) <= 1


def test_bins_are_named_by_what_they_hold() -> None:
    """Whole numbers without a decimal point."""
    names, bins = quantile_bins([10, 0, 2.5, 90, 50.5, 70, 30, 40, 100, 60])
    assert names == ("0–2.5", "10–30", "40–50.5", "60–70", "90–100")
    assert bins[0] == "10–30"
    assert quantile_bins([5.0, 5.0])[0] == ("5",)


def test_the_nearest_score_is_a_score() -> None:
    """Of two equally near steps the lower one; without steps the number itself."""
    halves, percent = bounds_of(HALVES), bounds_of(PERCENT)
    assert [halves.nearest(x) for x in (0, 3.24, 3.25, 3.26, 10)] == [0, 3, 3, 3.5, 10]
    assert percent.nearest(33.25) == 33.25
    assert bounds_of(TENTHS).nearest(0.30000000000000004) == 0.3
