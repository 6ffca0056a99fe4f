"""What a run shows while it works."""

from __future__ import annotations

import io
import logging
import re
import warnings
from typing import Any

import dspy
import pytest
from engines import Seen, scripted_lm
from rich.console import Console
from worlds import TRAIN, VALIDATION, mind, student, world

from blpo_dspy.data.images.prepare import PixelPolicy
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.sources.photographs import RATERS, rated_photographs
from blpo_dspy.embedded import embedded_lm
from blpo_dspy.errors import BlpoWarning, notice
from blpo_dspy.optimizers.blpo.algorithm import BLPO
from blpo_dspy.optimizers.validation import best
from blpo_dspy.programs.visual_judge import VisualJudge
from blpo_dspy.runs.progress import CompileWatch
from blpo_dspy.workspace.watch import Watch, quiet_libraries

LABELS = LabelSpace.ordinal(1, 5)


def watched(*, terminal: bool, shown: bool = True) -> tuple[str, VisualJudge]:
    """What a small compile leaves on a console, and the compiled judge."""
    photos = rated_photographs(RATERS["colour"], train=15, val=10, test=0)
    prepare = PixelPolicy().prepare
    train, val = (
        [dspy.Example(image=prepare(photo.image), label=photo.label).with_inputs("image") for photo in part]
        for part in (photos.train, photos.val)
    )
    console = Console(file=io.StringIO(), force_terminal=terminal, width=120)
    lm = embedded_lm(cache=False)
    optimizer = BLPO(prompt_model=lm, task_model=lm, rounds=2, inner_steps=1, batch_size=3, minibatch_size=6)
    with Watch(console, shown=shown) as watch:
        follow = CompileWatch(watch, optimizer)
        optimizer.on_round, optimizer.on_validation = follow.round, follow.validation
        watch.begin("compiling", 2)
        with dspy.context(callbacks=[follow]):
            judge = optimizer.compile(
                VisualJudge(LABELS, instruction="Rate this photograph."), trainset=train, valset=val
            )
        follow._show()  # the live line is drawn ten times a second: the last state may not have been
    return console.file.getvalue(), judge


@pytest.mark.slow
def test_a_terminal_shows_rounds_calls_and_agreement() -> None:
    """The agreement shown is that on all validation examples, of the start and of the best so far."""
    shown, judge = watched(terminal=True)
    result = judge.detailed_results
    for completed in result.rounds:
        assert f"round {completed.number + 1}: {completed.batch.mistakes} mistakes" in shown
    last = re.findall(r"round (\d)/2.*?([\d,]+) calls, agreement (\d+)% → (\d+)%", shown)[-1]
    total = result.ledger.total
    assert int(last[1]) == total.calls, "calls that the run's memory answered are none"
    returned = result.validations[best(result.validations)]
    assert int(last[2]) == round(100 * result.before.agreement.accuracy)
    assert int(last[3]) == round(100 * returned.agreement.accuracy)


@pytest.mark.slow
@pytest.mark.parametrize(("terminal", "shown"), [(False, True), (True, False)])
def test_nothing_is_drawn_elsewhere_or_when_not_wanted(terminal, shown) -> None:
    """A log file gets no live line."""
    text, _ = watched(terminal=terminal, shown=shown)
    assert "calls" not in text
    assert terminal or text == ""


def test_libraries_are_quiet_inside_and_as_before_afterwards(capsys) -> None:
    """Warnings of single calls are kept off the terminal; answers that were cut off are counted."""
    logger = logging.getLogger("dspy")
    before = (list(logger.handlers), logger.propagate)
    with quiet_libraries() as quiet:
        scripted_lm(lambda seen: ("a long st", "length"))("tell")
        logging.getLogger("LiteLLM").error("Give feedback")
        warnings.warn("deprecated", stacklevel=1)
    assert quiet.notes() == ["1 answer was cut off by the token limit of the model"]
    assert (logger.handlers, logger.propagate) == before
    assert capsys.readouterr() == ("", "")


def test_warnings_of_this_library_are_passed_on_as_they_are_issued() -> None:
    """Other libraries' warnings don't."""
    issued: list[Warning | str] = []
    with quiet_libraries(issued.append):
        warnings.warn("theirs", stacklevel=1)
        notice("ours", option="max_calls")
    (warning,) = issued
    assert isinstance(warning, BlpoWarning)
    assert (str(warning), warning.options) == ("ours", ("max_calls",))


@pytest.mark.slow
def test_a_failure_that_is_waited_for_is_told_once() -> None:
    """A server that is away looks like a halt; a second failure of its kind says nothing new."""
    failed = 0

    def away(seen: Seen) -> Any:
        nonlocal failed
        failed += 1
        return dspy.lm15.TransportError("connection refused\nby 127.0.0.1") if failed < 4 else mind(seen)

    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    lm = world(away, num_retries=1)
    optimizer = BLPO(prompt_model=lm, task_model=lm, rounds=1, inner_steps=0, num_threads=1)
    with (
        Watch(console) as watch,
        dspy.context(callbacks=[CompileWatch(watch, optimizer)]),
    ):
        optimizer.compile(student(), trainset=TRAIN[::8], valset=VALIDATION[::8])
    said = console.file.getvalue()
    assert said.count("a call failed and is retried: [scripted/test] connection refused by 127.0.0.1") == 1
