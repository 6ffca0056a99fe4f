"""How good a judge could be: instructions that state a rater's taste in the engine's words."""

from __future__ import annotations

from blpo_dspy.embedded import flaws, vocabulary
from blpo_dspy.embedded.raters import Rater


def ceiling_instruction(rater: Rater, task: str) -> str:
    """Returns the task with the rater's weights in words, to the nearest quarter step: the best a judge can be told."""
    return vocabulary.reweighted(task, {flaw: rater.weights.get(flaw, 0.0) for flaw in flaws.FLAWS})


def ceiling_verbalizer_instruction(rater: Rater) -> str:
    """Returns a report instruction that asks for the flaws to which `ceiling_instruction` gives a weight."""
    named = [flaw for flaw in flaws.FLAWS if vocabulary.nearest_quarter(rater.weights.get(flaw, 0.0)) > 0]
    named = named or list(flaws.FLAWS)
    return (
        f"Look for {vocabulary.listed(named)}. For each of them say whether it is absent, slight, moderate or severe."
    )
