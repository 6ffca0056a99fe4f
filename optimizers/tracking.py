"""Watching the candidates of an optimizer that doesn't tell: which program scored what on which example."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dspy

_current = threading.local()


@dataclass(frozen=True)
class ProgramState:
    """What an optimizer changes in a program: instructions and demonstrations, by predictor name."""

    instructions: tuple[tuple[str, str], ...]
    demos: tuple[tuple[str, tuple[Any, ...]], ...] = ()

    @classmethod
    def of(cls, program: dspy.Module) -> ProgramState:
        """Returns the state of a program."""
        named = program.named_predictors()
        return cls(
            tuple((name, str(predictor.signature.instructions)) for name, predictor in named),
            tuple((name, tuple(predictor.demos)) for name, predictor in named if predictor.demos),
        )

    @property
    def key(self) -> tuple[Any, ...]:
        """Tells candidates apart; demonstrations by the end of each value, which differs between images."""
        demos = [(name, [[(k, str(v)[-64:]) for k, v in d.items()] for d in shown]) for name, shown in self.demos]
        return (self.instructions, repr(demos))


@dataclass(frozen=True)
class Candidate:
    """A candidate with its scores so far, by example."""

    state: ProgramState
    scores: Mapping[Any, float]

    @property
    def mean(self) -> float:
        """The mean score over the examples it was tried on."""
        return sum(self.scores.values()) / len(self.scores)


@dataclass(frozen=True)
class Validated:
    """A candidate that was tried on the whole validation set, its mean score there, and what was spent by then."""

    state: ProgramState
    score: float
    spent: int


class Tracker:
    """Records the score of every (candidate, example) that an optimizer evaluates.

    Args:
        start: The state of the student.
        score: `score(example, prediction)` in [0, 1].
        validation: The validation set.
        spent: Returns the LM calls so far.
    """

    def __init__(
        self,
        start: ProgramState,
        score: Callable[[dspy.Example, dspy.Prediction], float],
        validation: Sequence[dspy.Example],
        spent: Callable[[], int],
    ) -> None:
        self._score, self._spent = score, spent
        self._wanted = frozenset(_identity(example) for example in validation)
        self._lock = threading.Lock()
        self._candidates: dict[tuple[Any, ...], Candidate] = {start.key: Candidate(start, {})}
        self._validated: dict[tuple[Any, ...], Validated] = {}

    def track(self, program: dspy.Module) -> dspy.Module:
        """Makes a program (and its copies) tell this tracker which candidate is running."""
        program.__class__ = _tracked_class(type(program))  # type: ignore[arg-type]
        return program

    def metric(self, example: dspy.Example, prediction: Any, trace: Any = None) -> float:
        """The metric to give to the optimizer."""
        score = self._score(example, prediction)
        state: ProgramState | None = getattr(_current, "state", None)
        if state is not None:
            with self._lock:
                self._note(state, _identity(example), score)
        return score

    def _note(self, state: ProgramState, example: Any, score: float) -> None:
        known = self._candidates.get(state.key, Candidate(state, {}))
        self._candidates[state.key] = candidate = Candidate(known.state, {**known.scores, example: score})
        if self._wanted <= candidate.scores.keys() and state.key not in self._validated:
            mean = sum(candidate.scores[example] for example in self._wanted) / len(self._wanted)
            self._validated[state.key] = Validated(candidate.state, mean, self._spent())

    @property
    def validated(self) -> list[Validated]:
        """The candidates that were tried on the whole validation set, in the order in which they were."""
        return list(self._validated.values())

    def best(self) -> ProgramState:
        """Returns the best candidate so far by the optimizer's own evaluations, the earlier of equally good ones.

        That is the best of those tried on the whole validation set; of an optimizer that tries none on it, the highest
        mean of those tried on at least half as many examples as any.
        """
        if self._validated:
            return max(self.validated, key=lambda validated: validated.score).state
        candidates = list(self._candidates.values())
        enough = max(len(candidate.scores) for candidate in candidates) / 2
        tried = [candidate for candidate in candidates if candidate.scores and len(candidate.scores) >= enough]
        return max(tried, key=lambda candidate: candidate.mean).state if tried else candidates[0].state


def _identity(example: dspy.Example) -> Any:
    return tuple(hash(getattr(value, "url", str(value))) for _, value in sorted(example.items()))


class _TrackedMixin:
    """The student's own class, which notes the running candidate for the metric that is called next in this thread."""

    def forward(self, *arguments: Any, **inputs: Any) -> Any:
        _current.state = ProgramState.of(self)
        return super().forward(*arguments, **inputs)  # type: ignore[misc]


@functools.cache
def _tracked_class(cls: Any) -> type:
    return type(cls.__name__, (_TrackedMixin, cls), {"__module__": cls.__module__})
