"""The header by which OpenAI's own API recognizes a request that is sent again, as it arrives at a server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import dspy
import pytest
from dspy.utils.exceptions import LMError
from engines import ScriptedServer, completion
from raw_servers import Raw, raw_server

from blpo_dspy.models.lm import identity
from blpo_dspy.workspace import meter as metering
from blpo_dspy.workspace.idempotency import HEADER
from blpo_dspy.workspace.meter import Meter

Answer = tuple[int, dict[str, Any], dict[str, str]]
OPENAI = "http://api.openai.com/v1"
YES: Answer = (200, completion("yes"), {})
BUSY: Answer = (500, {"error": {"message": "busy"}}, {})
EMPTY: Answer = (200, {"nothing": 1}, {})


@pytest.fixture(autouse=True)
def no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries follow at once."""
    monkeypatch.setattr(metering.Meter, "_delay", lambda *about: 0.0)


@pytest.fixture
def openai(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Returns a server on loopback, a proxy of OpenAI's host, that gives these answers, then a yes."""

    @contextmanager
    def serve(*answers: Answer) -> Iterator[ScriptedServer]:
        waiting = list(answers)
        with ScriptedServer(lambda body: waiting.pop(0) if waiting else YES) as server:
            monkeypatch.setenv("http_proxy", server.url.removesuffix("/v1"))
            monkeypatch.setenv("no_proxy", "127.0.0.1")
            yield server

    return serve


def judge(meter: Meter | None = None, base: str = OPENAI, **options: Any) -> Any:
    """A metered judge."""
    options = {"api_key": "x", "cache": False, "num_retries": 2, "temperature": 1.0, **options}
    lm = dspy.LM("openai/gpt-4o-mini", api_base=base, **options)
    return (meter or Meter(num_threads=1)).wrap(lm, "judge")


def keys(server: ScriptedServer) -> list[str | None]:
    """The key of each request that arrived."""
    return [headers.get(HEADER) for _, headers, _ in server.raw]


def test_all_attempts_of_a_request_have_one_key(openai: Any) -> None:
    """Those of a call, and those of the next call after a failed one; each other request has its own."""
    with openai(BUSY, BUSY, BUSY, BUSY) as server:
        lm = judge()
        with pytest.raises(LMError):
            lm("a")
        assert lm("a") == lm("b") == ["yes"]
    *same, other = keys(server)
    assert len(same) == 5
    assert len({*same}) == 1
    assert None not in (same[0], other)
    assert other != same[0]
    assert server.raw[0][0].startswith("http://api.openai.com/")


def test_an_attempt_after_a_time_out_has_the_key_of_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server, which had got the request, can answer both alike."""
    seen: list[str | None] = []

    def script(request: Raw) -> None:
        seen.append(request.headers.get(HEADER))
        request.trickle(0.05) if len(seen) == 1 else request.send(200, _body("yes"))

    with raw_server(script) as base:
        monkeypatch.setenv("http_proxy", base.removesuffix("/v1"))
        assert judge(timeout=0.5)("a") == ["yes"]
    first, second = seen
    assert first is not None
    assert first == second


def test_what_is_asked_again_on_purpose_has_a_key_of_its_own(openai: Any) -> None:
    """Another rollout, another sample, and another run."""
    with openai() as server:
        lm = judge()
        lm("a", n=2)
        lm("a", rollout_id=7)
        judge()("a")
    assert len({*keys(server)}) == 4
    assert None not in keys(server)


def test_a_request_whose_answer_cannot_be_read_is_asked_again(openai: Any) -> None:
    """With another key: the answer that the provider remembers would be the same."""
    with openai(EMPTY) as server:
        assert judge()("a") == ["yes"]
    first, second = keys(server)
    assert first != second


def test_another_server_gets_no_key() -> None:
    """An OpenAI-compatible server, say, which may refuse a header that it doesn't know."""
    with ScriptedServer(lambda body: YES) as server:
        judge(base=server.url)("a")
    assert keys(server) == [None]


def test_the_key_is_in_no_body_no_identity_and_no_history(openai: Any) -> None:
    """DSPy's cache answers an equal request of another run, too."""
    with openai() as server:
        first, second = judge(cache=True), judge(cache=True)
        assert first("a") == second("a") == ["yes"]
        (key,) = keys(server)
        assert key
    assert key.encode() not in server.raw[0][2]
    assert "idempotency" not in str({**identity(first), **first.dump_state()}).lower()


def _body(text: str) -> bytes:
    return json.dumps(completion(text)).encode()
