"""How many calls Algorithm 1 makes, by hand."""

from __future__ import annotations

from typing import Any

import dspy
import pytest
from worlds import TRAIN, VALIDATION, student, world

from blpo_dspy.optimizers import BLPO
from blpo_dspy.optimizers.bench.setup import dataset
from blpo_dspy.optimizers.blpo.plan import plan_blpo
from blpo_dspy.optimizers.estimates.plan import Plan
from blpo_dspy.workspace.budget import Budget


def planned(program: dspy.Module | None = None, kind: Any = BLPO, **options: Any) -> Plan:
    """The plan of a run on 42 training and 42 validation images."""
    judge = program or student()
    data = dataset(judge, TRAIN, VALIDATION, "label")
    return plan_blpo(kind(prompt_model=world(), **options), judge, data, "verbalizer")


def numbers(calls: Any) -> tuple[int, int, int]:
    """Calls of the judge, the verbalizer and the optimizer LM."""
    return calls["judge"], calls["verbalizer"], calls["optimizer"]


# A usual round with the defaults judges half a new minibatch of 20 and two updates on it; for each update 10 mistakes
# and 4 right ones are described; two updates and one proposal are asked for. The longest one searches all 42 images and
# judges all of them twice; each request to the optimizer LM is made twice.
USUAL, LONGEST = (50, 28, 3), (126, 28, 6)


def test_a_run_without_a_budget() -> None:
    """24 rounds, of which eight usually end a pass, and the start, those and the end are validated."""
    plan = planned()
    assert numbers(plan.usual) == (24 * 50 + 10 * 42, 24 * 28, 24 * 3)
    assert numbers(plan.most) == (24 * 126 + 25 * 42, 24 * 28, 24 * 6)
    assert [numbers(calls) for calls in plan.shortest] == [(50 + 2 * 42, 28, 3), (2 * 50 + 2 * 42, 2 * 28, 2 * 3)]
    assert [(prompt.errors, prompt.instructions) for prompt in plan.prompts] == [(14, 1), (14, 1 + 2 + 8)]
    assert numbers(planned(select="last", rounds=3).most) == (3 * 126, 3 * 28, 3 * 6)
    assert numbers(planned(select="last", rounds=3).shortest[1]) == (2 * 50, 2 * 28, 2 * 3)


def test_a_judge_that_reads_descriptions_has_every_image_described() -> None:
    """The first verbalizer instruction describes what is searched, the second one what is scored."""
    plan = planned(student(evidence="both"))
    assert numbers(plan.usual) == (24 * 50 + 10 * 42, 24 * (10 + 20) + 10 * 42, 24 * 3)
    assert numbers(plan.most) == (24 * 126 + 25 * 42, 24 * (42 + 42) + 25 * 42, 24 * 6)


class Own(dspy.Module):
    """A program with two predictors beside the verbalizer."""

    def __init__(self) -> None:
        super().__init__()
        self.verbalizer = dspy.Predict("image: dspy.Image -> description")
        self.check = dspy.Predict("description -> sound")
        self.judge = dspy.Predict("description -> label")


def test_a_program_of_ones_own_calls_all_of_its_predictors() -> None:
    """As far as is known of it."""
    assert numbers(planned(Own(), rounds=1, select="last").usual) == (2 * 50, 10 + 20, 3)


@pytest.mark.parametrize(
    ("program", "cap", "rounds", "validated"),
    [
        (student(), 240, 2, 12),  # (240 − 2 · 12) // 81
        (student(), 10, 1, 1),
        (student(), 269, 3, 13),  # just three rounds
        (student(), 268, 2, 13),
    ],
)
def test_a_cap_pays_for_rounds_and_two_validations(program: dspy.Module, cap: int, rounds: int, validated: int) -> None:
    """At least one round; no role can make more calls than the cap."""
    plan = planned(program, budget=Budget(max_calls=cap))
    judged = rounds * 50 + 2 * validated
    assert numbers(plan.usual) == tuple(min(n, cap) for n in (judged, rounds * 28, rounds * 3))
    assert numbers(plan.most) == (cap, cap, cap)
    assert numbers(plan.shortest[0]) == (50 + 2 * validated, 28, 3)
    assert numbers(planned(program, budget=Budget(max_calls=cap), rounds=1).usual)[2] == 3


def test_a_cap_where_descriptions_are_judged() -> None:
    """An example is two calls, so that half as many are validated."""
    plan = planned(student(evidence="both"), budget=Budget(max_calls=240))
    assert numbers(plan.usual) == (2 * 50 + 2 * 6, 2 * 30 + 2 * 6, 2 * 3)
    tight = planned(student(evidence="both"), budget=Budget(max_calls=3 * 83 + 2 * 6 * 2 - 1))
    assert numbers(tight.usual)[2] == 2 * 3


def test_a_cap_on_something_else_bounds_no_calls() -> None:
    """But the start and the end alone are validated."""
    plan = planned(budget=Budget(max_seconds=60))
    assert numbers(plan.usual) == (24 * 50 + 2 * 42, 24 * 28, 24 * 3)
    assert numbers(plan.most)[0] == 1000 * 126 + 2 * 42


@pytest.mark.parametrize(
    ("search", "evidence", "round_calls"),
    [
        ("learned", "image", (42 + 6 * 10, 6 * 10, 6 + 5)),
        ("fixed", "image", (42 + 6 * 10, 10, 6)),
        ("judge", "image", (42 + 10, 10, 1)),
        ("learned", "both", (42 + 6 * 10, 42 + 5 * 10, 6 + 5)),
        ("fixed", "both", (42 + 6 * 10, 42, 6)),
        ("judge", "both", (42 + 10, 42 + 10, 1)),
    ],
)
def test_the_papers_letter_and_its_ablations(search: Any, evidence: Any, round_calls: tuple[int, int, int]) -> None:
    """Five rounds that search everything, with six updates each on ten mistakes; no validation."""
    plan = planned(student(evidence=evidence), BLPO.paper, verbalizer_search=search)
    assert numbers(plan.usual) == tuple(5 * n for n in round_calls)
    assert numbers(plan.most) == (5 * round_calls[0], 5 * round_calls[1], 5 * 2 * round_calls[2])


def test_a_part_of_a_call_is_a_call() -> None:
    """Half of a minibatch of five is two and a half images; there are no more images than there are."""
    options: dict[str, Any] = {"rounds": 1, "select": "last", "inner_steps": 0}
    assert numbers(planned(minibatch_size=5, **options).usual) == (8, 14, 1)
    assert numbers(planned(minibatch_size=100, **options).usual) == (21 + 42, 14, 1)
    assert numbers(planned(minibatch_size=100, **options).most) == (42 + 42, 14, 2)
    assert numbers(planned(batch_size=100, **options).usual) == (10 + 20, 42, 1)
    assert numbers(planned(kind=BLPO.paper, batch_size=100, inner_steps=0, rounds=1).usual) == (42 + 42, 42, 1)
    assert numbers(planned(rounds=1, select="last", inner_steps=4).usual) == USUAL
    assert numbers(planned(rounds=1, select="last").most) == LONGEST
