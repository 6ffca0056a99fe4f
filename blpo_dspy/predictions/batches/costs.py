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

from blpo_dspy.calls.ledger import Usage
from blpo_dspy.models.image_tokens import image_tokens
from blpo_dspy.models.prices import Price, cost

# Tokens per character of a text, as a rule and at most.
_USUAL_SHARE, _MOST_SHARE = 1 / 4, 1 / 2.5
# Tokens of an answer while none is known, by role.
_USUAL_ANSWER = {"judge": 40, "verbalizer": 150}
# Tokens of an answer whose request states no limit.
_NO_LIMIT = 16_384
# From so many answers on their mean says what further ones cost, at most a quarter more.
_KNOWN_FROM, _MARGIN = 20, 1.25
# An image that only its address is known of.
_UNKNOWN_SIZE = (1024, 1024)
# The header of an image file, with its size, lies within so many characters of base64; a JPEG's may lie farther on.
_HEADER = 4096


@dataclass(frozen=True)
class Cost:
    """US dollars as a rule, and at most."""

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
    usual, most = 0.0, 0.0
    for text in _texts(request.get("messages") or request.get("input")):
        if text.startswith(("data:image/", "http://", "https://")):
            tokens = image_tokens(model, *_size(text))
            usual, most = usual + (tokens.low + tokens.high) / 2, most + tokens.high
        else:
            usual, most = usual + len(text) * _USUAL_SHARE, most + len(text) * _MOST_SHARE
    limit = next((request[name] for name in _LIMITS if request.get(name) is not None), _NO_LIMIT)
    answers = known.calls - known.failed
    if answers < _KNOWN_FROM:
        return Cost(cost(price, usual, min(limit, _USUAL_ANSWER[role])), cost(price, most, limit))
    mean = known.completion_tokens / answers
    return Cost(cost(price, usual, mean), cost(price, most, min(limit, math.ceil(mean * _MARGIN))))


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
