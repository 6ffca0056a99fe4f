"""The records of a run and what is derived from them."""

from __future__ import annotations

import json

import pytest
from worlds import LABELS

from blpo_dspy.agreement.measure import measure_agreement
from blpo_dspy.optimizers.bench.records import (
    Batch,
    BLPOResult,
    Instructions,
    Judgement,
    Rejection,
    Round,
    Trial,
    Validation,
)
from blpo_dspy.workspace.ledger import Ledger

WRONG, HALF, RIGHT = (Judgement(i, "a", "b", loss) for i, loss in enumerate((1.0, 0.5, 0.0)))
SILENT, FAILED = Judgement(3, "a", None, 1.0), Judgement(4, "a", None, None, failure="no")
START, END = Instructions("p", "q"), Instructions("p1", "q1")


def test_an_answer_is_valid_that_states_a_label() -> None:
    """Right or wrong; a failure is not an answer."""
    assert [j.valid for j in (WRONG, RIGHT, SILENT, FAILED)] == [True, True, False, False]


def test_a_batch_of_judgements_holds_mistakes_and_right_ones() -> None:
    """Those that the model failed on are only counted as looked at."""
    batch = Batch.of([WRONG, RIGHT, FAILED, SILENT, HALF])
    assert (batch.errors, batch.right, batch.searched) == ((WRONG, SILENT, HALF), (RIGHT,), 5)
    assert (batch.mistakes, batch.held_out) == (3, False)
    assert Batch((WRONG,), kept_back=(HALF, SILENT)).mistakes == 3
    assert Batch((WRONG,)).searched == 0


def test_a_trial_counts_the_answers_behind_its_score() -> None:
    """An invalid answer isn't a failure."""
    trial = Trial("proposal", "q").scored(0.5, [WRONG, SILENT, FAILED, FAILED, RIGHT])
    assert (trial.score, trial.invalid, trial.failed) == (0.5, 1, 2)
    assert (Trial("start", "q").invalid, Trial("start", "q").failed) == (0, 0)


@pytest.mark.parametrize("trial", [Trial("proposal", "q"), Trial("proposal", None, "p")])
def test_a_trial_without_both_texts_has_no_instructions(trial: Trial) -> None:
    """An invariant of our own."""
    with pytest.raises(AssertionError):
        _ = trial.instructions


@pytest.mark.parametrize("reason", ["too long", "too long (about 7: or 8)", "too long: it has (many) words"])
def test_the_kind_of_a_rejection_is_its_reason_without_particulars(reason: str) -> None:
    """Those stand after a colon or in brackets."""
    assert Rejection(reason, "").kind == "too long"


def test_a_round_ends_with_what_it_chose_or_where_it_began() -> None:
    """The first trial can be chosen, too; the record is JSON."""
    trials = (Trial("start", "q1", "p1", 0.1), Trial("proposal", "q2", "p2", 0.2))
    ends = [Round(0, START, Batch((WRONG,)), trials, chosen).end for chosen in (None, 0, 1)]
    assert ends == [START, END, Instructions("p2", "q2")]
    assert json.loads(json.dumps(Round(2, START, Batch((WRONG,)), trials, 0).to_dict()))["number"] == 2


def test_a_result_says_what_was_before_and_after() -> None:
    """The start's validation and the returned program's, None where they were not validated."""
    first, last = Validation(0, START, 0.5, 4), Validation(2, END, 0.75, 4)

    def result(*validations: Validation) -> BLPOResult:
        trials = (Trial("proposal", "q", None, rejections=(Rejection("a", ""), Rejection("b", ""))),)
        rounds = (Round(0, START, Batch(()), trials, None), Round(1, START, Batch(()), trials, None))
        return BLPOResult(START, rounds, validations, END, Ledger({}), "done")

    assert (result(first, last).before, result(first, last).after) == (first, last)
    assert (result(last).before, result(first).after) == (None, None)
    assert [rejection.reason for rejection in result().rejections] == ["a", "b", "a", "b"]


def test_a_validation_is_json_with_or_without_an_agreement() -> None:
    """A metric of the user's has none."""
    agreement = measure_agreement(LABELS, ["dark"], ["dark"])
    assert Validation(0, START, 1.0, 1, agreement).to_dict()["agreement"] == agreement.to_dict()
    assert Validation(0, START, 1.0, 1).to_dict()["agreement"] is None
    assert (Validation(0, START, 1.0, 1).spent, Round(0, START, Batch(()), (), None).spent) == (0, 0)
