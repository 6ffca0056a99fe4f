"""What the benchmarks of the search share: runs on the embedded photographs, kept as they end, and their statistics.

A run is one method in one world: photographs, engine and search are drawn from the world's seed, the same for every
method. Each finished run is a line of `runs.jsonl` in the output folder: a command resumes after an interruption,
and one with more methods, seeds or caps pays only for what is new.
"""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import statistics
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import dspy
import numpy as np
from earlier_search import EarlierSearch
from earlier_search import UpdateJudge as EarlierUpdateJudge

from blpo_dspy import Budget, LabelSpace, VisualJudge, measure_agreement
from blpo_dspy.comparison.methods import METHODS, Method
from blpo_dspy.data.sources.photographs.dataset import RatedPhotograph, rated_photographs
from blpo_dspy.data.sources.photographs.raters import RATERS
from blpo_dspy.data.splits import Splits
from blpo_dspy.embedded import embedded_lm
from blpo_dspy.embedded.engine import VERSION
from blpo_dspy.embedded.sight.senses import TEMPERAMENTS
from blpo_dspy.optimizers.blpo.prompts import UpdateJudge

TASK = "Rate the technical quality of this photograph."
LABELS = LabelSpace.ordinal(1, 5)
OURS = "blpo"
MANY = 1000
TEST = 100
# Further test photographs are drawn with the seed on top of this.
_MORE = 50_000
_FILE = "runs.jsonl"
_RESAMPLES = 10_000

_OLD_WORDING = UpdateJudge.with_instructions(EarlierUpdateJudge.instructions)


def _without(about: str, **options: Any) -> Method:
    return replace(METHODS[OURS], about=f"BLPO, but {about}", options={**METHODS[OURS].options, **options})


ABLATIONS: Mapping[str, Method] = {
    "without contrast": _without("no right images are shown", shown_right=0),
    "without kept-back scoring": _without("all mistakes are shown", keep_back="never"),
    "old meta-prompt": _without(
        "asked for no shared rules and no length", update_judge=_OLD_WORDING, instruction_words=None
    ),
    "without growth": _without("minibatches stay as small as the first", minibatch_growth=1.0),
    "without reuse": _without("one update a minibatch", minibatch_updates=1),
}
"""BLPO without one of its parts."""

EVERY: Mapping[str, Method] = {
    **METHODS,
    "earlier": Method("the earlier search", EarlierSearch, {"rounds": MANY}),
    "earlier-fixed": Method(
        "the earlier search, fixed task-aware verbalizer instruction",
        EarlierSearch,
        {"rounds": MANY, "learned": False},
        task_aware=True,
    ),
    **ABLATIONS,
}
"""All methods that a benchmark can name."""


@dataclass(frozen=True)
class World:
    """Photographs, a rater and an engine.

    Attributes:
        rater: Name of the rater.
        seed: Draws photographs, slips, engine and search.
        temperament: Of the optimizer LM.
        evidence: What the judge reads.
        train: Number of training images; there are 60 validation images, 24 where there are fewer than 60 of these.
        label_noise: Share of the labels for training and validation that are a level off; test labels are clean.
        describing_noise: Probability that a described flaw is a level off, None for the engine's own.
        start: "generic", the bare task, or "informed", which names the two flaws that weigh most.
        reasons: Whether the optimizer LM reads what raters write beside their labels.
        test: Number of test photographs, 100 at least; the others are the same with more of them.
    """

    rater: str
    seed: int
    temperament: str = "careful"
    evidence: str = "both"
    train: int = 100
    label_noise: float = 0.0
    describing_noise: float | None = None
    start: str = "generic"
    reasons: bool = False
    test: int = TEST

    @property
    def photographs(self) -> Photographs:
        """What decides its photographs."""
        return self.rater, self.seed, self.train, self.label_noise, self.test

    @property
    def lm(self) -> dspy.LM:
        """The engine in every role."""
        traits = TEMPERAMENTS[self.temperament]
        if self.describing_noise is not None:
            traits = replace(traits, describing_noise=self.describing_noise)
        return embedded_lm(self.seed, traits=traits, cache=False)

    @property
    def student(self) -> VisualJudge:
        """The judge to begin with."""
        weights = RATERS[self.rater].weights
        heaviest = sorted(weights, key=lambda flaw: -weights[flaw])[:2]
        informed = f" {heaviest[0].capitalize()} and {heaviest[1]} count strongly." if self.start == "informed" else ""
        return VisualJudge(LABELS, instruction=TASK + informed, evidence=self.evidence)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Task:
    """One run: a method in a world at a cap on LM calls."""

    world: World
    method: str
    cap: int

    @property
    def key(self) -> str:
        """What the run is known by: the engine's version is part of it."""
        about = asdict(self)
        for name, usual in (("reasons", False), ("test", TEST)):  # as runs are known from before there were others
            if about["world"][name] == usual:
                del about["world"][name]
        return json.dumps([VERSION, about], sort_keys=True)


@dataclass(frozen=True)
class Outcome:
    """What came of a run.

    Attributes:
        start: Macro-F1 of the start on the test set.
        f1: The same of the returned judge.
        fitted: Agreement with the training labels as they were written down.
        agreement: Agreement with the test labels.
        calls: LM calls of the search.
        early: Whether it ended by itself before the cap.
        seconds: How long the search took.
    """

    start: float
    f1: float
    fitted: float
    agreement: float
    calls: int
    early: bool
    seconds: float


Photographs = tuple[str, int, int, float, int]
"""What decides the photographs of a world: rater, seed, training images, label noise, test images."""


@lru_cache(maxsize=2)
def rated(photographs: Photographs) -> Splits[RatedPhotograph]:
    """Returns photographs with their labels."""
    name, seed, train, noise, test = photographs
    rater = replace(RATERS[name], label_noise=noise)
    splits = rated_photographs(rater, seed=seed, train=train, val=60 if train >= 60 else 24, test=TEST)
    if test == TEST:
        return splits
    more = rated_photographs(rater, seed=_MORE + seed, train=0, val=0, test=test - TEST)
    return replace(splits, test=[*splits.test, *more.test])


def examples(photographs: Sequence[RatedPhotograph], *, reasons: bool = False) -> list[dspy.Example]:
    """Returns rated photographs as labelled examples, with what raters wrote beside the label if asked."""
    return [
        dspy.Example(image=p.image, label=p.label, **({"reason": p.reason} if reasons else {})).with_inputs("image")
        for p in photographs
    ]


def labels_of(judge: VisualJudge, photographs: Sequence[RatedPhotograph], lm: dspy.LM) -> list[Any]:
    """Returns the judge's labels of photographs."""
    with dspy.context(lm=lm, disable_history=True, trace=None):
        return [judge(image=example.image).label for example in examples(photographs)]


def macro_f1(judge: VisualJudge, photographs: Sequence[RatedPhotograph], lm: dspy.LM) -> tuple[float, float]:
    """Returns a judge's macro-F1 and agreement with what the rater means."""
    found = measure_agreement(LABELS, [p.meant for p in photographs], labels_of(judge, photographs, lm))
    return float(found.macro_f1 or 0.0), float(found.accuracy or 0.0)


@lru_cache(maxsize=8)
def start_f1(world: World) -> float:
    """Returns the macro-F1 of the start of a world."""
    return macro_f1(world.student, rated(world.photographs).test, world.lm)[0]


def run(task: Task) -> Outcome:
    """Runs a method in a world and measures the judge that it returns."""
    method, world = EVERY[task.method], task.world
    splits, lm = rated(world.photographs), world.lm
    judge, calls, early, seconds = method.student(world.student), 0, False, 0.0
    if method.make is not None:
        optimizer = method.make(
            prompt_model=lm,
            task_model=lm,
            budget=Budget(max_calls=task.cap),
            seed=world.seed,
            num_threads=1,
            **method.options,
        )
        train = examples(splits.train, reasons=world.reasons)
        judge = optimizer.compile(judge, trainset=train, valset=examples(splits.val))
        record = judge.detailed_results
        calls, early, seconds = record.ledger.total.calls, not record.capped, record.ledger.total.seconds
    f1, agreement = macro_f1(judge, splits.test, lm)
    fitted = statistics.mean(
        a == p.label for a, p in zip(labels_of(judge, splits.train, lm), splits.train, strict=True)
    )
    return Outcome(start_f1(world), f1, fitted, agreement, calls, early, seconds)


class Kept:
    """The finished runs in a folder; none without a folder."""

    def __init__(self, folder: str | None) -> None:
        self._path = None if folder is None else Path(folder) / _FILE
        self.outcomes: dict[str, Outcome] = {}
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            text = self._path.read_text(encoding="utf-8") if self._path.exists() else ""
            whole, newline, torn = text.rpartition("\n")
            if torn:  # what a break left of the last line
                self._path.write_text(whole + newline, encoding="utf-8")
            for line in whole.splitlines():
                entry = json.loads(line)
                self.outcomes[entry["key"]] = Outcome(**entry["outcome"])

    def add(self, task: Task, outcome: Outcome) -> None:
        """Writes down a finished run."""
        self.outcomes[task.key] = outcome
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                file.write(json.dumps({"key": task.key, "outcome": asdict(outcome)}) + "\n")


def run_all(tasks: Iterable[Task], *, out: str | None, processes: int) -> dict[Task, Outcome]:
    """Runs what is not kept in the folder, worlds with the same photographs in one process after each other."""
    kept, tasks = Kept(out), list(dict.fromkeys(tasks))
    groups: dict[Photographs, list[Task]] = {}
    for task in tasks:
        if task.key not in kept.outcomes:
            groups.setdefault(task.world.photographs, []).append(task)
    missing = sum(map(len, groups.values()))
    done = 0
    workers = multiprocessing.get_context("forkserver")
    workers.set_forkserver_preload(["blpo_dspy.comparison.methods"])  # not this module: a folder `runs` may lie here
    with workers.Pool(processes, maxtasksperchild=8) as pool:
        parts = [part for group in groups.values() for part in _parts(group)]
        for found in pool.imap_unordered(_run_some, parts):
            for task, outcome in found:
                done += 1
                if isinstance(outcome, str):
                    print(f"{task.method} in {task.world}: {outcome}", file=sys.stderr)
                else:
                    kept.add(task, outcome)
            print(f"{done} of {missing} runs done", file=sys.stderr, flush=True)
        pool.close()
        pool.join()
    return {task: kept.outcomes[task.key] for task in tasks if task.key in kept.outcomes}


def _parts(tasks: list[Task], size: int = 6) -> list[list[Task]]:
    """Some runs at a time, so that a break loses little."""
    return [tasks[i : i + size] for i in range(0, len(tasks), size)]


def _run_some(tasks: Sequence[Task]) -> list[tuple[Task, Outcome | str]]:
    warnings.simplefilter("ignore")
    found: list[tuple[Task, Outcome | str]] = []
    for task in tasks:
        try:
            found.append((task, run(task)))
        except Exception as error:  # any method may fail in any way: its line says how
            found.append((task, f"{type(error).__name__}: {error}"))
    return found


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Returns the mean of paired differences with its 95 % percentile interval over bootstrap resamples."""
    found = np.asarray(values, dtype=np.float64)
    draws = np.random.default_rng(0).integers(0, len(found), size=(_RESAMPLES, len(found)))
    low, high = np.quantile(found[draws].mean(axis=1), (0.025, 0.975))
    return float(found.mean()), float(low), float(high)


def shown(values: Sequence[float]) -> str:
    """Returns paired differences as their mean and interval, "–" where there are none."""
    if not values:
        return "–"
    mean, low, high = interval(values)
    return f"{mean:+.3f} [{low:.3f}, {high:.3f}]".replace("-", "−")
