"""How far the ceiling lies above the start for random tastes of the embedded photographs, by what the judge reads.

Each taste has two flaws that one photograph can have, of a weight of at least `--least`, and up to three others of any
weight. What is printed is the difference in macro-F1 on a sealed test split of 100. The embedded engine is not a model,
so the figures say nothing about real ones.

usage: python examples/benchmarks/headroom.py [--raters 10] [--least 0.6] [--seed 0]
"""

from __future__ import annotations

import argparse
import random

import dspy
from recovery import LABELS, TASK, examples, macro_f1

from blpo_dspy import VisualJudge
from blpo_dspy.data.sources.photographs import (
    Rater,
    ceiling_instruction,
    ceiling_verbalizer_instruction,
    rated_photographs,
)
from blpo_dspy.embedded import embedded_lm
from blpo_dspy.embedded.sight.flaws import FLAWS, HIDING

MODES = ("both", "image", "description")


def taste(rng: random.Random, least: float) -> Rater:
    """Returns a random rater; a weight of exactly `least` is as likely as all above it."""
    while True:
        heavy = rng.sample(FLAWS, 2)
        if frozenset(heavy) not in HIDING:
            break
    others = {flaw: round(rng.random(), 2) for flaw in rng.sample(FLAWS, rng.randint(0, 3))}
    return Rater({**others, **{flaw: round(rng.choice((least, rng.uniform(least, 1))), 2) for flaw in heavy}})


def headroom(rater: Rater, seed: int) -> dict[str, float]:
    """Returns by mode how far a judge with the rater's weights in its instruction lies above one with the bare task."""
    test = examples(rated_photographs(rater, seed=seed).test)
    lm, informed = embedded_lm(seed), ceiling_instruction(rater, TASK)
    found = {}
    for mode in MODES:
        start = VisualJudge(LABELS, instruction=TASK, evidence=mode)
        report = ceiling_verbalizer_instruction(rater)
        ceiling = VisualJudge(LABELS, instruction=informed, verbalizer_instruction=report, evidence=mode)
        found[mode] = macro_f1(ceiling, test, lm) - macro_f1(start, test, lm)
    return found


def main() -> None:
    """Prints a row for each rater and the least of all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--raters", type=int, default=10)
    parser.add_argument("--least", type=float, default=0.6)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    rng = random.Random(given.seed)
    rows = []
    for _ in range(given.raters):
        rater = taste(rng, given.least)
        rows.append(headroom(rater, given.seed))
        print(", ".join(f"{mode} {rows[-1][mode]:.2f}" for mode in MODES), dict(rater.weights), flush=True)
    print("least: " + ", ".join(f"{mode} {min(row[mode] for row in rows):.2f}" for mode in MODES))


if __name__ == "__main__":
    main()
