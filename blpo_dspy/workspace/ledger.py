"""The usage of the LM calls of a run, by role."""

from __future__ import annotations

import functools
import operator
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

ROLES = ("judge", "verbalizer", "optimizer")


@dataclass(frozen=True)
class Usage:
    """Counts of one role (or of one call); usages add up with `+`.

    Attributes:
        calls: Requests that reached the provider, failed ones and retries included.
        cached: Answers taken from DSPy's cache or from the run's own memory: nothing was paid for them.
        retries: How many of `calls` repeated a request that had failed.
        failed: How many of `calls` ended in an error.
        prompt_tokens: As the provider counts them; 0 where it reports none.
        completion_tokens: As the provider counts them; 0 where it reports none.
        image_tokens: The part of `prompt_tokens` that were images, where the provider reports it.
        usd: Sum of the known prices.
        unpriced: How many answered calls have no known price, so that `usd` is a lower bound.
        seconds: Time spent waiting for answers, summed over threads.
        images: Images in the requests that were answered.
        uncounted: How many answered calls came without token counts, so that the tokens are lower bounds.
    """

    calls: int = 0
    cached: int = 0
    retries: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    image_tokens: int = 0
    usd: float = 0.0
    unpriced: int = 0
    seconds: float = 0.0
    images: int = 0
    uncounted: int = 0

    def __add__(self, other: Usage) -> Usage:
        return self._with(operator.add, other)

    def __sub__(self, other: Usage) -> Usage:
        return self._with(operator.sub, other)

    def _with(self, combine: Callable[[float, float], float], other: Usage) -> Usage:
        """Both combined count by count; without `__init__`, which sets each of them on its own."""
        found = object.__new__(Usage)
        found.__dict__.update(zip(_NAMES, map(combine, _COUNTS(self), _COUNTS(other)), strict=True))
        return found

    @property
    def counts(self) -> dict[str, Any]:
        """What is counted, by name, without zeros."""
        return {name: value for name, value in self.__dict__.items() if value}

    @property
    def tokens(self) -> int:
        """Prompt and completion tokens together."""
        return self.prompt_tokens + self.completion_tokens

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON; `usd` and tokens are None where they are not known of any call."""
        data = asdict(self)
        unknown = ["usd"] * (self.unpriced > 0 and not self.usd)
        unknown += ["prompt_tokens", "completion_tokens"] * (self.uncounted > 0 and not self.tokens)
        return {**data, **dict.fromkeys(unknown)}


# Usages are summed several times for every call.
_NAMES = tuple(field.name for field in fields(Usage))
_COUNTS = operator.attrgetter(*_NAMES)
_NONE = Usage()


@dataclass(frozen=True)
class Ledger:
    """The usage of a run.

    Attributes:
        roles: By role.
        answered: How many different requests were answered, by role, from memory or for money: the same on every
            machine, whatever failed on the way.
    """

    roles: Mapping[str, Usage]
    answered: Mapping[str, int] = field(default_factory=dict, compare=False)

    def __getitem__(self, role: str) -> Usage:
        return self.roles.get(role, _NONE)

    def __add__(self, other: Ledger) -> Ledger:
        if not (other.roles or other.answered):
            return self
        roles = {role: self[role] + other[role] for role in {**self.roles, **other.roles}}
        return Ledger(roles, Counter(self.answered) + Counter(other.answered))

    @property
    def total(self) -> Usage:
        """All roles together."""
        return functools.reduce(operator.add, self.roles.values()) if self.roles else Usage()

    def calls(self) -> dict[str, int]:
        """Returns the calls by role and, under "cached", the answers that cost nothing."""
        return {**{role: self[role].calls for role in ROLES}, "cached": self.total.cached}

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON, one entry per role."""
        return {role: usage.to_dict() for role, usage in self.roles.items()}
