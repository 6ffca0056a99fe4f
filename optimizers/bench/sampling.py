"""Which training examples a round works on: minibatches, or the paper's search through all of them."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from blpo_dspy.optimizers.bench.records import Batch, Judgement, Trial

Judge = Callable[[Sequence[int]], list[Judgement]]

LARGEST_MINIBATCH = 60
# An update that corrects so much of the loss it was shown, of at least so many mistakes, may be memory.
_SATURATED, _LEAST_SHOWN = 0.9, 4
# So many of the largest minibatches in a row that led to no update end a search.
_PATIENCE = 3
# With fewer training examples half of the mistakes are kept back from the start.
FEW_EXAMPLES = 50


class Sampling(Protocol):
    """Draws the examples of one round after the other."""

    @property
    def least(self) -> int:
        """The fewest mistakes that are worth showing."""

    @property
    def exhausted(self) -> bool:
        """Whether several rounds in a row led to no update with as many examples as there can be."""

    def draw(self, judge: Judge, least: int) -> list[Judgement]:
        """Returns judged examples with so many mistakes at least; none if there are no more of them."""

    def end_round(self, *, taken: bool, again: bool) -> bool:
        """Takes note of what came of a round; returns whether a pass through the examples ends with it.

        Args:
            taken: Whether the round led to an update.
            again: Whether its examples could be useful once more.
        """


class FullSearch:
    """The paper's "sample an error batch": every round judges all examples and works on the first mistakes drawn.

    Args:
        positions: The training examples.
        seed: Seeds the draw of every round.
        errors: The most mistakes.
    """

    exhausted = False
    least = 1

    def __init__(self, positions: Sequence[int], seed: int, *, errors: int) -> None:
        self._positions, self._seed, self._errors = positions, seed, errors
        self._round = 0

    def draw(self, judge: Judge, least: int) -> list[Judgement]:
        """Returns mistakes, judging all examples."""
        judged = judge(shuffled(self._positions, self._seed, self._round))
        wrong = largest_first(judgement for judgement in judged if judgement.mistake)[: self._errors]
        return wrong if len(wrong) >= least else []

    def end_round(self, *, taken: bool, again: bool) -> bool:
        """Returns True: every round is a pass."""
        self._round += 1
        return True


class Minibatches:
    """Minibatches drawn without replacement, pass by pass.

    One that led to an update serves again, since scoring the update has judged it already. After one that led to none,
    and after each pass, the next is larger: gains get smaller, and one that doesn't show on few examples may show on
    more. After a pass it is so up to half of the examples, as almost all of them would soon be learned by heart.

    Args:
        positions: The training examples.
        seed: Seeds the order of every pass.
        size: Of the first minibatch.
        growth: How many times as large the next one is after one that led to no update, and after a pass.
        updates: The most updates from one minibatch.
    """

    # What a mistake that stands alone has in common with others is unknown: a rule for it is one for one example.
    least = 2

    def __init__(self, positions: Sequence[int], seed: int, *, size: int, growth: float, updates: int) -> None:
        self._positions, self._seed = positions, seed
        self._largest = min(len(positions), max(size, LARGEST_MINIBATCH))
        self._size, self._growth, self._updates = float(min(size, self._largest)), growth, updates
        self._pass = 0
        self._queue: list[int] = []
        self._current: list[int] = []
        self._taken = self._in_vain = 0

    def draw(self, judge: Judge, least: int) -> list[Judgement]:
        """Returns the present minibatch if it serves again, else the next one with enough mistakes."""
        passed_over: set[int] = set()
        while not passed_over.issuperset(self._positions):
            self._current = self._current or self._next()
            judged = judge(self._current)
            if sum(judgement.mistake for judgement in judged) >= least:
                return judged
            passed_over.update(self._current)
            self._end_minibatch()
        return []

    def end_round(self, *, taken: bool, again: bool) -> bool:
        """Ends the minibatch, unless it serves again; returns whether it was the last of its pass."""
        self._taken += taken
        if taken and again and self._taken < self._updates:
            return False
        in_vain = not self._taken and self._size >= self._largest
        self._in_vain = self._in_vain + 1 if in_vain else 0
        self._end_minibatch()
        return len(self._queue) < int(self._size)

    @property
    def exhausted(self) -> bool:
        """Whether several of the largest minibatches in a row led to no update."""
        return self._in_vain >= _PATIENCE

    def _end_minibatch(self) -> None:
        if not self._taken:
            self._grow()
        self._current, self._taken = [], 0

    def _grow(self) -> None:
        self._size = min(self._size * self._growth, self._largest)

    def _next(self) -> list[int]:
        if len(self._queue) < int(self._size):
            if self._pass and 2 * self._size <= len(self._positions):
                self._grow()
            left = set(self._queue)
            self._queue += [i for i in shuffled(self._positions, self._seed, self._pass) if i not in left]
            self._pass += 1
        size = int(self._size)
        drawn, self._queue = self._queue[:size], self._queue[size:]
        return drawn


class Batches:
    """The batches of a search: what is sampled, which of it the optimizer LM is shown, and which is kept back.

    A score on mistakes that the optimizer LM was shown measures memory once it can correct all of them. From then on
    half of them are kept back.

    Args:
        sampling: Draws examples.
        errors: The most mistakes that are shown.
        right: The most right examples that are shown.
        held_out: Whether half of the mistakes are kept back: from the start (True), never (False), or from when an
            update corrects what it was shown (None).
        endless: Whether the search continues, until something else ends it, when the sampling is exhausted.
    """

    def __init__(
        self, sampling: Sampling, *, errors: int, right: int, held_out: bool | None, endless: bool = False
    ) -> None:
        self._sampling, self._errors, self._right, self._endless = sampling, errors, right, endless
        self._held_out, self._fixed = bool(held_out), held_out is not None

    def sample(self, judge: Judge) -> Batch | None:
        """Returns the batch of the next round; None if there is nothing more to learn from."""
        if self.exhausted:
            return None
        searched = 0

        def counted(examples: Sequence[int]) -> list[Judgement]:
            nonlocal searched
            searched += len(examples)
            return judge(examples)

        judged = self._sampling.draw(counted, self._least)
        return self._divided(judged, searched) if judged else None

    def _divided(self, judged: Sequence[Judgement], searched: int) -> Batch:
        """Mistakes are shown in turn from the cells of the confusion matrix; right examples from what these confuse.

        Of scores, which have no cells, the largest deviations are shown, and any right examples.
        """
        wrong = list(_in_turn((j for j in judged if j.mistake), lambda j: (str(j.label), str(j.predicted))))
        wrong = largest_first(wrong)
        errors = wrong[: min(self._errors, (len(wrong) + 1) // 2 if self._held_out else len(wrong))]
        confused = {label for error in errors for label in (error.label, error.predicted)}
        right = [judgement for judgement in judged if judgement.right]
        similar = list(_in_turn((j for j in right if j.tolerated or j.label in confused), lambda j: str(j.label)))
        shown = similar[: min(self._right, len(right) // 2 if self._held_out else self._right)]
        return Batch(
            tuple(errors),
            tuple(judgement for judgement in right if judgement not in shown),
            tuple(wrong[len(errors) :]),
            tuple(shown),
            searched,
            self._held_out,
        )

    def end_round(self, batch: Batch, trials: Sequence[Trial], chosen: int | None) -> bool:
        """Takes note of what came of a batch; returns whether a pass through the examples ends with it."""
        loss = sum(error.loss or 0.0 for error in batch.errors)
        gains = [trial.shown_gain * len(batch.errors) for trial in trials if trial.shown_gain is not None]
        if not self._fixed and len(batch.errors) >= _LEAST_SHOWN and any(gain >= _SATURATED * loss for gain in gains):
            self._held_out = True
        left = None if chosen is None else trials[chosen].mistakes
        return self._sampling.end_round(taken=chosen is not None, again=(left or 0) >= self._least)

    @property
    def exhausted(self) -> bool:
        """Whether the search ends as several rounds led to no update with as many examples as there can be."""
        return self._sampling.exhausted and not self._endless

    @property
    def _least(self) -> int:
        """The fewest mistakes to learn from; half of them, rounded up, are shown where the others are kept back."""
        least = min(self._sampling.least, self._errors)
        return max(2, 2 * least - 1) if self._held_out else least


def _in_turn(judgements: Iterable[Judgement], cell: Callable[[Judgement], object]) -> Iterator[Judgement]:
    cells: dict[object, list[Judgement]] = {}
    for judgement in judgements:
        cells.setdefault(cell(judgement), []).append(judgement)
    for turn in itertools.zip_longest(*cells.values()):
        yield from (judgement for judgement in turn if judgement is not None)


def largest_first(judgements: Iterable[Judgement]) -> list[Judgement]:
    """Returns mistakes as they are; of scores, of which nearly all answers deviate a little, the largest first."""
    found = list(judgements)
    return sorted(found, key=lambda j: -(j.loss or 0.0)) if any(j.tolerated for j in found) else found


def drawn(positions: Sequence[int], seed: int) -> list[int]:
    """Returns positions in an order drawn with the seed, so that their beginning is a random subset."""
    return random.Random(f"{seed}:training set").sample(list(positions), len(positions))


def shuffled(positions: Sequence[int], seed: int, number: int) -> list[int]:
    """Returns the positions in the order drawn for a round or a pass; it depends on seed and number alone."""
    return random.Random(f"{seed}:{number}").sample(list(positions), len(positions))
