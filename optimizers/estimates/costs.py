"""The tokens of an LM call by role, from a formatted prompt and stated assumptions, and their price."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import mean
from typing import Any

import dspy
from PIL import Image

from blpo_dspy.calls.budget import Budget
from blpo_dspy.calls.ledger import Usage
from blpo_dspy.data.fields import images_of
from blpo_dspy.models.adapter import one_call_adapter
from blpo_dspy.models.image_tokens import image_tokens
from blpo_dspy.models.prices import known_price
from blpo_dspy.optimizers.estimates.plan import MetaPrompt, Plan
from blpo_dspy.optimizers.options import OptimizerOptions

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


def call_costs(
    optimizer: OptimizerOptions,
    plan: Plan,
    student: dspy.Module,
    verbalizer: str,
    lms: Mapping[str, dspy.BaseLM],
    examples: Sequence[dspy.Example],
    assumed: Assumed,
) -> dict[str, Usage]:
    """Returns the usage of one call of each role, given the program's verbalizing predictor and each predictor's LM."""
    named = dict(student.named_predictors())
    judging = [name for name in named if name != verbalizer]
    instruction = min(assumed.instruction, optimizer.max_instruction_tokens + 100)
    texts = assumed.over(sum(map(len, _texts(example).values())) for example in examples) * assumed.per_character
    blank = {**examples[0].inputs(), **dict.fromkeys(_texts(examples[0]), "")}

    def usage(lm: dspy.BaseLM, text: float, answer: float, images: float = 0) -> Usage:
        price = known_price(lm, optimizer.prices)
        rate, written_rate = price or (0.0, 0.0)
        prompt, written = math.ceil(text + images), math.ceil(answer)
        usd = (prompt * rate + written * written_rate) / 1e6
        return Usage(1, 0, 0, 0, prompt, written, math.ceil(images), usd, int(price is None))

    def text(predictor: dspy.Predict) -> float:
        missing = set(predictor.signature.input_fields) - set(blank)  # descriptions, which the verbalizer writes
        prompt = _characters(predictor.signature, predictor.demos, blank) * assumed.per_character
        return prompt + texts + assumed.description * len(missing) + instruction

    def predicted(names: Sequence[str], answer: float) -> Usage:
        lm, fields = lms[names[-1]], named[names[-1]].signature.input_fields
        images = assumed.over(_image_tokens(lm.model, example, fields, assumed) for example in examples)
        return usage(lm, mean(text(named[name]) for name in names), answer, images)

    def update(prompt: MetaPrompt) -> float:
        errors = prompt.errors * (assumed.verdict + assumed.description + texts)
        listed = instruction * min(assumed.listed, prompt.instructions)
        return _characters(prompt.signature, [], {}) * assumed.per_character + errors + listed

    label = assumed.reasoned_label if getattr(student, "reasoning", False) else assumed.label
    return {
        "judge": predicted(judging, label),
        "verbalizer": predicted([verbalizer], assumed.description),
        "optimizer": usage(optimizer.prompt_model, assumed.over(map(update, plan.prompts)), instruction),
    }


def times(calls: Mapping[str, int], costs: Mapping[str, Usage]) -> dict[str, Usage]:
    """Returns the usage of so many calls by role, without tokens where the usage of one call is not given."""
    each = {role: asdict(costs.get(role, Usage(1))) for role in calls}
    return {role: Usage(**{name: calls[role] * value for name, value in one.items()}) for role, one in each.items()}


def shortfall(budget: Budget, plan: Plan, usual: Mapping[str, Usage]) -> str | None:
    """Returns which cap doesn't pay for two rounds of usual calls and what it pays for, in words, or None."""
    one, two = (sum(times(calls, usual).values(), Usage()) for calls in plan.shortest)
    needed = {
        "max_calls": (one.calls, two.calls, "{:,} calls", budget.keep_calls),
        "max_tokens": (one.tokens, two.tokens, "{:,} tokens", 0),
        "max_usd": (one.usd, two.usd, "{:,.2f} dollars", 0),
    }
    for name, (first, both, unit, kept) in needed.items():
        cap = budget.caps().get(name, math.inf)
        if cap < both + kept:
            pays = f"for a round, which takes about {unit.format(first)}"
            if cap >= first + kept:
                pays = f"for more than one round: two take about {unit.format(both)}, one about {unit.format(first)},"
            keeping = f", and {kept} are kept for later" if kept else ""
            return (
                f"{name}={cap:g} hardly pays {pays} with the validations before and after{keeping}; raise it, or use "
                "fewer examples, inner_steps or a smaller minibatch_size"
            )
    return None


def _texts(example: dspy.Example) -> dict[str, str]:
    return {name: value for name, value in example.inputs().items() if isinstance(value, str)}


def _characters(signature: type[dspy.Signature], demos: Sequence[Any], inputs: Mapping[str, Any]) -> int:
    """The characters of a prompt, images left out."""
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
