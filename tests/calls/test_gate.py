"""Tests of the bound on calls under way."""

from __future__ import annotations

import threading
import time
from typing import Any

import dspy
from engines import Seen, scripted_lm

from blpo_dspy.calls.gate import Gate
from blpo_dspy.calls.meter import Meter
from blpo_dspy.calls.workers import Workers


def test_it_settles_once_no_call_is_under_way() -> None:
    """Also after one that failed; until then it waits as long as it may."""
    gate, release = Gate(2), threading.Event()

    def call() -> None:
        with gate.slot():
            release.wait(30)

    thread = threading.Thread(target=call)
    with gate.slot():
        thread.start()
        assert not gate.settle(0.02)
    release.set()
    assert gate.settle(30)
    thread.join()


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
        meter = Meter(num_threads=3)
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

        assert workers.map(nested, range(4)) == [9] * 4
    assert most == 3
    assert meter.ledger.total.calls == 4 * (5 + 4)
