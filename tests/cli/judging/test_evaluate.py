"""`blpo evaluate`: intervals, and two judges compared on the same images."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from blpo_dspy.agreement.intervals import NO_CHANGE
from blpo_dspy.cli.app import app
from blpo_dspy.data.images.prepare import PixelPolicy
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.sources.photographs import (
    RATERS,
    ceiling_instruction,
    ceiling_verbalizer_instruction,
    write_dataset,
)
from blpo_dspy.programs.visual_judge import VisualJudge

pytestmark = pytest.mark.slow

SCALE = LabelSpace.ordinal(1, 5)
TASK = "Rate this photograph."


def blpo(*arguments: object) -> Any:
    """Runs a command in this process; an unexpected exception is raised."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 60 rated photographs, a judge that is told the rater's taste and one that isn't."""
    made = tmp_path_factory.mktemp("evaluate")
    rater = RATERS["colour"]
    write_dataset(made, rater, train=60, val=0, test=0)
    told = {
        "instruction": ceiling_instruction(rater, TASK),
        "verbalizer_instruction": ceiling_verbalizer_instruction(rater),
    }
    VisualJudge(SCALE, **told).save(made / "told.json")
    VisualJudge(SCALE, instruction=TASK).save(made / "plain.json")
    VisualJudge(LabelSpace("a", "b"), instruction=TASK).save(made / "other.json")
    VisualJudge(SCALE, instruction=TASK, context=("prompt",)).save(made / "prompted.json")
    small = VisualJudge(SCALE, instruction=TASK, pixel_policy=PixelPolicy(max_side=64))
    small.save(made / "small.json")
    return made


def test_every_figure_has_an_interval_that_holds_it(folder: Path) -> None:
    """On the screen and in JSON."""
    options = (folder / "told.json", folder / "train.csv", "--model", "embedded")
    measured = json.loads(blpo("evaluate", *options, "--json").stdout)
    for name in ("accuracy", "macro_f1", "kappa", "mae"):
        interval = measured["intervals"][name]
        assert interval["low"] <= measured[name] <= interval["high"]
        assert interval["low"] < interval["high"]
    shown = blpo("evaluate", *options).stdout
    ends = measured["intervals"]["accuracy"]
    assert f"95% intervals: accuracy {ends['low']:.2f} to {ends['high']:.2f}, macro-F1" in shown


def test_a_terminal_that_is_too_narrow_for_the_table_gets_a_line_for_each_figure(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Instead of names and figures that are cut off."""
    monkeypatch.setenv("COLUMNS", "40")
    options = (folder / "plain.json", folder / "train.csv", "--model", "embedded", "--against", folder / "told.json")
    shown = blpo("evaluate", *options).stdout
    assert "…" not in shown
    assert re.search(r"\nsplit +train\.csv\njudge +told\.json\nn +60\naccuracy +0\.\d\d\nmacro-F1", shown)


def test_a_better_judge_is_called_better_than_the_other_one_and_the_other_one_worse(folder: Path) -> None:
    """Paired on the same images: flips in both directions add up to the change in right answers."""
    told = (folder / "told.json", folder / "train.csv", "--against", folder / "plain.json", "--model", "embedded")
    record = json.loads(blpo("evaluate", *told, "--json").stdout)
    paired = record["paired"]
    assert paired["verdict"] == "better"
    change = record["accuracy"] - record["against"]["accuracy"]
    assert paired["fixed"] - paired["broken"] == round(60 * change)
    assert paired["differences"]["accuracy"]["after"] == pytest.approx(record["accuracy"])
    reverse = (folder / "plain.json", folder / "train.csv", "--against", folder / "told.json", "--model", "embedded")
    back = json.loads(blpo("evaluate", *reverse, "--json").stdout)["paired"]
    assert (back["verdict"], back["fixed"], back["broken"]) == ("worse", paired["broken"], paired["fixed"])
    shown = " ".join(blpo("evaluate", *told).stdout.split())
    assert f"plain.json → told.json: {' '.join(paired['wording'].split())}" in shown
    assert re.search(r"train\.csv plain\.json 60 .* train\.csv told\.json 60 ", shown)


def test_a_judge_is_not_distinguishable_from_itself(folder: Path) -> None:
    """Nor is it said to be better."""
    same = (folder / "plain.json", folder / "train.csv", "--against", folder / "plain.json", "--model", "embedded")
    paired = json.loads(blpo("evaluate", *same, "--json").stdout)["paired"]
    assert (paired["verdict"], paired["fixed"], paired["broken"]) == (NO_CHANGE, 0, 0)


def test_judges_may_differ_in_inputs_and_pixels_but_not_in_labels(folder: Path) -> None:
    """Each gets the images and texts as it takes them."""
    with (folder / "train.csv").open(newline="") as file:
        rows = [{**row, "prompt": "a photograph"} for row in csv.DictReader(file)]
    with (folder / "prompts.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows[:10])
    for other in ("prompted.json", "small.json"):
        done = blpo(
            "evaluate", folder / "plain.json", folder / "prompts.csv", "--against", folder / other, "--model",
            "embedded", "--json",
        )  # fmt: skip
        assert done.exit_code == 0, done.stderr
        assert json.loads(done.stdout)["paired"]["n"] == 10
    refused = blpo("evaluate", folder / "plain.json", folder / "train.csv", "--against", folder / "other.json")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "only judges with the same labels can be compared" in refused.stderr
