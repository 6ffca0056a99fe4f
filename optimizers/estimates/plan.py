"""How many LM calls a run makes, as far as that is known beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import dspy


class MetaPrompt(NamedTuple):
    """A request to the optimizer LM, with the most errors and instructions that it lists."""

    signature: type[dspy.Signature]
    errors: int
    instructions: int


class Plan(NamedTuple):
    """The calls by role of a run in which nothing fails and no answer is known beforehand.

    Attributes:
        usual: Those of a usual run.
        most: Upper bounds.
        shortest: Those of one and of two usual rounds with the validations before and after them.
        prompts: What the optimizer LM is asked.
    """

    usual: Mapping[str, int]
    most: Mapping[str, int]
    shortest: tuple[Mapping[str, int], Mapping[str, int]]
    prompts: tuple[MetaPrompt, ...]
