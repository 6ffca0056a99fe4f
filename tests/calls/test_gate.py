"""Tests of the bound on calls under way, and of who goes first."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import dspy
import pytest
from engines import Seen, scripted_lm

from blpo_dspy.calls import gate as gates
from blpo_dspy.calls.gate import Gate, Turn, as_background, in_background
from blpo_dspy.calls.meter import Meter
from blpo_dspy.calls.workers import Workers

WAIT = 30


class Line:
    """Calls that wait at a gate; each holds its slot until it is released."""

    def __init__(self, gate: Gate) -> None:
        self.gate, self.under_way, self._changed = gate, [], threading.Condition()
        self.under_way: list[str] = []
        self._ending: set[str] = set()

    def call(self, name: str, *, background: bool = False) -> Turn:
        """Starts a call; returns what it waits with."""
        made: list[Turn] = []
        ready = threading.Event()

        def wait(_: None) -> None:
            made.append(Turn())
            ready.set()
            with self.gate.slot(made[0]), self._changed:
                self.under_way.append(name)
                self._changed.notify_all()
                self._changed.wait_for(lambda: name in self._ending, WAIT)
                self.under_way.remove(name)

        run: Callable[[], None] = (lambda: as_background(wait, None)) if background else (lambda: wait(None))
        threading.Thread(target=run, daemon=True).start()
        assert ready.wait(WAIT)
        return made[0]

    def end(self, *names: str) -> None:
        """Lets calls end."""
        with self._changed:
            self._ending.update(names)
            self._changed.notify_all()

    def settled(self, seconds: float = 0.3) -> list[str]:
        """Returns which calls are under way once nothing changes any more."""
        time.sleep(seconds)
        with self._changed:
            return sorted(self.under_way)


def test_the_background_takes_what_a_step_leaves_and_half_at_most() -> None:
    """Of eight slots a step of one call leaves four to the background; one of six leaves two."""
    line = Line(Gate(8))
    line.call("search")
    for n in range(6):
        line.call(f"b{n}", background=True)
    assert len(line.settled()) == 1 + 4
    line = Line(Gate(8, demand=lambda: 6))
    line.call("search")
    for n in range(6):
        line.call(f"b{n}", background=True)
    assert len(line.settled()) == 1 + 2


def test_the_background_waits_between_two_steps_but_not_for_ever() -> None:
    """Just after a call of the search has ended the next step is about to begin; if none does, all slots are free."""
    gate = Gate(4)
    line = Line(gate)
    with gate.slot(Turn()):
        line.call("b0", background=True)
        assert line.settled() == ["b0"]
    for n in range(1, 4):
        line.call(f"b{n}", background=True)
    assert line.settled(0.02) == ["b0"]
    assert line.settled() == ["b0", "b1", "b2", "b3"]


def test_the_background_does_not_wait_where_the_search_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in the moment after a call of the search."""
    monkeypatch.setattr(gates, "_BETWEEN_STEPS", WAIT)
    gate = Gate(4)
    line = Line(gate)
    with gate.slot(Turn()):
        pass
    line.call("b0", background=True)
    assert line.settled() == []
    with gate.awaited():
        assert line.settled() == ["b0"]
    line.call("b1", background=True)
    assert line.settled() == ["b0"]


def test_the_search_goes_first_and_waits_for_no_more_than_one_call() -> None:
    """A slot that becomes free is the search's, however long the background has waited."""
    line = Line(Gate(2))
    line.call("b0", background=True)
    line.call("b1", background=True)
    assert line.settled() == ["b0", "b1"]
    line.call("b2", background=True)
    line.call("search")
    line.end("b1")
    assert line.settled() == ["b0", "search"]


def test_a_call_that_the_search_waits_for_comes_to_the_front() -> None:
    """What began in the background is no longer held back."""
    line = Line(Gate(2, demand=lambda: 2))
    line.call("search")
    turn = line.call("b0", background=True)
    assert line.settled() == ["search"]
    as_background(line.gate.bring_forward, turn)
    assert line.settled() == ["search"]
    line.gate.bring_forward(turn)
    assert line.settled() == ["b0", "search"]


def test_an_equal_request_of_the_search_brings_one_of_the_background_forward() -> None:
    """Validation on the trainset asks what the search asks: neither waits for the other for ever, and one pays."""
    lm = scripted_lm(lambda seen: time.sleep(0.02) or "hi")
    with Workers(2) as workers:
        meter = Meter(num_threads=2, demand=workers.demand)
        judge = meter.wrap(lm, "judge")
        began = time.monotonic()
        behind = workers.submit(lambda n: judge(f"request {n}"), range(20), background=True)
        ahead = workers.map(lambda n: judge(f"request {n}"), range(20))
        assert workers.results(behind) == ahead == [["hi"]] * 20
    assert time.monotonic() - began < WAIT
    assert len(lm.engine.seen) == 20
    assert meter.ledger.calls()["cached"] == 20


def test_calls_in_the_background_are_counted_apart_too() -> None:
    """The search knows what it spent itself, whatever the timing of the validation in the background."""
    lm = scripted_lm(lambda seen: "hi")
    with Workers(4) as workers:
        meter = Meter(num_threads=4, demand=workers.demand)
        judge = meter.wrap(lm, "judge")
        behind = workers.submit(lambda n: judge(f"behind {n}"), range(5), background=True)
        workers.map(lambda n: judge(f"ahead {n}"), range(7))
        workers.results(behind)
    assert (meter.ledger.total.calls, meter.ledger.background) == (12, 5)
    assert not in_background()


def test_the_bound_holds_over_nested_steps_and_dspys_own_threads() -> None:
    """Tasks that start tasks, dspy.Evaluate and dspy.Parallel inside them: never more calls than the gate's."""
    lock, under_way, most = threading.Lock(), 0, 0
    # Each of DSPy's executors empties tqdm's one set of bars: where another is just making its own, tqdm fails.
    one_bar = threading.Lock()

    def script(seen: Seen) -> Any:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        time.sleep(0.005)
        with lock:
            under_way -= 1
        return {"a": "yes"}

    lm = scripted_lm(script)
    with Workers(3) as workers, dspy.context(disable_history=True):
        meter = Meter(num_threads=3, demand=workers.demand)
        predict = dspy.Predict("q -> a")
        predict.lm = meter.wrap(lm, "judge")

        def nested(n: int) -> int:
            rows = [dspy.Example(q=f"{n}.{i}").with_inputs("q") for i in range(5)]
            evaluate = dspy.Evaluate(devset=rows, metric=lambda example, made: made.a == "yes", num_threads=4)
            inner = workers.map(lambda i: predict(q=f"{n}:{i}").a, range(4))
            with one_bar:
                assert evaluate(predict).score == 100
                parallel = dspy.Parallel(num_threads=4, disable_progress_bar=True)
                return len(parallel([(predict, row) for row in rows])) + len(inner)

        behind = workers.submit(lambda n: predict(q=f"behind {n}").a, range(10), background=True)
        assert workers.map(nested, range(4)) == [9] * 4
        assert workers.results(behind) == ["yes"] * 10
    assert most == 3
    assert meter.ledger.total.calls == 4 * (5 + 4) + 10
