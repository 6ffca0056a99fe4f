"""How close an optimizer's wall time is to what its sequential steps need, at a given latency.

A step is what an optimizer waits for before it continues: calls that are under way together, without a moment at which
none is. GEPA and MIPROv2 are DSPy's. Two ratios are printed, wall time over the sum of what the steps need:

- by calls: ceil(calls / threads) × latency for each step, as if all of its calls could be under way at once;
- by turns: the same for each predictor of a step. An image is judged once it is described, so that a step with both
  takes two latencies however many threads there are; this is the critical path that a program really has.

usage: python examples/benchmarks/critical_path.py [--quick] [--latency-ms 200] [--threads 16] [--evidence image]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import math
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import dspy
from dspy import lm15

from blpo_dspy import BLPO, LabelSpace, VisualJudge
from blpo_dspy.data.sources.photographs.dataset import RatedPhotograph, rated_photographs
from blpo_dspy.data.sources.photographs.raters import RATERS
from blpo_dspy.embedded.engine import EmbeddedEngine

LABELS = LabelSpace.ordinal(1, 5)
TASK = "Rate the technical quality of this photograph."


@dataclass(frozen=True)
class Call:
    """One LM call: when it began and ended, in seconds, and for which predictor."""

    began: float
    ended: float
    predictor: str


class SlowEngine:
    """The embedded engine with a fixed latency, and a record of its calls.

    It answers what it was asked before from memory: a model elsewhere takes no processor time of the optimizer's.
    """

    def __init__(self, latency: float) -> None:
        self.latency, self.calls = latency, list[Call]()
        self._engine = EmbeddedEngine()
        self._known: dict[str, lm15.Response] = {}
        self._lock = threading.Lock()

    def complete(self, request: lm15.Request) -> lm15.Response:
        """Answers after the latency."""
        began = time.perf_counter()
        asked = repr(request)
        if (response := self._known.get(asked)) is None:
            response = self._known[asked] = self._engine.complete(request)
        time.sleep(max(0.0, began + self.latency - time.perf_counter()))
        parts = [part for message in request.messages for part in message.parts]
        image = any(part.type == "image" for part in parts)
        predictor = (
            "optimizer" if not image else "judge" if "[[ ## label ## ]]" in str(request.system) else "verbalizer"
        )
        with self._lock:
            self.calls.append(Call(began, time.perf_counter(), predictor))
        return response

    def __deepcopy__(self, memo: dict[int, Any]) -> SlowEngine:
        return self


def needed(calls: list[Call], threads: int, latency: float) -> tuple[int, float, float]:
    """Returns the number of steps and the seconds that they need, by calls and by turns."""
    steps = list(_steps(calls))
    by_calls = sum(math.ceil(len(step) / threads) for step in steps)
    turns = [count for step in steps for count in Counter(call.predictor for call in step).values()]
    return len(steps), by_calls * latency, sum(math.ceil(count / threads) for count in turns) * latency


def _steps(calls: list[Call]) -> Iterator[list[Call]]:
    step: list[Call] = []
    until = 0.0
    for call in sorted(calls, key=lambda call: call.began):
        if step and call.began >= until:
            yield step
            step = []
        step.append(call)
        until = max(until, call.ended)
    if step:
        yield step


def examples(photographs: list[RatedPhotograph]) -> list[dspy.Example]:
    """Returns rated photographs as labelled examples, prepared once."""
    policy = VisualJudge(LABELS, instruction=TASK).pixel_policy
    return [dspy.Example(image=policy.prepare(p.image), label=p.label).with_inputs("image") for p in photographs]


def metric(gold: Any, pred: Any, trace: Any = None, pred_name: Any = None, pred_trace: Any = None) -> Any:
    """Agreement, in the form that GEPA asks for."""
    score = 1.0 - LABELS.loss(gold.label, pred.get("label"))
    return dspy.Prediction(score=score, feedback=f"people gave {gold.label}") if pred_name else score


def optimizers(lm: dspy.LM, threads: int, *, quick: bool) -> dict[str, Callable[..., Any]]:
    """Returns a function of student, trainset and valset for each optimizer."""
    rounds, calls, trials = (2, 150, 3) if quick else (8, 600, 8)

    def blpo(student: VisualJudge, train: list[Any], val: list[Any]) -> Any:
        optimizer = BLPO(prompt_model=lm, task_model=lm, rounds=rounds, num_threads=threads)
        return optimizer.compile(student, trainset=train, valset=val)

    def gepa(student: VisualJudge, train: list[Any], val: list[Any]) -> Any:
        optimizer = dspy.GEPA(metric=metric, max_metric_calls=calls, reflection_lm=lm, num_threads=threads)
        return optimizer.compile(student, trainset=train, valset=val)

    def miprov2(student: VisualJudge, train: list[Any], val: list[Any]) -> Any:
        demos = {"max_bootstrapped_demos": 0, "max_labeled_demos": 0}
        optimizer = dspy.MIPROv2(
            metric=metric, prompt_model=lm, task_model=lm, auto=None, num_candidates=3, num_threads=threads, **demos
        )
        return optimizer.compile(student, trainset=train, valset=val, num_trials=trials, minibatch=False)

    return {"BLPO": blpo, "GEPA": gepa, "MIPROv2": miprov2}


def main() -> None:
    """Runs the optimizers one after the other and prints a row for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--latency-ms", type=float, default=200)
    parser.add_argument("--threads", type=int, default=16)
    parser.add_argument("--evidence", choices=["both", "image", "description"], default="both")
    parser.add_argument("--optimizers", default="BLPO,GEPA,MIPROv2")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    arguments = parser.parse_args()
    chosen = arguments.optimizers.split(",")
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    sizes = {"train": 60, "val": 40} if arguments.quick else {"train": 100, "val": 50}
    splits = rated_photographs(RATERS["sharp"], test=0, **sizes)
    train, val = examples(splits.train), examples(splits.val)
    latency = arguments.latency_ms / 1000
    engine = SlowEngine(latency)
    lm = dspy.LM("embedded/slow", engine=engine, cache=False)
    dspy.configure(lm=lm, disable_history=True)
    print(
        "| optimizer | calls | steps | wall, s | by calls, s | ratio | by turns, s | ratio |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    for name, compile_ in optimizers(lm, arguments.threads, quick=arguments.quick).items():
        if name not in chosen:
            continue
        for engine.latency in (0.0, latency):  # the first run is for the engine's memory
            engine.calls.clear()
            student = VisualJudge(LABELS, instruction=TASK, evidence=arguments.evidence)
            began = time.perf_counter()
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                compile_(student, train, val)
            wall = time.perf_counter() - began
        steps, *seconds = needed(engine.calls, arguments.threads, latency)
        figures = " | ".join(f"{least:.1f} | {wall / least:.2f}" for least in seconds)
        print(f"| {name} | {len(engine.calls)} | {steps} | {wall:.1f} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
