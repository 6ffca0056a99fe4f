"""The consumer of rounds: what is validated, what is returned, why a run ends, what every record says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from engines import Seen
from stores import records
from worlds import TRAIN, VALIDATION, mind, student, world

from blpo_dspy.errors import BlpoError, BlpoWarning, ModelError
from blpo_dspy.optimizers import BLPO, BLPOResult, Guards
from blpo_dspy.optimizers.bench.records import UNCHANGED, Batch, Instructions, Rejection, Round, Trial, Validation
from blpo_dspy.optimizers.bench.run import Run
from blpo_dspy.optimizers.rounds import RoundOptimizer
from blpo_dspy.optimizers.validation import best, validation_size
from blpo_dspy.workspace.budget import Budget


@dataclass(kw_only=True, eq=False, repr=False)
class Given(RoundOptimizer):
    """An algorithm whose rounds lead to given instructions.

    Args:
        steps: For each round the judge instruction, None for no update, and whether it ends its minibatch.
        rejections: What every round rejects.
        ended: Why it ends.
    """

    steps: tuple[tuple[str | None, bool], ...] = ()
    rejections: tuple[Rejection, ...] = ()
    ended: str = ""

    def _rounds(self, run: Run) -> Iterator[Round]:
        current = run.start
        for number, (judge, ends_pass) in enumerate(self.steps):
            batch = Batch.of(run.bench.judge(current, run.data.train[:3]))
            trial = Trial("proposal", current.verbalizer, judge, rejections=self.rejections)
            chosen = None if judge is None else 0
            completed = Round(number, current, batch, (trial,), chosen, ends_pass)
            current = completed.end
            yield completed
        run.ended = self.ended


class Partial(Given):
    """The same, yielding what it has of a round that is cut short."""

    partial_rounds: ClassVar[bool] = True


def above(*thresholds: int | None, ends: bool = True) -> tuple[tuple[str | None, bool], ...]:
    """Rounds that lead to these thresholds."""
    return tuple((None if threshold is None else f"Bright is above {threshold}", ends) for threshold in thresholds)


def found(
    steps: Any, kind: type[Given] = Given, script: Any = mind, val: Any = VALIDATION[::7], **options: Any
) -> BLPOResult:
    """The record of a run over a dozen images, six of which validate."""
    lm = world(script, num_retries=0)
    optimizer = kind(prompt_model=lm, task_model=lm, steps=steps, num_threads=1, **options)
    result: BLPOResult = optimizer.compile(student(), trainset=TRAIN[::7], valset=val).detailed_results
    return result


@pytest.mark.parametrize(
    ("steps", "ended", "reason"),
    [
        (above(60), "", "the only round is done"),
        (above(60, 90), "", "all 2 rounds done"),
        (above(60), "nothing is left", "nothing is left"),
    ],
)
def test_a_run_that_nothing_cuts_short_says_why_it_ended(steps: Any, ended: str, reason: str) -> None:
    """By itself, and not by a cap."""
    result = found(steps, ended=ended)
    assert (result.stop_reason, result.capped, len(result.rounds)) == (reason, False, len(steps))


def test_a_start_longer_than_any_instruction_that_is_accepted_is_refused_before_the_first_call() -> None:
    """Every revision of it would be refused, once it is paid for."""

    def unasked(seen: Seen) -> Any:
        raise AssertionError(seen.text)

    with pytest.raises(
        BlpoError, match=r"has about 5 tokens, and max_instruction_tokens=4 refuses .* as that"
    ) as error:
        found(above(60), script=unasked, max_instruction_tokens=4)
    assert error.value.options == ("max_instruction_tokens",)
    assert found(above(60), max_instruction_tokens=5).rounds


@pytest.mark.filterwarnings("ignore:the returned judge gives")
@pytest.mark.parametrize(("bright", "said"), [(2, "every one of 15 'dark', which people gave 13 of them"), (20, None)])
def test_a_judge_that_has_come_to_give_one_label_is_warned_of(bright: int, said: str | None) -> None:
    """Where nearly all have that label, it agrees more often, and is useless."""
    val = VALIDATION[:13] + VALIDATION[-bright:]
    result = found(above(300), val=val)
    assert [said in warning for warning in result.warnings] == ([] if said is None else [True])


@pytest.mark.slow
def test_the_start_the_end_of_every_minibatch_and_the_last_round_are_validated() -> None:
    """Each once; rounds in between are not. The best of them is returned, or what the algorithm ends with."""
    steps = (*above(60, ends=False), *above(120), *above(90, 30, ends=False))
    result = found(steps)
    assert [v.after_round for v in result.validations] == [0, 2, 4]
    assert (result.returned.judge, result.after.after_round) == ("Bright is above 120", 2)
    last = found(steps, select="last")
    assert (last.returned.judge, last.validations) == ("Bright is above 30", ())
    assert found((), select="last", ended="x").returned == found((), ended="x").returned == result.start


@pytest.mark.slow
def test_a_validation_stands_at_the_calls_that_led_to_it() -> None:
    """Those of the rounds before it and its own, but never more than at the end of the next round."""
    result = found(above(60, None, 120))
    # Six images validate; a round judges three under new instructions, the second one under those of the first.
    assert [completed.spent for completed in result.rounds] == [6 + 3, 2 * 6 + 3 + 3, 2 * 6 + 3 + 3]
    assert [v.spent for v in result.validations] == [6, 9 + 6, 18, 18 + 6]
    assert result.ledger.total.calls == 24


@pytest.mark.slow
def test_hooks_are_called_with_each_round_and_each_validation() -> None:
    """In order, as they are recorded."""
    heard: list[Any] = []
    result = found(above(60, 90), on_round=heard.append, on_validation=heard.append)
    assert [record for record in heard if isinstance(record, Round)] == list(result.rounds)
    validated = [record.instructions for record in heard if isinstance(record, Validation)]
    assert validated == [v.instructions for v in result.validations]


@pytest.mark.slow
def test_the_store_holds_rounds_validations_and_the_end(tmp_path: Path) -> None:
    """Each with its number."""
    found(above(60, 90), log_dir=tmp_path)
    written = [(kind, number) for kind, number, _ in records(tmp_path)]
    rounds, validations = [("round", 0), ("round", 1)], [("validation", number) for number in range(3)]
    assert written == [("budget", 0), ("end", 0), *rounds, *validations]


@pytest.mark.slow
def test_guards_check_what_was_validated_and_need_the_best_of_it() -> None:
    """What they refuse isn't returned, however well it scored."""
    steps, strict = above(200), Guards(label_shift=0.0)
    assert found(steps).returned.judge == "Bright is above 200"
    assert found(above(250), guards=Guards(label_shift=0.0)).validations[1].refused
    with pytest.raises(BlpoError, match="give select='best'"):
        Given(prompt_model=world(), guards=strict, select="last")
    assert Given(prompt_model=world(), guards=strict).validates
    assert not Given(prompt_model=world(), select="last").validates
    assert Given(prompt_model=world(), guards=None).guards == Guards()


FEW, MANY = (Rejection("too long", "x" * 300),), (Rejection("no readable field", ""), Rejection(UNCHANGED, "p"))


@pytest.mark.parametrize(
    ("steps", "rejections", "said"),
    [
        (
            above(None),
            FEW,
            rf"no usable instruction in 1 answers, .* the last reason: too long; it wrote '{'x' * 200}'$",
        ),
        (above(None, None, None), FEW[:1] * 2, "in 4 answers"),
        (above(None), MANY[:1], "the last reason: no readable field$"),
        (above(20), MANY[:1], "no usable instruction in 1 answers"),
        (above(None), MANY, ""),  # it left the instruction as it is: it has read it
        (above(60), FEW, ""),
        (above(None, 60), FEW, ""),
        (above(None, None), (), ""),
    ],
)
def test_an_optimizer_that_writes_nothing_ends_the_run_after_two_rounds(
    steps: Any, rejections: tuple[Rejection, ...], said: str
) -> None:
    """Or after all if there are fewer; with how many answers there were, the last reason and what it wrote."""
    heard: list[Round] = []
    options = {"rejections": rejections, "on_round": heard.append}
    if said:
        with pytest.raises(ModelError, match=said):
            found(steps, **options)
        assert len(heard) == min(2, len(steps))
    else:
        assert len(found(steps, **options).rounds) == len(steps)


def test_a_silent_judge_is_not_the_optimizers_fault() -> None:
    """With fewer answers than make it an error of the judge no one is blamed."""

    def silent(seen: Seen) -> Any:
        return "hm" if "label" in seen.fields else mind(seen)

    assert found(above(None), script=silent, select="last", rejections=FEW).returned.judge == "Bright is above 20"


@pytest.mark.filterwarnings("ignore:.*hardly pays")
@pytest.mark.parametrize(
    ("kind", "cap", "rounds", "reason"),
    [
        (Given, 40, 6, "all 6 rounds done"),
        (Given, 11, 2, "doesn't pay for another round"),
        (Partial, 11, 3, "doesn't pay for another step"),
    ],
)
def test_a_cap_ends_the_rounds_and_leaves_the_validation_of_the_last(
    kind: type[Given], cap: int, rounds: int, reason: str
) -> None:
    """Under a cap start and end alone are validated, on a tenth of it."""
    result = found(above(30, 40, 50, 60, 70, 80), kind, budget=Budget(max_calls=cap))
    assert (len(result.rounds), result.capped) == (rounds, rounds < 6)
    assert reason in result.stop_reason
    assert [v.after_round for v in result.validations] == [0, rounds]
    assert result.ledger.total.calls <= cap


@pytest.mark.filterwarnings("ignore:.*hardly pays")
def test_without_a_call_for_the_start_nothing_is_returned() -> None:
    """A cap that its validation doesn't fit in is an error, not a result."""
    with pytest.raises(BlpoError, match="the start was not judged on the validation images"):
        found(above(30), budget=Budget(max_seconds=1e-6))


def measured(number: int, judge: str, gain: float, refused: str = "") -> Validation:
    """A validation with this gain."""
    return Validation(number, Instructions(judge, f"q{number}"), 0.5, 4, gain=gain, refused=refused)


@pytest.mark.parametrize(
    ("gains", "position"),
    [
        ([("p", 0.0, ""), ("a", 0.1, ""), ("b", 0.2, "")], 2),
        ([("p", 0.0, ""), ("a", 0.2, ""), ("b", 0.3, "a guard")], 1),
        ([("p", 0.0, ""), ("a", 0.2, ""), ("b", 0.2, "")], 2),  # of equal ones the latest
        ([("p", 0.0, ""), ("a", 0.0, ""), ("p", 0.0, "")], 1),  # that changes the judge instruction
        ([("p", 0.0, ""), ("p", 0.0, "")], 0),
        ([("p", 0.0, ""), ("a", -0.1, "")], 0),
    ],
)
def test_the_best_validation_has_the_highest_gain_that_nothing_refused(
    gains: list[tuple[str, float, str]], position: int
) -> None:
    """Ties go to what the search took; the start stays where there is nothing else."""
    assert best([measured(i, *found) for i, found in enumerate(gains)]) == position


@pytest.mark.parametrize(
    ("available", "max_calls", "per_example", "train", "size"),
    [
        (50, None, 1, 9, 50),
        (50, 100, 1, 20, 5),
        (50, 199, 2, 20, 4),
        (50, 3, 1, 1, 1),
        (4, 1000, 1, 200, 4),
        (50, 120, 2, 10, 3),
        (60, 600, 2, 100, 15),
        (60, 600, 2, 45, 15),  # six passes take 540
        (60, 600, 2, 36, 42),
        (24, 600, 2, 36, 24),
    ],
)
def test_start_and_end_take_a_tenth_of_a_cap_or_what_six_passes_leave(
    available: int, max_calls: int | None, per_example: int, train: int, size: int
) -> None:
    """At least one example, and no more than there are: few training examples are soon learned by heart."""
    assert validation_size(available, max_calls, per_example, train) == size


@pytest.mark.filterwarnings("ignore:.*hardly pays")
def test_without_a_valset_that_is_what_is_warned_of_whatever_a_cap_pays_for() -> None:
    """Figures of the training images say less than those of few validation images."""
    lm = world()
    optimizer = BLPO(prompt_model=lm, task_model=lm, num_threads=1, budget=Budget(max_calls=30))
    with pytest.warns(BlpoWarning, match="has no valset") as warned:
        optimizer.compile(student(), trainset=TRAIN)
    assert not any("too few to pick a judge by" in str(one.message) for one in warned)
