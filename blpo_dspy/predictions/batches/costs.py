"""What requests of a batch cost, before they are submitted."""

from __future__ import annotations

import base64
import binascii
import io
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from PIL import Image

from blpo_dspy.models.image_tokens import image_tokens
from blpo_dspy.models.prices import Price, cost
from blpo_dspy.workspace.ledger import Usage

# Tokens per character of a text, usually and at most.
_USUAL_SHARE, _MOST_SHARE = 1 / 4, 1 / 2.5
# Tokens of an answer while none is known, by role.
_USUAL_ANSWER = {"judge": 40, "verbalizer": 150}
# Tokens of an answer whose request states no limit.
_NO_LIMIT = 16_384
# From so many answers on their mean says what further ones cost, at most a quarter more; before that four times as
# much, and no less than is usual, so that a small cap does not buy one answer after the other up to so many.
_KNOWN_FROM, _MARGIN, _WIDE_MARGIN = 20, 1.25, 4.0
# An image that only its address is known of.
_UNKNOWN_SIZE = (1024, 1024)
# The header of an image file, with its size, lies within so many characters of base64; a JPEG's may lie farther on.
_HEADER = 4096


@dataclass(frozen=True)
class Cost:
    """US dollars, usually and at most."""

    usual: float = 0.0
    most: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.usual + other.usual, self.most + other.most)


def request_cost(model: str, role: str, body: bytes, price: Price, known: Usage) -> Cost:
    """Returns what a request costs.

    Args:
        model: The model's name.
        role: Its role.
        body: The body of the request.
        price: What its tokens cost.
        known: The usage of the role so far.
    """
    request = json.loads(body)
    text_length, low, high = 0, 0, 0
    for text in _texts(request.get("messages") or request.get("input")):
        if text.startswith(("data:image/", "http://", "https://")):
            tokens = image_tokens(model, *_size(text))
            low, high = low + tokens.low, high + tokens.high
        else:
            text_length += len(text)
    limit = next((request[name] for name in _LIMITS if request.get(name) is not None), _NO_LIMIT)
    answers, answer, longest = known.calls - known.failed - known.uncounted, float(_USUAL_ANSWER[role]), limit
    if answers > 0:
        margin = _MARGIN if answers >= _KNOWN_FROM else _WIDE_MARGIN
        mean = known.completion_tokens / answers
        answer = mean if answers >= _KNOWN_FROM else max(mean, answer)
        longest = math.ceil(answer * margin)
        high = max(low, min(high, math.ceil(known.prompt_tokens / answers * margin)))
    usual, most = text_length * _USUAL_SHARE + (low + high) / 2, text_length * _MOST_SHARE + high
    return Cost(cost(price, usual, min(limit, answer)), cost(price, most, min(limit, longest)))


_LIMITS = ("max_completion_tokens", "max_tokens", "max_output_tokens")


def _texts(value: Any) -> Iterator[str]:
    """The texts of messages, addresses of images included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _size(url: str) -> tuple[int, int]:
    """Width and height of an image in pixels."""
    header, comma, data = url.partition("base64,")
    if not comma or not header.startswith("data:"):
        return _UNKNOWN_SIZE
    for piece in (data[:_HEADER], data):
        try:
            return Image.open(io.BytesIO(base64.b64decode(piece))).size
        except (OSError, ValueError, binascii.Error):
            continue
    return _UNKNOWN_SIZE
