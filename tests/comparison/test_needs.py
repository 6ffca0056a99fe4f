"""What methods need is checked before anything is spent, all of it in one error."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
from photographs import Recording, photographs, recorded_models, student
from workspaces import shared

from blpo_dspy.comparison.compare import compare
from blpo_dspy.comparison.methods import METHODS, Method, chosen
from blpo_dspy.comparison.needs import Terms, check_methods
from blpo_dspy.errors import BlpoError
from blpo_dspy.models.lm import Models
from blpo_dspy.optimizers import BLPO
from blpo_dspy.workspace.budget import Budget
from blpo_dspy.workspace.job import Job

pytestmark = pytest.mark.slow

TRAIN, VAL = photographs()["trainset"], photographs()["valset"]


class Namer(BLPO):
    """A method for names alone."""

    label_kinds: ClassVar[tuple[str, ...]] = ("nominal", "pairwise")


def refusal(methods: dict[str, Method], *, calls: int = 200, models: Models | None = None) -> str:
    """What the check says of methods."""
    terms = Terms(models or recorded_models(Recording()), Budget(max_calls=calls))
    with pytest.raises(BlpoError) as refused:
        check_methods(methods, terms, student(), TRAIN, VAL)
    return str(refused.value)


def test_all_that_is_missing_is_in_one_error_and_nothing_is_spent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packages, and caps, with what to leave out and what would do; no folder is begun."""
    for package in ("optuna", "gepa"):
        monkeypatch.setitem(sys.modules, package, None)
    recording, out = Recording(), tmp_path / "out"
    with pytest.raises(BlpoError) as refused:
        shared(
            compare,
            student(),
            **photographs(),
            models=recorded_models(recording),
            max_calls=52,
            optimizers="blpo,gepa,opro,miprov2,copro",
            out=out,
        )
    assert str(refused.value).splitlines() == [
        "3 of the chosen optimizers cannot run, and nothing was spent; leave them out (optimizers='blpo,copro'), "
        "or put that right:",
        "  - gepa: GEPA needs gepa, which is not installed: pip install gepa",
        "  - opro: a first candidate takes 53 LM calls at least: give max_calls=53 or, better, more",
        "  - miprov2: MIPROv2 needs optuna, which is not installed: pip install optuna",
    ]
    assert not recording.seen
    assert not out.exists()


def other_lm(models: Models) -> Models:
    """Returns models of which the verbalizer's samples otherwise."""
    return Models(models.judge, models.verbalizer.copy(temperature=0.5), models.optimizer)


@pytest.mark.parametrize(
    ("method", "told"),
    [
        (Method("names", Namer), "it takes nominal and pairwise labels, not ordinal ones"),
        (METHODS["simba"], "use the same model for judge and verbalizer"),
        (Method("short", BLPO, {"max_instruction_tokens": 3}), "max_instruction_tokens=3 refuses a revision"),
        (Method("wrong", BLPO, {"inner_steps": -1}), "inner_steps=-1 is too small"),
    ],
)
def test_whatever_a_method_lacks_is_named(method: Method, told: str) -> None:
    """Labels, models, and options of its own; methods of one's own have no name on the command line."""
    methods = {"this": method, "mine": Method("mine", BLPO)}
    text = refusal(methods, models=other_lm(recorded_models(Recording())))
    assert text.startswith("1 of the chosen optimizer cannot run, and nothing was spent; leave them out (keep mine)")
    assert text.count("\n") == 1
    assert told in text.splitlines()[1]


def test_two_things_that_one_method_lacks_are_both_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the second does not come once the first is put right."""
    monkeypatch.setitem(sys.modules, "gepa", None)
    text = refusal(chosen("gepa"), calls=20)
    assert "nothing was spent; put that right:" in text
    assert "pip install gepa; a first candidate takes 33 LM calls at least" in text


@pytest.mark.parametrize("name", [name for name in METHODS if name != "none"])
def test_no_method_finds_anything_under_a_smaller_cap_than_the_one_that_is_named(name: str) -> None:
    """And with that cap it may run."""
    method, models = METHODS[name], recorded_models(Recording())

    def terms(calls: int) -> Terms:
        return Terms(models, Budget(max_calls=calls))

    _, named, rest = refusal({name: method}, calls=8).partition("give max_calls=")
    assert named
    least = int(rest.split()[0])
    check_methods({name: method}, terms(least + 5), student(), TRAIN, VAL)
    optimizer = terms(least - 1).optimizer(method, 0, Job.in_memory())
    assert optimizer is not None
    program: Any = optimizer.compile(method.student(student()), trainset=TRAIN, valset=VAL)
    found = program.detailed_results
    assert found.returned == found.start
