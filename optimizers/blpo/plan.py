"""How many LM calls a run of BLPO makes: bounds that follow from the algorithm and its options alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

from blpo_dspy.calls.ledger import ROLES
from blpo_dspy.optimizers.bench.sampling import LARGEST_MINIBATCH
from blpo_dspy.optimizers.blpo.options import USUAL_ROUNDS, BLPOOptions
from blpo_dspy.optimizers.blpo.steps import REMEMBERED
from blpo_dspy.optimizers.estimates.plan import MetaPrompt, Plan, Sizes, Span
from blpo_dspy.optimizers.proposals.asking import ATTEMPTS
from blpo_dspy.optimizers.validation import validation_size

# So many of the rounds draw a new minibatch.
_FRESH = 0.5


def plan_blpo(optimizer: BLPOOptions, sizes: Sizes, threads: int) -> Plan:
    """Returns how many calls Algorithm 1 with the optimizer's options takes, `threads` calls at once."""
    each, budget = sizes.judging + sizes.verbalizes, optimizer.budget
    cap = None if budget is None else budget.calls
    most, usual = _Round.at_most(optimizer, sizes), _Round.usual(optimizer, sizes)
    validation = validation_size(sizes.train if sizes.validation is None else sizes.validation, cap, each)
    validations = 0 if optimizer.select == "last" else 2 if budget is not None else optimizer.most_rounds + 1
    rounds = optimizer.rounds or USUAL_ROUNDS
    if cap is not None:
        paid = (cap - validations * validation * each) // max(1, sum(usual.calls(sizes, 1, 0)))
        rounds = max(1, min(optimizer.most_rounds, paid))
    usual_validations = min(validations, 1 + math.ceil(rounds * _FRESH))
    spans = zip(
        _least(optimizer, sizes, validation if validations else 0, cap),
        usual.calls(sizes, rounds, usual_validations * validation),
        most.calls(sizes, optimizer.most_rounds, validations * validation),
        strict=True,
    )
    one, two = (usual.calls(sizes, n, min(2, validations) * validation) for n in (1, 2))
    last = math.ceil(validation / threads) * each
    return Plan(
        {role: Span(*calls).capped(cap) for role, calls in zip(ROLES, spans, strict=True)},
        (dict(zip(ROLES, one, strict=True)), dict(zip(ROLES, two, strict=True))),
        Span(
            1,
            rounds * usual.depth(threads, each) + (last if validations else 0),
            # Where a validation is more than fits beside a round, the next one waits for it.
            optimizer.most_rounds * most.depth(threads, each) + validations * last,
        ).capped(cap),
        (
            MetaPrompt(optimizer.update_judge, errors=optimizer.batch_size + optimizer.shown_right),
            MetaPrompt(optimizer.update_verbalizer, instructions=optimizer.inner_steps + 1 + REMEMBERED),
        ),
    )


def _least(optimizer: BLPOOptions, sizes: Sizes, validation: int, cap: int | None) -> tuple[int, int, int]:
    """The fewest calls of judge, verbalizer and optimizer: the judge makes no mistake, or no proposal can be used.

    A cap on calls that doesn't pay for the first search beside the first and the last validation ends the run before
    it, and one that doesn't pay for the first validation anywhere in it.
    """
    searched = min(optimizer.minibatch_size or sizes.train, sizes.train)
    room = math.inf if cap is None else cap / (sizes.judging + sizes.verbalizes)
    if 2 * validation + searched > room:
        searched = 0
    if not 0 < validation + searched <= room:
        return 0, 0, 0
    judged = max(validation, searched) if sizes.validation is None else validation + searched
    judged = max(1, judged - sizes.doubles)
    return judged * sizes.judging if sizes.sees else 1, judged * (sizes.verbalizes and sizes.known), 0


@dataclass(frozen=True)
class _Round:
    """The work of one round: examples judged and described in the search and for updates, requests to the optimizer."""

    searched: float
    scored: int
    described: int
    proposed: int
    steps: int

    @classmethod
    def at_most(cls, o: BLPOOptions, sizes: Sizes) -> _Round:
        largest = o.batch_size if o.minibatch_size is None else max(o.minibatch_size, LARGEST_MINIBATCH)
        return cls._of(o, sizes, sizes.train, min(largest, sizes.train), o.inner_steps, ATTEMPTS)

    @classmethod
    def usual(cls, o: BLPOOptions, sizes: Sizes) -> _Round:
        if o.minibatch_size is None:
            return cls._of(o, sizes, sizes.train, min(o.batch_size, sizes.train), o.inner_steps, 1)
        size = min(o.minibatch_size, sizes.train)
        return cls._of(o, sizes, size * _FRESH, size, min(1, o.inner_steps), 1)

    @classmethod
    def _of(cls, o: BLPOOptions, sizes: Sizes, searched: float, scored: int, steps: int, attempts: int) -> _Round:
        learned = o.verbalizer_search == "learned"
        # With the judge instruction as q all inner steps ask for one and the same update.
        updates = 1 if o.verbalizer_search == "judge" else steps + 1
        shown = min(o.batch_size + o.shown_right, sizes.train)
        described = (updates if learned else 1) * shown
        if sizes.verbalizes:  # the first q has described what was searched
            described = (updates - 1 if learned else int(o.verbalizer_search == "judge")) * scored
        return cls(searched, updates * scored, described, attempts * (updates + learned * steps), updates)

    def calls(self, sizes: Sizes, rounds: int, validated: int) -> tuple[int, int, int]:
        """The calls of judge, verbalizer and optimizer for so many rounds and validated examples."""
        searched = math.ceil(rounds * self.searched) + validated
        described = rounds * self.described + sizes.verbalizes * searched
        return (searched + rounds * self.scored) * sizes.judging, described, rounds * self.proposed

    def depth(self, threads: int, per_judgement: int) -> int:
        """How many calls follow one another in a round."""
        judged = math.ceil(self.searched / threads) + math.ceil(self.scored / threads) + 3 * self.steps
        return judged * per_judgement + math.ceil(self.described / threads) + self.proposed
