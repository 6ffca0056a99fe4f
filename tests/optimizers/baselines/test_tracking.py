"""Watching an optimizer's candidates: whose score is whose, what was validated, which is the best so far."""

from __future__ import annotations

import copy
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cloudpickle
import dspy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judges import answers, judge_with, picture

from blpo_dspy.optimizers.baselines.tracking import ProgramState, Tracker
from blpo_dspy.programs import VisualJudge

EXAMPLES = [dspy.Example(image=dspy.Image(picture(grey)), label="Safe").with_inputs("image") for grey in range(4)]


def program(instruction: str = "start") -> VisualJudge:
    """A judge that says Safe to everything."""
    return judge_with(answers("Safe"), instruction=instruction, evidence="image")


def tracker_for(judge: VisualJudge, scores: dict[str, float] | None = None, **options: Any) -> Tracker:
    """A tracker that scores by the running instruction, if any scores are given."""

    def score(example: dspy.Example, prediction: Any) -> float:
        return scores[prediction] if scores else 1.0

    return Tracker(ProgramState.of(judge), score, EXAMPLES[:2], options.get("spent", lambda: 0))


def variant(judge: VisualJudge, instruction: str) -> VisualJudge:
    """A copy with another instruction, as optimizers make them."""
    other = judge.deepcopy()
    other.judge.signature = other.judge.signature.with_instructions(instruction)
    return other


def tried(tracker: Tracker, judge: VisualJudge, examples: list[dspy.Example]) -> None:
    """Runs a candidate and scores it under its instruction, in an evaluation that ends."""
    for example in examples:
        judge(**example.inputs())
        tracker.metric(example, judge.instruction)
    tracker.settle()


def test_a_score_belongs_to_the_candidate_that_ran_in_this_thread() -> None:
    """Many candidates in many threads at once never get each other's scores."""
    judge = program()
    names = [f"candidate {number}" for number in range(8)]
    tracker = tracker_for(judge, {name: number / 10 for number, name in enumerate(names)})
    tracker.track(judge)
    barrier = threading.Barrier(8)

    def work(name: str) -> None:
        barrier.wait()
        tried(tracker, variant(judge, name), EXAMPLES)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, names))
    assert {dict(v.state.instructions)["judge"]: v.score for v in tracker.validated} == {
        name: pytest.approx(number / 10) for number, name in enumerate(names)
    }
    assert dict(tracker.best().instructions)["judge"] == names[-1]


def test_the_validation_score_leaves_training_examples_out_and_notes_what_was_spent_first() -> None:
    """A later evaluation of the same candidate doesn't move its point on the curve."""
    judge = program()
    spent = iter(range(10, 100))
    tracker = tracker_for(judge, spent=lambda: next(spent))
    tracker._score = lambda example, prediction: 1.0 if example in EXAMPLES[:2] else 0.0  # type: ignore[method-assign]
    tracker.track(judge)
    tried(tracker, judge, EXAMPLES[2:])
    assert tracker.validated == []
    tried(tracker, judge, EXAMPLES[:2])
    tried(tracker, judge, EXAMPLES)
    assert [(v.score, v.spent) for v in tracker.validated] == [(1.0, 10)]


class Cut(BaseException):
    """What a budget raises."""


def test_scores_of_an_evaluation_that_was_cut_short_do_not_count() -> None:
    """Though they are the best; those of one that ended do, whether settled or told by DSPy."""
    judge = program()
    tracker = tracker_for(judge, {"start": 0.5, "lucky": 1.0, "whole": 0.7})
    tracker.track(judge)

    def evaluated(instruction: str, cut_at: int) -> None:
        seen = iter(range(len(EXAMPLES)))

        def metric(example: dspy.Example, prediction: Any) -> float:
            if next(seen) == cut_at:
                raise Cut
            return tracker.metric(example, instruction)

        with dspy.context(callbacks=[tracker]):
            dspy.Evaluate(devset=EXAMPLES, metric=metric, num_threads=1)(variant(judge, instruction))

    evaluated("start", cut_at=-1)
    with pytest.raises(Cut):
        evaluated("lucky", cut_at=3)
    assert [dict(v.state.instructions)["judge"] for v in tracker.validated] == ["start"]
    assert dict(tracker.best().instructions)["judge"] == "start"
    evaluated("whole", cut_at=-1)
    assert dict(tracker.best().instructions)["judge"] == "whole"


def test_several_scores_of_one_example_count_alike_in_any_order() -> None:
    """Threads may come by them in any; the mean is the same to the last bit."""
    means = set()
    for order in ((0.1, 0.2, 0.3), (0.3, 0.2, 0.1)):
        judge, scores = program(), iter(order)
        tracker = tracker_for(judge)
        tracker._score = lambda example, prediction, scores=scores: next(scores)  # type: ignore[misc]
        tracker.track(judge)
        for example in (EXAMPLES[0], EXAMPLES[0], EXAMPLES[1]):
            judge(**example.inputs())
            tracker.metric(example, None)
        tracker.settle()
        means.add(tracker._settled[ProgramState.of(judge).key].mean)
    assert len(means) == 1


def test_the_start_is_the_best_where_nothing_was_tried() -> None:
    """An optimizer halted before its first evaluation returns the student."""
    judge = program("as it was")
    assert tracker_for(judge).best() == ProgramState.of(judge)


def test_of_equally_good_candidates_the_earlier_is_the_best() -> None:
    """So the start stays unless something is better."""
    judge = program()
    tracker = tracker_for(judge)
    tracker.track(judge)
    tried(tracker, judge, EXAMPLES[:2])
    tried(tracker, variant(judge, "another"), EXAMPLES[:2])
    assert tracker.best() == ProgramState.of(judge)


@pytest.mark.slow
@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(1, 2)), min_size=1, max_size=5))
def test_without_validation_the_best_mean_of_those_tried_enough_wins(found: list[tuple[float, int]]) -> None:
    """A candidate with one lucky example doesn't beat one tried on many."""
    judge = program()
    names = [f"candidate {number}" for number in range(len(found))]
    tracker = tracker_for(judge, dict(zip(names, [score for score, _ in found], strict=True)) | {"many": 0.5})
    tracker.track(judge)
    extra = [dspy.Example(image=dspy.Image(picture(g)), label="Safe").with_inputs("image") for g in range(10, 14)]
    for name, (_, count) in zip(names, found, strict=True):
        tried(tracker, variant(judge, name), EXAMPLES[2 : 2 + min(count, 1)])
    tried(tracker, variant(judge, "many"), extra)
    assert dict(tracker.best().instructions)["judge"] == "many"


@pytest.mark.parametrize(("of", "count", "best"), [(4, 1, "many"), (4, 2, "few"), (5, 2, "many"), (5, 3, "few")])
def test_half_as_many_examples_as_any_are_enough_to_be_the_best(of: int, count: int, best: str) -> None:
    """Of those tried on none of the validation set as a whole."""
    judge = program()
    tracker = tracker_for(judge, {"few": 0.9, "many": 0.5})
    tracker.track(judge)
    others = [dspy.Example(image=dspy.Image(picture(g)), label="Safe").with_inputs("image") for g in range(10, 10 + of)]
    tried(tracker, variant(judge, "many"), others)
    tried(tracker, variant(judge, "few"), others[:count])
    assert dict(tracker.best().instructions)["judge"] == best


def test_demonstrations_tell_candidates_apart() -> None:
    """Two candidates with one instruction and different images shown are two."""
    one, two = program(), program()
    one.judge.demos = [dspy.Example(image=EXAMPLES[0].image, label="Safe")]
    two.judge.demos = [dspy.Example(image=EXAMPLES[1].image, label="Safe")]
    keys = {ProgramState.of(judge).key for judge in (program(), one, two)}
    assert len(keys) == 3


def test_a_tracked_program_is_still_of_its_class_and_copies_and_pickles() -> None:
    """Optimizers copy programs in every way, and GEPA pickles them."""
    judge = program()
    tracker = tracker_for(judge)
    tracked = tracker.track(judge)
    assert isinstance(tracked, VisualJudge)
    assert type(tracked).__name__ == "VisualJudge"
    tried(tracker, copy.deepcopy(tracked), EXAMPLES[:2])
    assert len(tracker.validated) == 1
    plain = program()
    plain.set_lm(None)
    assert cloudpickle.loads(cloudpickle.dumps(tracker.track(plain))).instruction == "start"
