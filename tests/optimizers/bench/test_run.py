"""What one compile works with: what is known of the program, the journal, what an error leaves behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dspy
import pytest
from engines import Seen
from stores import answers, records
from worlds import LABELS, TRAIN, VALIDATION, mind, student, world

from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import BlpoError, ModelError
from blpo_dspy.optimizers import OPRO
from blpo_dspy.optimizers.bench.records import Instructions
from blpo_dspy.optimizers.bench.run import Run, unmeasured
from blpo_dspy.workspace.budget import Budget
from blpo_dspy.workspace.failures import RunStoppedError
from blpo_dspy.workspace.workers import Workers


class Own(dspy.Module):
    """A program with the two predictors and one more, which names no labels."""

    def __init__(self) -> None:
        super().__init__()
        self.verbalizer = dspy.Predict("image: dspy.Image -> description")
        self.check = dspy.Predict("description -> sound")
        self.judge = dspy.Predict("description -> label")


@contextmanager
def run_of(program: dspy.Module | None = None, script: Any = mind, **options: Any) -> Iterator[Run]:
    """Yields the run of an optimizer over a few examples."""
    lm = world(script, num_retries=0)
    optimizer = OPRO(prompt_model=lm, task_model=lm, **options)
    with Workers(1) as workers, Run(optimizer, program or student(), TRAIN[::6], VALIDATION[::9], workers) as run:
        yield run


@pytest.mark.parametrize(
    ("program", "per_example", "describes"),
    [(student(), 1, False), (student(evidence="both"), 2, True), (Own(), 3, True)],
    ids=["image", "both", "own"],
)
def test_what_judging_an_example_takes(program: dspy.Module, per_example: int, describes: bool) -> None:
    """As far as the program says, else a call for each predictor."""
    with run_of(program) as run:
        assert (run.per_example, run.describes) == (per_example, describes)


def test_the_program_and_its_data_as_the_search_finds_them() -> None:
    """Instructions by predictor, labels, positions; calls that are kept for later are none of the cap."""
    with run_of() as run:
        assert run.start == Instructions("Bright is above 20", "Describe this image in detail.")
        assert run.labels == LABELS
        assert (len(run.data.train), run.data.validation[0], run.max_calls) == (7, 7, None)
    with run_of(budget=Budget(max_calls=30, keep_calls=10)) as run:
        assert run.max_calls == 20
    with run_of(Own(), metric=lambda example, prediction: 1.0) as run:
        assert run.labels is None


def test_a_label_that_no_training_example_has_is_named() -> None:
    """By the label space, if there is one."""
    dim = LabelSpace("dark", "bright", "dim")
    with pytest.warns(UserWarning, match=r"no training example has the label dim"), run_of(labels=dim):
        pass


def test_a_run_is_written_down_in_its_folder(tmp_path: Path) -> None:
    """Also while another one uses it, and after an error; without a folder nothing is."""
    with run_of(log_dir=tmp_path) as run, run_of(log_dir=tmp_path):
        run.write("round", 3, {"x": 1})
    with pytest.raises(ZeroDivisionError), run_of(log_dir=tmp_path):
        raise ZeroDivisionError
    with run_of(log_dir=tmp_path):
        pass
    assert records(tmp_path) == [("round", 3, {"x": 1})]
    with run_of() as run:
        run.write("round", 3, {"x": 1})
        assert run.job.path is None


def test_what_is_under_way_when_an_error_ends_the_run_is_waited_for_and_written_down(tmp_path: Path) -> None:
    """It is paid for."""
    began = threading.Event()

    def slow(seen: Seen) -> Any:
        began.set()
        time.sleep(0.2)
        return "hello"

    def broken() -> None:
        with run_of(script=slow, log_dir=tmp_path) as run:
            run.workers.submit(run.optimizer_lm, ["hi"])
            assert began.wait(10)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken()
    assert answers(tmp_path) == 1


def test_an_error_ends_every_further_call() -> None:
    """A run that ends by itself stops none."""
    with run_of(script=lambda seen: "hello") as run:
        pass
    assert run.optimizer_lm("hi") == ["hello"]
    with pytest.raises(ZeroDivisionError), run_of(script=lambda seen: "hello") as run:
        raise ZeroDivisionError
    with pytest.raises(RunStoppedError, match="the run was stopped"):
        run.optimizer_lm("hi")


def test_a_run_in_which_no_call_was_answered_is_an_error() -> None:
    """One that made none, or had one answer, isn't."""
    answers: list[Any] = [dspy.lm15.InvalidRequestError("no\nwhy"), "hello", dspy.lm15.InvalidRequestError("no")]
    with run_of(script=lambda seen: answers.pop(0)) as run:
        run.check_answered("the cap is reached")
        with pytest.raises(dspy.utils.exceptions.LMError):
            run.optimizer_lm("hi")
        with pytest.raises(ModelError, match=r"no LM call was answered, .*: the cap is reached; 1 of 1 .* no$"):
            run.check_answered("the cap is reached")
        run.optimizer_lm("hi again")
        run.check_answered("the cap is reached")


def test_a_run_that_measured_nothing_names_the_cap_and_the_last_failure() -> None:
    """Without a failure it is the cap alone."""
    with run_of() as run:
        error = unmeasured(run.meter, "nothing was judged", "the budget is spent")
    assert str(error) == "nothing was judged, so there is nothing to return: the budget is spent"
    assert type(error) is BlpoError
