"""What our servers share: how a refusal looks, how a body is read within a limit, and which addresses are loopback."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from blpo_dspy.errors import BlpoError, shown


class BodyError(BlpoError):
    """A request that cannot be answered.

    Attributes:
        status: The HTTP status that says so.
    """

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.status = status


def refusal(status: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
    """Returns an error as all of our servers state it: JSON with one line."""
    return JSONResponse({"error": shown(text.partition("\n")[0])}, status, dict(headers or {}))


async def body_bytes(request: Request, most: int, advice: str) -> bytes:
    """Returns the body of a request, of which no more is read than `most` bytes; the advice is for a larger one.

    Raises:
        BodyError: If it is larger, or the client has gone.
    """
    stated = request.headers.get("content-length", "0")
    too_large = BodyError(f"the body is larger than {most} bytes; {advice}", 413)
    if not stated.isdecimal() or int(stated) > most:
        raise too_large
    parts, size = [], 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > most:
                raise too_large
            parts.append(part)
    except ClientDisconnect as error:
        raise BodyError("the client closed the connection before its request was complete") from error
    return b"".join(parts)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
