"""What the optimizer LM proposes as an instruction, and why it may be of no use."""

from __future__ import annotations

import re
from dataclasses import dataclass

from blpo_dspy.optimizers.records import Rejection

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
    """What came of asking for an instruction.

    Attributes:
        text: An instruction that can be used, None if there is none.
        rejections: What was rejected on the way.
        overflow: Whether there is none because the request exceeds the LM's context window.
    """

    text: str | None
    rejections: tuple[Rejection, ...] = ()
    overflow: bool = False


def refusal(text: str, *, current: str, max_tokens: int) -> str | None:
    """Returns why a proposed instruction cannot be used, or None if it can."""
    if " ".join(text.split()) == " ".join(current.split()):
        return "the instruction is unchanged"
    if len(text) > max_tokens * _CHARACTERS_PER_TOKEN:
        return f"the instruction is longer than {max_tokens} tokens (about {len(text) // _CHARACTERS_PER_TOKEN})"
    stated = _OUTPUT_FORMAT.search(text)
    # What the user's own instruction says about the answer may stay.
    if stated and stated.group().casefold() not in current.casefold():
        return f"the instruction states an output format ({stated.group()!r}), which the program owns"
    return None
