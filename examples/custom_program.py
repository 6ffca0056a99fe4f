"""Your own verbalizer and judge: any DSPy program with two such predictors can be compiled with BLPO.

Here a reporter writes a report about a photograph, and an editor who never sees the photograph rates it by the report.
BLPO takes the names of the two predictors and of the label.

    python examples/custom_program.py
"""

from __future__ import annotations

import dspy

from blpo_dspy import BLPO, LabelSpace, measure_agreement
from blpo_dspy.data.sources.photographs import RATERS, rated_photographs
from blpo_dspy.embedded import embedded_lm

LABELS = LabelSpace.ordinal(1, 5)


class Newsroom(dspy.Module):
    """A reporter who sees the photograph, and an editor who reads the report."""

    def __init__(self) -> None:
        super().__init__()
        self.reporter = dspy.Predict(
            dspy.Signature("image: dspy.Image -> report: str", "Report what this photograph shows.")
        )
        self.editor = dspy.Predict(
            dspy.Signature("report: str -> stars: int", "Rate the technical quality of the photograph from 1 to 5.")
        )

    def forward(self, image: dspy.Image) -> dspy.Prediction:
        """Returns the editor's stars and the report."""
        report = self.reporter(image=image).report
        return dspy.Prediction(stars=self.editor(report=report).stars, report=report)


def labelled(photographs: tuple) -> list[dspy.Example]:
    """Returns rated photographs as DSPy examples, the label in the field that the program predicts."""
    return [dspy.Example(image=dspy.Image(p.image), stars=p.label).with_inputs("image") for p in photographs]


def main() -> None:
    """Runs the example."""
    lm = embedded_lm()
    photos = rated_photographs(RATERS["colour"], train=60, val=30, test=40)
    train, val, test = (labelled(part) for part in (photos.train, photos.val, photos.test))
    optimizer = BLPO(
        prompt_model=lm,
        task_model=lm,
        verbalizer="reporter",
        judge="editor",
        label_field="stars",
        labels=LABELS,
        rounds=8,
    )
    newsroom = optimizer.compile(Newsroom(), trainset=train, valset=val)
    print("reporter:", newsroom.reporter.signature.instructions)
    print("editor:", newsroom.editor.signature.instructions)
    for name, program in (("before", Newsroom()), ("after", newsroom)):
        with dspy.context(lm=lm):
            stars = [program(**example.inputs()).stars for example in test]
        measured = measure_agreement(LABELS, [example.stars for example in test], stars)
        print(f"{name}: accuracy {measured.accuracy:.2f}, macro-F1 {measured.macro_f1:.2f}")


if __name__ == "__main__":
    main()
