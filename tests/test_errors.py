"""Warnings name the user's line."""

from __future__ import annotations

import inspect
import pickle
import warnings
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy.utils.callback import BaseCallback
from worlds import TRAIN, VALIDATION, student, world

from blpo_dspy.errors import BlpoError, BlpoWarning, DataError, notice
from blpo_dspy.optimizers import BLPO
from blpo_dspy.workspace.budget import Budget


def compiled(**options: Any) -> int:
    """Compiles with a small cap and a teacher; returns the line of the call."""
    lm = world()
    made = BLPO(prompt_model=lm, task_model=lm, num_threads=2, budget=Budget(max_calls=60), **options)
    made.compile(student(), trainset=TRAIN, valset=VALIDATION[::8], teacher=student())
    return inspect.currentframe().f_lineno - 1


@pytest.mark.slow
@pytest.mark.parametrize("callbacks", [[], [BaseCallback()]])
def test_warnings_of_compile_point_at_its_caller(callbacks: list[BaseCallback], tmp_path: Path) -> None:
    """Neither into DSPy, which wraps `compile`, nor into this library; whatever stands between."""
    with dspy.context(callbacks=callbacks), warnings.catch_warnings(record=True) as first:
        compiled(log_dir=tmp_path)
    with dspy.context(callbacks=callbacks), warnings.catch_warnings(record=True) as second:
        line = compiled(log_dir=tmp_path)
    caps = ["hardly pays", "too few to pick a judge by"]
    for shown, noticed in ((["teacher", *caps], first), (["teacher", *caps], second)):
        assert all(word in str(one.message) for word, one in zip(shown, noticed, strict=True))
    assert {(one.filename, one.lineno) for one in (*first, *second)} == {(__file__, line)}


def test_errors_and_warnings_carry_the_options_that_they_are_about() -> None:
    """By their names in Python; those that are about none have none."""
    with pytest.raises(BlpoError) as refused:
        Budget(max_usd=0)
    assert refused.value.options == ("max_usd",)
    assert str(refused.value).startswith("max_usd=0 leaves nothing")
    found = DataError("rows", ["a.png: leaves"], option=["allow_outside", "image_column"])
    assert found.options == ("allow_outside", "image_column")
    assert pickle.loads(pickle.dumps(BlpoError("x", option="y"))).options == ("y",)
    with pytest.warns(BlpoWarning) as caught:
        notice("max_outage=3", option="max_outage")
    assert caught[0].message.options == ("max_outage",)
    assert BlpoError("x").options == ()
