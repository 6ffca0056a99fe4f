"""What a rater writes beside a label: the one or two flaws that cost most, in the words of people."""

from __future__ import annotations

import random
from collections.abc import Mapping

from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.sources.photographs.raters import Rater, worst_to_best
from blpo_dspy.embedded.sight import flaws

WORDS: Mapping[str, tuple[str, ...]] = {
    flaws.BLUR: ("looks smeared", "everything is so soft", "mushy details", "as if seen through a wet window"),
    flaws.NOISE: ("grainy", "sandy texture all over", "full of tiny dots", "gritty like sandpaper"),
    flaws.BLOCKING: ("little squares everywhere", "looks like a bad copy from the web", "jagged, mosaic-like edges"),
    flaws.OVEREXPOSURE: ("glaring", "details lost in the white", "looks bleached", "far too much light"),
    flaws.UNDEREXPOSURE: ("gloomy", "murky, I can hardly make anything out", "way too black", "needs more light"),
    flaws.LOW_CONTRAST: ("washed out", "dull and grey", "flat, no punch", "like a veil of fog over it"),
    flaws.COLOUR_CAST: (
        "weird purple tone",
        "the colours are off",
        "everything looks pinkish",
        "an odd hue over it all",
    ),
    flaws.OVERSATURATION: ("the colours scream", "looks like candy", "neon everywhere", "far too colourful"),
}
"""Flaw → what people say of it; none of these is the flaw's name."""

_ALSO_NAMED = 0.5  # the least cost of a second flaw that is named, as a share of the first's


def reason_for(rater: Rater, levels: Mapping[str, int], label: Label, labels: LabelSpace, rng: random.Random) -> str:
    """Returns what a rater writes beside a label; "" for the best one, or where no flaw cost anything."""
    costs = {flaw: rater.weights.get(flaw, 0.0) * levels.get(flaw, 0) for flaw in flaws.FLAWS}
    costly = sorted((flaw for flaw in costs if costs[flaw]), key=lambda flaw: -costs[flaw])[:2]
    if not costly or label == _best(labels):
        return ""
    named = [flaw for flaw in costly if costs[flaw] >= _ALSO_NAMED * costs[costly[0]]]
    return " and ".join(rng.choice(WORDS[flaw]) for flaw in named)


def _best(labels: LabelSpace) -> Label:
    scores = labels.score_range
    return worst_to_best(labels)[-1] if scores is None else scores.high
