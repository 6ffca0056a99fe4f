"""Watching the candidates of an optimizer that doesn't report them: which program scored what on which example."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dspy
from dspy.utils.callback import BaseCallback

from blpo_dspy.models.seams import extend

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
        """Identifies a candidate; demonstrations by the end of each value, which differs between images."""
        demos = [(name, [[(k, str(v)[-64:]) for k, v in d.items()] for d in shown]) for name, shown in self.demos]
        return (self.instructions, repr(demos))


@dataclass(frozen=True)
class Candidate:
    """A candidate with its scores so far, by example; one that was sampled several times has several."""

    state: ProgramState
    scores: Mapping[Any, tuple[float, ...]]

    @property
    def mean(self) -> float:
        """The mean of its scores, the same in whatever order threads came by them."""
        return _mean([score for several in self.scores.values() for score in several])


@dataclass(frozen=True)
class Validated:
    """A candidate that was tried on the whole validation set, its mean score there, and what was spent by then."""

    state: ProgramState
    score: float
    spent: int


class Tracker(BaseCallback):
    """Records the score of every (candidate, example) that an optimizer evaluates.

    What was scored counts once the evaluation that it is part of has ended (`settle`). Which examples one was scored on
    that a cap cut short depends on the timing of its threads, and a score on some of them is none to choose by. As a
    callback of DSPy it hears of every `dspy.Evaluate` that ends; other evaluations have to be settled.

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
        super().__init__()
        self._score, self._spent = score, spent
        self._wanted = frozenset(_identity(example) for example in validation)
        self._lock = threading.Lock()
        self._candidates: dict[tuple[Any, ...], Candidate] = {start.key: Candidate(start, {})}
        self._settled: dict[tuple[Any, ...], Candidate] = dict(self._candidates)
        self._validated: dict[tuple[Any, ...], Validated] = {}

    def track(self, program: dspy.Module) -> dspy.Module:
        """Makes a program (and its copies) report to this tracker which candidate is running."""
        return extend(program, _TrackedMixin)

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
        scores = (*known.scores.get(example, ()), score)
        self._candidates[state.key] = Candidate(known.state, {**known.scores, example: scores})

    def settle(self) -> None:
        """To be called where all evaluations that were begun have ended: their scores count from now on."""
        with self._lock:
            for key in sorted(self._candidates, key=lambda key: (key not in self._settled, key)):
                self._settled[key] = candidate = self._candidates[key]
                if self._wanted <= candidate.scores.keys() and key not in self._validated:
                    mean = _mean([score for example in self._wanted for score in candidate.scores[example]])
                    self._validated[key] = Validated(candidate.state, mean, self._spent())

    def on_evaluate_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """An evaluation ended, or was cut short: then its scores are dropped."""
        if exception is None:
            self.settle()
        else:
            with self._lock:
                self._candidates = dict(self._settled)

    @property
    def validated(self) -> list[Validated]:
        """The candidates that were tried on the whole validation set, in the order in which they were."""
        return list(self._validated.values())

    def best(self) -> ProgramState:
        """Returns the best candidate by the evaluations that ended, the earlier of equally good ones.

        That is the best of those tried on the whole validation set; of an optimizer that tries none on it, the highest
        mean of those tried on at least half as many examples as any.
        """
        if self._validated:
            return max(self.validated, key=lambda validated: validated.score).state
        candidates = list(self._settled.values())
        enough = max(len(candidate.scores) for candidate in candidates) / 2
        tried = [candidate for candidate in candidates if candidate.scores and len(candidate.scores) >= enough]
        return max(tried, key=lambda candidate: candidate.mean).state if tried else candidates[0].state


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _identity(example: dspy.Example) -> Any:
    return tuple(hash(getattr(value, "url", str(value))) for _, value in sorted(example.items()))


class _TrackedMixin:
    """The student's own class, which notes the running candidate for the metric that is called next in this thread."""

    def forward(self, *arguments: Any, **inputs: Any) -> Any:
        _current.state = ProgramState.of(self)
        return super().forward(*arguments, **inputs)  # type: ignore[misc]
