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
    named = ModelNames("openai/gpt-4o", optimizer_model="openai/o3").by_role()
    assert named == {"judge": "openai/gpt-4o", "verbalizer": "openai/gpt-4o", "optimizer": "openai/o3"}


def test_only_search_options_that_were_given_are_passed_on() -> None:
    """BLPO and its paper preset keep their own defaults; 0 is a value."""
    assert Search().given() == {}
    assert json.dumps(Search(rounds=2, shown_right=0).given()) == '{"rounds": 2, "shown_right": 0}'


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
