"""What the optimizer LM proposes as an instruction, and why it may be of no use."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from blpo_dspy.optimizers.bench.records import UNCHANGED, Rejection
from blpo_dspy.optimizers.proposals.answer_format import stated_formats
from blpo_dspy.optimizers.proposals.guards import words_in

_CHARACTERS_PER_TOKEN = 4
# LMs count words roughly: an instruction that has a few more than was asked for is not worth another call.
_OVERRUN = 1.1
_NAMED = 80
# What opens an apology, and no instruction.
_DECLINED = re.compile(
    r"(?:i['’]?m|i am|we['’]?re) (?:very |really )?(?:sorry|unable|not able)\b"
    r"|i (?:can(?:not|['’]t| not)|won['’]t|must decline|apologi[sz]e)\b"
    r"|(?:sorry|apologies)\b[,.!:—–-]|as an ai\b|unfortunately,? i\b",
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

    @property
    def unchanged(self) -> bool:
        """Whether all that the LM wrote that could be used is the instruction as it was."""
        return self.text is None and any(rejection.reason == UNCHANGED for rejection in self.rejections)


def refusal(
    text: str, *, current: str, max_tokens: int, max_words: int | None = None, tried: Sequence[str] = ()
) -> str | None:
    """Returns why a proposed instruction cannot be used, or None if it can.

    Args:
        text: The instruction.
        current: The one that it revises.
        max_tokens: The longest one that is accepted.
        max_words: The same in words, a tenth more passes; None for no limit.
        tried: Further ones that it must not repeat.
    """
    written = _on_one_line(text)
    if any(written == _on_one_line(earlier) for earlier in tried):
        return f"the instruction was tried already ({_shortened(written)!r})"
    if written == _on_one_line(current):
        return UNCHANGED
    if _DECLINED.match(written):
        return f"the model declined to write one ({_shortened(written)!r})"
    if tokens_in(text) > max_tokens:
        return f"the instruction is longer than {max_tokens} tokens (about {tokens_in(text)})"
    if max_words is not None and words_in(text) > _OVERRUN * max_words:
        return f"the instruction has more than {max_words} words ({words_in(text)})"
    # What the user's own instruction says about the answer may stay.
    kept = _on_one_line(current).casefold()
    stated = next((words for words in stated_formats(text) if words.casefold() not in kept), None)
    return (
        None
        if stated is None
        else f"the instruction states an output format ({_shortened(stated)!r}), which the program owns"
    )


def tokens_in(text: str) -> int:
    """Returns about how many tokens a text has."""
    return math.ceil(len(text) / _CHARACTERS_PER_TOKEN)


def _on_one_line(text: str) -> str:
    return " ".join(text.split())


def _shortened(text: str) -> str:
    return text if len(text) <= _NAMED else f"{text[:_NAMED]}…"
