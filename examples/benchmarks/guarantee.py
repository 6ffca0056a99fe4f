"""How often the agreement that a calibration promises is missed, and how much it leaves to people.

The embedded judge's real verdicts on photographs, with the confidence of each, are taken for a population. A thousand
times for each level and number of labels, so many of them are drawn at random, with replacement, and a threshold is
found as `blpo calibrate` finds it. The promise is missed where the agreement of what it labels, in the population, is
below the level; that may happen in a tenth of the calibrations (`--risk`). Beside it stand the share that is labelled
automatically, and that of an oracle: the lowest threshold which keeps the level in the population. The level "edge"
lies just above the population's agreement at the lowest threshold, where it is missed most easily. Then the same with
the confidences shuffled, so that they say nothing: the promise has to hold all the same, and hardly anything be
labelled at levels above the judge's agreement. A check of the statistics: the embedded engine is not a model, so the
figures say nothing about real ones.

usage: python examples/benchmarks/guarantee.py [--images 1000] [--calibrations 1000] [--risk 0.1] [--keep DIR]
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from blpo_dspy import LabelSpace, Models, VisualJudge, predict
from blpo_dspy.agreement.guarantee import accepting, sequence_tests
from blpo_dspy.agreement.resampling import Floats
from blpo_dspy.data.sources.photographs.dataset import rated_photographs
from blpo_dspy.data.sources.photographs.raters import RATERS, ceiling_instruction
from blpo_dspy.embedded import embedded_lm
from blpo_dspy.embedded.sight.senses import Traits
from blpo_dspy.workspace.workspace import Workspace

RATER = RATERS["colour"]
SPACES = {"nominal": LabelSpace("reject", "keep"), "ordinal": LabelSpace.ordinal(1, 5)}
METHODS = ("votes", "logprobs")
LEVELS: tuple[float | None, ...] = (0.8, 0.9, 0.95, None)
LABELS = (50, 100, 200, 400)
TRAITS = {"nominal": Traits(judging_noise=0.2, judging_misses=0.1), "ordinal": Traits()}
EDGE = 0.001


@dataclass(frozen=True)
class Population:
    """Verdicts of a judge.

    Attributes:
        name: The labels and the method of confidence.
        confidences: Shape (images,); -1 without a label.
        right: Whether the label is people's.
        thresholds: Those that are tested, highest first.
        starts: Where their sequence starts.
    """

    name: str
    confidences: Floats
    right: Floats
    thresholds: tuple[float, ...]
    starts: tuple[int, ...]

    def shuffled(self, rng: np.random.Generator) -> Population:
        """Returns it with the confidences dealt out at random."""
        return replace(self, confidences=rng.permutation(self.confidences))

    def truth(self) -> tuple[Floats, Floats]:
        """Returns the share that each threshold labels, and its agreement (1 of nothing)."""
        chosen = [self.confidences >= threshold for threshold in self.thresholds]
        shares = np.array([each.mean() for each in chosen])
        return shares, np.array([self.right[each].mean() if each.any() else 1.0 for each in chosen])


@dataclass(frozen=True)
class Figures:
    """What many calibrations came to: shares of them, and mean shares of images."""

    missed: float
    labelled: float
    oracle: float
    nothing: float


def populations(images: int, folder: Path) -> Iterator[Population]:
    """Yields the verdicts of a judge for each kind of labels and each method; it is asked once for all calibrations."""
    photographs = rated_photographs(RATER, seed=0, train=images, val=0, test=0).train
    for kind, labels in SPACES.items():
        lm = embedded_lm(1, traits=TRAITS[kind], cache=False)
        truth = [p.label if kind == "ordinal" else labels.labels[int(p.label >= 4)] for p in photographs]
        task = "Rate this photograph." if kind == "ordinal" else "Decide whether to keep this photograph."
        judge = VisualJudge(labels, instruction=ceiling_instruction(RATER, task), evidence="image")
        for method in METHODS:
            out = folder / f"{kind}-{method}.csv"
            doubting = judge.confident(method)  # type: ignore[arg-type]
            with Workspace(models=Models(lm, lm, lm)):
                predict(doubting, [p.image for p in photographs], out=out)
            with out.open(newline="") as file:
                rows = list(csv.DictReader(file))
            assert doubting.confidence is not None
            yield Population(
                f"{kind}, {method}",
                np.array([float(row["confidence"]) if row["label"] else -1.0 for row in rows]),
                np.array([row["label"] == str(label) for row, label in zip(rows, truth, strict=True)], dtype=float),
                doubting.confidence.thresholds,
                doubting.confidence.starts,
            )


def figures(
    population: Population, level: float, risk: float, n: int, calibrations: int, *, shuffle: bool = False
) -> Figures:
    """Returns what calibrations with n labels came to.

    Args:
        population: The verdicts to draw from.
        level: The agreement that is promised.
        risk: The probability with which it may be missed.
        n: The labels of each calibration.
        calibrations: How many.
        shuffle: Whether the confidences are shuffled before each.
    """
    rng = np.random.default_rng([n, round(1000 * level), shuffle])
    missed, nothing, labelled, oracle = 0, 0, 0.0, 0.0
    for _ in range(calibrations):
        world = population.shuffled(rng) if shuffle else population
        shares, agreement = world.truth()
        drawn = rng.integers(len(world.right), size=n)
        passed = _passed(world, drawn, level, risk)
        if passed:
            chosen = max(passed)
            missed += bool(agreement[chosen] < level)
            labelled += shares[chosen]
        nothing += not passed
        oracle += max((share for share, kept in zip(shares, agreement >= level, strict=True) if kept), default=0.0)
    return Figures(missed / calibrations, labelled / calibrations, oracle / calibrations, nothing / calibrations)


def _passed(world: Population, drawn: np.ndarray, level: float, risk: float) -> list[int]:  # type: ignore[type-arg]
    """The places of the thresholds that pass, as `blpo_dspy.calibrate` tests them."""
    confidences, right = world.confidences[drawn], world.right[drawn]
    counts = []
    for threshold in world.thresholds:
        chosen = accepting(confidences[None], (threshold,)) == 0
        counts.append((int(chosen.sum()), int(right[chosen].sum())))
    return [place for place, test in enumerate(sequence_tests(counts, level, risk, world.starts)) if test.passed]


def report(found: Sequence[Population], calibrations: int, risk: float) -> Iterator[str]:
    """Yields the lines of the table, and the most that any cell was missed."""
    columns = (
        "agreement",
        "level",
        "labels",
        "missed",
        "labelled",
        "oracle",
        "nothing",
        "shuffled: missed",
        "labelled",
    )
    yield f"| verdicts | {' | '.join(columns)} |"
    yield "|---|" + "--:|" * len(columns)
    worst = 0.0
    for population in found:
        _, agreement = population.truth()
        for stated in LEVELS:
            level = min(0.99, float(agreement[-1]) + EDGE) if stated is None else stated
            for n in LABELS:
                real = figures(population, level, risk, n, calibrations)
                useless = figures(population, level, risk, n, calibrations, shuffle=True)
                worst = max(worst, real.missed, useless.missed)
                edge = " (edge)" if stated is None else ""
                yield (
                    f"| {population.name} | {agreement[-1]:.3f} | {level:.3f}{edge} | {n} | {real.missed:.3f} | "
                    f"{real.labelled:.2f} | {real.oracle:.2f} | {real.nothing:.2f} | {useless.missed:.3f} | "
                    f"{useless.labelled:.2f} |"
                )
    error = 2 * (risk * (1 - risk) / calibrations) ** 0.5
    yield ""
    yield f"missed at most {worst:.3f} of {calibrations:,} calibrations; promised {risk:g} ± {error:.3f} (two errors)"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--calibrations", type=int, default=1000)
    parser.add_argument("--risk", type=float, default=0.1)
    parser.add_argument("--keep", type=Path, help="folder for the verdicts; a temporary one if none")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) if given.keep is None else given.keep
        found = list(populations(given.images, folder))
    for line in report(found, given.calibrations, given.risk):
        print(line)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
