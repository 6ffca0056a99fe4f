"""Tests of the gate that every LM call of a run passes."""

from __future__ import annotations

import asyncio
import copy
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import dspy
import pytest
from dspy import lm15
from dspy.clients.base_lm import GLOBAL_HISTORY
from dspy.utils import DummyLM
from dspy.utils.callback import BaseCallback
from dspy.utils.exceptions import LMAuthError, LMError, LMRateLimitError
from engines import ScriptedServer, completion, scripted_lm
from hypothesis import given, settings
from hypothesis import strategies as st

from blpo_dspy.errors import BlpoWarning
from blpo_dspy.workspace import meter as metering
from blpo_dspy.workspace.answers import Answer
from blpo_dspy.workspace.budget import Budget
from blpo_dspy.workspace.failures import RunStoppedError
from blpo_dspy.workspace.job import Job
from blpo_dspy.workspace.ledger import ROLES, Ledger, Usage
from blpo_dspy.workspace.meter import Meter, observe_answers

WAIT = 30  # seconds that a thread may take before a test gives up


def say(text: str = "hi") -> Callable[[Any], Any]:
    """Returns a script that always answers the same."""
    return lambda seen: text


def failing(*errors: Exception) -> Callable[[Any], Any]:
    """Returns a script that raises these errors, one per request, then answers."""
    waiting = list(errors)
    return lambda seen: waiting.pop(0) if waiting else "hi"


def in_threads(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Runs work(0) … work(count - 1) at once, one thread each; an error is returned instead of a result."""
    start = threading.Barrier(count)

    def one(number: int) -> Any:
        start.wait(WAIT)
        try:
            return work(number)
        except Exception as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


# Counting


def test_calls_are_counted_by_role() -> None:
    """Each role has its own count, with the tokens that the engine reported."""
    meter, lm = Meter(num_threads=2), scripted_lm(say())
    judge, optimizer = meter.wrap(lm, "judge"), meter.wrap(lm, "optimizer")
    assert (judge("a"), judge("b"), optimizer("a")) == (["hi"], ["hi"], ["hi"])
    assert meter.ledger.calls() == {"judge": 2, "verbalizer": 0, "optimizer": 1, "cached": 0}
    assert meter.ledger["judge"].prompt_tokens == 20
    assert meter.ledger.total.tokens == 45
    assert meter.ledger.total.seconds > 0


def test_equal_requests_cost_one_call_whatever_the_number_of_threads() -> None:
    """Sixteen threads that ask the same at once wait for one answer; later ones take it from memory."""
    meter, lm = Meter(num_threads=16), scripted_lm(lambda seen: time.sleep(0.05) or "hi")
    judge = meter.wrap(lm, "judge")
    assert in_threads(16, lambda _: judge("same")) == [["hi"]] * 16
    judge("same")
    assert len(lm.engine.seen) == 1
    assert meter.ledger.calls() == {"judge": 1, "verbalizer": 0, "optimizer": 0, "cached": 16}


def test_a_request_is_told_apart_by_role_options_and_rollout() -> None:
    """What changes the answer changes the request: another temperature, another rollout, another role."""
    meter, lm = Meter(num_threads=2), scripted_lm(say())
    judge = meter.wrap(lm, "judge")
    for options in ({}, {"temperature": 0.5}, {"temperature": 0.5, "rollout_id": 1}, {"max_tokens": 7}):
        judge("same", **options)
    judge.copy(temperature=0.5, rollout_id=2)("same")
    meter.wrap(lm, "verbalizer")("same")
    assert len(lm.engine.seen) == 6
    judge("same", temperature=None)
    judge.copy(temperature=0.5)("same", rollout_id=1)
    assert len(lm.engine.seen) == 6


def test_an_outage_reaches_everyone_who_waits_for_it_and_is_not_remembered() -> None:
    """Threads that wait for a call under way get its error without sending more; the next one is sent."""
    asking, all_ask = list[int](), threading.Event()

    def script(seen: Any) -> Any:
        if len(lm.engine.seen) > 1:
            return "hi"
        assert all_ask.wait(WAIT)
        time.sleep(0.2)  # until they wait for it
        return lm15.ServerError("no")

    def ask(number: int) -> Any:
        asking.append(number)
        if len(asking) == 8:
            all_ask.set()
        return judge("same")

    lm = scripted_lm(script, num_retries=0)
    meter = Meter(num_threads=8)
    judge = meter.wrap(lm, "judge")
    failures = in_threads(8, ask)
    assert {type(failure).__name__ for failure in failures} == {"LMServerError"}
    assert len(lm.engine.seen) == 1
    assert judge("same") == ["hi"]
    assert (meter.ledger["judge"].calls, meter.ledger["judge"].failed) == (2, 1)


def test_no_more_calls_are_under_way_than_threads_allowed() -> None:
    """The bound holds over all roles together."""
    under_way, most, lock = 0, 0, threading.Lock()

    def script(seen: Any) -> str:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        time.sleep(0.01)
        with lock:
            under_way -= 1
        return "hi"

    meter, lm = Meter(num_threads=3), scripted_lm(script)
    lms = [meter.wrap(lm, role) for role in ("judge", "verbalizer", "optimizer")]
    in_threads(16, lambda number: lms[number % 3](f"request {number}"))
    assert most == 3
    assert meter.ledger.total.calls == 16


def test_a_request_counts_once_as_answered_whatever_failed_and_however_often_it_is_asked() -> None:
    """So that a flaky server, a resumed run and a faultless one come to the same."""
    store = Job.in_memory()
    meter = Meter(num_threads=1, job=store)
    judge = meter.wrap(scripted_lm(failing(lm15.ServerError("down", retry_after=0)), num_retries=1), "judge")
    assert [judge("a"), judge("a"), judge("b")] == [["hi"]] * 3
    assert dict(meter.ledger.answered) == {"judge": 2, "verbalizer": 0, "optimizer": 0}
    again = Meter(num_threads=1, job=store)
    assert [again.wrap(scripted_lm(say()), "judge")(text) for text in "aab"] == [["hi"]] * 3
    assert again.ledger.answered["judge"] == 2


def test_answers_of_a_store_are_used_and_new_ones_put_into_it() -> None:
    """A store that outlives a meter spares the next run the calls."""
    store, lm = Job.in_memory(), scripted_lm(say())
    Meter(num_threads=1, job=store).wrap(lm, "judge")("a")
    later = Meter(num_threads=1, job=store)
    assert later.wrap(lm, "judge")("a") == ["hi"]
    assert len(lm.engine.seen) == 1
    assert later.ledger["judge"] == Usage(cached=1)


def test_an_answer_that_another_run_paid_for_counts_where_it_was_asked_for() -> None:
    """As if it had been paid for there."""
    shared, lm = Job.in_memory(counting="none"), scripted_lm(say())
    first, second = (shared.another("run", name=name, counting="all") for name in ("a", "b"))
    Meter(num_threads=1, job=first).wrap(lm, "judge")("a")
    later = Meter(num_threads=1, job=second)
    later.wrap(lm, "judge")("a")
    assert later.ledger["judge"].calls == 1


# Failures and retries


def test_a_rate_limit_is_waited_for_as_long_as_the_provider_says() -> None:
    """Each repeat counts as a call and a retry; without the hint of 0.01 s six waits would take a minute."""
    lm = scripted_lm(failing(*[lm15.RateLimitError("slow down", retry_after=0.01) for _ in range(6)]), num_retries=6)
    meter = Meter(num_threads=1)
    began = time.monotonic()
    assert meter.wrap(lm, "judge")("a") == ["hi"]
    assert time.monotonic() - began < 30
    usage = meter.ledger["judge"]
    assert (usage.calls, usage.retries, usage.failed, usage.cached) == (7, 6, 6, 0)
    assert usage.prompt_tokens == 10


def test_a_long_wait_is_told_once_and_is_not_as_long_as_the_provider_likes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that silently waits for an hour looks like one that hangs."""
    monkeypatch.setattr(metering, "_LONGEST_WAIT", 0.01)
    lm = scripted_lm(failing(*[lm15.RateLimitError("slow down", retry_after=3600) for _ in range(3)]), num_retries=3)
    with pytest.warns(
        BlpoWarning, match=r"asks to wait 3600 s before the next call, which is cut to 0: .*slow"
    ) as noticed:
        assert Meter(num_threads=1).wrap(lm, "judge")("a") == ["hi"]
    assert sum(issubclass(one.category, BlpoWarning) for one in noticed) == 1


def test_what_is_refused_once_is_not_asked_again() -> None:
    """An equal request gets the same refusal, without a call; another role and another request are asked."""
    lm = scripted_lm(lambda seen: lm15.InvalidRequestError("against our policy"))
    meter = Meter(num_threads=1)
    for asked in (meter.wrap(lm, "judge"), meter.wrap(lm, "verbalizer")):
        for text in ("a", "a", "b", "a"):
            with pytest.raises(dspy.LMError, match="against our policy"):
                asked(text)
    assert len(lm.engine.seen) == meter.ledger.total.calls == meter.ledger.total.failed == 4


def test_answers_and_failed_attempts_come_to_what_the_ledger_counted() -> None:
    """An answer knows its own attempt; the store has each failed one as it happened."""
    lm = scripted_lm(failing(*[lm15.RateLimitError("slow down", retry_after=0) for _ in range(2)]))
    job = Job.in_memory()
    meter = Meter(num_threads=1, job=job)
    with observe_answers() as answers:
        meter.wrap(lm, "judge")("a")
    failed = [Usage(**json.loads(usage)) for (usage,) in job.store.rows("SELECT usage FROM failures")]
    said = [(u.calls, u.retries, u.failed) for u in (*failed, answers[0].usage)]
    assert said == [(1, 0, 1), (1, 1, 1), (1, 1, 0)]
    counted = sum(failed, answers[0].usage)
    assert replace(counted, seconds=0.0) == replace(meter.ledger["judge"], seconds=0.0)
    assert counted.seconds == pytest.approx(meter.ledger["judge"].seconds)
    spent, total = job.spent()["judge"], meter.ledger["judge"]
    assert (spent.calls, spent.failed, spent.tokens) == (total.calls, total.failed, total.tokens)


@pytest.mark.slow
@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.sampled_from(ROLES), st.integers(0, 5), st.integers(0, 3)), max_size=24), st.integers(1, 8)
)
def test_the_ledger_adds_up_however_calls_interleave(asked: list[tuple[str, int, int]], threads: int) -> None:
    """Every attempt that reached the engine is a call; each is answered or failed; equal requests cost one."""
    attempts: Counter[str] = Counter()
    lock = threading.Lock()

    def script(seen: Any) -> Any:
        with lock:
            attempts[seen.text] += 1
            number = attempts[seen.text]
        return lm15.RateLimitError("slow down", retry_after=0) if number <= int(seen.text[-1]) else "hi"

    lm, store = scripted_lm(script, num_retries=2), Job.in_memory()
    meter = Meter(num_threads=threads, job=store)
    lms = {role: meter.wrap(lm, role) for role in ROLES}

    def ask(call: tuple[str, int, int]) -> bool:
        role, prompt, failures = call
        try:
            return lms[role](f"{role} asks {prompt} and fails {failures}") == ["hi"]
        except LMRateLimitError:
            return False

    with ThreadPoolExecutor(threads) as pool:
        answered = list(pool.map(ask, asked))
    total = meter.ledger.total
    assert total.calls == len(lm.engine.seen) == sum(attempts.values())
    assert total.prompt_tokens == 10 * (total.calls - total.failed)
    assert total.failed == sum(usage.failed for usage in store.spent().roles.values())
    assert sum(answered) == total.cached + total.calls - total.failed
    assert {role: meter.ledger[role].calls for role in ROLES} == {
        role: sum(count for text, count in attempts.items() if text.strip().startswith(role)) for role in ROLES
    }


def test_retries_end_where_the_users_lm_ends_them() -> None:
    """The LM's own num_retries says how often a request is repeated."""
    lm = scripted_lm(lambda seen: lm15.RateLimitError("slow down", retry_after=0), num_retries=2)
    meter = Meter(num_threads=1)
    with pytest.raises(LMRateLimitError):
        meter.wrap(lm, "judge")("a")
    assert (meter.ledger["judge"].calls, meter.ledger["judge"].retries) == (3, 2)


def test_a_wrong_key_is_not_tried_again() -> None:
    """An authentication error ends the run: neither a retry nor any other request is sent."""
    lm = scripted_lm(lambda seen: lm15.AuthError("wrong key"), num_retries=3)
    meter = Meter(num_threads=1)
    for request in ("a", "b"):
        with pytest.raises(LMAuthError):
            meter.wrap(lm, "judge")(request)
    assert len(lm.engine.seen) == 1
    assert (meter.ledger["judge"].calls, meter.ledger["judge"].failed) == (1, 1)


def test_an_error_is_told_without_the_traceback_of_a_library() -> None:
    """LiteLLM puts its own into some errors."""
    text = "no answer\nTraceback (most recent call last):\n  File main.py, line 1\nValueError: x"
    lm = scripted_lm(lambda seen: lm15.InvalidRequestError(text), num_retries=0)
    with pytest.raises(dspy.LMInvalidRequestError) as error:
        Meter(num_threads=1).wrap(lm, "judge")("a")
    assert str(error.value).endswith("no answer")


@pytest.mark.parametrize(
    ("model", "error", "line"),
    [
        (
            "openai/gpt-4o",
            lm15.AuthError("Incorrect API key.\n\n  To fix:\n    - Pass the key (RouterConfig api_keys)"),
            "Incorrect API key. Export OPENAI_API_KEY with what it accepts.",
        ),
        (
            "azure/mine",
            lm15.NotConfiguredError("setting 'resource' is required; set AZURE_OPENAI_RESOURCE\n  - set it"),
            "setting 'resource' is required. Export AZURE_API_KEY, AZURE_API_BASE and AZURE_API_VERSION.",
        ),
        ("other/model", lm15.AuthError("no\n\n  To fix:"), "no"),
    ],
)
def test_a_key_that_is_missing_or_wrong_is_told_in_a_line_with_what_to_export(
    model: str, error: Exception, line: str
) -> None:
    """The advice of DSPy is for those who write dspy.LM themselves; some of it names other settings than ours."""
    lm = scripted_lm(lambda seen: error, name=model, num_retries=0)
    with pytest.raises(LMError) as raised:
        Meter(num_threads=1).wrap(lm, "judge")("a")
    assert str(raised.value) == f"[{model}] {line}"


def test_a_call_that_fails_before_the_lm_sends_it_counts_as_failed() -> None:
    """Every call is answered or failed, so that the ledger adds up."""
    meter = Meter(num_threads=1)
    with pytest.raises(ValueError, match="Unicode"):
        meter.wrap(scripted_lm(say()), "judge")("\ud800")
    assert (meter.ledger["judge"].calls, meter.ledger["judge"].failed) == (1, 1)


def test_a_stopped_run_sends_nothing_and_ends_its_waiting() -> None:
    """A thread that waits a minute for a rate limit gives up at once; what is known is still given."""
    lm = scripted_lm(lambda seen: "hi" if "known" in seen.text else lm15.RateLimitError("slow down", retry_after=60))
    meter = Meter(num_threads=2)
    judge = meter.wrap(lm, "judge")
    judge("known")
    threading.Timer(0.05, meter.stop).start()
    began = time.monotonic()
    with pytest.raises(RunStoppedError):
        judge("slow")
    assert time.monotonic() - began < 30
    with pytest.raises(RunStoppedError):
        judge("new")
    assert judge("known") == ["hi"]
    assert len(lm.engine.seen) == 2


@pytest.mark.parametrize("cap", [1, 37])
def test_a_cap_refuses_exactly_at_the_cap(cap: int) -> None:
    """Sixteen threads with five requests each get no call past the cap, retries included."""
    errors = [lm15.RateLimitError("slow down", retry_after=0) for _ in range(5)]
    lm = scripted_lm(failing(*errors), num_retries=9)
    budget = Budget(max_calls=cap)

    def admit(ledger: Ledger) -> None:
        if reason := budget.exhausted(ledger, 0.0):
            raise RunStoppedError(reason)

    meter = Meter(num_threads=16, admit=admit)
    judge = meter.wrap(lm, "judge")

    def ask(number: int) -> int:
        answered = 0
        for i in range(5):
            try:
                answered += len(judge(f"{number}.{i}"))
            except RunStoppedError:
                continue
        return answered

    answered = sum(in_threads(16, ask))
    assert len(lm.engine.seen) == cap
    assert meter.ledger["judge"].calls == cap
    assert answered + meter.ledger["judge"].failed == cap


# The user's LM and DSPy's own features


def test_the_users_lm_is_left_as_it_is() -> None:
    """Options, history, retries, cache and callbacks of the LM that was passed in don't change."""
    lm = scripted_lm(say(), temperature=0.3, num_retries=5, cache=True)
    before = {name: list(value) if isinstance(value, list) else value for name, value in vars(lm).items()}
    before["kwargs"] = dict(lm.kwargs)
    metered = Meter(num_threads=1).wrap(lm, "judge")
    metered("a", temperature=0.9, n=2)
    assert vars(lm) == before
    assert type(lm) is dspy.LM
    assert isinstance(metered, dspy.LM)


@pytest.mark.parametrize("disk", [False, True])
def test_what_dspys_cache_answers_counts_as_cached(disk: bool, tmp_path: Any) -> None:
    """Neither memory nor disk cache costs a call, tokens or money."""
    cache = {"enable_disk_cache": disk, "disk_cache_dir": str(tmp_path)}
    dspy.configure_cache(**cache)
    lm = scripted_lm(say(), cache=True)
    lm("a")
    if disk:
        dspy.configure_cache(**cache)  # an empty memory in front of the same disk
    meter = Meter(num_threads=1)
    assert meter.wrap(lm, "judge")("a") == ["hi"]
    assert len(lm.engine.seen) == 1
    assert meter.ledger["judge"] == Usage(cached=1)


def test_three_answers_to_one_request_are_remembered_apart() -> None:
    """n=3 asks three times, whoever asks for it; asking again costs nothing and gives the same three."""
    lm = scripted_lm(lambda seen: f"answer {len(lm.engine.seen)}", temperature=1.0)
    meter = Meter(num_threads=1)
    judge = meter.wrap(lm, "judge")
    three = judge("a", n=3)
    assert three == ["answer 1", "answer 2", "answer 3"]
    assert judge.copy(n=3)("a") == three
    assert judge("a") == three[:1]
    assert len(lm.engine.seen) == 3
    assert meter.ledger["judge"].cached == 4


def test_samples_of_two_rollouts_are_different_samples() -> None:
    """Copies with rollout ids of their own don't share their second and third answers."""
    lm = scripted_lm(lambda seen: f"answer {len(lm.engine.seen)}")
    judge = Meter(num_threads=1).wrap(lm, "judge")
    answers = [text for rollout in (1, 2) for text in judge.copy(rollout_id=rollout, temperature=1.0)("a", n=3)]
    assert len(set(answers)) == 6


def test_predict_gets_all_completions() -> None:
    """dspy.Predict with n=3 has its three completions."""
    lm = scripted_lm(lambda seen: {"a": len(lm.engine.seen)})
    predict = dspy.Predict("q -> a", n=3)
    predict.lm = Meter(num_threads=1).wrap(lm, "judge")
    assert predict(q="x").completions.a == ["1", "2", "3"]


def test_copies_stay_metered() -> None:
    """Copies as DSPy's modules and optimizers make them pass the same meter."""
    meter, lm = Meter(num_threads=1), scripted_lm(say())
    judge = meter.wrap(lm, "judge")
    module = dspy.Predict("q -> a")
    module.lm = judge
    copies = [judge.copy(rollout_id=1, temperature=1.0), copy.copy(judge), copy.deepcopy(judge), module.deepcopy().lm]
    for number, copied in enumerate(copies):
        copied(f"request {number}")
    assert meter.ledger["judge"].calls == 4


def test_awaited_calls_are_metered() -> None:
    """Awaiting counts, remembers and joins equal requests as a call does."""
    meter, lm = Meter(num_threads=4), scripted_lm(lambda seen: time.sleep(0.05) or "hi")
    judge = meter.wrap(lm, "judge")

    async def ask() -> list[Any]:
        return await asyncio.gather(*(judge.acall("a") for _ in range(4)), judge.acall("b"))

    with observe_answers() as answers:
        assert asyncio.run(ask()) == [["hi"]] * 5
    assert len(answers) == 5
    assert (meter.ledger["judge"].calls, meter.ledger["judge"].cached) == (2, 3)


def test_a_module_awaits_a_metered_lm() -> None:
    """dspy.Predict.acall works on it."""
    predict = dspy.Predict("q -> a")
    predict.lm = Meter(num_threads=1).wrap(scripted_lm(lambda seen: {"a": "yes"}), "judge")
    assert asyncio.run(predict.acall(q="x")).a == "yes"


@pytest.mark.parametrize("asynchronous", [False, True])
def test_answers_still_stream(asynchronous: bool) -> None:
    """dspy.streamify gets the words of a metered LM one by one."""
    meter = Meter(num_threads=1)
    predict = dspy.Predict("q -> a")
    predict.lm = meter.wrap(scripted_lm(lambda seen: {"a": "one two three four five six"}), "judge")
    listener = dspy.streaming.StreamListener(signature_field_name="a")
    stream = dspy.streamify(predict, stream_listeners=[listener], is_async_program=asynchronous)

    async def collect() -> list[Any]:
        return [item async for item in stream(q="x")]

    items = asyncio.run(collect())
    pieces = [item.chunk for item in items if isinstance(item, dspy.streaming.StreamResponse)]
    assert len(pieces) > 1
    assert "".join(pieces).strip() == "one two three four five six"
    assert items[-1].a == "one two three four five six"
    assert meter.ledger["judge"].calls == 1


class Calls(BaseCallback):
    """Remembers which LM calls began and ended."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """Remembers a beginning."""
        self.events.append(f"start {inputs['prompt']}")

    def on_lm_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """Remembers an end."""
        self.events.append(f"end {outputs}")


def test_callbacks_of_the_lm_and_of_the_settings_see_each_attempt() -> None:
    """Every call that DSPy makes is reported to both; what the run remembers is not sent again."""
    own, configured = Calls(), Calls()
    lm = scripted_lm(failing(lm15.RateLimitError("slow down", retry_after=0)), callbacks=[own])
    judge = Meter(num_threads=1).wrap(lm, "judge")
    with dspy.context(callbacks=[configured]):
        judge("a")
        judge("a")
    assert own.events == configured.events == ["start a", "end None", "start a", "end ['hi']"]


def test_history_and_trace_do_not_grow() -> None:
    """Neither the global history, nor those of LM and module, nor the metered LM keep a prompt."""
    lm = scripted_lm(lambda seen: {"a": "yes"})
    module = dspy.Predict("q -> a")
    module.lm = Meter(num_threads=1).wrap(lm, "judge")
    before = len(GLOBAL_HISTORY)
    with dspy.context(trace=[]):
        for number in range(3):
            module.lm(f"direct {number}")
        assert dspy.settings.trace == []
        module(q="x")
    assert len(GLOBAL_HISTORY) == before
    assert (lm.history, module.lm.history, module.history) == ([], [], [])


def test_a_usage_tracker_of_the_user_still_sees_what_is_billed() -> None:
    """dspy.track_usage gets the tokens of each call once; remembered answers add nothing."""
    judge = Meter(num_threads=1).wrap(scripted_lm(say()), "judge")
    with dspy.track_usage() as usage:
        judge("a")
        judge("a")
        judge("b")
    assert usage.get_total_tokens()["scripted/test"]["prompt_tokens"] == 20


def test_observed_answers_tell_of_the_token_limit() -> None:
    """A block sees its own answers, fresh or remembered, and which of them the limit cut off."""
    lm = scripted_lm(lambda seen: ("Once upon", "length") if "story" in seen.text else "hi")
    judge = Meter(num_threads=1).wrap(lm, "judge")
    with observe_answers() as outer:
        judge("a story")
        with observe_answers() as inner:
            judge("a story")
            judge("a word")
    assert [answer.truncated for answer in outer] == [True]
    assert [answer.truncated for answer in inner] == [True, False]
    assert inner[1].outputs == ("hi",)


def test_a_typed_request_is_refused_clearly() -> None:
    """A metered LM is called as adapters call it; the error says so before anything is sent."""
    lm = scripted_lm(say())
    request = lm15.Request(model=lm.model, messages=(lm15.Message.user("a"),))
    for ask in (lambda judge: judge(request), lambda judge: judge(request=request)):
        with pytest.raises(TypeError, match=r"not a lm15\.Request"):
            ask(Meter(num_threads=1).wrap(lm, "judge"))
    assert lm.engine.seen == []


# Other kinds of LMs


def test_dspys_dummy_lm_works() -> None:
    """A subclass of BaseLM with an engine of its own is metered; equal requests get the first answer again."""
    meter = Meter(num_threads=1)
    predict = dspy.Predict("q -> a")
    predict.lm = meter.wrap(DummyLM([{"a": "one"}, {"a": "two"}]), "judge")
    assert [predict(q=q).a for q in ("x", "y", "x")] == ["one", "two", "one"]
    assert (meter.ledger["judge"].calls, meter.ledger["judge"].cached) == (2, 1)


class Legacy(dspy.BaseLM):
    """An LM in the style before engines: it overrides `forward`."""

    def forward(self, prompt: Any = None, messages: Any = None, **options: Any) -> Any:
        """Answers with the options it got."""
        message = lm15_free(content=f"temperature {options.get('temperature')}")
        usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
        return lm15_free(choices=[lm15_free(message=message, finish_reason="length")], usage=usage, model=self.model)


def lm15_free(**fields: Any) -> Any:
    """Returns an object with these attributes, as providers' client libraries do."""
    return type("Response", (), fields)()


@pytest.mark.filterwarnings("ignore:Implementing custom LMs:DeprecationWarning")
def test_an_lm_that_overrides_forward_works() -> None:
    """Its tokens and its finish reason are seen; its price is not known."""
    meter = Meter(num_threads=1)
    with observe_answers() as answers:
        assert meter.wrap(Legacy("legacy"), "judge")("a", temperature=0.5) == ["temperature 0.5"]
    assert answers[0].truncated
    usage = meter.ledger["judge"]
    assert (usage.calls, usage.cached, usage.prompt_tokens, usage.completion_tokens, usage.unpriced) == (1, 0, 3, 2, 1)


class Choosing(dspy.BaseLM):
    """An LM in the style before engines whose answers hold several completions, each with its finish reason."""

    def forward(self, prompt: Any = None, messages: Any = None, **options: Any) -> Any:
        """Answers with one completion for each word of the prompt, which is its finish reason."""
        asked = prompt if prompt is not None else messages[-1]["content"]
        choices = [lm15_free(message=lm15_free(content="x"), finish_reason=reason) for reason in asked.split()]
        return lm15_free(choices=choices, usage={"prompt_tokens": 3, "completion_tokens": 2}, model=self.model)


@pytest.mark.filterwarnings("ignore:Implementing custom LMs:DeprecationWarning")
@pytest.mark.parametrize(
    ("reasons", "found"),
    [("stop", "stop"), ("stop length", "length"), ("length stop", "length"), ("stop stop", "stop")],
)
def test_of_several_completions_the_one_that_was_cut_off_counts(reasons: str, found: str) -> None:
    """An ordinary stop next to it does not count."""
    with observe_answers() as answers:
        Meter(num_threads=1).wrap(Choosing("legacy"), "judge")(reasons)
    assert answers[0].finish_reason == found


class OwnCall(dspy.BaseLM):
    """An LM that overrides `__call__` and tells DSPy nothing."""

    def __call__(self, prompt: Any = None, *, messages: Any = None, **options: Any) -> list[str]:
        """Answers."""
        return ["hi"]


def test_an_lm_with_a_call_of_its_own_counts_as_paid() -> None:
    """Where nothing is known of an answer it is a call without a price, so that a cap holds."""
    meter = Meter(num_threads=1)
    assert meter.wrap(OwnCall("own"), "judge")("a") == ["hi"]
    spent = meter.ledger["judge"]
    assert (spent.calls, spent.cached, spent.unpriced, spent.uncounted) == (1, 0, 1, 1)


# The wire

EXTRAS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"model": "gpt-4o-mini"}),
    ({"temperature": 0.3, "top_p": 0.9, "stop": ["END"]}, {"temperature": 0.3, "top_p": 0.9, "stop": ["END"]}),
    ({"extra_body": {"top_k": 3}}, {"top_k": 3}),
    ({"reasoning_effort": "low"}, {"reasoning_effort": "low"}),
]


@pytest.mark.parametrize(("extras", "on_the_wire"), EXTRAS, ids=["none", "sampling", "extra_body", "reasoning"])
@pytest.mark.parametrize("at", ["construction", "call"])
def test_the_wire_sees_what_it_would_see_without_metering(
    extras: dict[str, Any], on_the_wire: dict[str, Any], at: str
) -> None:
    """Options of the LM or of the call reach the server unchanged."""
    with ScriptedServer(lambda body: (200, completion("hi"), {})) as server:
        given = extras if at == "construction" else {}
        lm = dspy.LM("openai/gpt-4o-mini", api_base=server.url, api_key="secret", cache=False, **given)
        metered = Meter(num_threads=1).wrap(lm, "judge")
        options = extras if at == "call" else {}
        assert lm("a", **options) == metered("a", **options) == ["hi"]
    unmetered, sent = server.bodies
    assert sent == unmetered
    assert sent.items() >= on_the_wire.items()


@pytest.mark.parametrize("engine", ["lm15", "litellm"])
def test_usage_and_known_prices_are_counted(engine: str) -> None:
    """1000 tokens in and 100 out of gpt-4o-mini come to 0.00021 dollars, with either of DSPy's HTTP engines."""
    usage, truncated = ask_over_http(engine, "gpt-4o-mini", "length")
    assert truncated
    assert (usage.prompt_tokens, usage.completion_tokens, usage.unpriced) == (1000, 100, 0)
    assert usage.usd == pytest.approx(1000 * 0.15e-6 + 100 * 0.6e-6)


@pytest.mark.parametrize("engine", ["lm15", "litellm"])
def test_an_unknown_price_is_not_zero(engine: str) -> None:
    """A model without a price counts as unpriced, and the ledger gives no sum."""
    usage, truncated = ask_over_http(engine, "nobody-knows-it", "stop")
    assert not truncated
    assert (usage.calls, usage.prompt_tokens, usage.unpriced) == (1, 1000, 1)
    assert usage.to_dict()["usd"] is None


def test_image_tokens_are_counted_where_the_provider_names_them() -> None:
    """They are a part of the prompt tokens."""
    usage, _ = ask_over_http("litellm", "gpt-4o-mini", "stop", prompt_tokens_details={"image_tokens": 700})
    assert (usage.prompt_tokens, usage.image_tokens) == (1000, 700)


def ask_over_http(engine: str, model: str, finish_reason: str, **usage: Any) -> tuple[Usage, bool]:
    """Returns the usage of one call over HTTP, and whether it was cut off."""
    answer = {**completion("hi", finish_reason=finish_reason, **usage), "model": model}
    with ScriptedServer(lambda body: (200, answer, {})) as server, observe_answers() as answers:
        lm = dspy.LM(f"openai/{model}", api_base=server.url, api_key="secret", engine=engine, cache=False)
        meter = Meter(num_threads=1)
        meter.wrap(lm, "judge")("a")
    return meter.ledger["judge"], answers[0].truncated


def test_images_are_counted_where_they_are_sent() -> None:
    """Each image part of an answered request counts, under its role; a remembered answer sends none."""
    meter, image = Meter(num_threads=1), dspy.Image("data:image/png;base64,AAAA")
    lm = meter.wrap(scripted_lm(lambda seen: {"text": "hi"}), "optimizer")
    predict = dspy.Predict("pictures: list[dspy.Image], note: str -> text: str")
    for note in ("one", "one", "two"):
        with dspy.context(lm=lm):
            predict(pictures=[image, image], note=note)
    lm("no image")
    assert (meter.ledger["optimizer"].images, meter.ledger["optimizer"].cached) == (4, 1)


def test_a_429_on_the_wire_is_repeated_after_the_time_it_names() -> None:
    """Six refusals with Retry-After: 0.01 take no minute of waiting."""
    refusals = [(429, {"error": {"message": "slow down"}}, {"Retry-After": "0.01"})] * 6
    answers = [*refusals, (200, completion("hi"), {})]
    with ScriptedServer(lambda body: answers.pop(0)) as server:
        lm = dspy.LM("openai/gpt-4o-mini", api_base=server.url, api_key="secret", cache=False, num_retries=6)
        meter = Meter(num_threads=1)
        began = time.monotonic()
        assert meter.wrap(lm, "judge")("a") == ["hi"]
    assert time.monotonic() - began < 30
    assert (meter.ledger["judge"].calls, meter.ledger["judge"].retries) == (7, 6)


def test_a_401_on_the_wire_is_sent_once() -> None:
    """A wrong key is an LMAuthError after one request."""
    with ScriptedServer(lambda body: (401, {"error": {"message": "wrong key"}}, {})) as server:
        lm = dspy.LM("openai/gpt-4o-mini", api_base=server.url, api_key="secret", cache=False)
        with pytest.raises(LMAuthError):
            Meter(num_threads=1).wrap(lm, "judge")("a")
    assert len(server.bodies) == 1


def test_an_answer_says_whether_it_was_cut_off() -> None:
    """Providers name the token limit in two ways."""
    assert [Answer(("x",), reason).truncated for reason in ("length", "max_tokens", "stop", None)] == [
        True,
        True,
        False,
        False,
    ]
