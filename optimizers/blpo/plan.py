"""How many LM calls a run of BLPO makes: bounds that follow from the algorithm and its options alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

from blpo_dspy.calls.ledger import ROLES
from blpo_dspy.optimizers.blpo.options import BLPOOptions
from blpo_dspy.optimizers.blpo.steps import MERGED_UPDATES
from blpo_dspy.optimizers.estimates.plan import MetaPrompt, Plan, Sizes, Span
from blpo_dspy.optimizers.proposals.asking import ATTEMPTS

_USUAL_CHUNKS = 2  # that a lazy search judges until batch and guard are full, for a judge that is seldom right or wrong


def plan_blpo(optimizer: BLPOOptions, sizes: Sizes, threads: int) -> Plan:
    """Returns what Algorithm 1 with the optimizer's options comes to, `threads` calls at once."""
    rounds, per_judgement = optimizer.rounds, sizes.judging + sizes.verbalizes
    most, usual = _Round.at_most(optimizer, sizes), _Round.usual(optimizer, sizes, optimizer.inner_steps)
    validation = sizes.train if sizes.validation is None else sizes.validation
    validations = rounds + 1 if optimizer.select == "best" else 0
    cap = None if optimizer.budget is None else optimizer.budget.calls
    spans = [
        Span(*calls)
        for calls in zip(
            _least(optimizer, sizes, validation if validations else 0, cap),
            usual.calls(optimizer, sizes, rounds, validations),
            most.calls(optimizer, sizes, rounds, validations),
            strict=True,
        )
    ]
    # Under a cap on calls the algorithm makes rounds shorter rather than fewer, and validates the first and the last.
    short = usual if cap is None else _Round.usual(optimizer, sizes, min(1, optimizer.inner_steps), chunks=1)
    one, two = (short.calls(optimizer, sizes, n, min(n + 1 if cap is None else 2, validations)) for n in (1, 2))
    last = math.ceil(validation / threads) * per_judgement
    depth = Span(
        1,
        rounds * usual.depth(threads, per_judgement) + (last if validations else 0),
        # Where a validation is more than fits beside a round, the next one waits for it.
        rounds * most.depth(threads, per_judgement) + validations * last,
    )
    return Plan(
        {role: span.capped(cap) for role, span in zip(ROLES, spans, strict=True)},
        (dict(zip(ROLES, one, strict=True)), dict(zip(ROLES, two, strict=True))),
        depth,
        (
            MetaPrompt(optimizer.update_judge, errors=optimizer.batch_size),
            MetaPrompt(optimizer.update_verbalizer, instructions=optimizer.inner_steps + 1),
            MetaPrompt(optimizer.merge_updates, instructions=MERGED_UPDATES),
        ),
    )


def _least(optimizer: BLPOOptions, sizes: Sizes, validation: int, cap: int | None) -> tuple[int, int, int]:
    """The fewest calls of judge, verbalizer and optimizer: the judge makes no mistake, or no proposal can be used.

    A cap on calls that doesn't pay for the first search beside the first and the last validation ends the run before
    it, and one that doesn't pay for the first validation anywhere in it.
    """
    searched = min(optimizer.batch_size + optimizer.guard_size, sizes.train) if _lazy(optimizer) else sizes.train
    room = math.inf if cap is None else cap / (sizes.judging + sizes.verbalizes)
    if 2 * validation + searched > room:
        searched = 0
    if not 0 < validation + searched <= room:
        return 0, 0, 0
    judged = max(validation, searched) if sizes.validation is None else validation + searched
    judged = max(1, judged - sizes.doubles)
    return judged * sizes.judging if sizes.sees else 1, judged * (sizes.verbalizes and sizes.known), 0


def _lazy(optimizer: BLPOOptions) -> bool:
    return optimizer.error_search == "lazy" and not optimizer.stratified


@dataclass(frozen=True)
class _Round:
    """The work of one round: examples judged and described, requests to the optimizer LM."""

    searched: int
    chunks: int
    updates: int
    batch: int
    judged_per_update: int
    described: int
    proposed: int

    @classmethod
    def at_most(cls, o: BLPOOptions, sizes: Sizes) -> _Round:
        return cls._of(o, sizes, sizes.train, ATTEMPTS, o.inner_steps, warm=False)

    @classmethod
    def usual(cls, o: BLPOOptions, sizes: Sizes, inner_steps: int, chunks: int = _USUAL_CHUNKS) -> _Round:
        searched = min(sizes.train, chunks * (o.batch_size + o.guard_size)) if _lazy(o) else sizes.train
        return cls._of(o, sizes, searched, 1, inner_steps, warm=o.warm_start)

    @classmethod
    def _of(cls, o: BLPOOptions, sizes: Sizes, searched: int, attempts: int, inner_steps: int, *, warm: bool) -> _Round:
        learned = o.verbalizer_search == "learned"
        # With the judge instruction as q all inner steps ask for one and the same update.
        updates = 1 if o.verbalizer_search == "judge" else inner_steps + 1
        merged = int(o.merge and updates > 1)
        batch, judged = min(o.batch_size, sizes.train), min(o.batch_size + o.guard_size, sizes.train)
        described = (updates if learned else 1) * batch
        if sizes.verbalizes:  # the first q has described what was searched, and each further one the guard too
            described = (updates - warm if learned else int(o.verbalizer_search == "judge")) * judged
        chunks = math.ceil(searched / (o.batch_size + o.guard_size)) if _lazy(o) else 1
        proposed = attempts * (updates + learned * inner_steps + merged)
        return cls(searched, chunks, updates + merged, batch, judged, described, proposed)

    def calls(self, o: BLPOOptions, sizes: Sizes, rounds: int, validations: int) -> tuple[int, int, int]:
        """The calls of judge, verbalizer and optimizer for so many rounds and validations."""
        if sizes.validation is None:  # what was validated on the trainset the search finds judged
            searched = max(validations * sizes.train, rounds * self.searched)
        else:
            searched = validations * sizes.validation + rounds * self.searched
        described = rounds * self.described + sizes.verbalizes * searched
        if o.verbalizer_search == "fixed":
            described = min(described, sizes.train + (sizes.validation or 0))
        judged = searched + rounds * self.updates * self.judged_per_update
        return judged * sizes.judging, described, rounds * self.proposed

    def depth(self, threads: int, per_judgement: int) -> int:
        chunk = math.ceil(self.searched / self.chunks / threads)
        scored = math.ceil(self.judged_per_update / threads)
        return (
            (self.chunks * chunk + self.updates * scored) * per_judgement
            + self.updates * math.ceil(self.batch / threads)
            + self.proposed
        )
