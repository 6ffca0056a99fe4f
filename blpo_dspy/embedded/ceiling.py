"""How good a judge could be: instructions that state a rater's taste in the engine's words.

A judge that reads image and description and is told the weights is at least 0.35 macro-F1 above one that is told the
bare task, on 100 photographs, for raters with two weights of at least 0.65 on flaws that one photograph can have
(`examples/benchmarks/headroom.py`). The distance can be less for weights that a quarter step states badly, such as 0.6;
where the judge reads the image alone, in which it overlooks flaws; and where it reads the description alone and more
flaws weigh than the engine's span of attention holds.
"""

from __future__ import annotations

from blpo_dspy.embedded import flaws, vocabulary
from blpo_dspy.embedded.raters import Rater


def ceiling_instruction(rater: Rater, task: str) -> str:
    """Returns the task with the rater's weights in words, to the nearest quarter step, as the engine knows them."""
    return vocabulary.reweighted(task, {flaw: rater.weights.get(flaw, 0.0) for flaw in flaws.FLAWS})


def ceiling_verbalizer_instruction(rater: Rater) -> str:
    """Returns a report instruction that asks for the flaws to which `ceiling_instruction` gives a weight."""
    named = [flaw for flaw in flaws.FLAWS if vocabulary.nearest_quarter(rater.weights.get(flaw, 0.0)) > 0]
    named = named or list(flaws.FLAWS)
    return (
        f"Look for {vocabulary.listed(named)}. For each of them say whether it is absent, slight, moderate or severe."
    )
