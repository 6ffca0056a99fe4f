"""A judge as the tools of others take it: a score in [0, 1], the evidence in words, or why there is no answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dspy
from dspy.utils.exceptions import LMError

from blpo_dspy.data.images.prepare import ImageError
from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.errors import BlpoError, ModelError, cause
from blpo_dspy.models.failures import FATAL_ERRORS
from blpo_dspy.programs.metric import holders_of
from blpo_dspy.programs.visual_judge import VisualJudge

_LONGEST_FAILURE = 600


@dataclass(frozen=True)
class Scored:
    """What a judge says about one item.

    Attributes:
        score: In [0, 1]; None where there is no valid label.
        label: The label; None where the answer states none, or there is no answer.
        explanation: The judge's evidence in words, or what it wrote instead of a label.
        failure: Why there is no answer (a failed call, an unreadable image); "" if there is one.
    """

    score: float | None
    label: Label | None = None
    explanation: str = ""
    failure: str = ""


class Scoring:
    """Scores items by a judge, in any thread; its arguments are those of every module here.

    The judge runs on its own LM (`judge.set_lm(…)`), else on the one that DSPy is configured with at this point, as a
    tool may call from threads that don't see it.

    Args:
        judge: The judge; it is used as it is, never changed.
        fields: For an input of the judge the name of what holds it in the tool's data; the same name unless given.
        scores: The score of each label; see `VisualJudge.as_metric`. They must be given for nominal labels.

    Raises:
        BlpoError: If the judge compares pairs or has no LM, or `fields` or `scores` are not possible ones.
    """

    def __init__(
        self,
        judge: VisualJudge,
        *,
        fields: Mapping[str, str] | None = None,
        scores: Mapping[Label, float] | None = None,
    ) -> None:
        if judge.labels.paired:
            raise BlpoError(
                "a judge of pairs says which of two images is better, which is not a score of one of them; label pairs "
                "with blpo_dspy.predict and rank what made them with blpo_dspy.rank"
            )
        self._lm = dspy.settings.lm
        used = judge.judge.lm or self._lm
        if used is None:
            raise BlpoError("the judge has no model; write judge.set_lm(make_lm('openai/gpt-4o-mini', role='judge'))")
        self.model = str(used.model)
        self.holders = holders_of(judge.fields, fields)
        self.images = {self.holders[image.name]: image.several for image in judge.fields.images}
        self._metric = judge.as_metric(fields=fields, scores=scores)

    def __call__(self, example: Mapping[str, Any], output: Mapping[str, Any]) -> Scored:
        """Judges one item, whose parts are looked up in the output first, then in the example.

        A text is taken for an image if it is a data URI; no other text is, as it may come from a model.

        Raises:
            ModelError: If the model refuses every call (a wrong key, no credit, an unknown model).
            BlpoError: If an input of the judge is missing or of the wrong kind.
        """
        try:
            with dspy.context(lm=self._lm, disable_history=True):
                found = self._metric(self._with_images(example), self._with_images(output))
        except FATAL_ERRORS as error:
            raise ModelError(f"the model cannot be used: {cause(error, _LONGEST_FAILURE)}") from error
        except (LMError, ImageError) as error:
            return Scored(None, failure=cause(error, _LONGEST_FAILURE))
        return Scored(None if found.label is None else found.score, found.label, found.feedback)

    def _with_images(self, values: Mapping[str, Any]) -> dict[str, Any]:
        held = {name: several for name, several in self.images.items() if values.get(name) is not None}
        return {**values, **{name: _image(values[name], several) for name, several in held.items()}}

    def placed(self, given: Sequence[Any], made: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any]:
        """Returns images that have no names under those of the judge's image inputs that no value is named for.

        An only such input gets the image of the output, or that of the input where the output has none. Several get
        the images of the input and then of the output, in order; one that takes a list gets all of them.

        Args:
            given: The images of the item's input.
            made: The images of its output.
            named: The values that have names.

        Raises:
            BlpoError: If there are more or fewer images than inputs.
        """
        left = {name: several for name, several in self.images.items() if named.get(name) is None}
        if list(left.values()) == [True]:
            return {name: [*given, *made] for name in left}
        found = (made or given) if len(left) == 1 else [*given, *made]
        if left and len(found) != len(left):
            raise BlpoError(
                f"the judge takes {', '.join(left)}, but there are {len(given)} images in the input and {len(made)} in "
                "the output; put the images into fields of the item's metadata and name these with fields=…"
            )
        return dict(zip(left, found, strict=False))


def _image(value: Any, several: bool) -> Any:
    """A value as `judge_metric` takes an image: of a data URI an image, of what `datasets` stores its bytes."""
    if isinstance(value, (list, tuple)):
        parts = [_image(part, False) for part in value]
        return parts[0] if len(parts) == 1 and not several else parts
    if isinstance(value, Mapping) and value.get("bytes") is not None:
        return value["bytes"]
    if isinstance(value, str) and value[:5].lower() == "data:":
        return dspy.Image(value)
    return value
