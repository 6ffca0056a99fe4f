"""Arguments of another type, as they are easily given: each is refused with what to write instead."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dspy
import pytest
from worlds import LABELS, TRAIN, VALIDATION, student, world

from blpo_dspy.agreement.measure import measure_agreement
from blpo_dspy.data.columns import Columns
from blpo_dspy.data.examples import load_examples, load_rated
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.splits import Splits, split_examples
from blpo_dspy.errors import BlpoError
from blpo_dspy.models.lm import Models, make_lm
from blpo_dspy.optimizers import BLPO
from blpo_dspy.predictions.predict import predict
from blpo_dspy.programs import VisualJudge
from blpo_dspy.workspace.budget import Budget

NAMES: Any = ["dark", "bright"]
SPACE = "write LabelSpace('dark', 'bright')"
SETS: Any = Splits(TRAIN, VALIDATION, [], LABELS, "")


def blpo(**options: Any) -> BLPO:
    """Returns an optimizer with a model that nothing should be asked of."""
    lm = world(lambda seen: pytest.fail("an LM was called"))
    return BLPO(**{"prompt_model": lm, "task_model": lm, **options})


MISTAKES: dict[str, tuple[Callable[[], Any], str]] = {
    "a list to load": (lambda: load_examples("labels.csv", labels=NAMES), SPACE),
    "a list to load of several people": (
        lambda: load_rated("labels.csv", labels=NAMES, columns=Columns(raters=["a"])),
        SPACE,
    ),
    "a list to split": (lambda: split_examples(TRAIN, labels=NAMES), SPACE),
    "a list to measure with": (lambda: measure_agreement(NAMES, ["dark"], ["dark"]), SPACE),
    "a list to judge with": (lambda: VisualJudge(NAMES, instruction="x"), SPACE),
    "a list to optimize with": (lambda: blpo(labels=NAMES), SPACE),
    "a scale of text": (lambda: LabelSpace.ordinal("1", "5"), "write LabelSpace.ordinal(1, 5)"),  # type: ignore[arg-type]
    "an optimizer by name": (
        lambda: blpo(prompt_model="openai/o3"),
        "write prompt_model=make_lm('openai/o3', role='optimizer')",
    ),
    "a judge by name": (lambda: blpo(task_model="embedded"), "write task_model=make_lm('embedded', role='judge')"),
    "a model of a class": (
        lambda: blpo(verbalizer_model=dspy.LM),
        "verbalizer_model=make_lm('openai/gpt-4o', role='ver",
    ),
    "no model": (lambda: blpo(prompt_model=None), "write prompt_model=make_lm("),
    "a cap as a number": (lambda: blpo(budget=120), "write budget=Budget(max_calls=120)"),
    "a cap as text": (lambda: Budget(max_calls="10"), "as in Budget(max_calls=100)"),  # type: ignore[arg-type]
    "all splits to learn from": (lambda: blpo().compile(student(), trainset=SETS), "write trainset=splits.train or"),
    "all splits to validate on": (
        lambda: blpo().compile(student(), trainset=TRAIN, valset=SETS),
        "write valset=splits.val or",
    ),
    "examples as dicts": (
        lambda: blpo().compile(student(), trainset=[{"image": "a.png", "label": "dark"}]),  # type: ignore[list-item]
        "trainset[0]: example={'image': 'a.png', 'label': 'dark'} is not a dspy.Example; write dspy.Example(",
    ),
    "no program": (lambda: blpo().compile(None, trainset=TRAIN), "write VisualJudge("),  # type: ignore[type-var]
    "a class of programs": (lambda: blpo().compile(VisualJudge, trainset=TRAIN), "write VisualJudge("),  # type: ignore[type-var]
    "a role that is none": (lambda: make_lm("openai/gpt-4o", role="judges"), "choose one of judge, verbalizer, opt"),  # type: ignore[arg-type]
    "a model without a name": (lambda: Models.named(None), "name=None is not a string"),  # type: ignore[arg-type]
    "a judge by its file": (
        lambda: predict("judge.json", "images", out="p.csv"),  # type: ignore[arg-type]
        "write VisualJudge.load('judge.json')",
    ),
    "a judge as text": (lambda: student().save("judge.txt"), "name a .json file"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_to_write_instead_is_said(mistake: str) -> None:
    """Before any call, and before a file is read or written."""
    make, told = MISTAKES[mistake]
    with pytest.raises(BlpoError, match=re.escape(told)):
        make()


def test_a_pickle_is_told_of(tmp_path: Path) -> None:
    """DSPy's own kind of file is written on demand, but nothing of ours reads it."""
    with pytest.warns(UserWarning, match=r"is a pickle, which VisualJudge\.load doesn't read"):
        student().save(tmp_path / "judge.pkl")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        student().save(tmp_path / "judge.json")
