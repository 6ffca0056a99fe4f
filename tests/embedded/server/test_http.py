"""The endpoint: the same answers over HTTP as in process, and plain errors."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dspy
import pytest
from dspy.utils.exceptions import LMAuthError
from embedded_requests import TASK, as_image, photographs

from blpo_dspy.data.fields import InputFields
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.embedded import embedded_lm
from blpo_dspy.embedded.server.faults import Faults
from blpo_dspy.embedded.server.http import Options, main, start_server
from blpo_dspy.errors import BlpoError
from blpo_dspy.programs.signatures import judge_signature, verbalize_signature

pytestmark = pytest.mark.slow

CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    """Yields the address of a server with seed 3."""
    with start_server(Options(seed=3)) as address:
        yield address


def call(base: str, method: str, path: str, body: Any = None, *, key: str = "x") -> tuple[int, bytes]:
    """Returns status and body of one HTTP request; bytes are sent as they are."""
    connection = http.client.HTTPConnection(urlsplit(base).netloc, timeout=30)
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    connection.request(method, path, data, {"Authorization": f"Bearer {key}"})
    response = connection.getresponse()
    result = response.status, response.read()
    connection.close()
    return result


def user(content: Any) -> list[dict[str, Any]]:
    """Returns a conversation of one user message."""
    return [{"role": "user", "content": content}]


def run(lm: dspy.LM, adapter: Any, workers: int) -> list[tuple[str, str, str]]:
    """Returns description, label and reasoning of some photographs."""
    verbalizer = dspy.Predict(verbalize_signature("Look for blur and noise.", InputFields()))
    instruction, labels = f"{TASK} Count blur strongly.", LabelSpace.ordinal(1, 5)
    judge = dspy.Predict(judge_signature(instruction, labels, InputFields(), evidence="both", reasoning=True))

    def one(data: bytes) -> tuple[str, str, str]:
        with dspy.context(lm=lm, adapter=adapter, trace=None, disable_history=True):
            image = as_image(data)
            description = verbalizer(image=image).description
            answer = judge(image=image, description=description)
        return description, answer.label, answer.reasoning

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(one, [row.image for row in photographs()[:8]]))


@pytest.mark.parametrize("engine", ["lm15", "litellm"])
@pytest.mark.parametrize("adapter", [dspy.ChatAdapter(), dspy.JSONAdapter()], ids=["chat", "json"])
def test_answers_over_http_are_those_in_process(base: str, engine: str, adapter: Any) -> None:
    """Both of DSPy's HTTP engines, eight threads, images as data URIs."""
    lm = dspy.LM("openai/embedded", api_base=base, api_key="x", cache=False, engine=engine)
    assert run(lm, adapter, workers=8) == run(embedded_lm(3, cache=False), adapter, workers=1)


def test_seed_and_limit_travel_over_the_wire(base: str) -> None:
    """A request's own settings mean the same on both sides."""
    prompt = f"Write a new instruction. My current instruction is: {TASK}"
    remote = dspy.LM("openai/embedded", api_base=base, api_key="x", cache=False)
    local = embedded_lm(3, cache=False)
    for options in ({"seed": 5}, {"max_tokens": 4}, {}):
        assert remote(prompt, **options) == local(prompt, **options)


def test_a_stream_adds_up_to_the_answer(base: str) -> None:
    """Server-sent events, with usage where asked for."""
    body = {"model": "m", "messages": user("Write a new instruction.")}
    whole = json.loads(call(base, "POST", CHAT, body)[1])
    options = {"stream": True, "stream_options": {"include_usage": True}}
    status, data = call(base, "POST", CHAT, {**body, **options})
    events = [line[6:] for line in data.decode().splitlines() if line.startswith("data: ")]
    chunks = [json.loads(event) for event in events[:-1]]
    assert (status, events[-1]) == (200, "[DONE]")
    text = "".join(c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"])
    assert text == whole["choices"][0]["message"]["content"]
    assert chunks[-1]["usage"] == whole["usage"]


def test_several_choices_differ_and_the_first_is_the_only_one(base: str) -> None:
    """The first of n is what n = 1 gives."""
    body = {"model": "m", "messages": user(f"Write a new instruction. My current instruction is: {TASK}")}
    one = json.loads(call(base, "POST", CHAT, body)[1])["choices"]
    many = json.loads(call(base, "POST", CHAT, {**body, "n": 6})[1])["choices"]
    texts = [choice["message"]["content"] for choice in many]
    assert [choice["index"] for choice in many] == list(range(6))
    assert texts[0] == one[0]["message"]["content"]
    assert len(set(texts)) > 2


def test_logprobs_are_given_where_they_are_asked_for(base: str) -> None:
    """By the engine's own noise; the tokens add up to the answer."""
    body = {"model": "m", "messages": user("Write a new instruction.")}
    plain = json.loads(call(base, "POST", CHAT, body)[1])["choices"][0]
    told = json.loads(call(base, "POST", CHAT, {**body, "logprobs": True, "top_logprobs": 2})[1])["choices"][0]
    assert "logprobs" not in plain
    tokens = told["logprobs"]["content"]
    assert "".join(token["token"] for token in tokens) == told["message"]["content"] == plain["message"]["content"]
    assert all(token["logprob"] <= 0 for token in tokens)
    assert min(token["logprob"] for token in tokens) < 0


def test_a_misshapen_answer_is_json_without_any_choice() -> None:
    """Of several kinds, by content."""
    with start_server(Options(faults=Faults(pshape=1.0))) as base:
        replies = [call(base, "POST", CHAT, {"messages": user(f"{i}")}) for i in range(12)]
    assert {status for status, _ in replies} == {200}
    assert {json.dumps(json.loads(data)) for _, data in replies} == {
        "[]",
        '{"id": "chatcmpl-1", "object": "chat.completion", "choices": []}',
        '{"choices": {"detail": "busy"}}',
    }


def test_health_and_models_are_served(base: str) -> None:
    """For tools that ask first."""
    assert json.loads(call(base, "GET", "/health")[1]) == {"status": "ok"}
    assert json.loads(call(base, "GET", "/v1/models")[1])["data"][0]["id"] == "embedded"


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{not json", "Expecting"),
        (b"[]", "JSON object"),
        (b'"\xff\xfe"', "decode"),
        ({}, "'messages'"),
        ({"messages": []}, "'messages'"),
        ({"messages": [{"role": "system", "content": "x"}]}, "no user message"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "wizard"),
        ({"messages": user(None)}, "'content'"),
        ({"messages": user([{"type": "audio"}])}, "audio"),
        ({"messages": user([IMAGE])}, "cannot be decoded"),
        ({"messages": user([{"type": "image_url", "image_url": {"url": "data:image/png,AAAA"}}])}, "base64"),
        ({"messages": user("x"), "n": 0}, "'n'"),
        ({"messages": user("x"), "seed": "one"}, "'seed'"),
        ({"messages": user("x"), "max_tokens": 1.5}, "'max_tokens'"),
    ],
)
def test_a_bad_request_gets_400_with_the_reason(base: str, body: Any, reason: str) -> None:
    """In OpenAI's error form."""
    status, data = call(base, "POST", CHAT, body)
    assert status == 400
    assert reason in json.loads(data)["error"]["message"]


def test_other_paths_and_methods_get_404(base: str) -> None:
    """In the same form."""
    for method, path in (("GET", CHAT), ("POST", "/v1/completions"), ("GET", "/")):
        status, data = call(base, method, path, {} if method == "POST" else None)
        assert status == 404
        assert json.loads(data)["error"]["code"] == "not_found"


def test_one_connection_carries_many_requests(base: str) -> None:
    """Kept alive, errors included."""
    connection = http.client.HTTPConnection(urlsplit(base).netloc, timeout=30)
    for body, status in (({"messages": user("x")}, 200), ({}, 400), ({"messages": user("x")}, 200)):
        connection.request("POST", CHAT, json.dumps(body))
        response = connection.getresponse()
        response.read()
        assert response.status == status
    connection.close()


def test_a_wrong_key_is_refused() -> None:
    """401, which DSPy reports as an authentication error; the right key works."""
    with start_server(Options(api_key="right")) as base:
        with pytest.raises(LMAuthError):
            dspy.LM("openai/embedded", api_base=base, api_key="wrong", cache=False)("hello")
        assert dspy.LM("openai/embedded", api_base=base, api_key="right", cache=False)("hello")
        assert call(base, "GET", "/v1/models", key="wrong")[0] == 401
        assert call(base, "GET", "/health", key="wrong")[0] == 200


def test_garbage_names_no_label() -> None:
    """For trying out what a useless model does."""
    with start_server(Options(garbage=True)) as base:
        lm = dspy.LM("openai/embedded", api_base=base, api_key="x", cache=False)
        text = lm("Rate this from 1 to 5: keep or reject, safe or unsafe?")[0]
    for labels in (LabelSpace.ordinal(1, 5), LabelSpace("keep", "reject"), LabelSpace("Safe", "Unsafe")):
        assert labels.parse(text) is None


def test_the_log_has_one_line_for_each_request(tmp_path: Path) -> None:
    """Time, path and status."""
    log = tmp_path / "log.jsonl"
    with start_server(Options(log=log)) as base:
        call(base, "POST", CHAT, {"messages": user("x")})
        call(base, "POST", CHAT, {})
        call(base, "GET", "/health")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert sorted((line["path"], line["status"]) for line in lines) == [("/health", 200), (CHAT, 200), (CHAT, 400)]
    assert all(line["time"] > 1e9 and line["ms"] >= 0 for line in lines)


def test_a_taken_port_is_named() -> None:
    """One message, also from the command line."""
    with start_server() as base:
        port = urlsplit(base).port
        assert port is not None
        with pytest.raises(BlpoError, match=str(port)), start_server(port=port):
            pass
        assert main(["--port", str(port)]) == 1


def test_the_command_says_where_it_listens() -> None:
    """Port 0 takes a free one, on loopback."""
    command = [sys.executable, "-m", "blpo_dspy.embedded.server.http", "--port", "0", "--seed", "3"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            address = line.split()[-1]
            assert line.startswith("listening on http://127.0.0.1:")
            assert call(address, "GET", "/health")[0] == 200
        finally:
            process.terminate()
