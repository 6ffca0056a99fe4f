"""Asking the optimizer LM for an instruction, and refusing what cannot be used."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import dspy
from dspy.utils.exceptions import AdapterParseError

from blpo_dspy.adapter import one_call_adapter
from blpo_dspy.metering import observe_answers
from blpo_dspy.optimizers.records import Rejection
from blpo_dspy.text import as_data

ATTEMPTS = 2
_CHARACTERS_PER_TOKEN = 4
_OUTPUT_FORMAT = re.compile(
    r"\[\[\s*##|```|\boutput format\b|\b(?:in|as|valid) (?:json|xml|yaml|markdown)\b|\bjson (?:object|format|with)\b"
    r"|\b(?:respond|reply|answer) (?:only|just|exactly|strictly)\b"
    r"|\b(?:return|output|respond with|print) (?:only|just|exactly)\b"
    r"|\bformat (?:your|the) (?:answer|response|output|reply)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Proposal:
    """An instruction that can be used (None if both attempts failed) and what was rejected on the way."""

    text: str | None
    rejections: tuple[Rejection, ...] = ()


def propose(
    lm: dspy.BaseLM,
    signature: type[dspy.Signature],
    inputs: Mapping[str, Any],
    *,
    current: str,
    max_tokens: int,
    guard: Callable[[str], str | None] = lambda text: None,
) -> Proposal:
    """Asks the optimizer LM for an instruction, once more with the reason if the first cannot be used.

    Args:
        lm: The optimizer LM.
        signature: A meta-prompt with one output field, the instruction, and an input field `feedback`.
        inputs: The meta-prompt's other inputs: text only.
        current: The instruction that is to be changed.
        max_tokens: The longest instruction that is accepted, at four characters a token.
        guard: Returns a further reason to refuse a text, or None.
    """
    rejections: list[Rejection] = []
    feedback = "none"
    for _ in range(ATTEMPTS):
        text, problem = _ask(lm, signature, {**inputs, "feedback": feedback})
        problem = problem or refusal(text, current=current, max_tokens=max_tokens) or guard(text)
        if problem is None:
            return Proposal(text, tuple(rejections))
        rejections.append(Rejection(problem, text))
        feedback = f"{problem}. Write the complete instruction anew."
    return Proposal(None, tuple(rejections))


def refusal(text: str, *, current: str, max_tokens: int) -> str | None:
    """Returns why a proposed instruction cannot be used, or None if it can."""
    if not text:
        return "the instruction is empty"
    if " ".join(text.split()) == " ".join(current.split()):
        return "the instruction is unchanged"
    if len(text) > max_tokens * _CHARACTERS_PER_TOKEN:
        return f"the instruction is longer than {max_tokens} tokens (about {len(text) // _CHARACTERS_PER_TOKEN})"
    stated = _OUTPUT_FORMAT.search(text)
    # What the user's own instruction says about the answer may stay.
    if stated and stated.group().casefold() not in current.casefold():
        return f"the instruction states an output format ({stated.group()!r}), which the program owns"
    return None


def _ask(lm: dspy.BaseLM, signature: type[dspy.Signature], inputs: Mapping[str, Any]) -> tuple[str, str | None]:
    """The proposed text and, if the answer cannot be read, why."""
    field = next(iter(signature.output_fields))
    with observe_answers() as answers, dspy.context(lm=lm, adapter=one_call_adapter(), trace=[]):
        try:
            text, problem = getattr(dspy.Predict(signature)(**inputs), field), None
        except AdapterParseError as error:
            text, problem = error.lm_response or "", f"the answer has no readable field {field}"
    if any(answer.truncated for answer in answers):
        problem = "the answer was cut off by the token limit"
    return as_data(text).strip().strip("`\"'").strip(), problem
