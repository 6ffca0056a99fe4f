"""Waiting for a server that has stopped answering."""

from __future__ import annotations

import threading
import time
from typing import Any

import dspy
import pytest
from dspy import lm15
from dspy.utils.exceptions import LMServerError
from engines import Seen, scripted_lm
from worlds import TRAIN, VALIDATION, mind, student, world

from blpo_dspy.errors import BlpoError, BlpoWarning, ModelError
from blpo_dspy.optimizers import BLPO
from blpo_dspy.workspace import outages
from blpo_dspy.workspace.failures import RunStoppedError
from blpo_dspy.workspace.meter import Meter
from blpo_dspy.workspace.outages import MAX_OUTAGE, Outages, Pauses
from blpo_dspy.workspace.workers import Workers
from blpo_dspy.workspace.workspace import Workspace

DOWN = lm15.ServerError("restarting", retry_after=0)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests to a server that is away come every hundredth of a second and more."""
    monkeypatch.setattr(outages, "_FIRST_DELAY", 0.01)


class Server:
    """Answers until it is switched off, and again some time after that."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._back = seconds, 0.0
        self.asked = 0

    def leave(self) -> None:
        """Goes away."""
        self._back = time.monotonic() + self._seconds

    def __call__(self, seen: Seen) -> Any:
        """Answers, or fails."""
        away = time.monotonic() < self._back
        self.asked += away
        return DOWN if away else mind(seen) if seen.fields else "yes"


def metered(server: Server, max_outage: float, retries: int = 1, **options: Any) -> tuple[Meter, Any]:
    """A meter and a judge on the server, which has answered once."""
    meter = Meter(num_threads=8, outages=Outages(max_outage), **options)
    judge = meter.wrap(scripted_lm(server, num_retries=retries), "judge")
    assert judge("is anyone there?") == ["yes"]
    return meter, judge


@pytest.mark.slow
def test_an_outage_is_waited_out_with_a_notice_and_few_requests() -> None:
    """Eight calls meet it; each is retried as its LM says, and then one at a time looks whether the server is back."""
    server = Server(0.6)
    meter, judge = metered(server, 30)
    server.leave()
    notice = pytest.warns(UserWarning, match="waiting up to max_outage=30 seconds for it: .*restarting")
    with notice as noticed, Workers(8) as workers:
        assert workers.map(judge, [f"question {number}" for number in range(8)]) == [["yes"]] * 8
    assert sum(issubclass(one.category, BlpoWarning) for one in noticed) == 1
    assert 16 <= server.asked <= 16 + 10
    assert meter.ledger.total.failed == server.asked


def test_an_outage_that_lasts_is_an_error_once_its_time_is_over() -> None:
    """The last request is made as it ends; what comes after it has the LM's own retries only."""
    server = Server(60)
    _, judge = metered(server, 0.3)
    server.leave()
    began = time.monotonic()
    with pytest.warns(UserWarning, match="stopped answering"), pytest.raises(LMServerError, match="restarting"):
        judge("a")
    assert 0.3 <= time.monotonic() - began < 60
    asked = server.asked
    with pytest.raises(LMServerError):
        judge("b")
    assert server.asked == asked + 2


@pytest.mark.parametrize(("max_outage", "retries"), [(0.0, 1), (30.0, 0)])
def test_no_outage_is_waited_out_where_it_is_off(max_outage: float, retries: int) -> None:
    """By `max_outage=0`, or by an LM that is not to be asked again."""
    server = Server(60)
    _, judge = metered(server, max_outage, retries)
    server.leave()
    with pytest.raises(LMServerError):
        judge("a")
    assert server.asked == retries + 1


def test_a_server_that_never_answered_is_not_waited_for() -> None:
    """More likely than an outage is a wrong address, which is said at once."""
    server = Server(60)
    server.leave()
    judge = Meter(num_threads=1).wrap(scripted_lm(server, num_retries=1), "judge")
    with pytest.raises(LMServerError):
        judge("a")
    assert server.asked == 2


def test_a_request_that_fails_while_others_are_answered_is_no_outage() -> None:
    """It is given up after its retries."""

    def script(seen: Seen) -> Any:
        return lm15.ServerError("poison", retry_after=0.05) if "poison" in seen.text else "yes"

    judge = Meter(num_threads=2).wrap(scripted_lm(script, num_retries=2), "judge")
    judge("first")
    ended = threading.Event()

    def others(_: int) -> None:
        while not ended.wait(0.005):
            judge(f"question {time.monotonic()}")

    with Workers(1) as workers:
        (going,) = workers.submit(others, [1])
        try:
            with pytest.raises(LMServerError, match="poison"):
                judge("poison")
        finally:
            ended.set()
        going.result()


@pytest.mark.slow
def test_a_wait_ends_with_the_time_of_the_run() -> None:
    """A cap is reached while nobody answers."""
    server = Server(60)
    until = time.monotonic() + 0.5

    def admit(ledger: Any) -> None:
        if time.monotonic() > until:
            raise RunStoppedError("time is over")

    _, judge = metered(server, 60, admit=admit)
    server.leave()
    with pytest.warns(UserWarning, match="stopped answering"), pytest.raises(RunStoppedError, match="time is over"):
        judge("a")


@pytest.mark.slow
def test_a_search_goes_on_after_an_outage_as_if_there_had_been_none() -> None:
    """The same rounds; without waiting it ends."""
    plain = compiled(world())
    server = Server(0.4)
    with pytest.warns(UserWarning, match="max_outage=20 seconds"):
        found = compiled(world(server, num_retries=1), 20, on_round=lambda _: server.leave())
    assert server.asked
    assert found.detailed_results.rounds == plain.detailed_results.rounds
    assert found.detailed_results.validations == plain.detailed_results.validations
    server = Server(60)
    with pytest.raises(ModelError, match="restarting"):
        compiled(world(server, num_retries=1), 0, on_round=lambda _: server.leave())


def compiled(lm: dspy.LM, max_outage: float = MAX_OUTAGE, **options: Any) -> Any:
    """A judge after two rounds."""
    made = BLPO(prompt_model=lm, task_model=lm, rounds=2, inner_steps=1, num_threads=4, **options)
    with Workspace(max_outage=max_outage):
        return made.compile(student(), trainset=TRAIN[::2], valset=VALIDATION[::2])


@pytest.mark.parametrize("value", [-1, float("nan"), "300", True])
def test_seconds_that_are_none_are_refused(value: Any) -> None:
    """With what to write instead."""
    for make in (Outages, lambda seconds: Workspace(max_outage=seconds)):
        with pytest.raises(BlpoError, match=f"max_outage={value!r} is not a number of seconds; write"):
            make(value)


def limited(outages: Outages, times: list[float]) -> Any:
    """A judge whose first call is refused for a second, and which notes when requests are sent."""

    def script(seen: Any) -> Any:
        times.append(time.monotonic())
        return lm15.RateLimitError("slow down", retry_after=1.0) if len(times) == 1 else "yes"

    return Meter(num_threads=4, outages=outages).wrap(scripted_lm(script, num_retries=2), "judge")


@pytest.mark.parametrize("paces", [True, False])
def test_a_rate_limit_holds_back_other_calls_to_the_model_if_asked_to(paces: bool) -> None:
    """For the time that the server named, which other processes are told of."""
    told: list[tuple[str, float]] = []
    times: list[float] = []
    judge = limited(Outages(paces=paces, on_pause=lambda *pause: told.append(pause)), times)
    with Workers(4) as workers:
        refused = workers.submit(judge, ["first"])
        while not times:
            time.sleep(0.001)
        time.sleep(0.05)
        for future in [*workers.submit(judge, ["second", "third"]), *refused]:
            future.result()
    waited = [when - times[0] for when in times[1:]]
    assert (min(waited) >= 1.0) == paces
    assert told == [("scripted scripted/test", 1.0)] * paces


def test_pauses_are_under_way_until_they_are_over() -> None:
    """The longest of a model counts."""
    pauses = Pauses()
    pauses.add("a", 60.0)
    pauses.add("a", 1.0)
    pauses.add("b", 0.0)
    (pause,) = pauses.under_way()
    assert pause == ("a", pytest.approx(60, abs=30))
    assert (pauses.left("b"), pauses.left("c")) == (0.0, 0.0)


def test_a_pause_of_another_process_holds_back_calls_and_is_not_passed_on() -> None:
    """Only those to the model that it is about."""
    told: list[Any] = []
    outages = Outages(paces=True, on_pause=lambda *pause: told.append(pause))
    began = time.monotonic()
    outages.pause("scripted scripted/test", 0.2, tell=False)
    outages.pause("scripted scripted/other", 60.0, tell=False)
    judge = Meter(num_threads=1, outages=outages).wrap(scripted_lm(lambda seen: "yes"), "judge")
    assert judge("hi") == ["yes"]
    assert 0.2 <= time.monotonic() - began < 60
    assert told == []
