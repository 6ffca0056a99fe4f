"""Normalizing a model's answer for comparison: its lines without reasoning, markup, emoji and invisible characters."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping
from functools import lru_cache

Label = str | int | float

# Reasoning, closed, opened by the chat template, or cut off, is not part of the answer.
_THINKING = re.compile(
    r"<(think|thinking|reasoning)>(?:(?!<\1>).)*?</\1>|\A(?:(?!<think).)*</think(?:ing)?>|<think(?:ing)?>.*\Z",
    re.DOTALL | re.IGNORECASE,
)
# White space within a line: matched across lines it would take quadratic time on blank ones.
_SPACE = r"[^\S\n]"
_MARKUP = re.compile(
    rf"^{_SPACE}*```\w*{_SPACE}*$|</?\w+>|\\(?:boxed|text|textbf)\b|^{_SPACE}*(?:[#>•]+|[-*]{_SPACE}+(?!\d))",
    re.MULTILINE,
)
_FIRST_EMOJI = 0x2300
# Symbols that may deny the label next to them, and so are not removed.
_DENYING = frozenset("❌❎✖✗✘☒☐⬜⛔🚫👎🔲🔳")
# Variation selectors, the enclosing keycap, and skin tones.
_EMOJI_MARKS = frozenset([*map(chr, range(0xFE00, 0xFE10)), "\u20e3", *map(chr, range(0x1F3FB, 0x1F400))])


def normal(text: str) -> str:
    """Returns a text in the normal form that labels are compared in: case, white space and Unicode form are unified."""
    return " ".join(unicodedata.normalize("NFKC", text).replace("−", "-").casefold().split())


def as_text(value: object) -> str:
    """Returns a cell or an answer as text; 4.0 is "4"."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def plain_lines(text: str, *, kept: Collection[str]) -> list[str]:
    """Returns the lines of an answer with a word in them, in normal form; characters of `kept` are never removed."""
    shown = "".join(each if each in kept else _shown(each) for each in _THINKING.sub("", text))
    text = _MARKUP.sub("", shown)
    return [line for line in map(normal, text.splitlines()) if re.search(r"\w", line)]


def _shown(character: str) -> str:
    """A character, nothing for an invisible one, and a space for a decorative emoji."""
    if character.isascii():
        return character
    if character in _EMOJI_MARKS or unicodedata.category(character) == "Cf":
        return ""
    emoji = unicodedata.category(character) == "So" and ord(character) >= _FIRST_EMOJI and character not in _DENYING
    return " " if emoji else character


@lru_cache(maxsize=64)
def labels_by_name(labels: tuple[Label, ...]) -> Mapping[str, Label]:
    """Returns the labels by their text in normal form."""
    return {normal(str(label)): label for label in labels}
