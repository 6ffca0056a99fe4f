"""Which of two images is better? A judge of pairs, compiled, asked in both orders, and models ranked by its verdicts.

Here the pairs are photographs, and the labels say which of them a made-up taste rates higher. Three made-up image
models are ranked at the end; put a table of your own instead of theirs, with the columns `left`, `right`, `model_a`
and `model_b`, and the name of a real model for `embedded`.

    python examples/pairwise.py
"""

from __future__ import annotations

import csv
import random
import tempfile
from pathlib import Path

import dspy

from blpo_dspy import BLPO, LabelSpace, Models, VisualJudge, predict, rank
from blpo_dspy.agreement.verdicts import agreement_of
from blpo_dspy.data.sources.photographs import RATERS, RatedPair, rated_pairs
from blpo_dspy.data.sources.photographs.crops import NAMES, crop, photograph
from blpo_dspy.data.sources.photographs.degradations import degrade
from blpo_dspy.embedded.sight.pixels import png
from blpo_dspy.predictions.labelling import inputs_of, label_images
from blpo_dspy.workspace.meter import Meter
from blpo_dspy.workspace.workers import Workers
from blpo_dspy.workspace.workspace import Workspace

LABELS = LabelSpace.pairwise("A", "B", tie="tie")
TASK = "Which photograph has the better technical quality?"
# What each model does to its images; the taste below dislikes a colour cast most.
MODELS = {"plain": {}, "vivid": {"oversaturation": 1}, "tinted": {"colour cast": 2}}


def labelled(pairs: list[RatedPair]) -> list[dspy.Example]:
    """Returns pairs as labelled examples."""
    return [
        dspy.Example(left=dspy.Image(pair.left), right=dspy.Image(pair.right), label=pair.label).with_inputs(
            "left", "right"
        )
        for pair in pairs
    ]


def start_judge() -> VisualJudge:
    """Returns the judge to begin with."""
    return VisualJudge(LABELS, instruction=TASK, images=("left", "right"))


def show(name: str, judge: VisualJudge, test: list[dspy.Example], models: Models) -> None:
    """Prints how far a judge agrees with people, and how often the order of the images decides."""
    with Workers(4) as workers:
        verdicts = label_images(judge, models, inputs_of(test), workers=workers, meter=Meter(num_threads=4))
    measured = agreement_of(LABELS, test, verdicts)
    print(f"{name}: accuracy {measured.accuracy:.2f}, another label in the other order {measured.flip_rate:.0%}")


def write_pairs(folder: Path, count: int) -> Path:
    """Writes pairs of images by different models, and a table that says which model made which."""
    rng = random.Random(0)
    table = folder / "pairs.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["left", "right", "model_a", "model_b"])
        for number in range(count):
            names = rng.sample(list(MODELS), 2)
            files = [f"{number:03}-{place}.png" for place in ("left", "right")]
            for file_name, name in zip(files, names, strict=True):
                pixels = degrade(crop(photograph(rng.choice(NAMES)), rng), MODELS[name], rng)
                (folder / file_name).write_bytes(png(pixels))
            writer.writerow([*files, *names])
    return table


def main() -> None:
    """Runs the example."""
    models = Models.named("embedded")
    pairs = rated_pairs(RATERS["colour"], train=60, val=40, test=60, labels=LABELS)
    train, val, test = (labelled(part) for part in (pairs.train, pairs.val, pairs.test))
    optimizer = BLPO(
        prompt_model=models.optimizer, task_model=models.judge, verbalizer_model=models.verbalizer, rounds=6
    )
    judge = optimizer.compile(start_judge(), trainset=train, valset=val)
    print("instruction:", judge.instruction)
    print("pairs shown in the other order:", judge.card["data"]["train"]["swapped"], "of", len(train))
    show("before", start_judge(), test, models)
    show("after", judge, test, models)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Workspace(models=models):
            done = predict(judge, write_pairs(folder, 30), out=folder / "verdicts.csv")
        print(f"{done.judged} pairs judged in both orders, {done.ledger.total.calls} calls")
        for row in rank(folder / "verdicts.csv", labels=LABELS).models:
            print(f"{row.model:<8}{row.strength:+.2f}  ({row.interval.low:+.2f} to {row.interval.high:+.2f})")


if __name__ == "__main__":
    main()
