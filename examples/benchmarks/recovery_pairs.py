"""How much of the headroom is recovered where two images are judged, beside that of single images.

"pairs" says which of two photographs is better, or that neither is; every judge is asked in both orders. "edits" says
whether an edit keeps its original. Recovery is (after − before) / (ceiling − before) in macro-F1 on a sealed test split
with the defaults of BLPO, over raters and seeds; a pair whose label changes with the order counts as a tie. The
embedded engine is not a model, so the figures say nothing about real ones.

usage: python examples/benchmarks/recovery_pairs.py [--raters sharp,colour] [--seeds 0,1,2,3] [--forms pairs,single]
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dspy
from recovery import TASK, examples

from blpo_dspy import BLPO, LabelSpace, VisualJudge
from blpo_dspy.agreement.measure import Agreement
from blpo_dspy.agreement.verdicts import agreement_of
from blpo_dspy.data.sources.photographs import (
    RATERS,
    RatedEdit,
    RatedPair,
    Rater,
    ceiling_instruction,
    ceiling_verbalizer_instruction,
    rated_edits,
    rated_pairs,
    rated_photographs,
)
from blpo_dspy.data.splits import Splits
from blpo_dspy.embedded import embedded_lm
from blpo_dspy.models.lm import Models
from blpo_dspy.predictions.labelling import inputs_of, label_images
from blpo_dspy.workspace.meter import Meter
from blpo_dspy.workspace.workers import Workers

_BETTER = "Which photograph has the better technical quality?"
_KEPT = "Decide whether the edited photograph keeps the quality of the original: keep or reject."


@dataclass(frozen=True)
class Form:
    """What is judged: the task, the names of its images, its labels, and its labelled data."""

    task: str
    images: tuple[str, ...]
    labels: LabelSpace

    def judge(self, **options: Any) -> VisualJudge:
        """Returns a judge of it."""
        return VisualJudge(self.labels, **{"instruction": self.task, "images": self.images, **options})


FORMS = {
    "pairs": Form(_BETTER, ("left", "right"), LabelSpace.pairwise("A", "B", tie="tie")),
    "pairs without a tie": Form(_BETTER, ("left", "right"), LabelSpace.pairwise("A", "B")),
    "edits": Form(_KEPT, ("original", "candidate"), LabelSpace("reject", "keep")),
    "single": Form(TASK, ("image",), LabelSpace.ordinal(1, 5)),
}


@dataclass(frozen=True)
class Run:
    """One compile, with the agreement of the start, the compiled judge and the ceiling on the test split."""

    form: str
    before: Agreement
    after: Agreement
    ceiling: Agreement
    calls: int

    @property
    def recovery(self) -> float:
        """The share of the headroom that was recovered."""
        before, after, ceiling = (found.macro_f1 or 0.0 for found in (self.before, self.after, self.ceiling))
        return (after - before) / (ceiling - before)


def drawn(form: str, rater: Rater, seed: int) -> Splits[dspy.Example]:
    """Returns labelled examples of a form."""
    labels = FORMS[form].labels
    splits: Splits[Any]
    if form == "single":
        splits = rated_photographs(rater, seed=seed)
        made = examples
    elif form == "edits":
        splits = rated_edits(rater, seed=seed, labels=labels)
        made = _of_edits
    else:
        splits = rated_pairs(rater, seed=seed, labels=labels)
        made = _of_pairs
    return Splits(made(splits.train), made(splits.val), made(splits.test), labels, splits.how)


def _of_pairs(pairs: Sequence[RatedPair]) -> list[dspy.Example]:
    return [dspy.Example(left=p.left, right=p.right, label=p.label).with_inputs("left", "right") for p in pairs]


def _of_edits(edits: Sequence[RatedEdit]) -> list[dspy.Example]:
    names = ("original", "candidate")
    return [dspy.Example(original=e.original, candidate=e.candidate, label=e.label).with_inputs(*names) for e in edits]


def measured(judge: VisualJudge, test: Sequence[dspy.Example], lm: dspy.LM) -> Agreement:
    """Returns the agreement of a judge on the test split, of pairs in both orders."""
    with Workers(2) as workers:
        meter = Meter(num_threads=2)
        verdicts = label_images(judge, Models(lm, lm, lm), inputs_of(test), workers=workers, meter=meter)
    return agreement_of(judge.labels, test, verdicts)


def run(name: str, rater: Rater, seed: int) -> Run:
    """Compiles a judge for one form, rater and seed."""
    form, lm = FORMS[name], embedded_lm(seed, cache=False)
    data = drawn(name, rater, seed)
    best = form.judge(
        instruction=ceiling_instruction(rater, form.task),
        verbalizer_instruction=ceiling_verbalizer_instruction(rater),
    )
    optimizer = BLPO(prompt_model=lm, task_model=lm, seed=seed, num_threads=2)
    judge = optimizer.compile(form.judge(), trainset=data.train, valset=data.val)
    before, after, ceiling = (measured(one, data.test, lm) for one in (form.judge(), judge, best))
    return Run(name, before, after, ceiling, judge.detailed_results.ledger.total.calls)


def row(name: str, runs: Sequence[Run]) -> str:
    """Returns a row of the table."""
    recovery = sorted(one.recovery for one in runs)
    cells = [name, str(len(runs))]
    for when in ("before", "after", "ceiling"):
        cells.append(f"{statistics.mean(getattr(one, when).macro_f1 or 0.0 for one in runs):.2f}")
    cells += [f"{statistics.median(recovery):.2f}", f"{recovery[0]:.2f}"]
    cells.append(f"{statistics.mean(one.calls for one in runs):,.0f}")
    for when in ("before", "after", "ceiling"):
        flips = [rate for one in runs if (rate := getattr(one, when).flip_rate) is not None]
        cells.append(f"{statistics.mean(flips):.0%}" if flips else "–")
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Runs every form on every rater and seed and prints one row per form."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--raters", default=",".join(RATERS))
    parser.add_argument("--seeds", default="0,1,2,3")
    parser.add_argument("--forms", default="pairs,edits,single")
    arguments = parser.parse_args()
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    rows = []
    for form in arguments.forms.split(","):
        runs = []
        for seed in map(int, arguments.seeds.split(",")):
            for rater in arguments.raters.split(","):
                runs.append(run(form, RATERS[rater], seed))
                print(f"{form}, {rater}, seed {seed}: recovery {runs[-1].recovery:.2f}", file=sys.stderr, flush=True)
        rows.append(row(form, runs))
    print("| judged | runs | before | after | ceiling | recovery | worst | calls | flips before | after | ceiling |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
