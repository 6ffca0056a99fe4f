"""What stands in front of every page and request: the host, the token, the origin, a bound on requests, the headers."""

from __future__ import annotations

import hmac
import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from blpo_dspy.serving.web import refusal

_MOST_AT_ONCE = 256
_SECURITY = {
    # Nothing inline, nothing from elsewhere, and nobody else frames the page.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors {ancestors}"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


class Guard:
    """Lets through what comes from the page itself, and what has the token.

    The token is the first part of each path, so that no cookie is needed, which browsers share among the ports of a
    machine, and a page of somebody else can't name any address here.

    Args:
        app: What is guarded; it sees paths without the token.
        token: What each path has to begin with.
        host: The address that is listened on; a name is only answered to if it is this one.
        ancestors: Who may frame the page, as the Content-Security-Policy writes it.
    """

    def __init__(self, app: ASGIApp, token: str, host: str, ancestors: str = "'none'") -> None:
        self._app, self._token, self._host = app, token, host.lower()
        self._headers = {name: value.format(ancestors=ancestors) for name, value in _SECURITY.items()}
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or has it answered."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        scope = dict(scope)
        refused = self._refused(scope)
        if refused is None and self._under_way >= _MOST_AT_ONCE:
            refused = (503, "there are too many requests at once; send this one again later")
        if refused is not None:
            more = {"Retry-After": "1"} if refused[0] == 503 else None
            await refusal(*refused, more)(scope, receive, self._with_headers(send))
            return
        self._under_way += 1
        try:
            await self._app(scope, receive, self._with_headers(send))
        finally:
            self._under_way -= 1

    def _refused(self, scope: Scope) -> tuple[int, str] | None:
        """The status and reason of a refusal; a path that is let through loses its token."""
        headers = Headers(scope=scope)
        if not self._is_ours(headers.get("host", "")):
            return 421, "this name is not the server's; open the address that the command printed"
        _, token, *rest = scope["path"].split("/", 2) if scope["path"].startswith("/") else ("", "")
        if not hmac.compare_digest(token.encode(), self._token.encode()):
            return 401, "the token is missing or wrong; open the address that the command printed"
        if not rest:
            return 404, "the address of the page ends with a slash"
        if scope["method"] not in ("GET", "HEAD") and not _same_origin(headers):
            return 403, "the request comes from another page"
        scope["path"] = f"/{rest[0]}"
        scope["raw_path"] = scope["path"].encode()
        return None

    def _is_ours(self, host: str) -> bool:
        """Whether a host is an address, which no name server can turn to this machine, or the name we listen on."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in ("localhost", self._host)
        return True

    def _with_headers(self, send: Send) -> Send:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        return sending


def _same_origin(headers: Headers) -> bool:
    """Whether a request was made by a page of this server, as each browser states."""
    origin = headers.get("origin")
    if origin is None:
        return headers.get("sec-fetch-site") == "same-origin"
    return urlsplit(origin).netloc == headers.get("host") and headers.get("sec-fetch-site", "same-origin") == (
        "same-origin"
    )
