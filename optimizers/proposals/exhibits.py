"""How training examples are shown to the optimizer LM: as images, as descriptions, or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pydantic

from blpo_dspy.data.fields import images_of
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.reasons import reason_of
from blpo_dspy.optimizers.bench.bench import Bench
from blpo_dspy.optimizers.bench.records import Judgement
from blpo_dspy.text import as_data

ShownAs = Literal["images", "descriptions"]

_SHOWN_ANSWER, _SHOWN_REASON = 80, 600


@dataclass(frozen=True)
class Exhibits:
    """Training examples in the form that a prompt takes them in: `dspy.Image` values stay images, text is data.

    Attributes:
        bench: Holds the examples and describes them.
        labels: The label space, None if only a metric says what is right.
        shown_as: "images", or "descriptions" by the verbalizer.
        verbalizer: The verbalizer instruction that descriptions are made with.
    """

    bench: Bench
    labels: LabelSpace | None
    shown_as: ShownAs
    verbalizer: str

    def inputs(self, examples: Sequence[int]) -> dict[int, dict[str, Any]]:
        """Returns what the judge was given for each example; without those whose description failed.

        Raises:
            ModelError: If the verbalizer failed for more than the allowed share of the examples.
        """
        wanted = list(dict.fromkeys(examples))
        if self.shown_as == "images":
            return {i: {**self._images(i), **self._context(i)} for i in wanted}
        described = zip(wanted, self.bench.describe(self.verbalizer, wanted), strict=True)
        return {i: {"description": text, **self._context(i)} for i, text in described if text is not None}

    def verdict(self, judgement: Judgement) -> dict[str, str]:
        """Returns both labels, in words how they differ ("judge 2 too high"; "" if they don't), and both reasons.

        The judge's is what it wrote before its label, people's what they wrote beside theirs.
        """
        said, why = judgement.predicted, judgement.reasoning
        if len(why) > _SHOWN_REASON:
            why = f"{why[:_SHOWN_REASON]}…"
        return {
            "human_label": as_data(judgement.label),
            "judge_label": as_data(f"none ({judgement.answer[:_SHOWN_ANSWER]!r})" if said is None else said),
            "difference": as_data(self.labels.direction(judgement.label, said)) if self.labels else "",
            **({"judge_reason": as_data(why)} if why else {}),
            **self.reason(judgement.example),
        }

    def reason(self, example: int) -> dict[str, str]:
        """Returns what people wrote beside an example's label, as `human_reason`; {} if they wrote nothing."""
        reason = reason_of(self.bench.examples[example])
        return {"human_reason": reason} if reason else {}

    def _images(self, example: int) -> dict[str, Any]:
        inputs = self.bench.examples[example].inputs()
        return {name: inputs[name] for name in images_of(self.bench.examples[example])}

    def texts(self, example: int) -> dict[str, str]:
        """Returns the texts that belong to an example's image, by the name of their input."""
        inputs = self.bench.examples[example].inputs()
        return {name: as_data(value) for name, value in inputs.items() if isinstance(value, str)}

    def _context(self, example: int) -> dict[str, dict[str, str]]:
        texts = self.texts(example)
        return {"context": texts} if texts else {}


def label_names(labels: LabelSpace | None) -> str:
    """Returns the labels that people and the judge choose from, in words."""
    return as_data(labels.describe()) if labels else "as the metric has them"


class JudgementError(pydantic.BaseModel):
    """One mistake of the judge as the optimizer LM reads it: text only, never the image."""

    description: str
    human_label: str
    judge_label: str
    difference: str
    context: dict[str, str] = {}
    judge_reason: str = ""
    human_reason: str = ""

    @pydantic.model_serializer(mode="wrap")
    def _without_empty_reason(self, serialize: pydantic.SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A prompt states a reason only where there is one."""
        fields: dict[str, Any] = serialize(self)
        return {name: value for name, value in fields.items() if value or not name.endswith("_reason")}
