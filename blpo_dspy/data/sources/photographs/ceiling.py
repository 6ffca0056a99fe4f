"""How good a judge could be: instructions that state a rater's taste in the engine's words.

A judge whose instruction states the weights scores far above one with the bare task, for raters with two weights of at
least 0.6 who can fill every level: of 130 random ones (`examples/benchmarks/headroom.py`) by at least 0.40 macro-F1 on
100 photographs where the judge reads image and description, and 0.45 where it reads the description; where it reads
the image alone, by 0.32 for one of them and at least 0.43 for all others.
"""

from __future__ import annotations

from blpo_dspy.data.sources.photographs.raters import Rater
from blpo_dspy.embedded.reading import vocabulary
from blpo_dspy.embedded.sight import flaws


def ceiling_instruction(rater: Rater, task: str) -> str:
    """Returns the task with the rater's weights, those of 0 included, in words that the engine knows."""
    return vocabulary.reweighted(task, {flaw: rater.weights.get(flaw, 0.0) for flaw in flaws.FLAWS})


def ceiling_verbalizer_instruction(rater: Rater) -> str:
    """Returns a report instruction that asks for the flaws that weigh."""
    named = [flaw for flaw in flaws.FLAWS if rater.weights.get(flaw)] or list(flaws.FLAWS)
    return (
        f"Look for {vocabulary.listed(named)}. For each of them say whether it is absent, slight, moderate or severe."
    )
