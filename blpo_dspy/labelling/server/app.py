"""The server of a page: its files, what it shows, what a person answers, and images by number."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from blpo_dspy.errors import BlpoError
from blpo_dspy.labelling.server.guard import Guard
from blpo_dspy.labelling.server.pictures import BusyError, Pictures
from blpo_dspy.labelling.session import ConflictError, Session
from blpo_dspy.labelling.table import TableError
from blpo_dspy.serving.web import BodyError, body_bytes, refusal
from blpo_dspy.workspace.store import StoreError

_MOST_BYTES = 64 * 1024
_SECONDS_FOR_BODY = 30
_FILES = {
    "label.js": "text/javascript",
    "zoom.js": "text/javascript",
    "label.css": "text/css",
    "icon.svg": "image/svg+xml",
}
_STATUS = ((ConflictError, 409), (StoreError, 507), (TableError, 507))
_WEEK = "private, max-age=604800, immutable"


class LabelServer:
    """The page of one person.

    Args:
        session: What it shows and what answers do.
        host: The address that is listened on.
        token: What each address has to begin with; a random one if None.
        second_page: Returns the HTML of the page with figures, if there is one.
        ancestors: Who may frame the page, as the Content-Security-Policy writes it.
    """

    def __init__(
        self,
        session: Session,
        host: str,
        token: str | None = None,
        second_page: Callable[[], str] | None = None,
        ancestors: str = "'none'",
    ) -> None:
        self.token = token or secrets.token_urlsafe(24)
        self._session, self._second_page = session, second_page
        self._pictures = Pictures(session.sources)
        self._page = files("blpo_dspy.labelling").joinpath("page")
        self.app = Guard(self._routes(), self.token, host, ancestors)

    def _routes(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/", self._index),
                Route("/static/{name}", self._static),
                Route("/state", self._state),
                Route("/act", self._act, methods=["POST"]),
                Route("/image/{position:int}/{number:int}", self._image),
                Route("/agreement", self._figures),
            ],
            exception_handlers={HTTPException: _plain_refusal},
        )

    async def _index(self, _: Request) -> Response:
        return HTMLResponse(self._page.joinpath("label.html").read_text(encoding="utf-8"))

    async def _static(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in _FILES:
            return refusal(404, "there is no such file")
        return Response(self._page.joinpath(name).read_bytes(), media_type=_FILES[name])

    async def _figures(self, _: Request) -> Response:
        if self._second_page is None:
            return refusal(404, "this page has no figures")
        try:
            return HTMLResponse(await asyncio.to_thread(self._second_page))
        except BlpoError as error:
            return refusal(500, str(error))

    async def _state(self, request: Request) -> Response:
        at = request.query_params.get("at")
        if at is not None and not (at.isdecimal() and len(at) < 10):
            return refusal(404, "there is no such picture")
        try:
            return JSONResponse(await asyncio.to_thread(self._session.view, None if at is None else int(at)))
        except BlpoError as error:
            return refusal(404, str(error))

    async def _act(self, request: Request) -> Response:
        try:
            action = await asyncio.wait_for(_action(request), _SECONDS_FOR_BODY)
            return JSONResponse(await asyncio.to_thread(self._session.act, action))
        except (TimeoutError, asyncio.TimeoutError):
            return refusal(408, f"the request was not complete within {_SECONDS_FOR_BODY} seconds")
        except BlpoError as error:
            own = error.status if isinstance(error, BodyError) else 400
            return refusal(next((status for kind, status in _STATUS if isinstance(error, kind)), own), str(error))

    async def _image(self, request: Request) -> Response:
        try:
            media_type, data = await self._pictures.get(request.path_params["position"], request.path_params["number"])
        except LookupError:
            return refusal(404, "there is no such picture")
        except BusyError:
            return refusal(503, "too many pictures are asked for at once", {"Retry-After": "1"})
        except BlpoError as error:
            return refusal(422, f"this picture cannot be shown: {error}")
        return Response(data, media_type=media_type, headers={"Cache-Control": _WEEK})


async def _action(request: Request) -> Mapping[str, Any]:
    """The JSON object that a request states.

    Raises:
        BodyError: If it states none, or a larger one than the page ever sends.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise BodyError("an answer is sent as application/json", 415)
    data = await body_bytes(request, _MOST_BYTES, "shorten the reason")
    try:
        action = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BodyError("the body is not JSON") from error
    if not isinstance(action, dict):
        raise BodyError("the body is not a JSON object")
    return action


async def _plain_refusal(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return refusal(error.status_code, str(error.detail), error.headers)
