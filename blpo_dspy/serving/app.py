"""The server of a judge: a bounded queue in front of threads that judge one request each."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import dspy
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from blpo_dspy.agreement.verdicts import Verdict
from blpo_dspy.errors import BlpoError, ModelError, check_least
from blpo_dspy.models.lm import Models
from blpo_dspy.predictions.labelling import label_one, metered, note_other_models
from blpo_dspy.programs.visual_judge import VisualJudge
from blpo_dspy.serving import openapi
from blpo_dspy.serving.body import BodyReader
from blpo_dspy.serving.metrics import Metrics
from blpo_dspy.serving.web import BodyError, refusal
from blpo_dspy.workspace.meter import Meter
from blpo_dspy.workspace.outages import Outages
from blpo_dspy.workspace.workspace import current_workspace

_RETRY_AFTER = "1"  # seconds
_OPTIONAL = ("inconsistent", "confidence", "escalate")


@dataclass(frozen=True)
class Limits:
    """What a server bears.

    Attributes:
        threads: Requests that are judged at once.
        queue: Requests that may wait for their turn; further ones get 503.
        timeout: Seconds that a request may wait and be judged; after that it gets 504.
        max_body: The most bytes of a request.
    """

    threads: int = 8
    queue: int = 64
    timeout: float = 60.0
    max_body: int = 32 * 2**20

    def __post_init__(self) -> None:
        for name in ("threads", "queue", "max_body"):
            check_least(name, getattr(self, name), 0 if name == "queue" else 1)
        if not 0 < self.timeout < float("inf"):
            raise BlpoError(f"timeout={self.timeout!r} is not a number of seconds above 0", option="timeout")


class JudgeServer:
    """One judge behind HTTP.

    Args:
        judge: The judge; it is copied, never changed.
        models: Its models; of a cascade those of each judge, or of all of them.
        limits: What the server bears.
        token: What requests must state as `Authorization: Bearer …`; none if None.
        allow_urls: Whether an image may be an http(s) URL; it is passed on to the model's provider, never fetched here.
    """

    def __init__(
        self,
        judge: VisualJudge,
        models: Models | Sequence[Models],
        limits: Limits | None = None,
        *,
        token: str | None = None,
        allow_urls: bool = False,
    ) -> None:
        note_other_models(judge, models)
        self._workspace = current_workspace()
        self._judge, self._models, self._token = judge.deepcopy(), models, token
        self._limits = Limits() if limits is None else limits
        self._reader = BodyReader(judge.fields, self._limits.max_body, allow_urls)
        self._metrics = Metrics()
        self._pool = ThreadPoolExecutor(self._limits.threads, "judging")
        self._admitted = 0
        self.stopping = False

    @property
    def app(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            lifespan=self._lifespan,
            routes=[
                Route("/judge", self._answer, methods=["POST"]),
                Route("/health", self._health),
                Route("/metrics", self._text_of_metrics),
                Route("/openapi.json", self._openapi),
                Route("/", self._page),
            ],
        )

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """Waits for what is being judged."""
        self.stopping = True
        self._pool.shutdown(wait=True, cancel_futures=True)

    async def _answer(self, request: Request) -> Response:
        response = await self._response(request)
        self._metrics.answered(response.status_code)
        return response

    async def _response(self, request: Request) -> Response:
        if not self._is_allowed(request):
            return refusal(
                401, "the token is missing or wrong; send Authorization: Bearer …", {"WWW-Authenticate": "Bearer"}
            )
        if self.stopping or self._admitted >= self._limits.threads + self._limits.queue:
            why = "the server is stopping" if self.stopping else "the queue is full"
            return refusal(503, f"{why}; send the request again later", {"Retry-After": _RETRY_AFTER})
        self._admitted += 1
        try:
            return await asyncio.wait_for(self._judged(request), self._limits.timeout)
        except (TimeoutError, asyncio.TimeoutError):
            return refusal(504, f"there was no verdict within {self._limits.timeout:g} seconds; send the request again")
        except BodyError as error:
            return refusal(error.status, str(error))
        except BlpoError as error:
            return refusal(400 if not isinstance(error, ModelError) else 502, str(error))
        finally:
            self._admitted -= 1

    def _is_allowed(self, request: Request) -> bool:
        if self._token is None:
            return True
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self._token.encode())

    async def _judged(self, request: Request) -> Response:
        inputs = await self._reader.read(request)
        loop = asyncio.get_running_loop()
        verdict = await loop.run_in_executor(self._pool, self._label, inputs)
        if verdict.failure:
            return refusal(502, f"the model failed: {verdict.failure}")
        return JSONResponse(
            {
                "label": verdict.label,
                "answer": verdict.answer,
                "description": verdict.description,
                "reasoning": verdict.reasoning or None,
                "invalid": verdict.label is None and not verdict.inconsistent,
                **{name: value for name in _OPTIONAL if (value := getattr(verdict, name)) is not None},
            }
        )

    def _label(self, inputs: Mapping[str, Any]) -> Verdict:
        """Judges one request in a thread of the pool; nothing of it is kept, but in a workspace its answers."""
        began = time.monotonic()
        deadline = began + self._limits.timeout
        job = self._workspace.job("serving", {}, counting="none")
        meter = Meter(num_threads=1, job=job, outages=Outages(0.0, known=True), deadline=deadline)
        with dspy.context(disable_history=True):
            prepared = self._judge.prepare(**inputs)
            outcome = "failed"
            try:
                verdict = label_one(metered(self._judge, self._models, meter), prepared)
                outcome = "failed" if verdict.failure else "invalid" if verdict.label is None else "labelled"
                return verdict
            finally:
                calls = {role: usage.calls for role, usage in meter.ledger.roles.items()}
                self._metrics.judged(outcome, time.monotonic() - began, calls)
                job.close()

    async def _health(self, _: Request) -> Response:
        if self.stopping:
            return refusal(503, "the server is stopping", {"Retry-After": _RETRY_AFTER})
        return JSONResponse(
            {"status": "ok", "inputs": list(self._judge.fields.names), "labels": self._judge.labels.to_dict()}
        )

    async def _text_of_metrics(self, _: Request) -> Response:
        running = min(self._admitted, self._limits.threads)
        text = self._metrics.text(waiting=self._admitted - running, running=running)
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    async def _openapi(self, _: Request) -> Response:
        return JSONResponse(openapi.document(self._judge))

    async def _page(self, _: Request) -> Response:
        return HTMLResponse(openapi.page(self._judge))
