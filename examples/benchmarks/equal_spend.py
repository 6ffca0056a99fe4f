"""BLPO beside every other method at the same number of LM calls, on the embedded photographs.

Every (rater, seed) is one comparison: photographs, engine and search are drawn from that seed, the same for all
methods. For each cap there is a table of the mean test macro-F1 of each method, how often BLPO did better, as well, or
worse on the same rater and seed, and the mean calls, marked where a search ended by itself before the cap. For several
caps one more table has macro-F1 and calls of all of them. A check that the mechanism works: the embedded engine is no
model, so the figures say nothing about real ones.

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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import dspy

from blpo_dspy import LabelSpace, Models, VisualJudge, compare
from blpo_dspy.comparison.figures import ENDED, ended_early
from blpo_dspy.comparison.methods import METHODS
from blpo_dspy.data.sources.photographs.dataset import RatedPhotograph, rated_photographs
from blpo_dspy.data.sources.photographs.raters import RATERS
from blpo_dspy.embedded import embedded_lm

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
    early: bool


def examples(photographs: list[RatedPhotograph]) -> list[dspy.Example]:
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
        Outcome(task, row.method, None if row.test is None else row.test["macro_f1"], row.spent, ended_early([row]))
        for row in comparison.rows
    ]


def told(method: str, outcomes: list[Outcome]) -> str:
    """Returns a method's line in the table of one cap."""
    own = {o.task: o.f1 for o in outcomes if o.method == OURS}
    rows = [o for o in outcomes if o.method == method]
    pairs = [(ours, o.f1) for o in rows if o.f1 is not None and (ours := own.get(o.task)) is not None]
    better, worse = sum(a > b for a, b in pairs), sum(a < b for a, b in pairs)
    won = "–" if method == OURS else f"{better} / {len(pairs) - better - worse} / {worse}"
    gain = "–" if method == OURS or not pairs else f"{statistics.mean(a - b for a, b in pairs):+.3f}".replace("-", "−")
    return f"| {method} | {mean_f1(rows)} | {gain} | {won} | {mean_calls(rows)} |"


def mean_f1(rows: list[Outcome]) -> str:
    """Returns the mean macro-F1, with the number of runs where some failed."""
    found = [o.f1 for o in rows if o.f1 is not None]
    return f"{statistics.mean(found):.3f}" + (f" (n={len(found)})" if len(found) < len(rows) else "") if found else "–"


def mean_calls(rows: list[Outcome]) -> str:
    """Returns the mean calls, marked if a search ended by itself before the cap."""
    return f"{statistics.mean(o.calls for o in rows):,.0f}" + (ENDED if any(o.early for o in rows) else "")


def tables(methods: list[str], caps: list[int], outcomes: list[Outcome]) -> Iterator[str]:
    """Yields the lines of all tables, in Markdown."""
    by_cap = {cap: [o for o in outcomes if o.task.cap == cap] for cap in caps}
    for cap, found in by_cap.items():
        yield f"At most {cap:,} calls, means of {len({o.task for o in found})}:\n"
        yield f"| method | test macro-F1 | {OURS.upper()} − method | {OURS.upper()} wins / ties / losses | calls |"
        yield "|---|--:|--:|--:|--:|"
        yield from (told(method, found) for method in methods)
        yield ""
    if len(caps) > 1:
        yield "Test macro-F1 (calls):\n"
        yield f"| cap | {' | '.join(methods)} |"
        yield f"|--:|{'--:|' * len(methods)}"
        for cap, found in by_cap.items():
            rows = [[o for o in found if o.method == method] for method in methods]
            yield f"| {cap:,} | {' | '.join(f'{mean_f1(one)} ({mean_calls(one)})' for one in rows)} |"
        yield ""
    if any(o.early for o in outcomes):
        yield f"{ENDED} ended by itself before the cap, in at least one run"


def main() -> None:
    """Runs every comparison and prints the tables."""
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
    print("\n".join(tables(methods, caps, outcomes)))


if __name__ == "__main__":
    main()
