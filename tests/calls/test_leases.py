"""Caps that hold over several meters, as over several processes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from dspy import lm15
from engines import Seen, scripted_lm

from blpo_dspy.calls.failures import RunStoppedError
from blpo_dspy.calls.leases import LeasedCap, Office
from blpo_dspy.calls.ledger import Ledger, Usage
from blpo_dspy.calls.meter import Meter
from blpo_dspy.calls.workers import Workers
from blpo_dspy.errors import BlpoError, BlpoWarning


def asking(office: Office, holder: str, script: Callable[[Seen], Any] = lambda seen: "hi", **options: Any) -> Any:
    """A judge whose calls an office grants, and its meter."""
    cap = LeasedCap(partial(office.ask, holder))
    meter = Meter(num_threads=4, admit=cap, **options)
    cap.under_way = lambda: meter.under_way
    return meter.wrap(scripted_lm(script, num_retries=0), "judge"), meter


def used(calls: int, usd: float = 0.0, **counts: Any) -> Ledger:
    """What a holder has used."""
    return Ledger({"judge": Usage(calls=calls, usd=usd, **counts)})


@pytest.mark.parametrize("cap", [0, 2])
def test_a_cap_on_calls_pays_for_no_call_more(cap: int) -> None:
    """What is remembered costs nothing and is still answered."""
    judge, meter = asking(Office(cap), "one")
    for number in range(cap):
        judge(f"{number}")
    with pytest.raises(RunStoppedError, match="the cap on LM calls is reached"):
        judge("one more")
    assert meter.ledger.total.calls == cap
    if cap:
        assert judge("0") == ["hi"]


@pytest.mark.parametrize("cap", [-1, 1.5, "x"])
def test_a_cap_on_calls_is_a_whole_number(cap: Any) -> None:
    """None stands for no cap."""
    with pytest.raises(BlpoError, match=f"max_calls={cap!r}"):
        Office(cap)
    assert Office(None).ask("one", Ledger({}), 0).calls == float("inf")


@pytest.mark.parametrize("cap", [1, 7, 50, 200])
def test_all_holders_together_use_a_cap_up_and_never_more(cap: int) -> None:
    """Whoever asks first; what one that has ended did not use is there for the others."""
    office = Office(cap, holders=3)
    judges = {name: asking(office, name) for name in "abc"}
    refused: set[str] = set()
    for number in range(3 * cap):
        for name in judges.keys() - refused:
            try:
                judges[name][0](f"{name}{number}")
            except RunStoppedError:
                refused.add(name)
    assert refused == set("abc")
    assert office.refused
    assert sum(meter.ledger.total.calls for _, meter in judges.values()) == cap


def test_what_a_holder_did_not_use_is_granted_again_unless_it_died() -> None:
    """The calls of one that died may have been sent, so they count."""
    office = Office(80, holders=1)
    granted = office.ask("died", Ledger({}), 0).calls
    assert granted == 10
    office.ask("ended", Ledger({}), 0)
    office.end("ended", used(1))
    ledger = 0
    while (more := office.ask("third", used(ledger), 0).calls) > ledger:
        ledger = int(more)
    assert ledger == 80 - granted - 1


def test_threads_share_a_cap_exactly() -> None:
    """Of 40 calls of 4 threads, 25 are sent."""
    judge, meter = asking(Office(25), "one")
    with Workers(4) as workers:
        futures = workers.submit(judge, [f"{number}" for number in range(40)])
        assert sum(future.exception() is not None for future in futures) == 15
    assert meter.ledger.total.calls == 25


def test_a_cap_in_dollars_reserves_what_was_granted() -> None:
    """At the average cost; before the first answer a call is granted for each thread that asks."""
    office = Office(max_usd=1.0, holders=2)
    assert [office.ask("a", used(calls), calls).calls for calls in range(3)] == [1, 2, 3]
    office.end("a", used(3, 0.3))
    granted = office.ask("b", used(0), 0).calls
    assert 1 <= granted <= 7
    while (more := office.ask("b", used(int(granted), 0.1 * granted), 0).calls) > granted:
        granted = more
    assert granted == 7
    assert office.ask("b", used(7, 0.7), 0).refusal == "the budget is spent (max_usd=1.0)"


def test_a_free_model_is_not_stopped_by_a_cap_in_dollars_and_one_without_a_price_is() -> None:
    """Nothing is known to be left of the cap there."""
    assert Office(max_usd=1.0).ask("a", used(8), 0).calls >= 1
    office = Office(max_usd=1.0)
    with pytest.warns(BlpoWarning, match="max_usd=1.0 can't be kept: an answer has no known price; give max_calls="):
        assert "no known price" in office.ask("a", used(2, unpriced=2), 0).refusal
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert office.ask("b", used(0), 0).refusal


def test_failed_calls_count_against_the_cap_on_calls() -> None:
    """They were sent."""
    judge, meter = asking(Office(3), "one", lambda seen: lm15.InvalidRequestError("no"))
    for number in range(3):
        with pytest.raises(Exception, match="no"):
            judge(f"{number}")
    with pytest.raises(RunStoppedError):
        judge("more")
    assert meter.ledger.total.failed == 3


def test_a_holder_that_is_to_end_makes_no_further_call() -> None:
    """The reason is what its calls fail with."""
    cap = LeasedCap(partial(Office().ask, None), lambda: "the run was stopped")
    with pytest.raises(RunStoppedError, match="the run was stopped"):
        cap(Ledger({}))
