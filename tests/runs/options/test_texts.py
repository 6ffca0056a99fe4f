"""Label spaces and lists, as the text of an option states them."""

from __future__ import annotations

import pytest

from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import BlpoError
from blpo_dspy.runs.options.texts import names, parse_labels, three_sizes


@pytest.mark.parametrize(
    ("labels", "scale", "space"),
    [
        ("Safe,Unsafe", None, LabelSpace("Safe", "Unsafe")),
        (" Safe , Unsafe ,Not sure", None, LabelSpace("Safe", "Unsafe", "Not sure")),
        ("1,0", None, LabelSpace(1, 0)),
        ("-1,0,1", None, LabelSpace(-1, 0, 1)),
        ("01,02", None, LabelSpace("01", "02")),
        (None, "1-5", LabelSpace.ordinal(1, 5)),
        (None, " 0 – 10 ", LabelSpace.ordinal(0, 10)),
    ],
)
def test_labels_and_scales_are_read(labels, scale, space) -> None:
    """Numbers become numbers where every label is one and is written as one."""
    assert parse_labels(labels, scale) == space


@pytest.mark.parametrize(
    ("labels", "scale", "message"),
    [
        (None, None, "labels are missing"),
        ("a,b", "1-5", "exclude each other"),
        ("a,,b", None, "empty label"),
        ("a,A", None, "duplicate labels"),
        ("a", None, "separate labels by commas"),
        ("Safe Unsafe", None, "is a single label; separate labels by commas"),
        ("Safe;Unsafe", None, "is a single label; separate labels by commas"),
        ("Safe,", None, "put it in quotes"),
        (None, "5-1", "not a scale.*lowest to its highest"),
        (None, "-2-2", "not a scale.*below zero.*Python"),
        (None, "3", "not a scale"),
        (None, "2-2", "not a scale"),
        (None, "1-5-7", "not a scale"),
        (None, "", "not a scale"),
    ],
)
def test_what_states_no_labels_is_refused_with_the_way_to_write_it(labels, scale, message) -> None:
    """Both, neither, reversed, negative and malformed ones."""
    with pytest.raises(BlpoError, match=message):
        parse_labels(labels, scale)


@pytest.mark.parametrize(
    ("scores", "tolerance", "space"),
    [
        ("0-100", None, LabelSpace.scores(0, 100)),
        (" 0 – 10 : 0.5 ", None, LabelSpace.scores(0, 10, 0.5)),
        ("-1-1", 0.2, LabelSpace.scores(-1, 1, tolerance=0.2)),
        ("-2.5--0.5", None, LabelSpace.scores(-2.5, -0.5)),
    ],
)
def test_scores_are_read(scores: str, tolerance: float | None, space: LabelSpace) -> None:
    """With decimals and below zero, with or without a step."""
    assert parse_labels(None, None, scores, tolerance) == space


@pytest.mark.parametrize(
    ("labels", "scores", "tolerance", "message"),
    [
        ("a,b", "0-100", None, "--labels and --scores exclude each other"),
        ("a,b", None, 5.0, "--tolerance is how far"),
        (None, "0", None, "not a range of scores"),
        (None, "0-100:", None, "not a range of scores"),
        (None, "0-100%", None, "not a range of scores"),
        (None, "100-0", None, "from a lower to a higher number"),
        (None, "0-100:7", None, "does not divide"),
        (None, "0-100", 100.0, "tolerance=100"),
    ],
)
def test_what_states_no_scores_is_refused_with_the_way_to_write_it(labels, scores, tolerance, message) -> None:
    """The error names the flag."""
    with pytest.raises(BlpoError, match=message):
        parse_labels(labels, None, scores, tolerance)


def test_lists_of_names_are_split_at_commas() -> None:
    """The empty text lists none."""
    assert names("prompt, style") == ("prompt", "style")
    assert names("  ") == ()


def test_sizes_are_three_whole_numbers_above_zero() -> None:
    """None without the option."""
    assert three_sizes(None) is None
    assert three_sizes("100, 50,100") == (100, 50, 100)
    for text, message in (("10,20", "not TRAIN,VAL,TEST"), ("a,b,c", "three whole numbers"), ("9,0,9", "needs images")):
        with pytest.raises(BlpoError, match=message):
            three_sizes(text)


@pytest.mark.parametrize(
    ("pairs", "space"),
    [
        ("A,B", LabelSpace.pairwise("A", "B")),
        ("left, right, same", LabelSpace.pairwise("left", "right", tie="same")),
        ("1,2", LabelSpace.pairwise(1, 2)),
    ],
)
def test_labels_of_pairs_are_read(pairs: str, space: LabelSpace) -> None:
    """The third is the tie."""
    assert parse_labels(None, None, pairs=pairs) == space


@pytest.mark.parametrize("pairs", ["A", "A,B,C,D", "A,,B", ""])
def test_what_does_not_name_two_images_is_refused(pairs: str) -> None:
    """The error says what to write."""
    with pytest.raises(BlpoError, match="is not FIRST,SECOND or FIRST,SECOND,TIE"):
        parse_labels(None, None, pairs=pairs)


def test_pairs_exclude_other_labels() -> None:
    """Both are named."""
    with pytest.raises(BlpoError, match="--labels and --pairs exclude each other"):
        parse_labels("a,b", None, pairs="A,B")
