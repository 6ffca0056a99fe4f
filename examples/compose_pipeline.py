"""A compiled judge inside a larger DSPy program: only photographs that pass it get a caption.

The judge is an ordinary submodule: the program's predictors include the judge's own, and DSPy's `save` and `load` keep
its instructions with the rest.

    python examples/compose_pipeline.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import dspy

from blpo_dspy import BLPO, LabelSpace, VisualJudge
from blpo_dspy.data.images.prepare import PixelPolicy
from blpo_dspy.data.sources.photographs import RATERS, rated_photographs
from blpo_dspy.embedded import embedded_lm

LABELS = LabelSpace("reject", "keep")
TASK = "Judge whether to keep or reject this photograph by its technical quality."


class Gallery(dspy.Module):
    """Captions the photographs that the judge keeps."""

    def __init__(self, judge: VisualJudge) -> None:
        super().__init__()
        self.judge = judge
        self.caption = dspy.Predict("image: dspy.Image -> caption: str")

    def forward(self, image: dspy.Image) -> dspy.Prediction:
        """Returns the verdict, with a caption if the photograph is kept."""
        label = self.judge(image=image).label
        caption = self.caption(image=image).caption if label == "keep" else None
        return dspy.Prediction(label=label, caption=caption)


def labelled(photographs: tuple) -> list[dspy.Example]:
    """Returns rated photographs as DSPy examples."""
    prepare = PixelPolicy().prepare
    return [dspy.Example(image=prepare(photo.image), label=photo.label).with_inputs("image") for photo in photographs]


def main() -> None:
    """Runs the example."""
    lm = embedded_lm()
    photos = rated_photographs(RATERS["sharp"], train=60, val=40, test=20, labels=LABELS)
    train, val, new = (labelled(part) for part in (photos.train, photos.val, photos.test))
    optimizer = BLPO(prompt_model=lm, task_model=lm, rounds=2)
    judge = optimizer.compile(VisualJudge(LABELS, instruction=TASK), trainset=train, valset=val)
    gallery = Gallery(judge)
    print("predictors:", ", ".join(name for name, _ in gallery.named_predictors()))

    with dspy.context(lm=lm), tempfile.TemporaryDirectory() as folder:
        shown = [gallery(image=example.image) for example in new]
        for example, verdict in list(zip(new, shown, strict=True))[:5]:
            print(f"people {example.label}, judge {verdict.label}, caption {verdict.caption}")
        right = sum(example.label == verdict.label for example, verdict in zip(new, shown, strict=True))
        print(f"right: {right} of {len(new)}")

        gallery.save(Path(folder, "gallery.json"))
        loaded = Gallery(VisualJudge(LABELS, instruction=TASK))
        loaded.load(Path(folder, "gallery.json"))
        same = [loaded(image=example.image).label for example in new] == [verdict.label for verdict in shown]
        print("loaded as a submodule, same labels:", same)


if __name__ == "__main__":
    main()
