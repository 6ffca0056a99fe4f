"""The body of a request as the inputs of a judge; whatever is in it is data: never a path, and never fetched."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from blpo_dspy.data.fields import ImageInput, InputFields
from blpo_dspy.data.images.prepare import is_reference
from blpo_dspy.errors import BlpoError
from blpo_dspy.serving.web import BodyError, body_bytes

_LOCAL_NAMES = ("localhost", "localhost.localdomain", "ip6-localhost")
_LOCAL_ENDINGS = (".local", ".internal", ".localhost", ".lan", ".home.arpa")
_MOST_FIELDS = 64


@dataclass(frozen=True)
class BodyReader:
    """Reads bodies.

    Args:
        fields: The inputs of the judge.
        max_body: The most bytes of a body.
        allow_urls: Whether an image may be an http(s) URL, which is passed on to the model's provider by reference.
    """

    fields: InputFields
    max_body: int
    allow_urls: bool = False

    async def read(self, request: Request) -> dict[str, Any]:
        """Returns the inputs that a request states.

        Raises:
            BodyError: If they cannot be read, or some are missing or of the wrong kind.
        """
        data = await body_bytes(request, self.max_body, "send smaller images")
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "multipart/form-data":
            found = await self._multipart(request.headers, data)
        elif kind == "application/json":
            found = self._json(data)
        elif kind.startswith("image/") or kind == "application/octet-stream":
            found = {self._only_image().name: data}
        else:
            raise BodyError(
                f"content type {kind[:80]!r} is not read; send multipart/form-data, application/json or an image", 415
            )
        try:
            self.fields.check(found)
        except BlpoError as error:
            raise BodyError(str(error)) from error
        return found

    async def _multipart(self, headers: Headers, data: bytes) -> dict[str, Any]:
        async def once() -> AsyncGenerator[bytes, None]:
            yield data

        parser = MultiPartParser(
            headers, once(), max_files=_MOST_FIELDS, max_fields=_MOST_FIELDS, max_part_size=self.max_body
        )
        try:
            form = await parser.parse()
        except (MultiPartException, ValueError, KeyError, AssertionError) as error:  # of parts without a name, say
            raise BodyError(f"the multipart body cannot be read ({error})") from error
        images = {image.name: image for image in self.fields.images}
        found: dict[str, Any] = {}
        for name, value in form.multi_items():
            content: Any = await value.read() if isinstance(value, UploadFile) else value
            if name in images:
                part = content if isinstance(content, bytes) else self._image(content)
                if images[name].several:
                    found.setdefault(name, []).append(part)
                elif name in found:
                    raise BodyError(f"input {name!r} takes one image, but there are several")
                else:
                    found[name] = part
            else:
                found[name] = self._text(name, content)
        return found

    def _json(self, data: bytes) -> dict[str, Any]:
        try:
            values = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise BodyError(f"the body is not JSON ({error})") from error
        if not isinstance(values, dict):
            raise BodyError(f"the body is a JSON {type(values).__name__}, not an object with the inputs of the judge")
        images = {image.name: image for image in self.fields.images}
        return {
            str(name): self._images(images[name], value) if name in images else self._text(str(name), value)
            for name, value in values.items()
        }

    def _images(self, image: ImageInput, value: Any) -> Any:
        if image.several:
            if not isinstance(value, list):
                raise BodyError(f"input {image.name!r} takes a list of images")
            return [self._image(part) for part in value]
        return self._image(value)

    def _image(self, value: Any) -> bytes | str:
        """An image as base64, a data URI, or, if allowed, a URL."""
        if isinstance(value, Mapping) and set(value) == {"url"}:
            value = value["url"]
        if not isinstance(value, str):
            raise BodyError(f"an image is base64, a data URI or a URL, not a {type(value).__name__}")
        if is_reference(value):
            return self._reference(value)
        encoded = value.partition(",")[2] if value[:5].lower() == "data:" else value
        try:
            return base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError) as error:
            raise BodyError(
                f"an image is not valid base64 ({error}); encode its bytes, or send it as a form"
            ) from error

    def _reference(self, url: str) -> str:
        if not self.allow_urls:
            raise BodyError("images by URL are not allowed here; send the image itself", 403)
        if _is_private(urlsplit(url).hostname or ""):
            raise BodyError("the URL leads to a private address; send the image itself", 403)
        return url

    def _text(self, name: str, value: Any) -> Any:
        """A text; an input that the judge doesn't have is refused with the others that are wrong."""
        if name in self.fields.context and not isinstance(value, str):
            raise BodyError(f"input {name!r} takes text")
        return value

    def _only_image(self) -> ImageInput:
        first, *others = self.fields.images
        if others or self.fields.context or first.several:
            raise BodyError(
                f"this judge takes {', '.join(self.fields.names)}; send them as multipart/form-data or JSON"
            )
        return first


def _is_private(host: str) -> bool:
    """Whether a host is an address that the public network doesn't reach, or a name for one."""
    host = host.rstrip(".").lower()
    if host in _LOCAL_NAMES or host.endswith(_LOCAL_ENDINGS) or "." not in host.replace(":", "."):
        return True
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return host.replace(".", "").isdecimal() or host.startswith("0x")  # other ways to write an address
