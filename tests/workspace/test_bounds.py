"""The bounds of a whole call, on both of DSPy's engines."""

from __future__ import annotations

import threading
import time
import tracemalloc
from typing import Any

import dspy
import pytest
from dspy.utils.exceptions import LMProviderError, LMTimeoutError
from engines import ScriptedServer, Seen, completion, scripted_lm
from raw_servers import Raw, raw_server

from blpo_dspy.workspace import bounds
from blpo_dspy.workspace.bounds import LARGEST_ANSWER, Gate, longest_call, within
from blpo_dspy.workspace.failures import RunStoppedError, is_outage
from blpo_dspy.workspace.meter import Meter
from blpo_dspy.workspace.workers import Workers

ENGINES = pytest.mark.parametrize("engine", ["lm15", "litellm"])


def metered(base: str, engine: str, **options: Any) -> Any:
    """A judge on a server."""
    lm = dspy.LM("openai/x", api_base=base, api_key="x", cache=False, engine=engine, **{"num_retries": 0, **options})
    return Meter(num_threads=1).wrap(lm, "judge")


@ENGINES
def test_an_answer_that_trickles_in_is_given_up_when_its_time_is_over(engine: str) -> None:
    """A time-out bounds the call, and not only the silence between two bytes; the failure may pass."""
    with raw_server(lambda request: request.trickle(0.05)) as base:
        judge = metered(base, engine, timeout=0.5)
        began = time.monotonic()
        with pytest.raises(LMTimeoutError, match=r"no complete answer within 0\.5 s") as error:
            judge("a")
    assert is_outage(error.value)
    assert time.monotonic() - began < 40  # the first call of LiteLLM imports it


@pytest.mark.slow
def test_a_call_that_was_given_up_lets_its_connection_go() -> None:
    """At the next byte, so that a server which trickles to every retry holds none of them."""
    left = threading.Event()

    def script(request: Raw) -> None:
        try:
            request.trickle(0.05)
        finally:
            left.set()

    with raw_server(script) as base:
        with pytest.raises(LMTimeoutError):
            metered(base, "lm15", timeout=0.3)("a")
        assert left.wait(10)


def test_the_thread_of_a_call_makes_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other, each in its caller's context; one that was given up makes none until it has ended."""
    monkeypatch.setattr(bounds, "_idle", [])
    found = []
    for number in range(50):
        with dspy.context(trace=[number]):
            found.append(within(9, lambda: (threading.get_ident(), dspy.settings.trace), TimeoutError))
    assert [trace for _, trace in found] == [[number] for number in range(50)]
    assert len({thread for thread, _ in found}) < 25
    go, given_up = threading.Event(), []

    def wait_for_it() -> None:
        given_up.append(threading.get_ident())
        go.wait(9)

    with pytest.raises(TimeoutError):
        within(0.05, wait_for_it, TimeoutError)
    assert within(9, threading.get_ident, TimeoutError) not in given_up
    go.set()


def test_a_thread_without_calls_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while; the next call gets another one."""
    monkeypatch.setattr(bounds, "_idle", [])
    monkeypatch.setattr(bounds, "_IDLE_SECONDS", 0.01)
    thread = within(9, threading.current_thread, TimeoutError)
    thread.join(9)
    assert not thread.is_alive()
    assert not bounds._idle
    assert within(9, threading.current_thread, TimeoutError) is not thread


@pytest.mark.slow
@ENGINES
def test_an_answer_that_is_too_large_is_a_failure_that_may_pass(engine: str) -> None:
    """It is neither remembered nor taken for an answer."""
    huge = completion("x" * (LARGEST_ANSWER + 1))
    with ScriptedServer(lambda body: (200, huge if len(server.bodies) == 1 else completion("yes"), {})) as server:
        judge = metered(server.url, engine, num_retries=1)
        assert judge("a") == ["yes"]
    assert len(server.bodies) == 2


def test_the_native_engine_reads_no_more_than_the_bound() -> None:
    """A reply of 200 MB costs little memory."""

    def script(request: Raw) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(200 * 2**20))
        request.end_headers()
        for _ in range(200):
            request.wfile.write(b" " * 2**20)

    with raw_server(script) as base:
        tracemalloc.start()
        try:
            with pytest.raises(LMProviderError, match="the server's answer is larger than 8 MB"):
                metered(base, "lm15")("a")
            assert tracemalloc.get_traced_memory()[1] < 5 * LARGEST_ANSWER
        finally:
            tracemalloc.stop()


def test_the_time_of_the_run_bounds_a_call_whose_own_time_is_longer() -> None:
    """What it says then is that the run is over."""
    with raw_server(lambda request: request.trickle(0.05)) as base:
        lm = dspy.LM("openai/x", api_base=base, api_key="x", cache=False, timeout=100)
        meter = Meter(num_threads=1, deadline=time.monotonic() - 9.5)  # which calls under way may pass by ten seconds
        with pytest.raises(RunStoppedError, match="the time of the run was over"):
            meter.wrap(lm, "judge")("a")


def test_a_time_beyond_what_threads_wait_is_no_error() -> None:
    """A cap of 1e300 seconds is not a cap."""
    meter = Meter(num_threads=1, deadline=1e300)
    assert meter.wrap(scripted_lm(lambda seen: "yes"), "judge")("a") == ["yes"]


def test_an_engine_of_ones_own_has_its_own_bounds() -> None:
    """An LM on DSPy's engines has its time-out, or that of the providers' clients."""
    assert longest_call(scripted_lm(lambda seen: "yes")) is None
    assert longest_call(dspy.LM("openai/x", timeout=7)) == 7.0
    assert longest_call(dspy.LM("openai/x")) == 600.0


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
