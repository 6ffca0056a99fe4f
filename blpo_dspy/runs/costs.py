"""The LM calls of the measurements around a search, which an estimate counts and a cap has to pay for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import dspy

from blpo_dspy.optimizers.blpo.algorithm import BLPO
from blpo_dspy.optimizers.estimates.plan import Pass
from blpo_dspy.programs.visual_judge import VisualJudge
from blpo_dspy.runs.checks import fidelity_passes
from blpo_dspy.runs.jobs import Search
from blpo_dspy.runs.sets import Sets

# The most of a cap on calls that may be set aside for the test split: the search needs the rest.
_TEST_SHARE = 0.5


@dataclass(frozen=True)
class CostsAfter:
    """The LM calls after the search.

    Attributes:
        val: Those of the validation split, before and after, where the search doesn't validate.
        test: Those of the test split, before and after; None if there is none, or the cap on calls doesn't pay for it.
        fidelity: Those of the verbalizer's fidelity; 0 if it isn't asked for or not paid for.
        label_errors: The most that likely label errors take; under a cap on calls they get what is left.
        passes: All of them, one after the other.
    """

    val: int
    test: int | None
    fidelity: int
    label_errors: int
    passes: tuple[Pass, ...]

    @property
    def reserved(self) -> int:
        """The calls that the search has to leave."""
        return (self.test or 0) + self.fidelity


def costs_after(start: VisualJudge, sets: Sets, search: Search) -> CostsAfter:
    """Returns what the measurements after a search cost."""
    room = math.inf if search.max_calls is None else _TEST_SHARE * search.max_calls
    looked_at = min(search.label_errors, len(sets.train))
    errors = [Pass(looked_at, calls_of(start))] * (looked_at > 0)
    validates = optimizer_of(search).select == "last" and search.max_calls is None
    val = [first_pass(start, sets.val), Pass(len(sets.val), calls_of(start))] * validates
    test = [first_pass(start, sets.test), Pass(len(sets.test), calls_of(start))]
    fidelity = fidelity_passes(start.evidence, min(search.fidelity, len(sets.test)))
    tested = 0 < total_calls(test) <= room
    faithful = total_calls(test) + total_calls(fidelity) <= room
    return CostsAfter(
        val=total_calls(val),
        test=total_calls(test) if tested else None,
        fidelity=total_calls(fidelity) if faithful else 0,
        label_errors=total_calls(errors),
        passes=(*errors, *val, *test * tested, *fidelity * faithful),
    )


def optimizer_of(search: Search) -> type[BLPO]:
    """Returns the optimizer that a search is made with."""
    return BLPO.paper if search.paper else BLPO


def calls_of(judge: VisualJudge) -> dict[str, int]:
    """Returns by role the calls for an image."""
    return {"judge": 1} if judge.evidence == "image" else {"verbalizer": 1, "judge": 1}


def first_pass(judge: VisualJudge, examples: Sequence[dspy.Example]) -> Pass:
    """Returns the cost of judging images that were not judged yet; equal ones are judged once."""
    different = len({example.image.url for example in examples})
    least = dict.fromkeys(calls_of(judge), different)
    if judge.evidence == "description":
        least["judge"] = min(1, different)
    return Pass(len(examples), calls_of(judge), least)


def total_calls(passes: Sequence[Pass]) -> int:
    """Returns the most calls of some passes."""
    return sum(each.total for each in passes)
