"""What a search learns by heart and what carries over, on the embedded photographs.

For each temperament of the optimizer LM, number of training images and share of wrong labels there is a row per method:
the gain in macro-F1 on a test set with clean labels, the agreement with the labels it was trained on less that with the
test labels, and how many runs ended more than .02 below their start. The last column has BLPO's test macro-F1 less the
other's. All with 95 % bootstrap intervals over raters and seeds. A check that the mechanism works: the embedded engine
is not a model, so the figures say nothing about real ones.

usage: python examples/benchmarks/overfit.py [--train 20,36,100] [--label-noise 0,0.2]
           [--temperaments careful,bold,bold-deaf] [--methods blpo,earlier] [--raters …] [--seeds 0,1,2,3] [--cap 600]
           [--start generic] [--test 400] [--processes 2] [--out DIR]

With --out finished runs are kept there: the same command resumes after an interruption, and one with more of anything
pays only for what is new.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator, Mapping
from itertools import product

from runs import EVERY, OURS, RATERS, TEMPERAMENTS, TEST, Outcome, Task, World, run_all, shown

HARM = 0.02
"""How far below its start, in test macro-F1, a run ends that counts as harmed."""


def table(outcomes: Mapping[Task, Outcome], methods: list[str]) -> Iterator[str]:
    """Yields the lines of the table, in Markdown."""
    yield (
        "| optimizer | training images | label noise | method | runs | start | test gain | training − test | harmed "
        "| blpo − it |"
    )
    yield "|---|--:|--:|---|--:|--:|--|--:|--:|--|"
    kinds = dict.fromkeys((t.world.temperament, t.world.train, t.world.label_noise) for t in outcomes)
    for kind in kinds:
        found = {t: o for t, o in outcomes.items() if (t.world.temperament, t.world.train, t.world.label_noise) == kind}
        ours = {task.world: outcome.f1 for task, outcome in found.items() if task.method == OURS}
        for method in methods:
            runs = {task.world: outcome for task, outcome in found.items() if task.method == method}
            if runs:
                yield _row(kind, method, runs, ours)
    yield f"\nharmed: ended more than {HARM} below the start"


def _row(kind: tuple[str, int, float], method: str, runs: Mapping[World, Outcome], ours: Mapping[World, float]) -> str:
    found = list(runs.values())
    temperament, train, noise = kind
    gap = statistics.mean(o.fitted - o.agreement for o in found)
    harmed = sum(o.f1 < o.start - HARM for o in found)
    ahead = [] if method == OURS else [ours[world] - o.f1 for world, o in runs.items() if world in ours]
    return (
        f"| {temperament} | {train} | {noise:.0%} | {method} | {len(found)} "
        f"| {statistics.mean(o.start for o in found):.3f} | {shown([o.f1 - o.start for o in found])} | {gap:.2f} "
        f"| {harmed} ({harmed / len(found):.0%}) | {shown(ahead)} |"
    )


def main() -> None:
    """Runs every method in every world and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", default="20,36,100")
    parser.add_argument("--label-noise", default="0,0.2")
    parser.add_argument("--temperaments", default=",".join(TEMPERAMENTS))
    parser.add_argument("--methods", default="blpo,earlier")
    parser.add_argument("--raters", default=",".join(RATERS))
    parser.add_argument("--seeds", default="0,1,2,3")
    parser.add_argument("--cap", type=int, default=600)
    parser.add_argument("--start", default="generic", choices=("generic", "informed"))
    parser.add_argument("--test", type=int, default=TEST, help=f"test photographs, {TEST} at least")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out")
    arguments = parser.parse_args()
    methods = list(dict.fromkeys([OURS, *arguments.methods.split(",")]))
    unknown = sorted({*methods} - {*EVERY} | {*arguments.temperaments.split(",")} - {*TEMPERAMENTS})
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}")
    tasks = [
        Task(
            World(
                rater,
                int(seed),
                temperament,
                train=int(train),
                label_noise=float(noise),
                start=arguments.start,
                test=max(TEST, arguments.test),
            ),
            method,
            arguments.cap,
        )
        for temperament, train, noise, rater, seed, method in product(
            arguments.temperaments.split(","),
            arguments.train.split(","),
            arguments.label_noise.split(","),
            arguments.raters.split(","),
            arguments.seeds.split(","),
            methods,
        )
    ]
    outcomes = run_all(tasks, out=arguments.out, processes=arguments.processes)
    print("\n".join(table(outcomes, methods)))


if __name__ == "__main__":
    main()
