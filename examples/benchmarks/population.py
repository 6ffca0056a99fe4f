"""How often an interval for a whole collection holds the truth, and how long it is beside that of labels alone.

Each run simulates a collection, a judge and a draw of images that people label, and makes the estimates of
`estimate_population`: the share of a label that 1 %, 10 % or half of the images have, or the mean of five levels. The
good judge errs a little, the mediocre one often, both on one side more than on the other; the useless one answers
regardless of the image. Coverage is how often the 95 % interval holds the collection's true number; the ratio is its
mean length over that of the interval of as many labels alone, drawn uniformly. The naive interval takes verdicts for
labels. No model is called.

usage: python examples/benchmarks/population.py [--runs 500] [--labels 200] [--rare-labels 2000] [--seed 0]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from blpo_dspy.agreement.intervals import Interval
from blpo_dspy.population.cells import Sample
from blpo_dspy.population.design import draw
from blpo_dspy.population.estimates import Estimate, estimate_mean, estimate_share

Floats = npt.NDArray[np.float64]

SHARES: dict[str, float | None] = {"1 %": 0.01, "10 %": 0.1, "50 %": 0.5, "mean": None}
JUDGES = ("good", "mediocre", "useless")
DESIGNS = ("uniform", "stratified")
_SENSITIVITY = {"good": 0.85, "mediocre": 0.6}
_FALSE = {"good": 0.06, "mediocre": 0.4}  # false yes, over the share of yes
_NOISE = {"good": 0.5, "mediocre": 1.5}
_BIAS = 0.2
_FEWEST_IMAGES = 4000
_IMAGES_PER_LABEL = 5
_LEVELS, _COMMON = np.arange(1.0, 6.0), [0.1, 0.2, 0.4, 0.2, 0.1]


@dataclass
class Tally:
    """What the intervals of one setting did.

    Attributes:
        held: How often each kind of interval held the truth.
        lengths: Its lengths, summed up.
        runs: How many there were.
    """

    held: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("ours", "alone", "naive"), 0))
    lengths: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("ours", "alone"), 0.0))
    runs: int = 0

    def add(self, truth: float, ours: Estimate, alone: Estimate) -> None:
        """Counts a run; `alone` is an estimate from a uniform draw, whose labels alone are looked at."""
        assert ours.judged_interval is not None
        found: dict[str, Interval] = {
            "ours": ours.interval,
            "alone": alone.labelled_interval,
            "naive": ours.judged_interval,
        }
        for name, interval in found.items():
            self.held[name] += interval.low <= truth <= interval.high
        for name in self.lengths:
            self.lengths[name] += found[name].high - found[name].low
        self.runs += 1

    def coverage(self, name: str) -> float:
        """Returns how often an interval held the truth."""
        return self.held[name] / self.runs

    @property
    def ratio(self) -> float:
        """The mean length of ours over that of labels alone."""
        return self.lengths["ours"] / self.lengths["alone"]


def collection(rng: np.random.Generator, images: int, share: float | None, judge: str) -> tuple[Floats, Floats]:
    """Returns what people would say of each image, and what the judge says: 1 or 0, or levels if there is no share."""
    if share is None:
        truth = rng.choice(_LEVELS, images, p=_COMMON)
        if judge == "useless":
            return truth, rng.choice(_LEVELS, images)
        return truth, np.clip(np.round(truth + rng.normal(_BIAS, _NOISE[judge], images)), 1, 5)
    yes = rng.random(images) < share
    if judge == "useless":
        return yes.astype(float), (rng.random(images) < max(share, 0.3)).astype(float)
    says = np.where(yes, _SENSITIVITY[judge], _FALSE[judge] * share)
    return yes.astype(float), (rng.random(images) < says).astype(float)


def drawn(rng: np.random.Generator, truth: Floats, judged: Floats, n: int, design: str, seed: int) -> Sample:
    """Returns the labels of n images, drawn uniformly or as `blpo sample` does."""
    if design == "uniform":
        chosen, strata = rng.choice(len(truth), n, replace=False), np.zeros(n, dtype=np.int64)
        chances = np.full(n, n / len(truth))
    else:
        found = draw([str(label) for label in judged], [None] * len(judged), n, seed=seed)
        chosen, strata = np.array(found.chosen).T
        chances = np.array([stratum.chance for stratum in found.strata])[strata]
    return Sample(truth[chosen], judged[chosen], strata, chances, judged, np.bincount(strata))


def simulate(name: str, judge: str, design: str, *, runs: int, images: int, n: int, seed: int = 0) -> Tally:
    """Returns what the intervals of one setting did."""
    tally = Tally()
    for run in range(runs):
        rng = np.random.default_rng([seed, run, *f"{name} {judge} {design}".encode()])
        truth, judged = collection(rng, images, SHARES[name], judge)
        samples = [drawn(rng, truth, judged, n, kind, run) for kind in dict.fromkeys((design, "uniform"))]
        if SHARES[name] is None:
            made = [estimate_mean("mean", sample, (1.0, 5.0), 1.0) for sample in samples]
        else:
            made = [estimate_share("yes", sample) for sample in samples]
        tally.add(float(truth.mean()), made[0], made[-1])
    return tally


def table(runs: int, labels: int, rare_labels: int, seed: int) -> Iterator[str]:
    """Yields the lines of the table, each when it is done."""
    yield "| number | draw | judge | labels | coverage | length ratio | labels alone: coverage | naive: coverage |"
    yield "| --- | --- | --- | --: | --: | --: | --: | --: |"
    for name in SHARES:
        n = rare_labels if name == "1 %" else labels
        images = max(_FEWEST_IMAGES, _IMAGES_PER_LABEL * n)
        for design in DESIGNS:
            for judge in JUDGES:
                found = simulate(name, judge, design, runs=runs, images=images, n=n, seed=seed)
                ours, alone, naive = (f"{found.coverage(kind):.3f}" for kind in ("ours", "alone", "naive"))
                yield f"| {name} | {design} | {judge} | {n} | {ours} | {found.ratio:.2f} | {alone} | {naive} |"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--labels", type=int, default=200)
    parser.add_argument("--rare-labels", type=int, default=2000, help="for the share of 1 %%")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    for line in table(given.runs, given.labels, given.rare_labels, given.seed):
        print(line, flush=True)


if __name__ == "__main__":
    main()
