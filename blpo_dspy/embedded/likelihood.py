"""How likely the engine's answer is by its own noise: the share of other draws that go on as it does, word by word."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from dspy import lm15

DRAWS = 24
"""Further draws of the noise from which probabilities are estimated; each is as probable as the answer itself."""

_WORD = re.compile(r"\s*\S+|\s+")


def log_probabilities(text: str, draws: Sequence[str]) -> tuple[lm15.TokenLogprob, ...]:
    """Returns the words of an answer as tokens, each with its probability given the words before it.

    The draws are what the engine answers to the same request with other draws of its noise.
    """
    alike, found = [_WORD.findall(draw) for draw in draws], []
    for place, word in enumerate(_WORD.findall(text)):
        before = 1 + len(alike)
        alike = [words for words in alike if words[place : place + 1] == [word]]
        logprob, raw = math.log((1 + len(alike)) / before), tuple(word.encode())
        found.append(lm15.TokenLogprob(word, logprob, bytes=raw, top=(lm15.TopLogprob(word, logprob, bytes=raw),)))
    return tuple(found)
