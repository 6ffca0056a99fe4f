"""What to do with an aligned judge: label what it can be trusted with, and ask a stronger judge about the rest.

A judge is aligned with people's ratings. New ratings, which the search never saw, say how sure a cheap model, which
sees badly, and a strong one have to be for at least 90 % of their ratings to be within one level of people's. Then a
folder of new photographs is judged: the strong model is asked where the cheap one is not that sure, and what neither is
sure of goes into a table for people.

    python examples/act_on_it.py
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import dspy

from blpo_dspy import Cascade, LabelSpace, Models, VisualJudge, align, calibrate, predict
from blpo_dspy.data.sources.photographs import RATERS, rated_photographs
from blpo_dspy.data.sources.photographs.dataset import RatedPhotograph
from blpo_dspy.embedded import embedded_lm
from blpo_dspy.embedded.sight.senses import Traits

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
    done = align(start, train=train, val=val, models=models(STRONG), max_calls=600, label_errors=0, progress=False)
    return done.judge


def calibrated(judge: VisualJudge, photographs: Sequence[RatedPhotograph]) -> Cascade:
    """Returns the cascade of both models, calibrated on labels of its own; what it promises is printed."""
    found = calibrate(
        Cascade([judge, judge]),
        table(photographs),
        agreement=0.9,
        within=1,
        confidence="logprobs",
        models=[models(CHEAP), models(STRONG)],
        prices=PRICES,
        progress=False,
    )
    print(found.summary())
    assert isinstance(found.judge, Cascade)
    return found.judge


def judged(cascade: Cascade, photographs: Sequence[RatedPhotograph], folder: Path) -> Path:
    """Returns the table of predictions of a folder; beside it lies one of what people have to label."""
    (folder / "photos").mkdir()
    for number, photograph in enumerate(photographs):
        (folder / "photos" / f"{number:04}.png").write_bytes(photograph.image)
    out, people = folder / "predictions.csv", folder / "people.csv"
    done = predict(cascade, folder / "photos", out=out, escalated=people, models=[models(CHEAP), models(STRONG)])
    print(f"\nPhotographs  {done.total}: {dict(done.labels)}, of these {done.escalated} escalated to people")
    return out


def main() -> None:
    """Aligns, calibrates, and judges a folder."""
    splits = rated_photographs(RATERS["colour"], seed=0, train=90, val=400, test=150)
    cascade = calibrated(aligned(splits.train), splits.val)
    with tempfile.TemporaryDirectory() as folder:
        judged(cascade, splits.test, Path(folder))


if __name__ == "__main__":
    main()
