"""The methods of a comparison by name."""

from __future__ import annotations

import inspect

import pytest
from dspy.teleprompt import mipro_optimizer_v2
from engines import scripted_lm
from photographs import TASK, student

from blpo_dspy.comparison.methods import METHODS, chosen, images_together
from blpo_dspy.errors import BlpoError
from blpo_dspy.workspace.budget import Budget

ROLES = ("prompt_model", "task_model", "verbalizer_model")


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.make is not None])
def test_every_method_can_be_made_with_the_same_options(name: str) -> None:
    """Models, budget, seed and threads are given to all alike, and its own options are known to it."""
    method = METHODS[name]
    assert method.make is not None
    lm = scripted_lm(lambda seen: "")
    made = method.make(**dict.fromkeys(ROLES, lm), budget=Budget(max_calls=9), seed=4, num_threads=1, **method.options)
    assert (made.seed, made.budget, made.num_threads) == (4, Budget(max_calls=9), 1)
    assert {**made.options, **method.options} == made.options


def test_every_method_says_what_it_is() -> None:
    """In words that stand below the table."""
    assert len({method.about for method in METHODS.values()}) == len(METHODS)
    assert all(method.about for method in METHODS.values())


def test_no_optimization_always_comes_first() -> None:
    """It is what the others are compared with; names keep their order and count once."""
    assert list(chosen(None)) == list(METHODS)
    assert list(chosen("gepa, blpo,gepa")) == ["none", "gepa", "blpo"]
    assert list(chosen("blpo,none")) == ["none", "blpo"]


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        ("blpo,bplo,gpea", r"unknown optimizers \['bplo', 'gpea'\]"),
        ("", "no optimizer is named"),
        (" , ", "no optimizer is named"),
    ],
)
def test_an_unknown_method_is_named_beside_those_there_are(names: str, problem: str) -> None:
    """And an empty list is refused."""
    with pytest.raises(BlpoError, match=rf"{problem}; choose from none, blpo, .*copro"):
        chosen(names)


def test_the_images_of_a_request_are_those_that_its_options_ask_for() -> None:
    """Some servers take only a few at once."""
    lm = scripted_lm(lambda seen: "")
    asked = {"opro": "exemplars", "apo-images": "errors_per_gradient", "textgrad": "batch_size"}
    asked["gepa"] = "reflection_minibatch_size"
    for name, option in asked.items():
        method = METHODS[name]
        assert method.make is not None
        made = method.make(**dict.fromkeys(ROLES, lm), **method.options)
        assert getattr(made, option) == method.images, name
    assert METHODS["miprov2-demos"].images == 1 + METHODS["miprov2-demos"].options["demos"]
    # DSPy shows as many demonstrations to the proposing LM, whatever the judge gets.
    assert METHODS["miprov2"].images == mipro_optimizer_v2.BOOTSTRAPPED_FEWSHOT_EXAMPLES_IN_CONTEXT
    assert {name for name, method in METHODS.items() if method.images > 1} == {*asked, "miprov2", "miprov2-demos"}
    told = "most images in one request, which the models have to take: apo-images 4, gepa 3"
    assert images_together(chosen("apo-images,blpo,gepa")) == told
    assert images_together(chosen("blpo")) == ""


def test_only_the_task_aware_ablation_starts_from_another_verbalizer_instruction() -> None:
    """It names the judge's task; the student itself is left alone."""
    start = student()
    for name, method in METHODS.items():
        begun = method.student(start)
        assert begun.instruction == TASK
        assert (TASK in begun.verbalizer_instruction) is (name == "fixed-task-aware")
    assert TASK not in start.verbalizer_instruction
    assert "task_aware" in inspect.signature(type(METHODS["none"])).parameters
