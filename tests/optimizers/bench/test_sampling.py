from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blpo_dspy.optimizers.bench.records import Batch, Judgement, Trial
from blpo_dspy.optimizers.bench.sampling import Batches, FullSearch, Minibatches, Sampling, shuffled


class Judge:
    """Judges by a list of losses and remembers what it was asked."""

    def __init__(self, losses: Sequence[float | None]) -> None:
        self.losses = losses
        self.asked: list[list[int]] = []

    def __call__(self, examples: Sequence[int]) -> list[Judgement]:
        self.asked.append(list(examples))
        return [
            Judgement(i, f"label{i % 2}", "x", self.losses[i], failure="" if self.losses[i] is not None else "down")
            for i in examples
        ]


def minibatches(train: int, *, size: int = 20, growth: float = 1.5, updates: int = 4) -> Minibatches:
    """Minibatches of so many training examples."""
    return Minibatches(range(train), 0, size=size, growth=growth, updates=updates)


def batches(sampling: Sampling, *, held_out: bool | None = None, right: int = 4, errors: int = 10) -> Batches:
    """Batches of what is sampled."""
    return Batches(sampling, errors=errors, right=right, held_out=held_out)


def positions(judged: Sequence[Judgement]) -> list[int]:
    """The examples of some judgements."""
    return [judgement.example for judgement in judged]


losses = st.lists(st.sampled_from([0.0, 0.5, 1.0, None]), min_size=1, max_size=60)


@pytest.mark.slow
@given(losses, st.integers(1, 40), st.integers(1, 2))
def test_a_minibatch_has_enough_mistakes_or_there_are_none_left(
    found: list[float | None], size: int, least: int
) -> None:
    """It holds no example twice; where none has enough mistakes every example was looked at."""
    judge = Judge(found)
    judged = minibatches(len(found), size=size).draw(judge, least)
    assert len(set(positions(judged))) == len(judged)
    if judged:
        assert sum(bool(j.loss) for j in judged) >= least
    else:
        assert {i for asked in judge.asked for i in asked} == set(range(len(found)))
        assert sum(bool(loss) for loss in found) < least or len(judge.asked) > 1


def test_minibatches_are_drawn_pass_by_pass_without_replacement() -> None:
    """No example comes a second time before all have come once."""
    sampling, judge = minibatches(100, growth=1.0), Judge([1.0] * 100)
    for _ in range(10):
        sampling.draw(judge, 1)
        sampling.end_round(taken=False, again=False)
    for start in (0, 5):
        one_pass = [i for asked in judge.asked[start : start + 5] for i in asked]
        assert sorted(one_pass) == list(range(100))
    assert judge.asked[0] != judge.asked[5]


def test_a_minibatch_serves_again_after_an_update_and_grows_after_none() -> None:
    """Up to four times; the size stays after a minibatch that led to something, and never exceeds 60."""
    sampling, judge = minibatches(200), Judge([1.0] * 200)
    for taken in (True, True, True, True, True, False, False, False, False, False, False, False):
        sampling.draw(judge, 1)
        sampling.end_round(taken=taken, again=True)
    assert judge.asked[0] == judge.asked[1] == judge.asked[3] != judge.asked[4] == judge.asked[5]
    assert [len(asked) for asked in judge.asked] == [20, 20, 20, 20, 20, 20, 20, 30, 45, 60, 60, 60]
    assert sampling.exhausted


def test_minibatches_grow_from_pass_to_pass() -> None:
    """However many updates they led to: what is left to gain gets smaller."""
    sampling, judge = minibatches(100, updates=1), Judge([1.0] * 100)
    for _ in range(11):
        sampling.draw(judge, 1)
        sampling.end_round(taken=True, again=True)
    assert [len(asked) for asked in judge.asked] == [20] * 5 + [30] * 3 + [45] * 2 + [60]
    assert not sampling.exhausted


def test_a_minibatch_without_a_mistake_left_does_not_serve_again() -> None:
    """An update that corrected everything leaves nothing to learn from it."""
    sampling, judge = minibatches(100), Judge([1.0] * 100)
    sampling.draw(judge, 1)
    sampling.end_round(taken=True, again=False)
    sampling.draw(judge, 1)
    assert not set(judge.asked[0]) & set(judge.asked[1])


def test_the_full_search_judges_everything_and_keeps_mistakes_alone() -> None:
    """The paper's sampling: the first mistakes of the round's own order, whatever came of the round before."""
    judge, sampling = Judge([1.0, 0.0] * 10), FullSearch(range(20), 0, errors=3)
    first = batches(sampling, held_out=False, right=0).sample(judge)
    assert first is not None
    assert sorted(judge.asked[0]) == list(range(20))
    assert positions(first.errors) == [i for i in shuffled(range(20), 0, 0) if i % 2 == 0][:3]
    assert first.searched == 20
    assert first.judgements == first.errors
    sampling.end_round(taken=True, again=True)
    sampling.draw(judge, 1)
    assert judge.asked[1] == shuffled(range(20), 0, 1)


def test_mistakes_are_shown_from_every_cell_of_the_confusion_matrix_in_turn() -> None:
    """Each gives one before any gives a second."""

    def judge(examples: Sequence[int]) -> list[Judgement]:
        return [Judgement(i, "rare" if i == 7 else "common", "x", 1.0) for i in examples]

    batch = batches(minibatches(20), errors=2).sample(judge)
    assert batch is not None
    assert {str(error.label) for error in batch.errors} == {"rare", "common"}


def test_right_examples_are_shown_of_the_labels_that_the_mistakes_confuse() -> None:
    """Others say nothing about the mistakes; what is not shown stands by itself."""

    def judge(examples: Sequence[int]) -> list[Judgement]:
        wrong = [Judgement(i, "a", "b", 1.0) for i in examples if i < 5]
        return wrong + [Judgement(i, "abc"[i % 3], "abc"[i % 3], 0.0) for i in examples if i >= 5]

    batch = batches(minibatches(20), right=4).sample(judge)
    assert batch is not None
    assert sorted(str(right.label) for right in batch.shown_right) == ["a", "a", "b", "b"]
    assert len(batch.right) == 11
    assert not set(positions(batch.right)) & set(positions(batch.shown_right))


def corrected(gain: float) -> Trial:
    """A trial that corrects so much of a loss of 1."""
    return Trial("start", "q", "p", gain, shown_gain=gain, mistakes=2)


@pytest.mark.parametrize(("errors", "gain", "kept"), [(10, 1.0, 5), (10, 0.9, 5), (10, 0.8, 0), (3, 1.0, 0)])
def test_mistakes_are_kept_back_once_an_update_corrects_what_it_is_shown(errors: int, gain: float, kept: int) -> None:
    """From then on: nine tenths of the loss, of at least four mistakes."""
    sampler = batches(minibatches(100))
    judge = Judge(
        [1.0] * 100 if errors == 10 else [float(i in shuffled(range(100), 0, 0)[:errors]) for i in range(100)]
    )
    first = sampler.sample(judge)
    assert first is not None
    assert (len(first.errors), first.held_out) == (errors, False)
    sampler.end_round(first, [corrected(gain)], 0)
    second = sampler.sample(judge)
    assert second is not None
    assert second.held_out == (kept > 0)
    if kept:
        assert (len(second.errors), len(second.kept_back)) == (10, 10)


def test_what_an_update_is_scored_on_was_not_shown_where_mistakes_are_kept_back() -> None:
    """The mistakes kept back and the right examples that were not shown; else the whole batch."""
    wrong, right = (
        [Judgement(i, "a", "b", loss) for i in numbers] for loss, numbers in ((1.0, range(3)), (0.0, (3, 4)))
    )
    parts = {"errors": tuple(wrong[:2]), "kept_back": (wrong[2],), "right": (right[0],), "shown_right": (right[1],)}
    mistakes, others = Batch(**parts, held_out=True).scored
    assert (positions(mistakes), positions(others)) == ([2], [3])
    mistakes, others = Batch(**parts).scored
    assert (positions(mistakes), positions(others)) == ([0, 1, 2], [3, 4])


def test_the_search_ends_after_three_of_the_largest_minibatches_led_to_nothing() -> None:
    """Unless something else ends it."""
    for endless in (False, True):
        sampler = Batches(minibatches(30, size=30), errors=10, right=0, held_out=False, endless=endless)
        for _ in range(3):
            batch = sampler.sample(Judge([1.0] * 30))
            assert batch is not None
            sampler.end_round(batch, [], None)
        assert (sampler.sample(Judge([1.0] * 30)) is not None) == endless


def test_the_order_depends_on_seed_and_round_alone() -> None:
    """Equal seed and round give equal orders, others differ, and each is a permutation."""
    assert shuffled(range(50), 0, 1) == shuffled(range(50), 0, 1)
    assert shuffled(range(50), 0, 1) != shuffled(range(50), 0, 2)
    assert shuffled(range(50), 0, 1) != shuffled(range(50), 1, 1)
    assert sorted(shuffled(range(50), 0, 1)) == list(range(50))


def test_passes_are_drawn_with_their_number() -> None:
    """What is left of a pass comes before the next one."""
    sampling, judge = minibatches(50, growth=1.0), Judge([1.0] * 50)
    for _ in range(3):
        sampling.draw(judge, 1)
        sampling.end_round(taken=False, again=False)
    first, second = (shuffled(range(50), 0, number) for number in (0, 1))
    left = first[40:]
    assert judge.asked == [first[:20], first[20:40], left + [i for i in second if i not in left][:10]]


@pytest.mark.parametrize(("held_out", "errors", "least"), [(True, 10, 3), (False, 10, 2), (True, 1, 2), (False, 1, 1)])
def test_a_mistake_that_stands_alone_is_not_shown(held_out: bool, errors: int, least: int) -> None:
    """Unless only one is ever shown; so many have to be left for a minibatch to serve again."""
    for mistakes in (1, 2, 3, 4):
        wrong = Judge([1.0] * mistakes + [0.0] * (20 - mistakes))
        sampler = batches(minibatches(20), held_out=held_out, errors=errors)
        batch = sampler.sample(wrong)
        assert (batch is None) == (mistakes < least)
        if batch is not None:
            assert len(batch.errors) >= min(2, errors)
            assert bool(batch.kept_back) or not held_out
            left = Trial("start", "q", "p", 0.1, mistakes=mistakes - 1)
            assert sampler.end_round(batch, [left], 0) == (mistakes - 1 < least)


@pytest.mark.parametrize(("held_out", "least"), [(True, 2), (False, 1)])
def test_by_the_papers_letter_one_mistake_is_shown_too(held_out: bool, least: int) -> None:
    """Of two where one is kept back."""
    for mistakes in (1, 2, 3):
        wrong = Judge([1.0] * mistakes + [0.0] * (20 - mistakes))
        batch = batches(FullSearch(range(20), 0, errors=5), held_out=held_out).sample(wrong)
        assert (batch is None) == (mistakes < least)


@pytest.mark.parametrize(
    ("mistakes", "right", "errors", "held_out", "sizes"),
    [
        (5, 9, 10, True, (3, 2, 4, 5)),  # half of the mistakes, the odd one shown; at most half of the right ones
        (5, 9, 2, True, (2, 3, 4, 5)),
        (5, 7, 10, True, (3, 2, 3, 4)),
        (5, 9, 10, False, (5, 0, 4, 5)),
        (5, 3, 3, False, (3, 2, 3, 0)),
    ],
)
def test_what_is_shown_and_what_is_kept_back(
    mistakes: int, right: int, errors: int, held_out: bool, sizes: tuple[int, int, int, int]
) -> None:
    """Shown mistakes, others, shown right ones, others; what the model failed on is in no part."""
    judge = Judge([1.0] * mistakes + [0.0] * right + [None] * 4)
    batch = batches(minibatches(mistakes + right + 4, size=30), held_out=held_out, errors=errors).sample(judge)
    assert batch is not None
    parts = (batch.errors, batch.kept_back, batch.shown_right, batch.right)
    assert tuple(map(len, parts)) == sizes
    assert len({j.example for part in parts for j in part}) == mistakes + right


@pytest.mark.parametrize(("mistakes", "kept"), [(3, False), (4, True)])
def test_four_mistakes_are_the_fewest_that_show_memory(mistakes: int, kept: bool) -> None:
    """With fewer all may be corrected by a rule."""
    sampler = batches(minibatches(20))
    batch = sampler.sample(Judge([1.0] * mistakes + [0.0] * (20 - mistakes)))
    assert batch is not None
    sampler.end_round(batch, [Trial("start", "q"), corrected(1.0)], 1)
    after = sampler.sample(Judge([1.0] * 20))
    assert after is not None
    assert after.held_out == kept


def test_an_update_or_a_smaller_minibatch_resets_the_patience() -> None:
    """Only three of the largest in a row that led to nothing end the search."""
    sampling, judge = minibatches(30, size=30), Judge([1.0] * 30)
    seen = []
    for taken in (False, False, True, False, False, False):
        sampling.draw(judge, 1)
        sampling.end_round(taken=taken, again=False)
        seen.append(sampling.exhausted)
    assert seen == [False] * 5 + [True]
    growing = minibatches(40, size=20, growth=2.0)
    for _ in range(3):
        growing.draw(Judge([1.0] * 40), 1)
        growing.end_round(taken=False, again=False)
    assert not growing.exhausted


def scored(deviations: Sequence[float]) -> Judge:
    """A judge of scores that is off by such parts of the range, of which a tenth is tolerated."""

    class Scores(Judge):
        def __call__(self, examples: Sequence[int]) -> list[Judgement]:
            return [replace(j, label=float(j.example), tolerated=0.1) for j in super().__call__(examples)]

    return Scores(deviations)


def test_of_scores_the_largest_deviations_are_shown_as_mistakes() -> None:
    """What is within the tolerance is right, though its loss is not 0; the others follow by size."""
    deviations = [0.05, 0.3, 0.1, 0.9, 0.11, 0.0, 0.5]
    batch = batches(minibatches(7, size=7), errors=3, right=2).sample(scored(deviations))
    assert batch is not None
    assert positions(batch.errors) == [3, 6, 1]
    assert positions(batch.kept_back) == [4]
    assert sorted(positions((*batch.right, *batch.shown_right))) == [0, 2, 5]
    assert len(batch.shown_right) == 2
    full = FullSearch(range(7), 0, errors=2).draw(scored(deviations), 1)
    assert positions(full) == [3, 6]
    assert FullSearch(range(3), 0, errors=2).draw(scored([0.1, 0.02, 0.0]), 1) == []
