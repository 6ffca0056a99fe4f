from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from blpo_dspy.optimizers.bench.records import Judgement
from blpo_dspy.optimizers.bench.sampling import full_search, lazy_search, shuffled


class Judge:
    """Judges by a list of losses and remembers what it was asked."""

    def __init__(self, losses: Sequence[float | None]) -> None:
        self.losses, self.asked = losses, []
        self.asked: list[int] = []

    def __call__(self, examples: Sequence[int]) -> list[Judgement]:
        self.asked += examples
        return [
            Judgement(i, f"label{i % 2}", "x", self.losses[i], failure="" if self.losses[i] is not None else "down")
            for i in examples
        ]


losses = st.lists(st.sampled_from([0.0, 0.5, 1.0, None]), min_size=1, max_size=60)


@given(losses, st.integers(1, 8), st.integers(0, 8), st.integers(1, 12))
def test_the_lazy_search_finds_what_a_full_pass_would_and_stops_early(
    found: list[float | None], errors: int, guard: int, chunk: int
) -> None:
    """The batch is the first errors and right examples in order; no chunk is judged after both are full."""
    judge = Judge(found)
    order = list(range(len(found)))
    batch = lazy_search(judge, order, errors=errors, guard=guard, chunk=chunk)
    assert [j.example for j in batch.errors] == [i for i in order if found[i]][:errors]
    assert [j.example for j in batch.guard] == [i for i in order if found[i] == 0][:guard]
    assert judge.asked == order[: batch.searched]
    without_last = order[: max(0, batch.searched - chunk)]
    enough = sum(bool(found[i]) for i in without_last) >= errors and sum(found[i] == 0 for i in without_last) >= guard
    assert not without_last or not enough


def test_the_full_search_judges_everything_once() -> None:
    """The paper's sampling judges the whole trainset."""
    judge = Judge([1.0, 0.0] * 10)
    batch = full_search(judge, list(range(20)), errors=3, guard=2, stratified=False)
    assert judge.asked == list(range(20))
    assert [j.example for j in batch.errors] == [0, 2, 4]
    assert [j.example for j in batch.guard] == [1, 3]


def test_stratified_errors_are_taken_from_the_cells_in_turn() -> None:
    """Every cell of the confusion matrix gives one error before any gives a second."""
    judge = Judge([1.0] * 20)
    order = [0, 2, 4, 6, 8, 1, 3]
    batch = full_search(judge, order, errors=4, guard=0, stratified=True)
    assert [j.example for j in batch.errors] == [0, 1, 2, 3]


def test_the_order_depends_on_seed_and_round_alone() -> None:
    """Equal seed and round give equal orders, others differ, and each is a permutation."""
    assert shuffled(range(50), 0, 1) == shuffled(range(50), 0, 1)
    assert shuffled(range(50), 0, 1) != shuffled(range(50), 0, 2)
    assert shuffled(range(50), 0, 1) != shuffled(range(50), 1, 1)
    assert sorted(shuffled(range(50), 0, 1)) == list(range(50))
