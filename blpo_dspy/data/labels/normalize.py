"""The text of a model's answer as it is compared: its lines, without thoughts, markup, emoji and unseen characters."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping
from functools import lru_cache

Label = str | int


# Thoughts, closed, opened by the chat template, or cut off, are not the answer.
_THINKING = re.compile(
    r"<(think|thinking|reasoning)>(?:(?!<\1>).)*?</\1>|\A(?:(?!<think).)*</think(?:ing)?>|<think(?:ing)?>.*\Z",
    re.DOTALL | re.IGNORECASE,
)
# White space within a line: over lines it would be looked through again from each blank one.
_SPACE = r"[^\S\n]"
_MARKUP = re.compile(
    rf"^{_SPACE}*```\w*{_SPACE}*$|</?\w+>|\\(?:boxed|text|textbf)\b|^{_SPACE}*(?:[#>•]+|[-*]{_SPACE}+(?!\d))",
    re.MULTILINE,
)
_FIRST_EMOJI = 0x2300
# What may deny the label beside it, and so is no decoration.
_DENYING = frozenset("❌❎✖✗✘☒☐⬜⛔🚫👎🔲🔳")
# Variation selectors, the enclosing keycap, and skin tones.
_EMOJI_MARKS = frozenset([*map(chr, range(0xFE00, 0xFE10)), "\u20e3", *map(chr, range(0x1F3FB, 0x1F400))])


def normal(text: str) -> str:
    """Returns a text as labels are compared: without differences of case, white space and Unicode form."""
    return " ".join(unicodedata.normalize("NFKC", text).replace("−", "-").casefold().split())


def as_text(value: object) -> str:
    """Returns a cell or an answer as text; 4.0 is "4"."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def plain_lines(text: str, *, kept: Collection[str]) -> list[str]:
    """Returns the lines of an answer that say anything, as `normal` writes them.

    Args:
        text: The answer.
        kept: Characters that are no decoration, as labels have them.
    """
    text = _MARKUP.sub("", _undecorated(_THINKING.sub("", text), kept))
    return [line for line in map(normal, text.splitlines()) if re.search(r"\w", line)]


def _undecorated(text: str, kept: Collection[str]) -> str:
    """A text without unseen characters, and with a space for each emoji that only decorates."""
    return "".join(character if character in kept else _shown(character) for character in text)


def _shown(character: str) -> str:
    if character.isascii():
        return character
    if character in _EMOJI_MARKS or unicodedata.category(character) == "Cf":
        return ""
    emoji = unicodedata.category(character) == "So" and ord(character) >= _FIRST_EMOJI and character not in _DENYING
    return " " if emoji else character


@lru_cache(maxsize=64)
def labels_by_name(labels: tuple[Label, ...]) -> Mapping[str, Label]:
    """Returns the labels by their text as it is compared."""
    return {normal(str(label)): label for label in labels}
