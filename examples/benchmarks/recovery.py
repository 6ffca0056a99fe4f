"""How much of the headroom each variant recovers on the embedded photographs, and what it costs in calls.

Recovery is (after − before) / (ceiling − before) in macro-F1 on a sealed test split, over raters and seeds. The
ceiling is the same judge with the rater's weights stated in its instruction. A check that the mechanism works: the
embedded engine is not a model, so the figures say nothing about real ones.

usage: python examples/benchmarks/recovery.py [--raters sharp,colour] [--seeds 0,1,2,3,4] [--variants defaults,paper]
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import dspy

from blpo_dspy import BLPO, Budget, LabelSpace, VisualJudge, measure_agreement
from blpo_dspy.data.sources.photographs.dataset import RatedPhotograph, rated_photographs
from blpo_dspy.data.sources.photographs.raters import RATERS, ceiling_instruction, ceiling_verbalizer_instruction
from blpo_dspy.embedded import embedded_lm

TASK = "Rate the technical quality of this photograph."
TASK_AWARE = (
    "Describe the technical quality of this photograph: blur, noise, blocking, overexposure, underexposure, low "
    "contrast, colour cast and oversaturation. Say how strong each is."
)
LABELS = LabelSpace.ordinal(1, 5)

VARIANTS: dict[str, tuple[Callable[..., BLPO], dict[str, Any], dict[str, Any]]] = {
    "defaults": (BLPO, {}, {}),
    "at most 2000 calls": (BLPO, {"budget": Budget(max_calls=2000)}, {}),
    "paper": (BLPO.paper, {}, {}),
    "first q only": (BLPO, {"inner_steps": 0}, {}),
    "fixed task-aware q (best of 4)": (
        BLPO,
        {"verbalizer_search": "fixed"},
        {"verbalizer_instruction": TASK_AWARE},
    ),
    "judge instruction as q": (BLPO, {"verbalizer_search": "judge", "inner_steps": 0}, {}),
}


@dataclass(frozen=True)
class Run:
    """One compile and its figures."""

    variant: str
    rater: str
    seed: int
    before: float
    after: float
    ceiling: float
    calls: int

    @property
    def recovery(self) -> float:
        """The share of the headroom that was recovered."""
        return (self.after - self.before) / (self.ceiling - self.before)


def examples(photographs: list[RatedPhotograph]) -> list[dspy.Example]:
    """Returns rated photographs as labelled examples."""
    return [dspy.Example(image=p.image, label=p.label).with_inputs("image") for p in photographs]


def macro_f1(judge: VisualJudge, test: list[dspy.Example], lm: dspy.LM) -> float:
    """Returns the macro-F1 of a judge on the test split."""
    with dspy.context(lm=lm, disable_history=True, trace=None):
        predicted = [judge(image=example.image).label for example in test]
    return float(measure_agreement(LABELS, [example.label for example in test], predicted).macro_f1 or 0.0)


def run(task: tuple[str, str, int]) -> Run:
    """Compiles one variant for one rater and seed."""
    variant, name, seed = task
    make, options, student_options = VARIANTS[variant]
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    rater, lm = RATERS[name], embedded_lm(seed)
    splits = rated_photographs(rater, seed=seed)
    train, validation, test = examples(splits.train), examples(splits.val), examples(splits.test)
    student = VisualJudge(LABELS, instruction=TASK, **student_options)
    best = VisualJudge(
        LABELS,
        instruction=ceiling_instruction(rater, TASK),
        verbalizer_instruction=ceiling_verbalizer_instruction(rater),
    )
    optimizer = make(prompt_model=lm, task_model=lm, seed=seed, num_threads=2, **options)
    program = optimizer.compile(student, trainset=train, valset=validation)
    return Run(
        variant,
        name,
        seed,
        macro_f1(VisualJudge(LABELS, instruction=TASK), test, lm),
        macro_f1(program, test, lm),
        macro_f1(best, test, lm),
        program.detailed_results.ledger.total.calls,
    )


def main() -> None:
    """Runs every variant on every rater and seed and prints one row per variant."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--raters", default=",".join(RATERS))
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    tasks = [
        (variant, rater, int(seed))
        for variant in arguments.variants.split(",")
        for rater in arguments.raters.split(",")
        for seed in arguments.seeds.split(",")
    ]
    runs: list[Run] = []
    with multiprocessing.Pool(arguments.processes) as pool:
        for one in pool.imap_unordered(run, tasks):
            runs.append(one)
            print(
                f"{one.variant}, {one.rater}, seed {one.seed}: {one.before:.2f} -> {one.after:.2f} of "
                f"{one.ceiling:.2f} (recovery {one.recovery:.2f}, {one.calls} calls)",
                file=sys.stderr,
                flush=True,
            )
    print("| variant | runs | before | after | ceiling | recovery median | worst | below start | calls |")
    print("|---|---|---|---|---|---|---|---|---|")
    for variant in arguments.variants.split(","):
        rows = [one for one in runs if one.variant == variant]
        mean = {
            name: statistics.mean(getattr(r, name) for r in rows) for name in ("before", "after", "ceiling", "calls")
        }
        recovery = sorted(r.recovery for r in rows)
        print(
            f"| {variant} | {len(rows)} | {mean['before']:.2f} | {mean['after']:.2f} | {mean['ceiling']:.2f} "
            f"| {statistics.median(recovery):.2f} | {recovery[0]:.2f} | {sum(r.after < r.before for r in rows)} "
            f"| {mean['calls']:.0f} |"
        )


if __name__ == "__main__":
    main()
