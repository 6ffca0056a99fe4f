"""The LM calls of the measurements around a search, which an estimate counts and a cap has to pay for."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from blpo_dspy.optimizers.blpo.algorithm import BLPO
from blpo_dspy.programs.pairs import asked_in
from blpo_dspy.programs.visual_judge import VisualJudge
from blpo_dspy.runs.checks.after import fidelity_calls
from blpo_dspy.runs.data.sets import Sets
from blpo_dspy.runs.jobs import Search

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
        calls: All of them by role.
    """

    val: int
    test: int | None
    fidelity: int
    label_errors: int
    calls: Counter[str]

    @property
    def reserved(self) -> int:
        """The calls that the search has to leave."""
        return (self.test or 0) + self.fidelity


def costs_after(start: VisualJudge, sets: Sets, search: Search) -> CostsAfter:
    """Returns what the measurements after a search cost."""
    room = math.inf if search.max_calls is None else _TEST_SHARE * search.max_calls
    errors = calls_of(start, min(search.label_errors, len(sets.train)))
    validates = optimizer_of(search).select == "last" and search.max_calls is None
    val = calls_of(start, 2 * len(sets.val) * validates)
    test = calls_of(start, 2 * len(sets.test))
    fidelity = fidelity_calls(start.evidence, asked_in(start.labels) * min(search.fidelity, len(sets.test)))
    tested = 0 < test.total() <= room
    faithful = test.total() + fidelity.total() <= room
    return CostsAfter(
        val=val.total(),
        test=test.total() if tested else None,
        fidelity=fidelity.total() if faithful else 0,
        label_errors=errors.total(),
        calls=errors + val + (test if tested else Counter()) + (fidelity if faithful else Counter()),
    )


def optimizer_of(search: Search) -> type[BLPO]:
    """Returns the optimizer that a search is made with."""
    return BLPO.paper if search.paper else BLPO


def calls_of(judge: VisualJudge, images: int) -> Counter[str]:
    """Returns by role the most LM calls for judging images, or pairs of them in both orders."""
    each = Counter(judge.roles)
    return Counter({role: count * asked_in(judge.labels) * images for role, count in each.items()})


def not_paid_for(start: VisualJudge, search: Search, costs: CostsAfter, sets: Sets) -> Iterator[str]:
    """Yields a remark for each measurement that the cap on calls leaves out."""
    if costs.test is None and sets.test:
        needed = calls_of(start, 2 * len(sets.test)).total()
        yield (
            f"max_calls={search.max_calls} doesn't pay for the {len(sets.test)} test images: not judged, as their "
            f"{needed} calls, before and after, may take half of it"
        )
    if search.fidelity and not costs.fidelity:
        yield f"max_calls={search.max_calls} doesn't pay for fidelity={search.fidelity}: not measured"
