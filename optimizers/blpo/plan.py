"""How many LM calls a run of BLPO makes; the bounds follow from the algorithm and its options alone."""

from __future__ import annotations

import math

import dspy

from blpo_dspy.optimizers.bench.sampling import LARGEST_MINIBATCH
from blpo_dspy.optimizers.bench.setup import Dataset
from blpo_dspy.optimizers.blpo.options import USUAL_ROUNDS, BLPOOptions
from blpo_dspy.optimizers.blpo.steps import REMEMBERED, shows_mistakes
from blpo_dspy.optimizers.estimates.plan import MetaPrompt, Plan
from blpo_dspy.optimizers.proposals.asking import ATTEMPTS
from blpo_dspy.optimizers.validation import validation_size

# The share of the rounds that draw a new minibatch.
_FRESH = 0.5


def plan_blpo(o: BLPOOptions, student: dspy.Module, data: Dataset, verbalizer: str) -> Plan:
    """Returns how many calls Algorithm 1 with these options makes."""
    judging = sum(name != verbalizer for name, _ in student.named_predictors())
    verbalizes = getattr(student, "evidence", None) != "image"  # as far as is known of a program
    cap = None if o.budget is None else o.budget.calls
    validation = validation_size(len(data.validation), cap, judging + verbalizes, len(data.train))
    validations = 0 if o.select == "last" else o.most_rounds + 1 if o.budget is None else 2

    def calls(most: bool, rounds: int, validations: int) -> dict[str, int]:
        judged, described, proposed = (rounds * n for n in _round(o, len(data.train), verbalizes, most))
        judged, described = judged + validations * validation, described + validations * validation * verbalizes
        found = {"judge": judged * judging, "verbalizer": described, "optimizer": proposed}
        return {role: math.ceil(n) for role, n in found.items()}

    def capped(calls: dict[str, int]) -> dict[str, int]:
        return calls if cap is None else {role: min(n, cap) for role, n in calls.items()}

    rounds, shown = o.rounds or USUAL_ROUNDS, o.batch_size + o.shown_right
    if cap is not None:
        paid = (cap - validations * validation * (judging + verbalizes)) // max(1, sum(calls(False, 1, 0).values()))
        rounds = max(1, min(o.most_rounds, paid))
    return Plan(
        capped(calls(False, rounds, min(validations, 2 + _passes(o, rounds, len(data.train))))),
        capped(calls(True, o.most_rounds, validations)),
        (calls(False, 1, min(2, validations)), calls(False, 2, min(2, validations))),
        (
            MetaPrompt(o.update_judge, shown, 1),
            MetaPrompt(
                o.update_verbalizer, shown * shows_mistakes(o.update_verbalizer), o.inner_steps + 2 + REMEMBERED
            ),
        ),
    )


def _passes(o: BLPOOptions, rounds: int, train: int) -> int:
    """How many passes through the training examples usually end before the search does."""
    if o.minibatch_size is None:
        return rounds - 1
    return int(rounds * _FRESH * min(o.minibatch_size * o.minibatch_growth, train) / train)


def _round(o: BLPOOptions, train: int, verbalizes: bool, most: bool) -> tuple[float, float, float]:
    """The examples that a usual or the longest round judges, those that it describes, and its optimizer calls."""
    searched, scored, steps = float(train), o.batch_size, o.inner_steps
    if o.minibatch_size is not None:
        scored = max(o.minibatch_size, LARGEST_MINIBATCH) if most else o.minibatch_size
        if not most:
            searched, steps = min(scored, train) * _FRESH, min(1, steps)
    scored = min(scored, train)
    learned, by_judge = o.verbalizer_search == "learned", o.verbalizer_search == "judge"
    updates = 1 if by_judge else steps + 1  # with the judge instruction as q all inner steps ask for the same update
    described: float = (updates if learned else 1) * min(o.batch_size + o.shown_right, train)
    if verbalizes:  # the first q has described what was searched
        described = searched + (updates - 1 if learned else int(by_judge)) * scored
    return searched + updates * scored, described, (ATTEMPTS if most else 1) * (updates + learned * steps)
