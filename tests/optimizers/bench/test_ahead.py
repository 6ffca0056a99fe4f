"""Descriptions are asked for ahead of the judge, and no call is made that the judge would not have made."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import dspy
import pytest
from engines import Seen
from worlds import LABELS, TRAIN, brightness, mind, student, world

from blpo_dspy.errors import ModelError
from blpo_dspy.optimizers.bench.bench import Bench, Predictors
from blpo_dspy.optimizers.bench.records import Instructions, Judgement
from blpo_dspy.programs import VisualJudge
from blpo_dspy.workspace.ledger import Ledger
from blpo_dspy.workspace.meter import Meter
from blpo_dspy.workspace.workers import Workers

START = Instructions("Bright is above 20", "Say how bright it is")
Calls = list[tuple[str, int]]


def judged(
    script: Callable[[Seen], Any], count: int, threads: int, *, program: Any = None
) -> tuple[list[Judgement] | Exception, Calls, Ledger]:
    """The judgements of so many examples, or the error in their place, with the requests in order and the ledger."""
    begun: Calls = []

    def noted(seen: Seen) -> Any:
        begun.append(("judge" if "label" in seen.fields else "verbalizer", brightness(seen) // 6))
        return script(seen)

    meter = Meter(num_threads=threads)
    lm = world(noted, num_retries=0)
    lms = {role: meter.wrap(lm, role) for role in ("judge", "verbalizer")}
    options: dict[str, Any] = {"metric": None, "label_field": "label", "max_failed_share": 0.5}
    with Workers(threads) as workers:
        bench = Bench(
            program or student(evidence="both"),
            Predictors("verbalizer", "judge"),
            lms,
            TRAIN,
            labels=LABELS,
            workers=workers,
            **options,
        )
        try:
            found: Any = bench.judge(START, range(count))
        except ModelError as error:
            found = error
    return found, begun, meter.ledger


def test_as_many_descriptions_as_there_are_threads_are_ahead_of_the_judge() -> None:
    """The judgement of an image is answered once the description of the second one after it is under way."""
    described = [threading.Event() for _ in TRAIN]
    late: list[int] = []

    def script(seen: Seen) -> Any:
        position = brightness(seen) // 6
        if "label" not in seen.fields:
            described[position].set()
        elif not described[min(position + 2, 5)].wait(9):
            late.append(position)
        return mind(seen)

    found, _, _ = judged(script, 6, 2)
    assert isinstance(found, list)
    assert [judgement.example for judgement in found] == list(range(6))
    assert not late


def test_every_request_is_made_once() -> None:
    """And judgements and ledger are those without."""
    found, begun, ledger = judged(mind, 9, 3)
    expected, alone, expected_ledger = judged(mind, 9, 16)
    assert found == expected
    assert Counter(begun) == Counter(alone) == Counter({(role, i): 1 for role in ledger.roles for i in range(9)})
    assert ledger.calls() == expected_ledger.calls() == {"judge": 9, "verbalizer": 9, "optimizer": 0, "cached": 0}
    assert ledger.answered == expected_ledger.answered


def test_what_fails_is_requested_as_often_as_without() -> None:
    """A description that an outage takes is tried once more with its image, one that is refused never."""
    for kind, times in ((dspy.lm15.ServerError, 2), (dspy.lm15.InvalidRequestError, 1)):

        def script(seen: Seen, kind: type[Exception] = kind) -> Any:
            return kind("no") if "label" not in seen.fields and brightness(seen) // 6 in (1, 4) else mind(seen)

        found, begun, ledger = judged(script, 8, 3)
        expected, alone, _ = judged(script, 8, 16)  # as many threads as images ask for nothing ahead
        assert found == expected
        assert Counter(begun) == Counter(alone)
        assert Counter(begun)["verbalizer", 4] == times
        assert ledger.total.failed == 2 * times


def test_a_step_that_fails_asks_for_nothing_more() -> None:
    """What has not begun by then is dropped."""
    unusable = dspy.lm15.AuthError("no key")
    found, begun, _ = judged(lambda seen: unusable, len(TRAIN), 2)
    assert isinstance(found, ModelError)
    assert len(begun) <= 4


class Late(VisualJudge):
    """A judge that may do without a description."""

    def forward(self, *image: Any, **inputs: Any) -> dspy.Prediction:
        return dspy.Prediction(label="bright", answer="bright")


@pytest.mark.parametrize("evidence", ["image", "own"])
def test_a_program_that_may_need_no_description_has_none_made(evidence: str) -> None:
    """One that judges the image alone, and one with a `forward` of its own."""
    if evidence == "own":
        program: Any = Late(LABELS, instruction="Judge.")
    else:
        program = student(evidence="image")
    _, begun, _ = judged(mind, 9, 2, program=program)
    assert Counter(role for role, _ in begun) == Counter({} if evidence == "own" else {"judge": 9})


def test_the_error_of_an_outage_is_dspys() -> None:
    """As the judge would have raised it."""
    found, _, _ = judged(lambda seen: dspy.lm15.ServerError("down"), 8, 2)
    assert isinstance(found, ModelError)
    assert "down" in str(found)
