"""How many prompt tokens an image counts as, by family of model, as the providers document it.

Sources: OpenAI, "Images and vision: calculating costs"; Anthropic, "Vision: evaluate image size"; Google, "Understand
and count tokens: multimodal tokens". For a provider that documents nothing it is a range.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

# OpenAI's tile models: tokens of the image as a whole, and of each tile of 512 pixels.
_TILES = ((r"gpt-4o-mini", 2833, 5667), (r"gpt-5", 70, 140), (r"o1|o3", 75, 150), (r"", 85, 170))
# OpenAI's patch models: tokens per patch of 32 pixels.
_PATCHES = ((r"(gpt-4\.1|gpt-5(\.\d)?)-mini", 1.62), (r"(gpt-4\.1|gpt-5(\.\d)?)-nano", 2.46), (r"o4-mini", 1.72))
_MOST_PATCHES = 1536
_OPENAI = re.compile(r"(gpt-|chatgpt-|o[134]([-.]|$))")
_ANTHROPIC_SIDE, _ANTHROPIC_MOST = 1568, 1600
_EMBEDDED = 85


@dataclass(frozen=True)
class TokenRange:
    """At least and at most so many tokens."""

    low: int
    high: int


def image_tokens(model: str, width: int, height: int) -> TokenRange:
    """Returns the prompt tokens that an image of so many pixels, as it is sent, counts as."""
    name = model.rpartition("/")[2].casefold()
    if model.startswith("embedded/"):
        return TokenRange(_EMBEDDED, _EMBEDDED)
    if _OPENAI.match(name):
        tokens = _openai(name, width, height)
    elif "claude" in name:
        scale = min(1.0, _ANTHROPIC_SIDE / max(width, height))
        tokens = min(_ANTHROPIC_MOST, math.ceil(width * scale * height * scale / 750))
    elif "gemini" in name:
        small = max(width, height) <= 384
        tokens = 258 * (1 if small else math.ceil(width / 768) * math.ceil(height / 768))
    else:
        # From a fixed grid of 16 × 16 up to one token for each 28 × 28 pixels (Qwen-VL); fixed encoders lie between.
        patches = math.ceil(width / 28) * math.ceil(height / 28)
        return TokenRange(min(patches, 256), max(patches, 2880))
    return TokenRange(tokens, tokens)


def _openai(name: str, width: int, height: int) -> int:
    for pattern, weight in _PATCHES:
        if re.match(pattern, name):
            return math.ceil(weight * min(_MOST_PATCHES, math.ceil(width / 32) * math.ceil(height / 32)))
    whole, each = next((whole, each) for pattern, whole, each in _TILES if re.match(pattern, name))
    scale = min(1.0, 2048 / max(width, height))
    scale *= min(1.0, 768 / (min(width, height) * scale))
    return whole + each * math.ceil(width * scale / 512) * math.ceil(height * scale / 512)
