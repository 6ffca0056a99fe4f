"""What the command line's words mean."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from blpo_dspy.cli.flags import given_texts, with_flags
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import BlpoError
from blpo_dspy.files import writable_file, writable_folder
from blpo_dspy.runs.data.drawing import label_pairs
from blpo_dspy.runs.jobs import ModelNames, Search
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


def test_context_texts_may_hold_anything_after_the_first_equals_sign() -> None:
    """A text is data."""
    assert given_texts(["prompt=a = b, c"], ("prompt",)) == {"prompt": "a = b, c"}


@pytest.mark.parametrize(
    ("pairs", "context", "message"),
    [
        (["prompt"], ("prompt",), "is not NAME=TEXT"),
        ([], ("prompt",), "takes prompt: .*got none"),
        (["style=x"], ("prompt",), "takes prompt: .*got style"),
        (["prompt=x"], (), "takes no context"),
    ],
)
def test_a_missing_or_unknown_context_text_is_refused(pairs, context, message) -> None:
    """The message names what the judge takes."""
    with pytest.raises(BlpoError, match=message):
        given_texts(pairs, context)


def test_a_writable_target_gets_its_folder_and_nothing_else(tmp_path: Path) -> None:
    """The probe leaves no file."""
    assert writable_file(tmp_path / "a" / "b" / "judge.json").parent.is_dir()
    assert not list((tmp_path / "a" / "b").iterdir())


def test_a_target_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """By its suffix, a folder in its place, a file in the place of its folder, or the system."""
    (tmp_path / "x.json").mkdir()
    (tmp_path / "file").touch()
    for target, message in (
        (tmp_path / "judge.pkl", r"should end in \.json"),
        (tmp_path / "x.json", "a folder of this name"),
        (tmp_path / "file" / "judge.json", "a file, not a folder"),
        (Path("/proc/nowhere/judge.json"), "cannot be made or written to"),
    ):
        with pytest.raises(BlpoError, match=message):
            writable_file(target)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused(tmp_path: Path) -> None:
    """The probe finds what the mode says."""
    tmp_path.chmod(0o500)
    with pytest.raises(BlpoError, match="Permission denied"):
        writable_folder(tmp_path)
    tmp_path.chmod(0o700)


def test_models_default_to_the_judges_and_the_judges_to_the_offline_engine() -> None:
    """No paid model is used unasked."""
    assert set(ModelNames().by_role().values()) == {"embedded"}
    named = ModelNames("openai/gpt-4o", optimizer="openai/o3").by_role()
    assert named == {"judge": "openai/gpt-4o", "verbalizer": "openai/gpt-4o", "optimizer": "openai/o3"}


def test_only_search_options_that_were_given_are_passed_on() -> None:
    """BLPO and its paper preset keep their own defaults; 0 is a value."""
    assert Search().given() == {}
    assert json.dumps(Search(rounds=2, shown_right=0).given()) == '{"rounds": 2, "shown_right": 0}'


def test_sizes_are_three_whole_numbers_above_zero() -> None:
    """None without the option."""
    assert three_sizes(None) is None
    assert three_sizes("100, 50,100") == (100, 50, 100)
    for text, message in (("10,20", "not TRAIN,VAL,TEST"), ("a,b,c", "three whole numbers"), ("9,0,9", "needs images")):
        with pytest.raises(BlpoError, match=message):
            three_sizes(text)


def test_what_stands_for_a_label_is_read_in_pairs() -> None:
    """Labels are those of the space; what is written for them may be anything without a colon or comma."""
    space = LabelSpace("Safe", "Unsafe")
    assert label_pairs("0: Safe, 1:Unsafe", space) == {"0": "Safe", "1": "Unsafe"}
    with pytest.raises(BlpoError, match="not of the form"):
        label_pairs("0=Safe", space)
    with pytest.raises(BlpoError, match="Odd"):
        label_pairs("0:Odd", space)


def test_a_message_names_the_flags_of_the_options_that_it_is_about() -> None:
    """Of those alone: what looks like another option is left as it is."""
    text = "max_usd=2 and max_calls=3; allow_outside=True permits it"
    assert with_flags(text, ["max_usd", "allow_outside"]) == "--max-usd 2 and max_calls=3; --allow-outside permits it"
    assert with_flags(text, ()) == text
    alone = "give max_calls= instead; without workers= and cluster=, or workers=2"
    assert with_flags(alone, ["max_calls", "workers", "cluster"]) == (
        "give --max-calls instead; without --workers and --cluster, or --workers 2"
    )


def test_options_of_a_source_have_flags_of_their_own_form() -> None:
    """Most are a `--source-option`; a token and what the command line doesn't offer are left out."""
    text = "pin an older revision=…, pass local_dir=…, or state scale=(lowest, highest) or pass token=…"
    assert with_flags(text, ["revision", "local_dir", "scale", "token"]) == (
        "pin an older --source-option revision=…, pass --local-dir …, or state --source-option scale=LOWEST-HIGHEST"
    )
    short = "take a smaller size=… or another split; allow_fewer=True takes what there is. More"
    assert with_flags(short, ["size", "allow_fewer"]) == (
        "take smaller --sizes (evaluate: --draw) or another split. More"
    )


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
