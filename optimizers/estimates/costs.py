"""What an LM call comes to, by role: the tokens of its prompt, measured on the prompt itself, and their price."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

import dspy
from PIL import Image

from blpo_dspy.calls.budget import Budget
from blpo_dspy.models.adapter import one_call_adapter
from blpo_dspy.models.image_tokens import image_tokens
from blpo_dspy.models.prices import Price, known_price
from blpo_dspy.optimizers.estimates.plan import Plan, Span
from blpo_dspy.optimizers.options import OptimizerOptions
from blpo_dspy.optimizers.proposals.exhibits import JudgementError

# Characters in a token: many in English prose, few in other scripts or in numbers.
_CHARACTERS = Span(6.0, 4.0, 2.5)
_REFERENCE = dspy.Image("https://example.org/image")
_UNKNOWN_SIDE = Span(16, 1024, 1024)  # pixels, of an image by URL

# Tokens of what models write, format included; instructions end at the optimizer's own limit.
_LABEL, _REASONED_LABEL = Span(1, 15, 100), Span(1, 120, 800)
_DESCRIPTION = Span(1, 150, 800)
_INSTRUCTION = Span(1, 300, 0)
_LABELS_OF_AN_ERROR = 300  # characters


@dataclass(frozen=True)
class CallCost:
    """What a call of one role comes to, in tokens.

    Attributes:
        model: The model's name.
        price: What its tokens cost, None if nobody says so.
        text: The text of the prompt.
        images: The images of the prompt.
        answer: What the model writes.
    """

    model: str
    price: Price | None
    text: Span
    images: Span
    answer: Span

    def usual_usd(self) -> float:
        """Returns the dollars of a usual call, 0 where the price is unknown."""
        prompt, completion = self.price or (0.0, 0.0)
        return (prompt * (self.text + self.images).usual + completion * self.answer.usual) / 1e6


def call_costs(
    optimizer: OptimizerOptions,
    plan: Plan,
    student: dspy.Module,
    verbalizer: str,
    lms: Mapping[str, dspy.BaseLM],
    examples: Sequence[dspy.Example],
) -> dict[str, CallCost]:
    """Returns what a call of each role comes to.

    Args:
        optimizer: Its optimizer LM, prices and limits.
        plan: What its optimizer LM is asked.
        student: The program.
        verbalizer: The name of its verbalizing predictor.
        lms: The LM of each predictor.
        examples: What is judged.
    """
    named = dict(student.named_predictors())
    longest = optimizer.max_instruction_tokens
    judging = [name for name in named if name != verbalizer]
    texts = [_texts_of(named[name], examples, longest) for name in judging]
    share = 1 / len(judging)
    text = {
        "judge": sum(texts, Span()) * Span(share, share, share),
        "verbalizer": _texts_of(named[verbalizer], examples, longest),
        "optimizer": _texts_of_updates(plan, examples, longest),
    }
    answer = {
        "judge": _REASONED_LABEL if getattr(student, "reasoning", False) else _LABEL,
        "verbalizer": _DESCRIPTION,
        "optimizer": _instruction(longest),
    }
    models = {"judge": lms[judging[-1]], "verbalizer": lms[verbalizer], "optimizer": optimizer.prompt_model}
    shows = {"judge": named[judging[-1]], "verbalizer": named[verbalizer]}
    return {
        role: CallCost(
            lm.model,
            known_price(lm, optimizer.prices),
            text[role],
            _images_of(lm.model, shows[role], examples) if role in shows else Span(),
            answer[role],
        )
        for role, lm in models.items()
    }


def _instruction(longest: int) -> Span:
    """The tokens of an instruction that may have so many."""
    return Span(_INSTRUCTION.low, min(_INSTRUCTION.usual, longest), longest + 100)


def _texts_of(predictor: dspy.Predict, examples: Sequence[dspy.Example], longest: int) -> Span:
    """The text tokens of a predictor's prompt; its instruction may grow to so many tokens."""
    ordered = sorted(examples, key=lambda example: sum(map(len, _texts(example).values())))
    shortest, middle, largest = (
        _tokens(_prompt(predictor.signature, predictor.demos, ordered[at])) for at in (0, len(ordered) // 2, -1)
    )
    start = _tokens(len(predictor.signature.instructions))
    fixed = Span(shortest.low - start.low, middle.usual - start.usual, largest.high)
    missing = set(predictor.signature.input_fields) - set(examples[0].inputs().keys())
    return sum([_DESCRIPTION] * len(missing), fixed + _instruction(longest))


def _texts_of_updates(plan: Plan, examples: Sequence[dspy.Example], longest: int) -> Span:
    """The tokens of a meta-prompt."""
    context = [sum(map(len, _texts(example).values())) for example in examples]
    frame = JudgementError(description="", human_label="", judge_label="", difference="").model_dump_json()
    error = _tokens(len(frame)) + _DESCRIPTION
    error += Span(0, _tokens(mean(context)).usual, _tokens(max(context) + _LABELS_OF_AN_ERROR).high)
    spans = [
        _tokens(_prompt(prompt.signature, [], None))
        + error * Span(0, prompt.errors, prompt.errors)
        + _instruction(longest) * Span(1, 1 + min(prompt.instructions, 2), 1 + prompt.instructions)
        for prompt in plan.prompts
    ]
    return Span(min(s.low for s in spans), mean(s.usual for s in spans), max(s.high for s in spans))


def _images_of(model: str, predictor: dspy.Predict, examples: Sequence[dspy.Example]) -> Span:
    """The image tokens of a prompt."""
    names = set(predictor.signature.input_fields)
    low, usual, high = zip(*(_image_span(model, example, names) for example in examples), strict=True)
    return Span(min(low), mean(usual), max(high))


def _image_span(model: str, example: dspy.Example, names: set[str]) -> tuple[float, float, float]:
    total = Span()
    shown = [value for name, value in example.inputs().items() if name in names and isinstance(value, dspy.Image)]
    for image in shown:
        least, middle, most = (image_tokens(model, *size) for size in _sizes(image.url))
        total += Span(least.low, (middle.low + middle.high) / 2, most.high)
    return total.low, total.usual, total.high


def _sizes(url: str) -> list[tuple[int, int]]:
    head, _, data = url.partition(",")
    if not head.startswith("data:"):
        return [(int(side), int(side)) for side in (_UNKNOWN_SIDE.low, _UNKNOWN_SIDE.usual, _UNKNOWN_SIDE.high)]
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        return [image.size] * 3


def _texts(example: dspy.Example) -> dict[str, str]:
    return {name: value for name, value in example.inputs().items() if isinstance(value, str)}


def _tokens(characters: float) -> Span:
    return Span(characters / _CHARACTERS.low, characters / _CHARACTERS.usual, characters / _CHARACTERS.high)


def _prompt(signature: type[dspy.Signature], demos: Sequence[Any], example: dspy.Example | None) -> int:
    """The characters of a prompt, images left out."""
    known = {} if example is None else dict(example.inputs().items())
    inputs = {name: _stand_in(known.get(name, "")) for name in signature.input_fields}
    messages = one_call_adapter().format(signature, list(demos), inputs)
    contents = [message["content"] for message in messages]
    texts = [[part.get("text", "") for part in c] if isinstance(c, list) else [c] for c in contents]
    return sum(len(text) for parts in texts for text in parts)


def _stand_in(value: Any) -> Any:
    return _REFERENCE if isinstance(value, dspy.Image) else value


def shortfall(budget: Budget, plan: Plan, costs: Callable[[], Mapping[str, CallCost]]) -> str | None:
    """Returns which cap doesn't pay for two rounds as a rule, and what it pays for, in words, or None.

    Args:
        budget: The caps.
        plan: The calls.
        costs: Returns what a call comes to; asked only for a cap on tokens or dollars.
    """
    calls = [float(sum(rounds.values())) for rounds in plan.shortest]
    if budget.max_calls is not None and budget.max_calls < calls[1] + budget.keep_calls:
        return _short("max_calls", budget.max_calls, calls, "{:,.0f} calls", budget.keep_calls)
    if budget.max_tokens is None and budget.max_usd is None:
        return None
    known = costs()
    each = {role: (cost.text + cost.images + cost.answer).usual for role, cost in known.items()}
    tokens = [sum(n * each[role] for role, n in rounds.items()) for rounds in plan.shortest]
    if budget.max_tokens is not None and budget.max_tokens < tokens[1]:
        return _short("max_tokens", budget.max_tokens, tokens, "{:,.0f} tokens")
    usd = [sum(n * known[role].usual_usd() for role, n in rounds.items()) for rounds in plan.shortest]
    if budget.max_usd is not None and budget.max_usd < usd[1]:
        return _short("max_usd", budget.max_usd, usd, "{:,.2f} dollars")
    return None


def _short(name: str, cap: float, needed: Sequence[float], unit: str, kept: int = 0) -> str:
    """The message, with what one and two rounds need."""
    one, two = map(unit.format, needed)
    pays = (
        f"for more than one round: two take about {two}, one about {one},"
        if cap >= needed[0] + kept
        else f"for a round, which takes about {one}"
    )
    keeping = f", and {kept} are kept for later" if kept else ""
    return (
        f"{name}={cap:g} hardly pays {pays} with the validations before and after{keeping}; raise it, or use fewer "
        "examples, inner_steps or a smaller minibatch_size"
    )
