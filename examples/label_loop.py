"""From a folder without labels to an aligned judge: label, compile, label where the judge learns most, compile again.

A scripted person answers on the page's own session, as `blpo label` serves it: 40 images drawn at random, and from
them a first judge. Then three times: the judge labels the whole collection, the person labels 20 more images, mostly
where that teaches most (`blpo label --next judge.json`), and BLPO compiles the judge further (`--start judge.json`).
Beside it runs the same loop with random images alone. Agreement is macro-F1 on a hundred photographs that nobody
labelled in either. The person is a made-up taste and the model is the offline engine, so the figures say that the loop
works, not what it gains with real people and models.

    python examples/label_loop.py                          # one rater, one seed
    python examples/label_loop.py --raters 5 --seeds 4     # 20 pairs of loops, with an interval of the difference

The result of 20 pairs is in examples/benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean

import dspy
import numpy as np

from blpo_dspy import BLPO, Budget, LabelSpace, Models, VisualJudge, load_examples, measure_agreement
from blpo_dspy.data.sources.photographs import RATERS, rated_photographs
from blpo_dspy.labelling.items import Work
from blpo_dspy.labelling.order.chosen import ChosenOrder
from blpo_dspy.labelling.order.judged import judge_items, labels_before, opinions_in
from blpo_dspy.labelling.order.looks import looks_of
from blpo_dspy.labelling.order.ordering import Ordering, RandomOrder
from blpo_dspy.labelling.session import open_session

LABELS = LabelSpace.ordinal(1, 5)
TASK = "Rate the technical quality of this photograph."
FIRST, MORE, TIMES = 40, 20, 3
ARMS = ("chosen", "random")
Order = Callable[[list[str]], Ordering]


def label(work: Work, answers: Mapping[str, object], count: int, order: Order) -> None:
    """The person labels so many images, as the page asks for them."""
    items = work.items()
    session = open_session(work, items, order)
    try:
        for _ in range(count):
            shown = session.view()["item"]
            name = items.items[shown["position"]].row.where
            action = {"do": "answer", "position": shown["position"], "version": shown["version"], "state": "label"}
            session.act({**action, "label": str(answers[name])})
    finally:
        session.journal.close()


def teaching(judge: VisualJudge, work: Work, models: Models, seed: int) -> Order:
    """Returns the order in which labels teach the judge most; for that it labels the collection, from three views."""
    items = work.items()
    predictions, _ = judge_items(items, judge.confident("views"), models, work.out)
    opinions, _ = opinions_in(predictions, items, LABELS, labels_before(items, LABELS, work.out))
    return lambda keys: ChosenOrder(keys, opinions, looks_of(items), seed=seed)


def compiled(start: VisualJudge, table: Path, models: Models, calls: int, seed: int) -> VisualJudge:
    """Returns the judge compiled further with all labels so far; half of the first, random ones validate."""
    examples = load_examples(table, labels=LABELS)
    val, train = examples[:FIRST:2], [*examples[1:FIRST:2], *examples[FIRST:]]
    optimizer = BLPO(
        prompt_model=models.optimizer,
        task_model=models.judge,
        verbalizer_model=models.verbalizer,
        budget=Budget(max_calls=calls),
        seed=seed,
    )
    return optimizer.compile(start, trainset=train, valset=val)


def agreement(judge: VisualJudge, test: Sequence[dspy.Example], models: Models) -> float:
    """Returns the macro-F1 of a judge on photographs that it has never seen."""
    with dspy.context(lm=models.judge):
        said = [prediction.label for prediction in judge.batch(test, disable_progress_bar=True)]
    return measure_agreement(LABELS, [example.label for example in test], said).macro_f1


def loop(folder: Path, rater: str, seed: int, *, images: int, calls: int) -> Iterator[tuple[str, int, float]]:
    """Runs both loops, and yields arm, number of labels and agreement after each compilation."""
    models = Models.named("embedded")
    photos = rated_photographs(RATERS[rater], seed=seed, train=images, val=0, test=100)
    (folder / "photos").mkdir()
    answers = {}
    for number, photo in enumerate(photos.train):
        (folder / "photos" / f"{number:04}.png").write_bytes(photo.image)
        answers[f"{number:04}.png"] = photo.label
    start = VisualJudge(LABELS, instruction=TASK)
    test = [
        dspy.Example(image=start.pixel_policy.prepare(photo.image), label=photo.label).with_inputs("image")
        for photo in photos.test
    ]
    yield "start", 0, agreement(start, test, models)

    def by_chance(keys: list[str]) -> Ordering:
        return RandomOrder(keys, seed)

    first: VisualJudge | None = None
    for arm in ARMS:
        work = Work(folder / "photos", LABELS, folder / f"{arm}.csv", task=TASK)
        label(work, answers, FIRST, by_chance)
        if first is None:  # both arms begin with the same judge
            first = compiled(start, work.out, models, calls, seed)
        judge = first
        yield arm, FIRST, agreement(judge, test, models)
        for time in range(1, TIMES + 1):
            order = teaching(judge, work, models, seed) if arm == "chosen" else by_chance
            label(work, answers, MORE, order)
            judge = compiled(judge, work.out, models, calls, seed)
            yield arm, FIRST + time * MORE, agreement(judge, test, models)


def interval(differences: Sequence[float]) -> str:
    """Returns their mean with the 95 % bootstrap interval of it, of a single one just that."""
    mean = f"{fmean(differences):+.3f}"
    if len(differences) < 2:
        return mean
    draws = np.random.default_rng(0).choice(differences, (10_000, len(differences))).mean(axis=1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return f"{mean} [{low:.3f}, {high:.3f}]"


def main() -> None:
    """Runs the loops and prints agreement against the number of labels."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--raters", type=int, default=1, help=f"how many of {', '.join(RATERS)}")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--images", type=int, default=120, help="in the collection")
    parser.add_argument("--calls", type=int, default=220, help="LM calls of each compilation")
    given = parser.parse_args()
    found: dict[tuple[str, int], list[float]] = {}
    for rater in list(RATERS)[: given.raters]:
        for seed in range(given.seeds):
            with tempfile.TemporaryDirectory() as folder:
                for arm, labels, value in loop(Path(folder), rater, seed, images=given.images, calls=given.calls):
                    found.setdefault((arm, labels), []).append(value)
    print(f"macro-F1 without labels: {fmean(found['start', 0]):.3f}\n")
    print("| labels | chosen | random | chosen − random |\n|--:|--:|--:|--|")
    for labels in (FIRST + time * MORE for time in range(TIMES + 1)):
        chosen, chance = (found[arm, labels] for arm in ARMS)
        differences = interval([a - b for a, b in zip(chosen, chance, strict=True)])
        print(f"| {labels} | {fmean(chosen):.3f} | {fmean(chance):.3f} | {differences} |")


if __name__ == "__main__":
    main()
