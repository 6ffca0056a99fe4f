"""Fit the embedded engine's perception and say how well it reads photographs that it was not fitted on.

Makes normalised, degraded crops of scikit-learn's two photographs and of five that scikit-image ships, measures them,
and fits severity on the measures by quadratic ridge regression with cuts between the levels. scikit-image is not a
dependency of this project: install it as well (`pip install scikit-image`) before you run

    python examples/benchmarks/fit_perception.py [--crops 700] [--write]

`--write` replaces `blpo_dspy/embedded/sight/perception.json`; without it the script only reports.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blpo_dspy.data.sources.photographs.crops import NAMES, crop, photograph
from blpo_dspy.data.sources.photographs.degradations import degrade, draw_flaws
from blpo_dspy.embedded.sight import flaws, perception
from blpo_dspy.embedded.sight.measures import measure
from blpo_dspy.embedded.sight.pixels import png

OTHERS = ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg", "motorcycle_left.png")
Data = tuple[NDArray[np.float64], NDArray[np.int64]]


def other_photograph(name: str) -> NDArray[np.uint8]:
    """Returns one of scikit-image's photographs, at most 640 pixels wide."""
    import skimage.data  # noqa: PLC0415 - not a dependency

    with Image.open(Path(skimage.data.__file__).parent / name) as opened:
        image = opened.convert("RGB")
    image.thumbnail((640, 640), Image.Resampling.LANCZOS)
    return np.asarray(image)


def sample(source: NDArray[np.uint8], crops: int, seed: str) -> Data:
    """Returns measures (crops, measures) and true levels (crops, flaws) of degraded crops of one photograph."""
    rng = random.Random(seed)
    rows, truth = [], []
    for _ in range(crops):
        levels = draw_flaws(rng)
        rows.append(measure(perception.decode(png(degrade(crop(source, rng), levels, rng)))))
        truth.append([levels.get(flaw, 0) for flaw in flaws.FLAWS])
    return np.array(rows), np.array(truth)


def joined(parts: list[Data]) -> Data:
    """Returns the parts as one."""
    return np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts])


def fit(data: Data, alpha: float) -> perception.PerceptionModel:
    """Returns the ridge fit of severity on the quadratic measures, with cuts of least absolute error."""
    measures, levels = data
    mean, scale = measures.mean(axis=0), np.asarray(measures.std(axis=0) + 1e-9, dtype=np.float64)
    x, y = perception.quadratic((measures - mean) / scale), levels / flaws.LEVELS
    penalty = alpha * np.eye(x.shape[1])
    penalty[0, 0] = 0
    coefficients = np.linalg.solve(x.T @ x + penalty, x.T @ y)
    cuts = np.array([_cuts(x @ coefficients[:, f], levels[:, f]) for f in range(len(flaws.FLAWS))])
    return perception.PerceptionModel(mean, scale, coefficients, cuts)


def _cuts(severity: NDArray[np.float64], levels: NDArray[np.int64]) -> list[float]:
    """The three cuts that make the fewest levels of error; they separate, as absolute error sums over the cuts."""
    grid = np.linspace(0.02, 1.0, 99)
    above = severity[:, None] > grid
    return [float(grid[(above != (levels >= k)[:, None]).sum(axis=0).argmin()]) for k in range(1, flaws.LEVELS + 1)]


def report(name: str, model: perception.PerceptionModel, data: Data) -> None:
    """Prints, per flaw and over all, how often the level is exact, and how often where the flaw is present."""
    seen, truth = model.levels(data[0]), data[1]
    exact, there = seen == truth, truth > 0
    print(f"\n{name}: n = {len(truth)}")
    print(f"{'':16}exact  present  detected  false alarms")
    for f, flaw in enumerate([*flaws.FLAWS, "all"]):
        pick = np.s_[:, f] if f < len(flaws.FLAWS) else np.s_[:, :]
        e, t, s = exact[pick], there[pick], seen[pick] > 0
        print(f"{flaw:16}{e.mean():.3f}  {e[t].mean():.3f}    {s[t].mean():.3f}     {s[~t].mean():.3f}")


def main() -> None:
    """Fits, reports, and writes the coefficients if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crops", type=int, default=700, help="crops of each photograph to fit on")
    parser.add_argument("--alpha", type=float, default=20.0, help="ridge penalty")
    parser.add_argument("--write", action="store_true", help="replace the shipped coefficients")
    options = parser.parse_args()

    sources = {name: photograph(name) for name in NAMES} | {name: other_photograph(name) for name in OTHERS}
    train = {name: sample(source, options.crops, f"fit:{name}") for name, source in sources.items()}
    test = {name: sample(source, options.crops // 4, f"test:{name}") for name, source in sources.items()}
    own, others = joined([train[n] for n in NAMES]), joined([train[n] for n in OTHERS])
    own_test, others_test = joined([test[n] for n in NAMES]), joined([test[n] for n in OTHERS])

    both = fit(joined([own, others]), options.alpha)
    report("fitted on all seven, read on other crops of scikit-learn's two", both, own_test)
    report("fitted on all seven, read on other crops of scikit-image's five", both, others_test)
    report("fitted on scikit-image's five, read on scikit-learn's two", fit(others, options.alpha), own_test)
    report("fitted on scikit-learn's two, read on scikit-image's five", fit(own, options.alpha), others_test)
    if options.write:
        target = Path(perception.__file__).with_name("perception.json")
        target.write_text(json.dumps(as_dict(both), separators=(",", ":")) + "\n", encoding="utf-8")
        print(f"\nwrote {target.name}: {target.stat().st_size / 1024:.0f} KB")


def as_dict(model: perception.PerceptionModel) -> dict[str, object]:
    """Returns the model as plain numbers of five significant digits."""
    return {
        key: [[float(f"{x:.5g}") for x in row] if np.ndim(row) else float(f"{row:.5g}") for row in getattr(model, key)]
        for key in ("mean", "scale", "coefficients", "cuts")
    }


if __name__ == "__main__":
    main()
