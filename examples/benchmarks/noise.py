"""How often a report claims an improvement where there is nothing to learn, and where there is.

Compiles a judge of embedded photographs for each seed twice: with the rater's labels, and with the same labels shuffled
at random. What counts is what the headline of the report says, on a sealed test split. With shuffled labels
a claim is false; at most 2 of 20 are expected. A check of the statistics and of the search's promises: the embedded
engine is not a model, so the figures say nothing about real ones.

usage: python examples/benchmarks/noise.py [--seeds 20] [--rater colour] [--evidence image] [--rounds 3] [--test 40]
                                           [--paper]
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import random
import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import dspy
from rich.console import Console

from blpo_dspy import LabelSpace, VisualJudge
from blpo_dspy.data.images.prepare import PixelPolicy
from blpo_dspy.data.sources.photographs.dataset import rated_photographs
from blpo_dspy.data.sources.photographs.raters import RATERS
from blpo_dspy.embedded import embedded_lm
from blpo_dspy.files import write_json
from blpo_dspy.models.lm import Models
from blpo_dspy.report import load_run, write_report_data
from blpo_dspy.report.run.view import page_of
from blpo_dspy.runs.compiling import compile_and_measure
from blpo_dspy.runs.data.sets import Sets
from blpo_dspy.runs.jobs import Search
from blpo_dspy.runs.record import result
from blpo_dspy.workspace.watch import Watch

TASK = "Rate the technical quality of this photograph."
LABELS = LabelSpace.ordinal(1, 5)
TRAIN, VAL = 40, 20
REAL, NOISE = "the rater's labels", "shuffled labels"


@dataclass(frozen=True)
class Task:
    """One compile to make."""

    seed: int
    shuffled: bool
    rater: str
    evidence: str
    rounds: int
    paper: bool
    test: int = 40


@dataclass(frozen=True)
class Outcome:
    """What its report says: "good", "bad" or "none", and its first sentence."""

    task: Task
    tone: str
    sentence: str


def sets_of(task: Task) -> Sets:
    """Returns the three splits, with the labels shuffled over all of them where there is to be nothing to learn."""
    splits = rated_photographs(RATERS[task.rater], seed=task.seed, train=TRAIN, val=VAL, test=task.test)
    photographs = [*splits.train, *splits.val, *splits.test]
    labels = [photograph.label for photograph in photographs]
    if task.shuffled:
        random.Random(f"{task.seed}:noise").shuffle(labels)
    examples = [
        dspy.Example(image=PixelPolicy().prepare(photograph.image), label=label, id=str(i)).with_inputs("image")
        for i, (photograph, label) in enumerate(zip(photographs, labels, strict=True))
    ]
    train, val, test = examples[:TRAIN], examples[TRAIN : TRAIN + VAL], examples[TRAIN + VAL :]
    return Sets(train, val, test, "photographs made here")


def compile_and_report(task: Task) -> Outcome:
    """Compiles, leaves a run's folder and reads its report."""
    warnings.simplefilter("ignore")
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    lm, sets = embedded_lm(task.seed), sets_of(task)
    start = VisualJudge(LABELS, instruction=TASK, evidence=task.evidence)  # type: ignore[arg-type]
    with Watch(Console(file=io.StringIO()), shown=False) as watch:
        search = Search(rounds=task.rounds, paper=task.paper, seed=task.seed)
        aligned = compile_and_measure(start, sets, Models(lm, lm, lm), search, watch)
    with tempfile.TemporaryDirectory() as folder:
        write_json(Path(folder) / "result.json", result(aligned, sets, {}))
        write_report_data(Path(folder), LABELS, sets.test, *aligned.verdicts)
        headline = page_of(load_run(Path(folder)), images=False, blurred=frozenset())["headline"]
    return Outcome(task, headline.tone, headline.sentences[0])


def main() -> None:
    """Runs every seed with real and with shuffled labels and prints how many reports claim an improvement."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--rater", default="colour", choices=sorted(RATERS))
    parser.add_argument("--evidence", default="image", choices=["image", "both", "description"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--test", type=int, default=40, help="test photographs")
    parser.add_argument("--paper", action="store_true", help="the paper's algorithm, which returns its last judge")
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    tasks = [
        Task(seed, shuffled, given.rater, given.evidence, given.rounds, given.paper, given.test)
        for shuffled in (True, False)
        for seed in range(given.seeds)
    ]
    claims = {True: 0, False: 0}
    with multiprocessing.Pool(given.processes) as pool:
        for outcome in pool.imap_unordered(compile_and_report, tasks):
            claims[outcome.task.shuffled] += outcome.tone == "good"
            labels = NOISE if outcome.task.shuffled else REAL
            print(f"seed {outcome.task.seed}, {labels}: {outcome.sentence}", file=sys.stderr, flush=True)
    for shuffled, name in ((True, NOISE), (False, REAL)):
        print(f"{name}: {claims[shuffled]} of {given.seeds} reports claim an improvement")


if __name__ == "__main__":
    main()
