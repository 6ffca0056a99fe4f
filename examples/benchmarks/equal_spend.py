"""BLPO and other methods at the same number of LM calls, on the embedded photographs.

For each temperament of the optimizer LM, each evidence and each noise of the descriptions there is a table: the mean
test macro-F1 of every method at every cap, and BLPO less each other method, paired by rater and seed, with the 95 %
bootstrap interval of that difference. `ablations` among the methods stands for BLPO without each of its parts, and
`earlier` for the search that it had before. A check that the mechanism works: the embedded engine is not a model, so
the figures say nothing about real ones.

usage: python examples/benchmarks/equal_spend.py [--methods blpo,earlier,fixed-task-aware] [--raters …] [--seeds 0,1]
           [--caps 600] [--evidence both] [--temperaments careful,bold] [--describing-noise 0.3] [--test 400]
           [--processes 2] [--out DIR]

With --out finished runs are kept there: the same command resumes after an interruption, and one with more methods,
raters, seeds or caps pays only for what is new.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator, Mapping
from itertools import product

from runs import ABLATIONS, EVERY, OURS, RATERS, TEMPERAMENTS, TEST, Outcome, Task, World, run_all, shown

from blpo_dspy.comparison.figures import ENDED

EVIDENCE = ("both", "image", "description")


def tables(outcomes: Mapping[Task, Outcome], methods: list[str], caps: list[int]) -> Iterator[str]:
    """Yields the lines of all tables, in Markdown."""
    kinds = dict.fromkeys((t.world.temperament, t.world.evidence, t.world.describing_noise) for t in outcomes)
    for temperament, evidence, noise in kinds:
        found = {
            task: outcome
            for task, outcome in outcomes.items()
            if (task.world.temperament, task.world.evidence, task.world.describing_noise)
            == (temperament, evidence, noise)
        }
        noisy = "" if noise is None else f", descriptions with {noise:.0%} noise"
        yield f"Optimizer {temperament}, evidence {evidence}{noisy}: test macro-F1 (calls)\n"
        yield f"| cap | pairs | {' | '.join(methods)} |"
        yield f"|--:|--:|{'--:|' * len(methods)}"
        for cap in caps:
            cells = [_mean({t: o for t, o in found.items() if t.cap == cap and t.method == m}) for m in methods]
            pairs = len({task.world for task in found if task.cap == cap})
            yield f"| {cap:,} | {pairs} | {' | '.join(cells)} |"
        others = [method for method in methods if method != OURS]
        yield f"\n{OURS} less the others, paired, with 95 % intervals\n"
        yield f"| cap | {' | '.join(others)} |"
        yield f"|--:|{'--|' * len(others)}"
        for cap in caps:
            yield f"| {cap:,} | {' | '.join(shown(differences(found, cap, method)) for method in others)} |"
        yield ""
    if any(outcome.early for outcome in outcomes.values()):
        yield f"{ENDED} ended by itself before the cap, in at least one run"


def differences(outcomes: Mapping[Task, Outcome], cap: int, method: str) -> list[float]:
    """Returns BLPO's macro-F1 less a method's in each world that both ran in."""
    ours = {task.world: o.f1 for task, o in outcomes.items() if (task.method, task.cap) == (OURS, cap)}
    theirs = {task.world: o.f1 for task, o in outcomes.items() if (task.method, task.cap) == (method, cap)}
    return [ours[world] - theirs[world] for world in ours if world in theirs]


def _mean(outcomes: Mapping[Task, Outcome]) -> str:
    if not outcomes:
        return "–"
    found = list(outcomes.values())
    calls = f"{statistics.mean(o.calls for o in found):,.0f}{ENDED if any(o.early for o in found) else ''}"
    return f"{statistics.mean(o.f1 for o in found):.3f} ({calls})"


def main() -> None:
    """Runs every method in every world and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", default="blpo,earlier,fixed-task-aware", help=f"of {', '.join(EVERY)}; ablations")
    parser.add_argument("--raters", default=",".join(RATERS))
    parser.add_argument("--seeds", default="0,1,2,3")
    parser.add_argument("--caps", default="600")
    parser.add_argument("--evidence", default="both", help=f"of {', '.join(EVIDENCE)}")
    parser.add_argument("--temperaments", default="careful", help=f"of {', '.join(TEMPERAMENTS)}")
    parser.add_argument("--describing-noise", type=float, help="probability that a described flaw is a level off")
    parser.add_argument("--test", type=int, default=TEST, help=f"test photographs, {TEST} at least")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out")
    arguments = parser.parse_args()
    named = {"all": list(EVERY), "ablations": list(ABLATIONS)}
    methods = [method for name in arguments.methods.split(",") for method in named.get(name, [name])]
    methods = list(dict.fromkeys([OURS, *methods]))
    unknown = sorted({*methods} - {*EVERY} | {*arguments.evidence.split(",")} - {*EVIDENCE})
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}")
    caps = [int(cap) for cap in arguments.caps.split(",")]
    worlds = [
        World(
            rater,
            int(seed),
            temperament,
            evidence,
            describing_noise=arguments.describing_noise,
            test=max(TEST, arguments.test),
        )
        for temperament, evidence, rater, seed in product(
            arguments.temperaments.split(","),
            arguments.evidence.split(","),
            arguments.raters.split(","),
            arguments.seeds.split(","),
        )
    ]
    tasks = [Task(world, method, cap) for world in worlds for cap in caps for method in methods]
    outcomes = run_all(tasks, out=arguments.out, processes=arguments.processes)
    print("\n".join(tables(outcomes, methods, caps)))


if __name__ == "__main__":
    main()
