"""A judge as the metric of another optimizer: GEPA teaches a program to pick the best of three photographs.

The program rates each photograph with one cheap call and picks the highest; nobody has said which pick is right. The
judge, aligned with people before, scores every pick and says in words what it saw: that is all that GEPA needs.

    python examples/judge_as_metric.py
"""

from __future__ import annotations

import contextlib
import io

import dspy

from blpo_dspy import LabelSpace, VisualJudge
from blpo_dspy.data.sources.photographs import (
    RATERS,
    ceiling_instruction,
    ceiling_verbalizer_instruction,
    rated_photographs,
)
from blpo_dspy.embedded import embedded_lm

LABELS = LabelSpace.ordinal(1, 5)
RATER = RATERS["sharp"]


class Picker(dspy.Module):
    """Picks the best of several photographs."""

    def __init__(self) -> None:
        super().__init__()
        signature = dspy.Signature("image: dspy.Image -> rating: int", "Rate this photograph from 1 to 5.")
        self.rate = dspy.Predict(signature)

    def forward(self, photographs: list[dspy.Image]) -> dspy.Prediction:
        """Returns the photograph with the highest rating, the first of equal ones."""
        ratings = [self.rate(image=image).rating for image in photographs]
        return dspy.Prediction(pick=photographs[ratings.index(max(ratings))])


def aligned_judge() -> VisualJudge:
    """Returns a judge that shares the rater's taste; with a judge of your own: `VisualJudge.load("judge.json")`."""
    return VisualJudge(
        LABELS,
        instruction=ceiling_instruction(RATER, "Rate the technical quality of this photograph."),
        verbalizer_instruction=ceiling_verbalizer_instruction(RATER),
    )


def main() -> None:
    """Runs the example."""
    dspy.disable_logging()
    lm = embedded_lm()
    photos = rated_photographs(RATER, train=60, val=60, test=90)
    judge = aligned_judge()
    judge.set_lm(lm)
    metric = judge.as_metric(fields={"image": "pick"})

    def choices(photographs: tuple) -> list[dspy.Example]:
        images = [judge.pixel_policy.prepare(photo.image) for photo in photographs]
        return [
            dspy.Example(photographs=images[i : i + 3]).with_inputs("photographs") for i in range(0, len(images), 3)
        ]

    with dspy.context(lm=lm):
        optimizer = dspy.GEPA(metric=metric, reflection_lm=lm, max_metric_calls=150, num_threads=4, seed=0)
        bars = io.StringIO()  # GEPA draws one for every step
        with contextlib.redirect_stdout(bars), contextlib.redirect_stderr(bars):
            picker = optimizer.compile(Picker(), trainset=choices(photos.train), valset=choices(photos.val))
        score = dspy.Evaluate(devset=choices(photos.test), metric=metric, num_threads=4)
        before, after = score(Picker()).score, score(picker).score
    print("instruction:", picker.rate.signature.instructions)
    print(f"the judge's score of the picks: before {before:.1f}, after {after:.1f} of 100")


if __name__ == "__main__":
    main()
