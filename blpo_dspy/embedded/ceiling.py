"""How good a judge could be: instructions that state a rater's taste in the engine's words.

A judge that is told the weights is at least 0.35 macro-F1 above one that is told the bare task, on 100 photographs and
whatever it reads (image, description or both), for raters with two weights of at least 0.6 who can fill every level
(`examples/benchmarks/headroom.py`).
"""

from __future__ import annotations

from blpo_dspy.embedded import flaws, vocabulary
from blpo_dspy.embedded.raters import Rater


def ceiling_instruction(rater: Rater, task: str) -> str:
    """Returns the task with the rater's weights, those of 0 included, in words that the engine knows."""
    return vocabulary.reweighted(task, {flaw: rater.weights.get(flaw, 0.0) for flaw in flaws.FLAWS})


def ceiling_verbalizer_instruction(rater: Rater) -> str:
    """Returns a report instruction that asks for the flaws that weigh."""
    named = [flaw for flaw in flaws.FLAWS if rater.weights.get(flaw)] or list(flaws.FLAWS)
    return (
        f"Look for {vocabulary.listed(named)}. For each of them say whether it is absent, slight, moderate or severe."
    )
