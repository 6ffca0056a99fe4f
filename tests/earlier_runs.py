"""Small runs of the earlier search, to compare with what it did when it was BLPO's."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import dspy

from blpo_dspy import Budget, LabelSpace, VisualJudge
from blpo_dspy.data.sources.photographs import RATERS, rated_photographs
from blpo_dspy.embedded import embedded_lm

CASES: dict[str, tuple[str, str, int | None, bool]] = {
    "careful": ("sharp", "careful", 300, True),
    "bold": ("colour", "bold", 420, True),
    "larger cap": ("exposure", "bold", 900, True),
    "no cap": ("harsh", "careful", None, True),
    "fixed": ("grain-hater", "careful", 300, False),
}
"""Rater, temperament, cap, and whether verbalizer instructions are learned, by name."""


def went(case: str, make: Callable[..., Any]) -> dict[str, Any]:
    """Returns the way that a search went: instructions and scores of all trials, validations, calls."""
    rater, temperament, cap, learned = CASES[case]
    lm = embedded_lm(1, temperament=temperament, cache=False)
    splits = rated_photographs(RATERS[rater], seed=1, train=30, val=10, test=0)
    train, val = (
        [dspy.Example(image=p.image, label=p.label).with_inputs("image") for p in part]
        for part in (splits.train, splits.val)
    )
    budget = {} if cap is None else {"budget": Budget(max_calls=cap)}
    search = make(learned, prompt_model=lm, task_model=lm, seed=1, num_threads=2, rounds=1000 if cap else 2, **budget)
    student = VisualJudge(LabelSpace.ordinal(1, 5), instruction="Rate the technical quality of this photograph.")
    result = search.compile(student, trainset=train, valset=val).detailed_results
    return {
        "rounds": [[[_digest(t.verbalizer), _digest(t.judge), t.score] for t in done.trials] for done in result.rounds],
        "chosen": [done.chosen for done in result.rounds],
        "validations": [[v.after_round, v.score] for v in result.validations],
        "returned": result.returned.judge,
        "calls": result.ledger.total.calls,
    }


def _digest(text: str | None) -> str | None:
    return None if text is None else hashlib.sha256(text.encode()).hexdigest()[:12]
