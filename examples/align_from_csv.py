"""Align a judge with a CSV of labelled images, measure it on images that it has never seen, save it, use it.

The CSV has the columns `image` (a path relative to the CSV) and `label`. Here it is made on the spot, with photographs
rated by a made-up taste; put the path of your own in its place, and the name of a real model for `embedded`.

    python examples/align_from_csv.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import dspy

from blpo_dspy import BLPO, LabelSpace, Models, VisualJudge, load_examples, measure_agreement, split_examples
from blpo_dspy.agreement.measure import Agreement
from blpo_dspy.data.sources.photographs import RATERS, write_dataset


def agreement(judge: VisualJudge, examples: list[dspy.Example], lm: dspy.LM) -> Agreement:
    """Returns how far the judge agrees with the labels."""
    with dspy.context(lm=lm):
        labels = [prediction.label for prediction in judge.batch(examples, disable_progress_bar=True)]
    return measure_agreement(judge.labels, [example.label for example in examples], labels)


def main() -> None:
    """Runs the example."""
    with tempfile.TemporaryDirectory() as folder:
        table = write_dataset(folder, RATERS["colour"], train=120, val=0, test=0).train

        labels = LabelSpace.ordinal(1, 5)
        splits = split_examples(load_examples(table, labels=labels), labels=labels)
        print(splits.describe())

        models = Models.named("embedded")  # or "openai/gpt-4o", "openrouter/…", "ollama_chat/…"
        start = VisualJudge(labels, instruction="Rate the technical quality of this photograph.")
        optimizer = BLPO(
            prompt_model=models.optimizer, task_model=models.judge, verbalizer_model=models.verbalizer, rounds=2
        )
        judge = optimizer.compile(start, trainset=splits.train, valset=splits.val)
        print("instruction:", judge.instruction)

        for name, candidate in (("before", start), ("after", judge)):
            measured = agreement(candidate, splits.test, models.judge)
            print(f"{name}: accuracy {measured.accuracy:.2f}, macro-F1 {measured.macro_f1:.2f}")

        judge.save(Path(folder, "judge.json"))
        loaded = VisualJudge.load(Path(folder, "judge.json"))
        with dspy.context(lm=models.judge):
            print("a new image:", loaded(image=splits.test[0].image).label)


if __name__ == "__main__":
    main()
