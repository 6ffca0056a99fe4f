"""A judge behind HTTP: verdicts, refusals, a bounded queue, limits, counts and a clean stop."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
import uvicorn
from engines import Seen, scripted_lm
from image_files import encoded
from judges import SAFETY, answers
from PIL import Image

from blpo_dspy.data.images.prepare import PixelPolicy
from blpo_dspy.errors import BlpoError
from blpo_dspy.models.lm import Models
from blpo_dspy.programs import Cascade, VisualJudge
from blpo_dspy.serving.app import JudgeServer, Limits

PNG = encoded(Image.new("RGB", (8, 8), (40,) * 3))


class Served:
    """A server on a free port of loopback, and what its model was asked."""

    def __init__(
        self, script: Callable[[Seen], Any], limits: Limits, options: dict[str, Any], judge: VisualJudge
    ) -> None:
        self.lm = scripted_lm(script, num_retries=0)
        self.judge = judge
        self.server = JudgeServer(judge, Models(self.lm, self.lm, self.lm), limits, **options)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        config = uvicorn.Config(self.server.app, "127.0.0.1", port, log_level="error", timeout_graceful_shutdown=20)
        self.uvicorn = uvicorn.Server(config)
        self.url = f"http://127.0.0.1:{port}"
        self.thread = threading.Thread(target=self.uvicorn.run, daemon=True)
        self.port = port

    def post(self, **request: Any) -> httpx.Response:
        """Sends one request to be judged."""
        return httpx.post(f"{self.url}/judge", timeout=30, **request)

    def image(self, content: bytes = PNG, **request: Any) -> httpx.Response:
        """Sends one image as it is."""
        headers = {"content-type": "image/png", **request.pop("headers", {})}
        return self.post(content=content, headers=headers, **request)


@contextmanager
def serving(
    script: Callable[[Seen], Any] | None = None, limits: Limits | None = None, **options: Any
) -> Iterator[Served]:
    """Yields a server; options of the judge and of the server."""
    of_server = {name: options.pop(name) for name in ("token", "allow_urls") if name in options}
    judge = VisualJudge(SAFETY, **{"instruction": "Is it safe?", "evidence": "image", **options})
    served = Served(script or answers(), limits or Limits(), of_server, judge)
    served.thread.start()
    while not served.uvicorn.started:
        time.sleep(0.01)
    try:
        yield served
    finally:
        served.uvicorn.should_exit = True
        served.thread.join(30)
        assert not served.thread.is_alive()


@pytest.mark.slow
def test_an_image_gets_a_verdict_however_it_is_sent() -> None:
    """As it is, in a form, as base64 or as a data URI."""
    encoded_image = base64.b64encode(PNG).decode()
    with serving(evidence="both") as served:
        replies = [
            served.image(),
            served.post(files={"image": ("a.png", PNG, "image/png")}),
            served.post(json={"image": encoded_image}),
            served.post(json={"image": f"data:image/png;base64,{encoded_image}"}),
        ]
    assert [reply.status_code for reply in replies] == [200] * 4
    assert {reply.text for reply in replies} == {replies[0].text}
    assert replies[0].json() == {
        "label": "Safe", "answer": "Safe", "description": "a grey square", "reasoning": None, "invalid": False,
    }  # fmt: skip
    assert len({seen.text for seen in served.lm.engine.seen}) == 2


def test_a_calibrated_judge_says_how_sure_it_is_and_escalates() -> None:
    """Beside what every judge says; the document names both."""
    judge = VisualJudge(SAFETY, instruction="Is it safe?", evidence="image").confident(votes=2).calibrated(0.9)
    lm = scripted_lm(lambda seen: {"label": "Safe" if (seen.request.config.seed or 0) % 2 else "Unsafe"})
    server = JudgeServer(judge, Models(lm, lm, lm))
    transport = httpx.ASGITransport(app=server.app)

    async def asked() -> tuple[httpx.Response, httpx.Response]:
        async with httpx.AsyncClient(transport=transport, base_url="http://judge") as client:
            image = {"content-type": "image/png"}
            return await client.post("/judge", content=PNG, headers=image), await client.get("/openapi.json")

    verdict, document = asyncio.run(asked())
    server.close()
    assert verdict.json() == {
        "label": "Safe", "answer": "Safe", "description": None, "reasoning": None, "invalid": False,
        "confidence": 0.5, "escalate": True,
    }  # fmt: skip
    assert {"confidence", "escalate"} <= set(re.findall(r'"(\w+)"', document.text))


def test_each_judge_of_a_cascade_has_its_own_model() -> None:
    """The second one is asked where the first escalates."""
    judge = VisualJudge(SAFETY, instruction="Is it safe?", evidence="image")
    cheap = scripted_lm(lambda seen: {"label": "Safe" if (seen.request.config.seed or 0) % 2 else "Unsafe"})
    strong = scripted_lm(lambda seen: {"label": "Unsafe"})
    cascade = Cascade([judge.confident(votes=2).calibrated(0.9), judge])
    server = JudgeServer(cascade, [Models(cheap, cheap, cheap), Models(strong, strong, strong)])

    async def asked() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=server.app), base_url="http://judge") as client:
            return await client.post("/judge", content=PNG, headers={"content-type": "image/png"})

    assert asyncio.run(asked()).json()["label"] == "Unsafe"
    server.close()
    assert (len(cheap.engine.seen), len(strong.engine.seen)) == (2, 1)


def test_several_images_and_context_are_named_fields() -> None:
    """In a form or in JSON; the model gets all of them."""
    fields: dict[str, Any] = {"images": ["left", "views: list[dspy.Image]"], "context": ["prompt"]}
    encoded_image = base64.b64encode(PNG).decode()
    with serving(**fields) as served:
        form = served.post(
            files=[("left", ("a", PNG)), ("views", ("b", PNG)), ("views", ("c", PNG))], data={"prompt": "a square"}
        )
        plain = served.post(json={"left": encoded_image, "views": [encoded_image] * 2, "prompt": "a square"})
        assert (form.status_code, plain.status_code) == (200, 200), form.text + plain.text
        assert [len(seen.images) for seen in served.lm.engine.seen] == [3, 3]
        lacking = served.post(json={"left": encoded_image, "prompt": "a square"})
        raw = served.image()
    assert (lacking.status_code, raw.status_code) == (400, 400)
    assert "missing: views" in lacking.json()["error"]
    assert "send them as multipart/form-data or JSON" in raw.json()["error"]


def test_an_answer_without_a_label_is_invalid_and_a_failed_call_is_no_verdict() -> None:
    """200 with invalid, or 502 with the reason."""
    with serving(lambda seen: "no idea") as served:
        reply = served.image()
        assert (reply.status_code, reply.json()["label"], reply.json()["invalid"]) == (200, None, True)
    with serving(lambda seen: ConnectionError("nobody there")) as served:
        reply = served.image()
        assert reply.status_code == 502
        assert "error" in reply.json()


@pytest.mark.parametrize(
    ("request_", "status", "error"),
    [
        ({"content": b"x", "headers": {"content-type": "text/plain"}}, 415, "content type 'text/plain' is not read"),
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 400, "not JSON"),
        ({"json": [1]}, 400, "a JSON list, not an object"),
        ({"json": {"image": 5}}, 400, "not a int"),
        ({"json": {"image": "%%%"}}, 400, "not valid base64"),
        ({"json": {"image": "/etc/passwd"}}, 400, "not"),
        ({"json": {}}, 400, "takes image; missing: image"),
        ({"json": {"image": "AAAA", "x": "y"}}, 400, "takes image; unknown: x"),
        ({"files": [("img", ("a", PNG))]}, 400, "takes image; missing: image, unknown: img"),
        ({"json": {"img": 5}}, 400, "takes image; missing: image, unknown: img"),
        ({"json": {"image": "AAAA"}}, 400, "not an image"),
        ({"json": {"image": "https://example.org/a.png"}}, 403, "by URL are not allowed"),
        ({"content": b"--x\r\n", "headers": {"content-type": "multipart/form-data; boundary=x"}}, 400, ""),
        ({"content": b"hello", "headers": {"content-type": "multipart/form-data"}}, 400, "multipart"),
        ({"files": [("image", ("a", PNG)), ("image", ("b", PNG))]}, 400, "takes one image"),
        ({"content": b"", "headers": {"content-type": "image/png"}}, 400, "0 bytes"),
        ({"content": b"{" * 100_000, "headers": {"content-type": "application/json"}}, 400, "not JSON"),
    ],
)
def test_hostile_bodies_are_refused_without_a_call(request_: dict[str, Any], status: int, error: str) -> None:
    """With a reason; nothing in them is a path, and nothing is fetched."""
    with serving() as served:
        reply = served.post(**request_)
        assert reply.status_code == status, reply.text
        assert error in reply.json()["error"]
        assert not served.lm.engine.seen
        assert served.image().status_code == 200


@pytest.mark.slow
def test_a_body_is_not_read_beyond_its_limit() -> None:
    """Neither one that states ten gigabytes nor one that doesn't state its length; a bomb of pixels is refused."""
    with serving(limits=Limits(max_body=20_000)) as served:
        with socket.create_connection(("127.0.0.1", served.port), timeout=10) as stated:
            stated.sendall(
                b"POST /judge HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 10000000000\r\n\r\n"
            )
            assert b" 413 " in stated.recv(200)

        def endless() -> Iterator[bytes]:
            yield from (b"x" * 1000 for _ in range(50))

        assert served.post(content=endless(), headers={"content-type": "image/png"}).status_code == 413
        assert not served.lm.engine.seen
    bomb = encoded(Image.new("L", (3000, 3000)))
    with serving(pixel_policy=PixelPolicy(max_pixels=1_000_000)) as served:
        reply = served.image(bomb)
        assert (reply.status_code, "more than the limit" in reply.json()["error"]) == (400, True)


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost/a.png", "http://127.0.0.1/a.png", "http://10.0.0.1/x", "http://192.168.1.4/x",
        "http://169.254.169.254/latest/meta-data", "http://[::1]/a.png", "http://2130706433/x", "http://printer.local/x",
        "http://intranet/x", "http://0x7f000001/", "http://metadata.google.internal/",
    ],
)  # fmt: skip
def test_a_url_to_a_private_address_is_refused(url: str) -> None:
    """Also where URLs are allowed, which are passed on by reference and never fetched."""
    with serving(allow_urls=True) as served:
        assert served.post(json={"image": {"url": url}}).status_code == 403
        assert not served.lm.engine.seen


def test_a_public_url_is_passed_on_by_reference() -> None:
    """The conftest refuses the network: nothing is fetched."""
    with serving(allow_urls=True) as served:
        assert served.post(json={"image": "https://example.org/a.png"}).status_code == 200
        assert served.lm.engine.seen[0].images == ["https://example.org/a.png"]


def test_a_wrong_token_is_refused() -> None:
    """Before the body is read."""
    with serving(token="s3cret") as served:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic s3cret"}):
            reply = served.image(headers=headers)
            assert (reply.status_code, reply.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert not served.lm.engine.seen
        assert served.image(headers={"Authorization": "Bearer s3cret"}).status_code == 200


def slow(seconds: float) -> Callable[[Seen], Any]:
    """A model that takes its time."""

    def script(seen: Seen) -> Any:
        time.sleep(seconds)
        return "Safe" if int(re.findall(r"number (\d+)", seen.user)[-1]) % 2 else "Unsafe"

    return script


async def flood(served: Served, count: int) -> list[httpx.Response]:
    """Many requests at once, each with a number of its own."""
    body = base64.b64encode(PNG).decode()
    async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=count)) as client:
        sent = [client.post(f"{served.url}/judge", json={"image": body, "prompt": f"number {i}"}) for i in range(count)]
        return list(await asyncio.gather(*sent))


@pytest.mark.slow
def test_two_hundred_requests_at_once_lose_and_double_nothing() -> None:
    """Each gets the verdict on what it sent; the model is asked once for each."""
    with serving(slow(0.2), Limits(threads=32, queue=200), context=["prompt"]) as served:
        replies = asyncio.run(flood(served, 200))
        assert [reply.status_code for reply in replies] == [200] * 200
        assert [reply.json()["label"] for reply in replies] == ["Safe" if i % 2 else "Unsafe" for i in range(200)]
        assert len(served.lm.engine.seen) == 200
        metrics = httpx.get(f"{served.url}/metrics").text
    assert 'blpo_requests_total{status="200"} 200' in metrics
    assert 'blpo_judged_total{outcome="labelled"} 200' in metrics
    assert 'blpo_lm_calls_total{role="judge"} 200' in metrics
    assert 'blpo_judge_seconds_bucket{le="+Inf"} 200' in metrics


@pytest.mark.slow
def test_beyond_the_queue_requests_are_turned_away() -> None:
    """With 503 and when to come back; those that were admitted are answered."""
    with serving(slow(0.3), Limits(threads=4, queue=8), context=["prompt"]) as served:
        replies = asyncio.run(flood(served, 60))
        statuses = [reply.status_code for reply in replies]
        assert set(statuses) == {200, 503}
        assert 12 <= statuses.count(200) < 60
        assert statuses.count(200) == len(served.lm.engine.seen)
        assert {reply.headers["Retry-After"] for reply in replies if reply.status_code == 503} == {"1"}
        assert "blpo_waiting 0" in httpx.get(f"{served.url}/metrics").text


@pytest.mark.slow
def test_a_request_has_its_time_limit() -> None:
    """504; the server still answers others."""
    with serving(slow(1.0), Limits(threads=2, timeout=0.3), context=["prompt"]) as served:
        (reply,) = asyncio.run(flood(served, 1))
        assert reply.status_code == 504
        assert "within 0.3 seconds" in reply.json()["error"]
        assert httpx.get(f"{served.url}/health").status_code == 200


@pytest.mark.slow
def test_a_stop_finishes_what_is_under_way() -> None:
    """Requests that were admitted are answered; the server then ends."""
    replies: list[httpx.Response] = []
    with serving(slow(0.4), Limits(threads=2, queue=10), context=["prompt"]) as served:
        sender = threading.Thread(target=lambda: replies.extend(asyncio.run(flood(served, 6))))
        sender.start()
        while len(served.lm.engine.seen) < 2:
            time.sleep(0.01)
        served.uvicorn.should_exit = True
        sender.join(30)
    assert [reply.status_code for reply in replies] == [200] * 6


def test_it_says_what_it_offers() -> None:
    """Its inputs and labels, an OpenAPI document, and a page that loads nothing."""
    with serving(images=["left", "right"], context=["prompt"]) as served:
        health = httpx.get(f"{served.url}/health").json()
        document = httpx.get(f"{served.url}/openapi.json").json()
        page = httpx.get(served.url).text
    assert health["inputs"] == ["left", "right", "prompt"]
    form = document["paths"]["/judge"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["required"] == ["left", "right", "prompt"]
    assert {"200", "413", "503", "504"} <= set(document["paths"]["/judge"]["post"]["responses"])
    assert "<script" not in page
    assert not re.search(r"(src|href)=.?http", page)
    assert json.dumps(document)


@pytest.mark.parametrize(
    "limits", [{"threads": 0}, {"queue": -1}, {"timeout": 0}, {"timeout": float("inf")}, {"max_body": 0}]
)
def test_limits_that_cannot_work_are_refused(limits: dict[str, Any]) -> None:
    """Each names its option."""
    with pytest.raises(BlpoError, match=next(iter(limits))):
        Limits(**limits)
