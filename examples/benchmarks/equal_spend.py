"""BLPO beside every other method at the same number of LM calls, on the embedded photographs.

Every (rater, seed) is one comparison: photographs, engine and search are drawn from that seed, the same for all
methods. The table has for each cap the mean test macro-F1 of each method, and how often BLPO did better, as well, or
worse on the same rater and seed. A check that the mechanism works: the embedded engine is no model, so the figures say
nothing about real ones.

usage: python examples/benchmarks/equal_spend.py [--methods all] [--raters sharp,colour,exposure] [--seeds 0,1,2]
           [--caps 600] [--evidence both] [--processes 2] [--out DIR]

With --out the comparisons are kept there, and the same command goes on after a break.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import dspy

from blpo_dspy import LabelSpace, Models, VisualJudge, compare, embedded_lm
from blpo_dspy.embedded.dataset import RatedPhotograph, rated_photographs
from blpo_dspy.embedded.raters import RATERS
from blpo_dspy.methods import METHODS

TASK = "Rate the technical quality of this photograph."
LABELS = LabelSpace.ordinal(1, 5)
OURS = "blpo"


@dataclass(frozen=True)
class Task:
    """One comparison."""

    methods: str
    rater: str
    seed: int
    cap: int
    evidence: Literal["both", "image", "description"]
    out: str


@dataclass(frozen=True)
class Outcome:
    """One method in one comparison; no F1 where it failed."""

    task: Task
    method: str
    f1: float | None
    calls: int


def examples(photographs: tuple[RatedPhotograph, ...]) -> list[dspy.Example]:
    """Returns rated photographs as labelled examples."""
    return [dspy.Example(image=p.image, label=p.label).with_inputs("image") for p in photographs]


def run(task: Task) -> list[Outcome]:
    """Runs one comparison."""
    warnings.simplefilter("ignore")
    lm = embedded_lm(task.seed)
    splits = rated_photographs(RATERS[task.rater], seed=task.seed)
    comparison = compare(
        VisualJudge(LABELS, instruction=TASK, evidence=task.evidence),
        trainset=examples(splits.train),
        valset=examples(splits.val),
        testset=examples(splits.test),
        models=Models(lm, lm, lm),
        max_calls=task.cap,
        optimizers=task.methods,
        seeds=[task.seed],
        out=Path(task.out, f"{task.rater}-{task.seed}-{task.cap}-{task.evidence}"),
        num_threads=2,
    )
    for row in comparison.rows:
        if row.error:
            print(f"{row.method}, {task.rater}, seed {task.seed}: {row.error}", file=sys.stderr)
    return [
        Outcome(task, row.method, None if row.test is None else row.test["macro_f1"], row.spent)
        for row in comparison.rows
    ]


def told(method: str, cap: int, outcomes: list[Outcome]) -> str:
    """Returns one line of the table."""
    own = {o.task: o.f1 for o in outcomes if o.method == OURS and o.task.cap == cap}
    rows = [o for o in outcomes if o.method == method and o.task.cap == cap]
    found = [o.f1 for o in rows if o.f1 is not None]
    if not found:
        return f"| {cap} | {method} | failed | | | |"
    pairs = [(ours, o.f1) for o in rows if o.f1 is not None and (ours := own.get(o.task)) is not None]
    better, worse = sum(a > b for a, b in pairs), sum(a < b for a, b in pairs)
    won = "–" if method == OURS else f"{better} / {len(pairs) - better - worse} / {worse}"
    gain = "–" if method == OURS or not pairs else f"{statistics.mean(a - b for a, b in pairs):+.3f}"
    calls = statistics.mean(o.calls for o in rows)
    return f"| {cap} | {method} | {statistics.mean(found):.3f} (n={len(found)}) | {gain} | {won} | {calls:.0f} |"


def main() -> None:
    """Runs every comparison and prints one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--raters", default=",".join(list(RATERS)[:3]))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--caps", default="600")
    parser.add_argument("--evidence", default="both", choices=("both", "image", "description"))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out")
    arguments = parser.parse_args()
    methods = list(METHODS) if arguments.methods == "all" else arguments.methods.split(",")
    methods = list(dict.fromkeys(["none", OURS, *methods]))
    caps = [int(cap) for cap in arguments.caps.split(",")]
    with tempfile.TemporaryDirectory() as temporary:
        tasks = [
            Task(",".join(methods), rater, int(seed), cap, arguments.evidence, arguments.out or temporary)
            for cap in caps
            for rater in arguments.raters.split(",")
            for seed in arguments.seeds.split(",")
        ]
        outcomes: list[Outcome] = []
        with multiprocessing.get_context("spawn").Pool(arguments.processes) as pool:
            for number, found in enumerate(pool.imap_unordered(run, tasks), 1):
                outcomes += found
                print(f"{number} of {len(tasks)} comparisons done", file=sys.stderr, flush=True)
            pool.close()
            pool.join()
    print(f"| cap | method | test macro-F1 | {OURS} − method | {OURS} wins / ties / losses | calls |")
    print("|---:|---|---:|---:|---:|---:|")
    for cap in caps:
        for method in methods:
            print(told(method, cap, outcomes))


if __name__ == "__main__":
    main()
