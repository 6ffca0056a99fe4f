"""What a call to a predictor takes in tokens before it is made, from its formatted prompt and stated assumptions."""

from __future__ import annotations

import base64
import io
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

import dspy
from PIL import Image

from blpo_dspy.data.fields import images_of
from blpo_dspy.models.adapter import one_call_adapter
from blpo_dspy.models.image_tokens import image_tokens
from blpo_dspy.models.lm import Models
from blpo_dspy.models.prices import Prices, cost, known_price
from blpo_dspy.programs.visual_judge import VisualJudge

_UNKNOWN_SIDE = 1024  # pixels, of an image by URL


@dataclass(frozen=True)
class Assumed:
    """What is unknown beforehand, in tokens."""

    per_character: float
    label: int
    reasoned_label: int
    description: int
    verdict: int  # both labels of a misjudged example, with the format
    instruction: float
    listed: float  # earlier instructions in a meta-prompt
    over: Callable[[Iterable[float]], float]  # the value of several examples


USUAL = Assumed(1 / 4, 15, 120, 150, 30, 300, 3, mean)
MOST = Assumed(1 / 2.5, 100, 800, 800, 160, math.inf, math.inf, max)


def judging_cost(
    judge: VisualJudge, models: Models, examples: Sequence[dspy.Example], prices: Prices | None
) -> float | None:
    """Returns the US dollars that judging an image usually takes, None where a price is not known.

    Args:
        judge: The judge, not a cascade.
        models: Its models.
        examples: Some of what it is given, prepared by it.
        prices: The user's prices.
    """
    total = 0.0
    for role, times in Counter(judge.roles).items():
        predictor, lm = getattr(judge, role), getattr(models, role)
        price = known_price(lm, prices)
        if price is None:
            return None
        tokens = text_tokens(predictor, examples, USUAL) + shown_tokens(lm.model, predictor, examples, USUAL)
        label = USUAL.reasoned_label if judge.reasoning else USUAL.label
        total += times * cost(price, tokens, label if role == "judge" else USUAL.description)
    return total


def text_tokens(predictor: dspy.Predict, examples: Sequence[dspy.Example], assumed: Assumed) -> float:
    """Returns the tokens of a predictor's prompt without its images."""
    blank = {**examples[0].inputs(), **dict.fromkeys(texts_in(examples[0]), "")}
    missing = set(predictor.signature.input_fields) - set(blank)  # descriptions, which the verbalizer writes
    prompt = characters(predictor.signature, predictor.demos, blank) * assumed.per_character
    return prompt + given_tokens(examples, assumed) + assumed.description * len(missing)


def given_tokens(examples: Sequence[dspy.Example], assumed: Assumed) -> float:
    """Returns the tokens of the texts of an example."""
    return assumed.over(sum(map(len, texts_in(example).values())) for example in examples) * assumed.per_character


def shown_tokens(model: str, predictor: dspy.Predict, examples: Sequence[dspy.Example], assumed: Assumed) -> float:
    """Returns the tokens of the images of an example that a predictor takes."""
    return assumed.over(
        _image_tokens(model, example, predictor.signature.input_fields, assumed) for example in examples
    )


def texts_in(example: dspy.Example) -> dict[str, str]:
    """Returns the inputs of an example that are texts."""
    return {name: value for name, value in example.inputs().items() if isinstance(value, str)}


def characters(signature: type[dspy.Signature], demos: Sequence[Any], inputs: Mapping[str, Any]) -> int:
    """Returns the characters of a prompt, images left out."""
    known = {name: inputs.get(name, "") for name in signature.input_fields}
    contents = [message["content"] for message in one_call_adapter().format(signature, list(demos), known)]
    parts = [part for c in contents for part in (c if isinstance(c, list) else [{"text": c}])]
    return sum(len(part.get("text", "")) for part in parts)


def _image_tokens(model: str, example: dspy.Example, fields: Mapping[str, Any], assumed: Assumed) -> float:
    images = [image for name, several in images_of(example).items() if name in fields for image in several]
    counted = [image_tokens(model, *_size(image.url)) for image in images]
    return sum(assumed.over((each.low, each.high)) for each in counted)


def _size(url: str) -> tuple[int, int]:
    head, _, data = url.partition(",")
    if not head.startswith("data:"):
        return _UNKNOWN_SIDE, _UNKNOWN_SIDE
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        return image.size
