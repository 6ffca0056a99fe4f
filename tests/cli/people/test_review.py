"""The command that `blpo review` prints."""

from __future__ import annotations

import shlex
from itertools import pairwise
from pathlib import Path

from label_pages import SCALE

from blpo_dspy.cli.people.review import next_command
from blpo_dspy.report.run.to_review import FORMAT, ReviewData, ReviewTables

MODELS = {"judge": "openai/my judge's", "verbalizer": "embedded/engine", "optimizer": "openai/o3"}


def test_the_next_command_names_the_models_of_the_run_and_their_server() -> None:
    """Quoted for a shell; the offline engine by the name that the options take."""
    tables = ReviewTables({"train": "t.csv"}, ("image",))
    data = ReviewData(FORMAT, "a-run", SCALE.to_dict(), "How good?", tables, {}, (), MODELS, "http://localhost:8000/v1")
    words = shlex.split(next_command(data, [Path("train.again.csv")]))
    given = dict(pairwise(words))
    assert [given[f"--{role}-model"] for role in MODELS] == ["openai/my judge's", "embedded", "openai/o3"]
    assert given["--api-base"] == "http://localhost:8000/v1"


def test_of_an_earlier_run_no_model_is_known() -> None:
    """Then none is named."""
    data = ReviewData(FORMAT, "a-run", SCALE.to_dict(), "How good?", ReviewTables({"train": "t.csv"}, ("image",)), {})
    assert "-model" not in next_command(data, [Path("train.again.csv")])
