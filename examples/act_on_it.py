"""What to do with an aligned judge: label what it can be trusted with, escalate the rest, and estimate the whole.

A judge is aligned with people's ratings. New ratings, which the search never saw, say how sure a cheap model, which
sees badly, and a strong one have to be for at least 90 % of their ratings to be within one level of people's. Then a
folder of new photographs is judged: the strong model is asked where the cheap one is not that sure, and what neither is
sure of goes into a table for people. Last, 60 of the photographs, drawn at random, are rated by people: with the
verdicts on all of them that gives the share of each rating in the folder, beside the true one, which is known here.

    python examples/act_on_it.py
"""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import dspy

from blpo_dspy import (
    Cascade,
    LabelSpace,
    Models,
    VisualJudge,
    align,
    calibrate,
    draw_to_label,
    estimate_population,
    predict,
)
from blpo_dspy.data.sources.photographs import RATERS, rated_photographs
from blpo_dspy.data.sources.photographs.dataset import RatedPhotograph
from blpo_dspy.embedded import embedded_lm
from blpo_dspy.embedded.sight.senses import Traits
from blpo_dspy.workspace.workspace import Workspace

LABELS = LabelSpace.ordinal(1, 5)
TASK = "Rate the technical quality of this photograph from 1 (worst) to 5 (best)."
# With models of your own: Models.named("openai/gpt-4o-mini") and Models.named("openai/gpt-4o"), whose prices are known.
CHEAP = embedded_lm(1, traits=Traits(judging_noise=0.2, judging_misses=0.05), cache=False)
STRONG = embedded_lm(0, cache=False)
PRICES = {CHEAP.model: (0.15, 0.60), STRONG.model: (2.50, 10.00)}


def models(lm: dspy.LM) -> Models:
    """Returns the same model for every role."""
    return Models(lm, lm, lm)


def table(photographs: Sequence[RatedPhotograph]) -> list[dict[str, object]]:
    """Returns labelled photographs as a table in memory; a path to a .csv does as well."""
    return [{"image": photograph.image, "label": photograph.label} for photograph in photographs]


def aligned(photographs: Sequence[RatedPhotograph]) -> VisualJudge:
    """Returns a judge that was aligned on the strong model, as the instructions are the same for both."""
    start = VisualJudge(LABELS, instruction=TASK, evidence="image")
    train, val = table(photographs[:60]), table(photographs[60:])
    with Workspace(models=models(STRONG), progress=False):
        done = align(start, train=train, val=val, max_calls=600, label_errors=0)
    return done.judge


def calibrated(judge: VisualJudge, photographs: Sequence[RatedPhotograph]) -> Cascade:
    """Returns the cascade of both models, calibrated on labels of its own; what it promises is printed."""
    with Workspace(models=[models(CHEAP), models(STRONG)], prices=PRICES, progress=False):
        cascade = Cascade([judge, judge])
        found = calibrate(cascade, table(photographs), agreement=0.9, within=1, confidence="logprobs")
    print(found.summary())
    assert isinstance(found.judge, Cascade)
    return found.judge


def judged(cascade: Cascade, photographs: Sequence[RatedPhotograph], folder: Path) -> Path:
    """Returns the table of predictions of a folder; beside it lies one of what people have to label."""
    (folder / "photos").mkdir()
    for number, photograph in enumerate(photographs):
        (folder / "photos" / f"{number:04}.png").write_bytes(photograph.image)
    out, people = folder / "predictions.csv", folder / "people.csv"
    with Workspace(models=[models(CHEAP), models(STRONG)]):
        done = predict(cascade, folder / "photos", out=out, escalated=people)
    print(f"\nPhotographs  {done.total}: {dict(done.labels)}, of these {done.escalated} escalated to people")
    return out


def rated(drawn: Path, photographs: Sequence[RatedPhotograph]) -> list[dict[str, object]]:
    """Returns the drawn photographs with the rater's labels; people would fill in the file, with `blpo label` say."""
    with drawn.open(newline="", encoding="utf-8") as file:
        return [{**row, "label": photographs[int(Path(row["image"]).stem)].label} for row in csv.DictReader(file)]


def estimated(predictions: Path, photographs: Sequence[RatedPhotograph]) -> None:
    """Prints the share of each rating in the judged folder, and the mean, with what they really are."""
    to_label = predictions.with_name("to_label.csv")
    draw_to_label(predictions, n=60, out=to_label)
    found = estimate_population(predictions, rated(to_label, photographs), labels=LABELS)
    given = [int(photograph.label) for photograph in photographs]
    truth = [*(given.count(level) / len(given) for level in range(1, 6)), fmean(given)]
    print(
        f"\nThe folder, from its verdicts and {found.whole.labelled} ratings: 95 % intervals, of which one in 20 misses"
    )
    for estimate, true in zip(found.whole.estimates, truth, strict=True):
        form = ".0%" if estimate.share else ".2f"
        value, low, high, alone, known = (
            format(number, form)
            for number in (estimate.value, estimate.interval.low, estimate.interval.high, estimate.judged, true)
        )
        print(f"{estimate.what:5} {value:>5}, {low} to {high}; judge alone {alone}; true {known}")


def main() -> None:
    """Aligns, calibrates, judges a folder, and estimates what is in it."""
    splits = rated_photographs(RATERS["colour"], seed=0, train=90, val=400, test=150)
    cascade = calibrated(aligned(splits.train), splits.val)
    with tempfile.TemporaryDirectory() as folder:
        predictions = judged(cascade, splits.test, Path(folder))
        estimated(predictions, splits.test)


if __name__ == "__main__":
    main()
