"""Tests of runs on endpoints that fail, over HTTP on loopback."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import dspy
import pytest
from engines import ScriptedServer, Seen, completion
from hypothesis import given
from hypothesis import strategies as st
from stores import answers
from worlds import TRAIN, VALIDATION, brightness, mind, student, world

from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.sources.photographs.dataset import rated_photographs
from blpo_dspy.data.sources.photographs.raters import RATERS
from blpo_dspy.embedded.server.faults import Faults, FaultyLine
from blpo_dspy.embedded.server.http import Options, main, start_server
from blpo_dspy.errors import BlpoError, ModelError
from blpo_dspy.optimizers import BLPO
from blpo_dspy.optimizers.estimate import estimate
from blpo_dspy.programs import VisualJudge
from blpo_dspy.workspace.budget import Budget
from blpo_dspy.workspace.ledger import ROLES
from blpo_dspy.workspace.meter import Meter
from blpo_dspy.workspace.workspace import Workspace

pytestmark = pytest.mark.slow

SCALE = LabelSpace.ordinal(1, 5)


def served(base: str, **options: Any) -> dspy.LM:
    """Returns an LM on the endpoint."""
    return dspy.LM("openai/embedded", api_base=base, api_key="x", cache=False, timeout=4, **options)


def aligned(base: str, folder: Path) -> tuple[VisualJudge, bytes]:
    """Aligns a judge with a few photographs and returns it with its file."""
    splits = rated_photographs(RATERS["sharp"], train=16, val=8, test=0)
    train, val = (
        [dspy.Example(image=p.image, label=p.label).with_inputs("image") for p in part]
        for part in (splits.train, splits.val)
    )
    start = VisualJudge(SCALE, instruction="Rate the technical quality.")
    lm = served(base)
    optimizer = BLPO(prompt_model=lm, task_model=lm, rounds=2, inner_steps=1, num_threads=16, log_dir=folder)
    program = optimizer.compile(start, trainset=train, valset=val)
    program.save(folder / "judge.json")
    return program, (folder / "judge.json").read_bytes()


def logged(path: Path) -> list[dict[str, Any]]:
    """Returns the lines of the endpoint's log that are completions."""
    return [line for line in map(json.loads, path.read_text().splitlines()) if "request" in line]


def test_a_run_on_a_flaky_endpoint_counts_the_answers_of_a_faultless_one(tmp_path: Path) -> None:
    """Though a fifth of all requests fail, records and judge are the same, and the ledger equals the endpoint's log."""
    faults = Faults(0.10, 0.03, pdrop=0.03, ptimeout=0.02, pgarbage=0.03, pshape=0.02, retry_after=0.05, seed=2)
    log = tmp_path / "log.jsonl"
    with start_server(Options()) as base:
        whole, expected = aligned(base, tmp_path / "whole")
    with start_server(Options(log=log, faults=faults)) as base:
        flaky, judge = aligned(base, tmp_path / "flaky")
    lines, ledger = logged(log), flaky.detailed_results.ledger.total
    assert {line["fault"] for line in lines} == {None, "429", "500", "drop", "timeout", "garbage", "shape"}
    assert judge == expected
    assert flaky.detailed_results.rounds == whole.detailed_results.rounds
    assert flaky.detailed_results.validations == whole.detailed_results.validations
    assert ledger.calls == len(lines)
    assert ledger.failed == ledger.retries == sum(line["fault"] is not None for line in lines)
    for name in ("prompt_tokens", "completion_tokens"):
        told = sum(line.get(name, 0) for line in lines)
        assert getattr(ledger, name) == told == getattr(whole.detailed_results.ledger.total, name)


@pytest.mark.parametrize("fault", ["p429", "p500", "pdrop", "ptimeout", "pgarbage", "pshape"])
def test_each_fault_is_an_outage_that_a_retry_may_mend(fault: str, tmp_path: Path) -> None:
    """One answer after some failures: both counted, the request sent once more for each."""
    log = tmp_path / "log.jsonl"
    faults = Faults(**{fault: 0.5}, retry_after=0.01, seed=3)
    prompt = next(f"prompt {n}" for n in range(99) if _fails_once(faults, f"prompt {n}", log))
    sent = logged(log)
    assert [line["fault"] for line in sent] == [fault[1:], None], prompt
    assert sent[0]["status"] == {"p429": 429, "p500": 500, "pgarbage": 200, "pshape": 200}.get(fault, 0)


def _fails_once(faults: Faults, prompt: str, log: Path) -> bool:
    log.unlink(missing_ok=True)
    meter = Meter(num_threads=1)
    with start_server(Options(log=log, faults=faults)) as base:
        patience = 2 if faults.ptimeout else 60  # a busy machine takes its time
        lm = dspy.LM("openai/embedded", api_base=base, api_key="x", cache=False, timeout=patience, num_retries=1)
        try:
            meter.wrap(lm, "judge")(prompt)
        except dspy.LMError:
            return False
    usage = meter.ledger["judge"]
    return (usage.calls, usage.retries, usage.failed) == (2, 1, 1)


def test_a_retry_waits_as_long_as_the_header_says() -> None:
    """Retry-After wins over the backoff of a second and more."""
    with start_server(Options(faults=Faults(p429=1.0, retry_after=0.05))) as base:
        began = time.monotonic()
        with pytest.raises(dspy.LMRateLimitError):
            Meter(num_threads=1).wrap(served(base, num_retries=3), "judge")("a")
    assert 0.15 <= time.monotonic() - began < 5


def test_an_http_answer_that_nobody_can_read_is_a_failure_and_nonsense_text_an_invalid_answer() -> None:
    """The one voids the step as an outage does; the other is what the model said, and nothing can be aligned."""
    for options, said in (
        (Options(faults=Faults(pgarbage=1.0)), "failed for 16 of 16 examples, twice: .*not JSON"),
        (Options(garbage=True), "stated no label in any of its first"),
    ):
        with start_server(options) as base:
            lm = served(base, num_retries=0)
            optimizer = BLPO(prompt_model=lm, task_model=lm, minibatch_size=None, select="last", num_threads=8)
            with pytest.raises(ModelError, match=said):
                optimizer.compile(student(), trainset=TRAIN[10:26] if options.faults.pgarbage else TRAIN)


NO_ANSWERS = {
    "a list": [],
    "null": None,
    "an empty object": {},
    "a message": {"detail": "upstream is busy"},
    "choices that are none": {"id": "x", "choices": "busy"},
    "no choices": {"id": "x", "object": "chat.completion", "choices": []},
    "an empty choice": {"id": "x", "choices": [{}]},
    "usage that is none": {**completion("yes"), "usage": "unknown"},
}


@pytest.mark.parametrize(
    ("shape", "engine"), [*((shape, "lm15") for shape in NO_ANSWERS), ("a list", "litellm"), ("no choices", "litellm")]
)
def test_json_of_another_shape_is_an_outage_that_a_retry_may_mend(shape: str, engine: str) -> None:
    """It says as little as an internal error: one failed attempt, then the answer; a cap on tokens is still kept."""
    answers = iter([NO_ANSWERS[shape], completion("yes")])
    with ScriptedServer(lambda body: (200, next(answers), {})) as server:
        meter = Meter(num_threads=1)
        lm = dspy.LM("openai/x", api_base=server.url, api_key="x", cache=True, num_retries=1, engine=engine)
        assert meter.wrap(lm, "judge")(f"a question before {shape}") == ["yes"]
    usage = meter.ledger["judge"]
    assert (len(server.bodies), usage.calls, usage.retries, usage.failed, usage.uncounted) == (2, 2, 1, 1, 0)


@pytest.mark.parametrize("shape", ["a list", "no choices"])
def test_json_of_another_shape_is_never_a_wrong_answer(shape: str) -> None:
    """A server that says nothing else voids the step, as any outage does."""
    with ScriptedServer(lambda body: (200, NO_ANSWERS[shape], {})) as server:
        lm = dspy.LM("openai/x", api_base=server.url, api_key="x", cache=False, num_retries=0)
        with pytest.raises(ModelError, match=r"failed for 20 of 20 examples, twice: .*the server's answer"):
            BLPO(prompt_model=lm, task_model=lm, select="last", num_threads=4).compile(student(), trainset=TRAIN)


def test_an_empty_answer_of_the_model_is_its_answer() -> None:
    """It spent tokens on saying nothing, or a filter took its words: asking again would not help."""
    for said in (completion(""), completion("", finish_reason="content_filter", completion_tokens=0)):
        with ScriptedServer(lambda body, said=said: (200, said, {})) as server:
            lm = dspy.LM("openai/x", api_base=server.url, api_key="x", cache=False)
            assert Meter(num_threads=1).wrap(lm, "judge")("a") == [""]
        assert len(server.bodies) == 1


def test_a_void_step_ends_the_run_and_the_same_call_goes_on(tmp_path: Path) -> None:
    """An outage that outlasts the retries in the middle of a run loses nothing: later the run ends as it would have."""
    down = False

    def failing(seen: Seen) -> Any:
        return dspy.lm15.ServerError("down") if down else mind(seen)

    def lights_out(_: object) -> None:
        nonlocal down
        down = True

    whole = _compiled(world())
    lm = world(failing, num_retries=0)
    with pytest.raises(ModelError, match="down"):
        _compiled(lm, log_dir=tmp_path, on_round=lights_out)
    paid = answers(tmp_path)
    down = False
    before = len(lm.engine.seen)
    again = _compiled(lm, log_dir=tmp_path)
    assert again.detailed_results.rounds == whole.detailed_results.rounds
    assert again.detailed_results.returned == whole.detailed_results.returned
    assert len(lm.engine.seen) - before == whole.detailed_results.ledger.total.calls - paid
    assert paid > 20


def _compiled(lm: dspy.LM, **options: Any) -> Any:
    made = BLPO(prompt_model=lm, task_model=lm, rounds=2, inner_steps=1, num_threads=4, **options)
    return made.compile(student(), trainset=TRAIN[::2], valset=VALIDATION[::2])


@pytest.mark.parametrize("field", ["description", "label", "improved_instruction"])
def test_what_an_outage_took_is_asked_once_more_before_the_step_counts(field: str) -> None:
    """A single failure that outlasts the retries, in any role, leaves the run as it would have been."""
    failed: Counter[str] = Counter()

    def hiccup(seen: Seen) -> Any:
        if seen.fields == [field] and not failed[field]:
            failed[field] += 1
            return dspy.lm15.ServerError("hiccup")
        return mind(seen)

    program, whole = _compiled(world(hiccup, num_retries=0)), _compiled(world())
    assert failed[field] == 1
    assert program.detailed_results.rounds == whole.detailed_results.rounds
    assert program.detailed_results.validations == whole.detailed_results.validations
    assert program.detailed_results.ledger.total.failed == 1


def test_descriptions_that_an_outage_took_end_the_run() -> None:
    """A verbalizer that stays away is said, twice asked, and not taken for one with nothing to say."""

    def blind(seen: Seen) -> Any:
        return dspy.lm15.ServerError("no eyes") if seen.fields == ["description"] else mind(seen)

    with pytest.raises(ModelError, match=r"the verbalizer model failed for \d+ of \d+ examples, twice: .*no eyes"):
        _compiled(world(blind, num_retries=0))


def test_a_refused_description_leaves_its_example_out_of_the_update() -> None:
    """A refusal is no outage: the others of the batch are shown."""
    shown: list[int] = []

    def squeamish(seen: Seen) -> Any:
        if seen.fields == ["description"] and brightness(seen) % 24 == 0:
            return dspy.lm15.InvalidRequestError("against our policy")
        if seen.fields == ["improved_instruction"]:
            shown.append(seen.field("errors").count("human_label"))
        return mind(seen)

    _compiled(world(squeamish))
    assert shown
    assert 0 < min(shown) < 10


def test_a_straggler_is_waited_for_and_not_sent_again() -> None:
    """A call that takes far longer than the others of its step is one call."""
    slow = TRAIN[0].image.url.partition(",")[2]

    def crawling(seen: Seen) -> Any:
        if seen.fields == ["label"] and slow in seen.images:
            time.sleep(0.5)
        return mind(seen)

    lm = world(crawling)
    _compiled(lm)
    sent = Counter((seen.system, seen.user, tuple(seen.images)) for seen in lm.engine.seen)
    assert max(sent.values()) == 1


@pytest.mark.parametrize("evidence", ["image", "both"])
@pytest.mark.parametrize("select", ["best", "last"])
def test_a_budget_of_137_calls_is_kept_and_the_best_judge_seen_returned(evidence: str, select: Any) -> None:
    """Never a call past the cap, and the best of what was validated, or the end of what was searched."""
    lm = world()
    made = BLPO(prompt_model=lm, task_model=lm, num_threads=16, budget=Budget(max_calls=137), select=select)
    start = student(evidence=evidence)
    with pytest.warns(UserWarning, match="max_calls=137 hardly pays"):
        program = made.compile(start, trainset=TRAIN, valset=VALIDATION[::4])
    found = program.detailed_results
    assert len(lm.engine.seen) == found.ledger.total.calls <= 137
    assert "budget" in found.stop_reason
    assert found.rounds
    if select == "best":
        best = max(found.validations, key=lambda validation: validation.score)
        assert found.after.score == best.score >= found.before.score
        assert program.candidate_programs[0]["score"] == best.score
    else:
        assert found.returned == found.rounds[-1].end


@pytest.mark.filterwarnings("ignore:.*hardly pays")
def test_a_capped_run_is_the_same_with_any_number_of_threads() -> None:
    """Where the cap falls in the middle of a step, who came first must not matter."""
    results = []
    for threads in (1, 3, 16):
        lm = world()
        made = BLPO(prompt_model=lm, task_model=lm, num_threads=threads, budget=Budget(max_calls=250))
        results.append(made.compile(student(), trainset=TRAIN, valset=VALIDATION[::2]).detailed_results)
    assert results[0].rounds == results[1].rounds == results[2].rounds
    assert len({result.returned for result in results}) == 1
    assert len({tuple(v.score for v in result.validations) for result in results}) == 1


def test_a_cap_on_tokens_stops_where_a_provider_counts_none() -> None:
    """A cap that can't be kept ends the run after the calls that were under way, rather than never."""
    base = world()
    answer = base.engine.complete

    def silent(request: Any) -> Any:
        return _without_usage(answer(request))

    base.engine.complete = silent  # type: ignore[method-assign]
    made = BLPO(prompt_model=base, task_model=base, num_threads=4, budget=Budget(max_tokens=10**9))
    with pytest.raises(BlpoError, match=r"nothing to return: max_tokens=1000000000 can't be kept"):
        made.compile(student(), trainset=TRAIN, valset=VALIDATION)
    assert len(base.engine.seen) <= 1 + 4


def _without_usage(response: Any) -> Any:
    return dspy.lm15.Response(
        id=response.id,
        model=response.model,
        message=response.message,
        finish_reason=response.finish_reason,
        usage=dspy.lm15.Usage(),
    )


@pytest.mark.filterwarnings("ignore:.*hardly pays")
def test_the_users_prices_reach_the_ledger() -> None:
    """US dollars per million tokens; a cap in dollars is kept."""
    lm = world()
    prices = {"scripted/test": (1e6, 2e6)}  # each scripted answer is 10 tokens in and 5 out: 20 dollars
    made = BLPO(prompt_model=lm, task_model=lm, num_threads=4, budget=Budget(max_usd=2000.0))
    with Workspace(prices=prices):
        program = made.compile(student(), trainset=TRAIN, valset=VALIDATION)
        expected = estimate(made, student(), trainset=TRAIN, valset=VALIDATION)
    ledger = program.detailed_results.ledger
    assert ledger.total.usd == 20.0 * ledger.total.calls <= 2000 + 20 * 3
    assert {role: ledger[role].unpriced for role in ROLES} == dict.fromkeys(ROLES, 0)
    assert expected.totals()["usd"]["most"] == 2000.0


@given(st.integers(0, 99), st.binary(max_size=40), st.integers(1, 9))
def test_faults_follow_content_and_attempt_alone(seed: int, content: bytes, attempt: int) -> None:
    """Never order or time: the n-th time that a content comes it fares alike, whatever came between."""
    faults = Faults(p429=0.2, p500=0.2, pdrop=0.2, ptimeout=0.1, pgarbage=0.1, seed=seed)
    quiet, busy = FaultyLine(faults), FaultyLine(faults)
    expected = [quiet.draw(content) for _ in range(attempt)]
    found = []
    for n in range(attempt):
        busy.draw(b"other %d" % n + content)
        found.append(busy.draw(content))
    assert found == expected


def test_faults_come_as_often_as_asked_for() -> None:
    """The shares hold over many requests; impossible ones are refused, on the command line too."""
    line = FaultyLine(Faults(p429=0.1, pgarbage=0.3, seed=5))
    drawn = Counter(line.draw(b"%d" % n) for n in range(4000))
    assert drawn["429"] / 4000 == pytest.approx(0.1, abs=0.02)
    assert drawn["garbage"] / 4000 == pytest.approx(0.3, abs=0.03)
    assert set(drawn) == {None, "429", "garbage"}
    for shares in ({"p429": -0.1}, {"p429": 0.6, "p500": 0.6}):
        with pytest.raises(BlpoError, match="impossible"):
            Faults(**shares)
    with pytest.raises(SystemExit):
        main(["--p500", "2"])
