import inspect
import re
from typing import Any

import numpy as np
import pytest
from worlds import world

from blpo_dspy.errors import BlpoError
from blpo_dspy.optimizers import APO, BLPO, COPRO, GEPA, OPRO, SIMBA, JudgeOptimizer, MIPROv2, TextGrad

EVERY = [BLPO, BLPO.paper, OPRO, APO, TextGrad, MIPROv2, GEPA, SIMBA, COPRO]


@pytest.mark.parametrize("optimizer", EVERY)
def test_signature_and_docstring_tell_of_every_option(optimizer: type[JudgeOptimizer]) -> None:
    """The inherited ones too; all are given by name, and each is explained once."""
    parameters = inspect.signature(optimizer).parameters
    assert {"prompt_model", "metric", "task_model", "seed", "num_threads", "log_dir"} <= parameters.keys()
    assert {parameter.kind for parameter in parameters.values()} == {inspect.Parameter.KEYWORD_ONLY}
    options = re.search(r"^Args:\n(.*?)(?:\n\n|\Z)", inspect.getdoc(optimizer) or "", re.DOTALL | re.MULTILINE)
    assert sorted(re.findall(r"^    (\w+): \S", options[1], re.MULTILINE)) == sorted(parameters)


def test_the_papers_defaults_are_in_its_signature() -> None:
    """T = K = 5, and the rest of what differs."""
    usual, letter = (inspect.signature(kind).parameters for kind in (BLPO, BLPO.paper))
    assert {name: letter[name].default for name in letter if letter[name].default != usual[name].default} == {
        "rounds": 5,
        "inner_steps": 5,
        "inner_loop": "all_steps",
        "shown_right": 0,
        "minibatch_size": None,
        "keep_back": "never",
        "instruction_words": None,
        "guards": BLPO.paper(prompt_model=world()).guards,
        "select": "last",
    }


def test_the_record_names_the_algorithm_that_a_preset_belongs_to() -> None:
    """The paper's letter is BLPO with other options; equal options are one run."""
    letter = BLPO.paper(prompt_model=world())
    names = inspect.signature(BLPO).parameters.keys() - {"prompt_model"}
    spelled_out = BLPO(prompt_model=world(), **{name: getattr(letter, name) for name in names})
    assert letter.options == spelled_out.options
    assert letter.options["optimizer"] == "BLPO"


@pytest.mark.parametrize("optimizer", [MIPROv2, GEPA, SIMBA, COPRO])
@pytest.mark.parametrize("option", ["select", "guards", "on_round", "on_validation"])
def test_dspys_optimizers_have_no_options_of_rounds(optimizer: type[JudgeOptimizer], option: str) -> None:
    """They pick their program by themselves."""
    with pytest.raises(TypeError, match=option):
        optimizer(prompt_model=world(), **{option: None})


@pytest.mark.parametrize("optimizer", EVERY)
def test_an_unknown_option_is_refused(optimizer: type[JudgeOptimizer]) -> None:
    """A misspelt option doesn't go unnoticed."""
    with pytest.raises(TypeError, match="sed"):
        optimizer(prompt_model=world(), sed=3)


@pytest.mark.parametrize(
    ("optimizer", "option"),
    [
        (BLPO, {"inner_steps": None}),
        (BLPO, {"verbalizer_search": "none"}),
        (OPRO, {"exemplars_as": "text"}),
        (APO, {"errors_as": "none"}),
        (TextGrad, {"inputs_as": "none"}),
        (TextGrad, {"select": "first"}),
    ],
)
def test_a_value_that_an_option_never_has_is_refused(optimizer: type[JudgeOptimizer], option: dict[str, Any]) -> None:
    """None is a value only where an option says so."""
    with pytest.raises(BlpoError, match="=".join([*option, repr(*option.values())])):
        optimizer(prompt_model=world(), **option)
    assert OPRO(prompt_model=world(), score_size=None).score_size is None


@pytest.mark.parametrize("optimizer", EVERY)
@pytest.mark.parametrize("seed", ["x", float("nan"), 1.5, None])
def test_a_seed_is_a_whole_number(optimizer: type[JudgeOptimizer], seed: Any) -> None:
    """Any other would be drawn with all the same, as text."""
    with pytest.raises(BlpoError, match=rf"seed={seed!r} is not a whole number; write seed=0"):
        optimizer(prompt_model=world(), seed=seed)


def test_a_seed_of_numpy_is_one() -> None:
    """The record holds it as JSON does."""
    assert type(BLPO(prompt_model=world(), seed=np.int64(3)).options["seed"]) is int


@pytest.mark.parametrize("optimizer", [BLPO, OPRO, APO, TextGrad])
def test_guards_of_another_kind_are_refused(optimizer: type[JudgeOptimizer]) -> None:
    """Before the search meets them."""
    with pytest.raises(BlpoError, match=r"guards='x' is not a set of guards; write guards=Guards\(copied_words=8\)"):
        optimizer(prompt_model=world(), guards="x")


def test_an_option_beyond_any_float_is_compared_all_the_same() -> None:
    """Whole numbers have no end."""
    assert BLPO(prompt_model=world(), rounds=10**400).rounds == 10**400
