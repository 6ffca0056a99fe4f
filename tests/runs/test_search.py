"""Options of a search on the command line reach the optimizer."""

from __future__ import annotations

from typing import Any

import pytest
from photographs import Recording, recorded_models

from blpo_dspy.cli.begin import connect
from blpo_dspy.cli.flags import model_prices
from blpo_dspy.errors import BlpoError
from blpo_dspy.optimizers.proposals.guards import Guards
from blpo_dspy.runs.compiling import make_optimizer
from blpo_dspy.runs.jobs import ModelNames, Search


@pytest.mark.parametrize(
    ("given", "guards"),
    [
        ({}, Guards()),
        ({"copied_words": 5, "label_shift": 0.1, "part_loss": 0.2}, Guards(5, 0.1, 0.2)),
        ({"copied_words": 0, "label_shift": 0.0}, Guards(None, 0.0)),
        ({"paper": True}, Guards(copied_words=None)),
        ({"paper": True, "copied_words": 9}, Guards(copied_words=9)),
    ],
)
def test_guards_are_the_optimizers_own_but_for_those_given(given: dict[str, Any], guards: Guards) -> None:
    """0 switches the guard against quotes off; the paper has none."""
    assert make_optimizer(recorded_models(Recording()), Search(**given), 0).guards == guards


def test_a_guard_that_cannot_be_kept_is_refused_before_any_call() -> None:
    """The paper's letter validates nothing."""
    with pytest.raises(BlpoError, match="give select='best'"):
        make_optimizer(recorded_models(Recording()), Search(paper=True, part_loss=0.1), 0)


def test_prices_are_by_model_and_the_longest_instruction_reaches_the_optimizer() -> None:
    """By model; a name may hold an equals sign."""
    prices = model_prices(["openai/my=model=0.15,0.60", "x = 1,2"])
    assert prices == {"openai/my=model": (0.15, 0.60), "x": (1.0, 2.0)}
    made = make_optimizer(recorded_models(Recording()), Search(max_instruction_tokens=70), 0)
    assert made.max_instruction_tokens == 70


@pytest.mark.parametrize("text", ["", "m", "m=1", "m=1,2,3", "m=a,b", "=1,2"])
def test_a_price_of_another_form_is_refused(text: str) -> None:
    """With the form that it should have."""
    with pytest.raises(BlpoError, match=r"is not MODEL=IN,OUT; .*--price openai/my-model=0.15,0.60"):
        model_prices([text])


def test_no_cache_holds_for_every_role() -> None:
    """The offline engine never takes one."""
    for cache in (True, False):
        found = connect(ModelNames("openai/x", "embedded", no_cache=not cache))
        assert [lm.cache for lm in (found.judge, found.verbalizer, found.optimizer)] == [cache, False, cache]


def test_a_timeout_holds_for_every_role_and_each_role_has_its_own_without_one() -> None:
    """The offline engine has none."""
    for timeout, used in ((7.5, [7.5, None, 7.5]), (None, [120, None, 300])):
        found = connect(ModelNames("openai/x", "embedded", timeout=timeout))
        assert [lm.kwargs.get("timeout") for lm in (found.judge, found.verbalizer, found.optimizer)] == used
