"""BLPO with against without what raters write beside their labels, at equal spend, on the embedded photographs.

Recovery is (after − before) / (ceiling − before) in macro-F1 on a sealed test split; the ceiling is a judge whose
instructions state the rater's taste. For each temperament and cap: the mean of both, and the difference, paired by
rater and seed, with its 95 % bootstrap interval. A check that the mechanism works: raters write by a list of phrases
and the embedded engine reads them by a dictionary, so the figures say nothing about people and real models.

usage: python examples/benchmarks/reasons.py [--raters sharp,colour] [--seeds 0,1] [--caps 600,1200] [--methods blpo]
           [--temperaments careful,bold] [--processes 2] [--out DIR]

With --out finished runs are kept there, and the same command resumes after an interruption.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from itertools import product

from runs import EVERY, LABELS, OURS, RATERS, TASK, Outcome, Task, World, macro_f1, rated, run_all, shown

from blpo_dspy import VisualJudge
from blpo_dspy.data.sources.photographs import ceiling_instruction, ceiling_verbalizer_instruction


@lru_cache(maxsize=256)
def ceiling(world: World) -> float:
    """Returns the test macro-F1 of a judge whose instructions state the rater's taste."""
    rater = RATERS[world.rater]
    judge = VisualJudge(
        LABELS,
        instruction=ceiling_instruction(rater, TASK),
        verbalizer_instruction=ceiling_verbalizer_instruction(rater),
    )
    return macro_f1(judge, rated(world.photographs).test, world.lm)[0]


def recovery(world: World, outcome: Outcome) -> float:
    """Returns the share of the headroom that a run recovered."""
    return (outcome.f1 - outcome.start) / (ceiling(replace(world, reasons=False)) - outcome.start)


def pairs(outcomes: Mapping[Task, Outcome], method: str, temperament: str, cap: int) -> list[tuple[Task, Task]]:
    """Returns the runs that ended both with reasons and without them."""
    without = [
        task
        for task in outcomes
        if (task.method, task.world.temperament, task.cap) == (method, temperament, cap) and not task.world.reasons
    ]
    found = [(replace(task, world=replace(task.world, reasons=True)), task) for task in without]
    return [pair for pair in found if pair[0] in outcomes]


def table(outcomes: Mapping[Task, Outcome]) -> Iterator[str]:
    """Yields the lines of the table, in Markdown."""
    yield "| optimizer | cap | pairs | macro-F1 without | with | difference | recovery without | with | difference |"
    yield "|---|--:|--:|--:|--:|--|--:|--:|--|"
    for method, temperament, cap in dict.fromkeys((t.method, t.world.temperament, t.cap) for t in outcomes):
        found = pairs(outcomes, method, temperament, cap)
        if not found:
            continue
        cells = []
        for value in (lambda task: outcomes[task].f1, lambda task: recovery(task.world, outcomes[task])):
            reasoned, plain = ([value(pair[i]) for pair in found] for i in (0, 1))
            difference = shown([a - b for a, b in zip(reasoned, plain, strict=True)])
            cells += [f"{statistics.mean(plain):.3f}", f"{statistics.mean(reasoned):.3f}", difference]
        yield f"| {method}, {temperament} | {cap:,} | {len(found)} | {' | '.join(cells)} |"


def main() -> None:
    """Runs every pair and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", default=OURS)
    parser.add_argument("--raters", default=",".join(RATERS))
    parser.add_argument("--seeds", default="0,1,2,3")
    parser.add_argument("--caps", default="600,1200")
    parser.add_argument("--temperaments", default="careful")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out")
    arguments = parser.parse_args()
    methods = arguments.methods.split(",")
    if unknown := sorted({*methods} - {*EVERY}):
        parser.error(f"unknown: {', '.join(unknown)}")
    tasks = [
        Task(World(rater, int(seed), temperament, reasons=reasons), method, int(cap))
        for method, temperament, cap, seed, rater, reasons in product(
            methods,
            arguments.temperaments.split(","),
            arguments.caps.split(","),
            arguments.seeds.split(","),
            arguments.raters.split(","),
            (False, True),
        )
    ]
    print("\n".join(table(run_all(tasks, out=arguments.out, processes=arguments.processes))))


if __name__ == "__main__":
    main()
