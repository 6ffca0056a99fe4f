"""The differences between two texts, word by word."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

_LONELY = 3  # tokens: a space, a word, a space
_TOKENS = re.compile(r"\s+|\w+|[^\w\s]")


@dataclass(frozen=True)
class Piece:
    """A stretch of text that both have, or only the old or the new one."""

    kind: Literal["same", "removed", "added"]
    text: str


def word_diff(old: str, new: str) -> list[Piece]:
    """Returns the pieces whose same and removed ones make up the old text, and same and added ones the new."""
    first, second = _TOKENS.findall(old), _TOKENS.findall(new)
    pieces: list[Piece] = []
    removed = added = ""
    for tag, i, j, k, m in SequenceMatcher(None, first, second, autojunk=False).get_opcodes():
        old_part, new_part = "".join(first[i:j]), "".join(second[k:m])
        # A lone word or space between two changes would be read as a jumble; it joins them.
        if tag != "equal" or ((removed or added) and j - i <= _LONELY and j < len(first) and m < len(second)):
            removed, added = removed + old_part, added + new_part
            continue
        pieces += [*_changed(removed, added), Piece("same", old_part)]
        removed = added = ""
    return [*pieces, *_changed(removed, added)]


def _changed(removed: str, added: str) -> list[Piece]:
    found = [Piece("removed", removed)] if removed else []
    return [*found, Piece("added", added)] if added else found
