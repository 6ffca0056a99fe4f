"""Which of several labels is the better one: raters give labels by it, the engine reads them by it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeVar

from blpo_dspy.data.labels.normalize import Label

_BAD = re.compile(
    r"\b(?:rejects?(?:ed)?|unsafe|bad|poor|worst|worse|no|not|false|fail(?:s|ed)?|mismatch|fake|unnatural|unacceptable"
    r"|unrealistic|harmful|discard|drop|negative|low|0)\b|^(?:un|in|non|dis|mis)[a-z]{4,}",
    re.IGNORECASE,
)
_GOOD = re.compile(
    r"\b(?:keep|kept|safe|good|great|best|better|excellent|yes|true|pass(?:es|ed)?|match(?:es|ed)?|accept(?:ed|able)?"
    r"|natural|real|realistic|harmless|positive|ok|okay|fine|high|1)\b",
    re.IGNORECASE,
)
T = TypeVar("T", bound=Label)


def goodness(name: str) -> int:
    """Returns 1 for a label that praises ("keep"), −1 for one that blames ("reject"), 0 where its words say neither."""
    return -1 if _BAD.search(name) else int(bool(_GOOD.search(name)))


def ranked(names: Sequence[T]) -> tuple[T, ...]:
    """Returns nominal labels from worst to best: by their words, else as listed, the last the best."""
    return tuple(sorted(names, key=lambda name: goodness(str(name))))
