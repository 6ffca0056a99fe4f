"""Does an edit keep the original? A judge that sees two images, a candidate and what it was made from.

Here the candidates are edited photographs, and a made-up taste says which edits did too much. The originals may have
flaws of their own, for which an edit is not to blame: a judge that sees the candidate alone cannot know. The last line
says what the original is worth: how much more often the same instruction is right with it, on the same photographs, and
the interval that says how far this margin may be chance.

    python examples/reference.py
"""

from __future__ import annotations

import dspy

from blpo_dspy import BLPO, LabelSpace, Models, VisualJudge, measure_agreement
from blpo_dspy.agreement.intervals import compare_paired
from blpo_dspy.data.sources.photographs import RATERS, RatedEdit, rated_edits

LABELS = LabelSpace("reject", "keep")
TASK = "Decide whether the edited photograph keeps the quality of the original: keep or reject."
# So many photographs tell the margin of the last line from chance; 80 do not.
TEST = 200


def labelled(edits: list[RatedEdit]) -> list[dspy.Example]:
    """Returns edits as labelled examples."""
    return [
        dspy.Example(
            original=dspy.Image(edit.original), candidate=dspy.Image(edit.candidate), label=edit.label
        ).with_inputs("original", "candidate")
        for edit in edits
    ]


def start_judge(*images: str) -> VisualJudge:
    """Returns the judge to begin with, which sees these images."""
    return VisualJudge(LABELS, instruction=TASK, images=images or ("original", "candidate"))


def show(name: str, judge: VisualJudge, test: list[dspy.Example], lm: dspy.LM) -> list[str | None]:
    """Prints how far a judge agrees with people; returns its labels."""
    seen = [{image.name: example[image.name] for image in judge.fields.images} for example in test]
    with dspy.context(lm=lm):
        found = [prediction.label for prediction in judge.batch(seen, disable_progress_bar=True)]
    measured = measure_agreement(LABELS, [example.label for example in test], found)
    print(f"{name}: accuracy {measured.accuracy:.2f}, macro-F1 {measured.macro_f1:.2f}")
    return found


def main() -> None:
    """Runs the example."""
    models = Models.named("embedded")
    edits = rated_edits(RATERS["exposure"], train=60, val=40, test=TEST, labels=LABELS)
    train, val, test = (labelled(part) for part in (edits.train, edits.val, edits.test))
    optimizer = BLPO(
        prompt_model=models.optimizer, task_model=models.judge, verbalizer_model=models.verbalizer, rounds=12
    )
    judge = optimizer.compile(start_judge(), trainset=train, valset=val)
    print("instruction:", judge.instruction)
    show("before", start_judge(), test, models.judge)
    beside = show("after", judge, test, models.judge)

    alone = VisualJudge(LABELS, instruction=judge.instruction, images=("candidate",))
    without = show("the same instruction without the original", alone, test, models.judge)
    margin = compare_paired(LABELS, [example.label for example in test], without, beside)
    print(f"margin, what the original is worth on the same {TEST} photographs: {margin.wording}")


if __name__ == "__main__":
    main()
