"""What BLPO decides by itself in a round: which update to take, when to stop looking, where the next one begins."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from worlds import LABELS, TRAIN, student, world

from blpo_dspy.comparison.methods import METHODS
from blpo_dspy.errors import BlpoError
from blpo_dspy.optimizers import BLPO
from blpo_dspy.optimizers.bench.records import Instructions, Judgement, Trial
from blpo_dspy.optimizers.bench.run import Run
from blpo_dspy.optimizers.blpo.steps import SMALLEST_GAIN
from blpo_dspy.programs import VisualJudge
from blpo_dspy.workspace.budget import Budget
from blpo_dspy.workspace.workers import Workers

DEFAULT = "Describe this image in detail."


@contextmanager
def run_of(train: int = 42, *, program: dict[str, Any] | None = None, **options: Any) -> Iterator[tuple[BLPO, Run]]:
    """Yields an optimizer and its run on so many examples of the small world, without an LM call."""
    lm, examples = world(), (TRAIN * 2)[:train]
    optimizer = BLPO(prompt_model=lm, task_model=lm, **options)
    with Workers(1) as workers, Run(optimizer, student(**program or {}), examples, examples[:4], workers) as run:
        yield optimizer, run


SCORES: list[tuple[tuple[float | None, ...], tuple[bool, ...], int | None, int | None]] = [
    ((0.0, -0.1), (True, True), None, 0),  # to the letter no worse is good enough for a change
    ((0.0,), (False,), None, None),
    ((-0.1, 0.0), (True, False), None, None),
    ((-0.2, -0.1), (True, True), None, 1),
    ((-0.1,), (False,), None, 0),
    ((0.0, 0.0), (False, True), None, 1),
    ((SMALLEST_GAIN,), (True,), None, 0),  # rounding is not a gain
    ((0.1,), (False,), 0, 0),  # another q alone may help a judge that reads descriptions
    ((0.1, 0.3, 0.3), (True, True, True), 1, 1),
    ((None, 0.1), (True, True), 1, 1),
    ((None, None), (True, True), None, None),
]


@pytest.mark.parametrize(("scores", "changes", "chosen", "letter"), SCORES)
def test_an_update_is_taken_where_it_lowered_the_loss(
    scores: tuple[float | None, ...], changes: tuple[bool, ...], chosen: int | None, letter: int | None
) -> None:
    """The best score wins; what lowers nothing doesn't, but by the paper's letter, which takes what it has."""
    current = Instructions("p", "q")
    trials = [
        Trial("proposal", f"q{i}", f"p{i}" if changed else "p", score)
        for i, (score, changed) in enumerate(zip(scores, changes, strict=True))
    ]
    assert BLPO(prompt_model=world())._argmax(current, trials) == chosen
    assert BLPO.paper(prompt_model=world())._argmax(current, trials) == letter


def test_of_equal_scores_the_shorter_instruction_wins_and_then_the_earlier() -> None:
    """Whatever the instructions say otherwise."""
    trials = [Trial("proposal", "q", judge, 0.5) for judge in ("a longer one", "zz", "aa", "aaa")]
    assert BLPO(prompt_model=world())._argmax(Instructions("p", "q"), trials) == 1


@pytest.mark.parametrize(
    ("scores", "settled"),
    [
        ((None,), False),
        ((0.0,), False),
        ((-0.5, None), False),
        ((SMALLEST_GAIN,), False),
        ((None, 0.1), True),
        ((0.1, 0.0), True),
    ],
)
def test_the_first_gain_settles_a_round_but_by_the_papers_letter(
    scores: tuple[float | None, ...], settled: bool
) -> None:
    """What could not be scored, or gained nothing but rounding, settles nothing."""
    history = [Trial("proposal", "q", "p'", score) for score in scores]
    assert BLPO(prompt_model=world())._settled(history) == settled
    assert not BLPO.paper(prompt_model=world())._settled(history)


def judge_all(examples: Any) -> list[Judgement]:
    """Every other example is a mistake."""
    return [Judgement(i, "bright", "dark" if i % 2 else "bright", float(i % 2)) for i in examples]


@pytest.mark.parametrize(
    ("evidence", "shown_right", "shown"), [("both", 4, 4), ("image", 4, 2), ("image", 5, 2), ("image", 1, 0)]
)
def test_half_as_many_right_examples_are_shown_where_they_have_to_be_described_for_it(
    evidence: str, shown_right: int, shown: int
) -> None:
    """A judge that reads descriptions has them already."""
    with run_of(program={"evidence": evidence}, shown_right=shown_right) as (optimizer, run):
        batch = optimizer._batches(run).sample(judge_all)
    assert batch is not None
    assert len(batch.shown_right) == shown


@pytest.mark.parametrize(
    ("keep_back", "train", "held_out"),
    [("auto", 49, True), ("auto", 50, False), ("never", 49, False), ("always", 50, True)],
)
def test_half_of_the_mistakes_are_kept_back_from_the_start_with_few_examples(
    keep_back: str, train: int, held_out: bool
) -> None:
    """Fewer than fifty, unless the option says otherwise."""
    with run_of(train, keep_back=keep_back) as (optimizer, run):
        batch = optimizer._batches(run).sample(judge_all)
    assert batch is not None
    assert batch.held_out == held_out
    assert (len(batch.errors) == (batch.mistakes + 1) // 2) == held_out


def test_a_round_draws_a_minibatch_or_searches_everything() -> None:
    """By the option of the paper's letter."""
    for size, searched in ((7, 7), (None, 42)):
        with run_of(minibatch_size=size, keep_back="never") as (optimizer, run):
            batch = optimizer._batches(run).sample(judge_all)
        assert batch is not None
        assert batch.searched == searched


@pytest.mark.parametrize("evidence", ["image", "both", "description"])
def test_the_steps_know_what_the_judge_reads(evidence: str) -> None:
    """As the program says."""
    with run_of(program={"evidence": evidence}) as (optimizer, run):
        assert optimizer._steps(run).evidence == evidence


def test_where_a_round_begins() -> None:
    """With q* of the round before where the judge reads descriptions, else with q_0; the ablations with their own."""
    end = Instructions("Bright is above 40", "Say how bright it is")
    for program, options, first, later in (
        ({"evidence": "both"}, {}, "task", end.verbalizer),
        ({}, {}, "task", "task"),
        ({"verbalizer_instruction": "Look"}, {}, "Look", "Look"),
        ({"evidence": "both"}, {"inner_loop": "all_steps"}, DEFAULT, DEFAULT),
        ({"evidence": "both"}, {"verbalizer_search": "fixed"}, DEFAULT, DEFAULT),
        ({}, {"verbalizer_search": "judge"}, "Bright is above 20", end.judge),
    ):
        with run_of(program=program, **options) as (optimizer, run):
            begun = [optimizer._begin(run, instructions) for instructions in (run.start, end)]
        assert [b.judge for b in begun] == ["Bright is above 20", "Bright is above 40"]
        named = ["task" if "“Bright is above 20”" in b.verbalizer else b.verbalizer for b in begun]
        assert named == [first, later]


@pytest.mark.parametrize(
    ("images", "asked"),
    [
        (["image"], "everything in the image that"),
        (["left", "right"], "everything in each image, under its name, that"),
    ],
)
def test_the_first_verbalizer_instruction_asks_for_each_of_several_images(images: list[str], asked: str) -> None:
    """As the student's own does; a report of a pair in one is of no use."""
    judge = VisualJudge(LABELS, instruction="Say which is brighter.", images=images)
    with run_of() as (optimizer, run):
        run.start = Instructions(judge.instruction, judge.verbalizer_instruction)
        first = optimizer._begin(run, run.start).verbalizer
    assert asked in first
    assert first.endswith("Leave the verdict to the judge.")
    assert asked in METHODS["fixed-task-aware"].student(judge).verbalizer_instruction


@pytest.mark.slow
def test_a_round_tries_its_start_first_and_then_proposals() -> None:
    """With a fixed verbalizer instruction each step shows the errors from the next one on."""
    options = {"inner_loop": "all_steps", "verbalizer_search": "fixed", "keep_back": "never"}
    program = {"verbalizer_instruction": "Say how bright it is"}
    with run_of(program=program, inner_steps=2, rounds=1, **options) as (optimizer, run):
        (completed,) = optimizer._rounds(run)
        seen = [one for one in run.optimizer_lm.engine.seen if one.fields == ["improved_instruction"]]
    assert [trial.origin for trial in completed.trials] == ["start", "proposal", "proposal"]
    assert completed.number == 0
    first = [json.loads(one.field("errors"))[0]["description"] for one in seen]
    assert first == list(completed.trials[0].descriptions[:3])


LEAST = {"inner_steps": 0, "batch_size": 1, "shown_right": 0, "minibatch_updates": 1, "minibatch_growth": 1.0}
LEAST |= {"rounds": 1, "minibatch_size": 1, "instruction_words": 1}


@pytest.mark.parametrize("option", LEAST)
def test_options_have_a_least_value(option: str) -> None:
    """That is taken, and one less is refused."""
    assert getattr(BLPO(prompt_model=world(), **{option: LEAST[option]}), option) == LEAST[option]
    with pytest.raises(BlpoError, match=f"{option}={LEAST[option] - 1}"):
        BLPO(prompt_model=world(), **{option: LEAST[option] - 1})


def test_the_defaults() -> None:
    """Their values were chosen by benchmarks; a change is one of results."""
    made = BLPO(prompt_model=world())
    assert (made.inner_steps, made.batch_size, made.shown_right, made.instruction_words) == (1, 10, 4, 150)
    assert (made.minibatch_size, made.minibatch_growth, made.minibatch_updates) == (20, 1.5, 4)
    assert (made.rounds, made.most_rounds, BLPO(prompt_model=world(), rounds=7).most_rounds) == (None, 24, 7)
    assert BLPO(prompt_model=world(), budget=Budget(max_calls=9)).most_rounds == 1000
    assert (made.keep_back, made.inner_loop, made.select) == ("auto", "first_gain", "best")
