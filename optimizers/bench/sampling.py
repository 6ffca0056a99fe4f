"""Drawing the error batch I_B and the guard of a round."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

from blpo_dspy.optimizers.bench.records import Batch, Judgement

Judge = Callable[[Sequence[int]], list[Judgement]]


def lazy_search(judge: Judge, order: Sequence[int], *, errors: int, guard: int, chunk: int) -> Batch:
    """Returns the first errors and the first right examples in a drawn order, judging no further than needed.

    The order is judged in chunks of a fixed size, so that the batch doesn't depend on the number of threads.
    """
    judged: list[Judgement] = []
    wrong: list[Judgement] = []
    right: list[Judgement] = []
    for start in range(0, len(order), chunk):
        judged += judge(order[start : start + chunk])
        wrong = [j for j in judged if j.loss]
        right = [j for j in judged if j.loss == 0]
        if len(wrong) >= errors and len(right) >= guard:
            break
    return Batch(tuple(wrong[:errors]), tuple(right[:guard]), searched=len(judged))


def full_search(judge: Judge, order: Sequence[int], *, errors: int, guard: int, stratified: bool) -> Batch:
    """Returns a batch drawn from all training examples, judged once (Algorithm 1, line "sample an error batch").

    Stratified, the errors are taken in turn from the cells of the confusion matrix, so that a batch shows several
    kinds of mistake.
    """
    judged = judge(order)
    wrong = [j for j in judged if j.loss]
    if stratified:
        wrong = list(_in_turn(wrong))
    return Batch(tuple(wrong[:errors]), tuple(j for j in judged if j.loss == 0)[:guard], searched=len(judged))


def _in_turn(errors: Sequence[Judgement]) -> Iterator[Judgement]:
    cells: dict[tuple[str, str], list[Judgement]] = {}
    for error in errors:
        cells.setdefault((str(error.label), str(error.predicted)), []).append(error)
    for depth in range(max(map(len, cells.values()), default=0)):
        yield from (cell[depth] for cell in cells.values() if depth < len(cell))


def drawn(positions: Sequence[int], seed: int) -> list[int]:
    """Returns the training positions in an order drawn with the seed, so that their beginning is a random subset."""
    return random.Random(f"{seed}:training set").sample(list(positions), len(positions))


def shuffled(positions: Sequence[int], seed: int, number: int) -> list[int]:
    """Returns the positions in the order drawn for a round; it depends on seed and round alone."""
    return random.Random(f"{seed}:{number}").sample(list(positions), len(positions))
