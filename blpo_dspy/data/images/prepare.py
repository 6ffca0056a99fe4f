"""Images in, `dspy.Image` out: one recorded pixel policy, applied alike while compiling and in use."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import os
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeAlias
from urllib.parse import unquote_to_bytes, urlsplit

import dspy
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import PrivateAttr

from blpo_dspy.data.images.encoding import ImageError, PixelLimits, conform, conform_image
from blpo_dspy.data.images.remote import RemoteImage
from blpo_dspy.errors import BlpoError, brief, shown

__all__ = [
    "ImageError",
    "ImageSource",
    "PixelPolicy",
    "PreparedImage",
    "content",
    "fingerprint",
    "is_reference",
    "try_prepare_all",
    "unwrapped",
]

ImageSource: TypeAlias = str | os.PathLike[str] | bytes | Image.Image | NDArray[Any] | dspy.Image | RemoteImage

NO_FILE = "no such file"
"""The reason of an `ImageError` where a path leads nowhere."""

MAX_FILE = 256 * 2**20
"""The largest file that is read, in bytes; an image within any sensible pixel limit is smaller."""

_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
_THREADS = 4
_AT_ONCE = 8  # images in a task; one task for each of a million references would take longer to schedule


class PreparedImage(dspy.Image):
    """A `dspy.Image` that remembers the pixel policy it went through, so that it is checked and encoded only once.

    Made by `PixelPolicy.prepare`. It renders, compares and hashes as the `dspy.Image` of the same URL; copies and
    pickles keep what it remembers.
    """

    _policy: PixelPolicy | None = PrivateAttr(default=None)
    _fingerprint: str | None = PrivateAttr(default=None)

    def __eq__(self, other: object) -> bool:
        return self.url == other.url if isinstance(other, dspy.Image) else NotImplemented

    __hash__ = dspy.Image.__hash__


@dataclass(frozen=True)
class PixelPolicy(PixelLimits):
    """How every image is prepared for a model; recorded in the artifact.

    Images are turned upright (EXIF), reduced to their first frame, flattened onto white, brought to 8-bit RGB or
    grey, fitted to `max_side` and to `max_bytes`. One that conforms already keeps the exact bytes of its pixels.
    Lossless sources become PNG if that fits the byte budget, all others JPEG. No metadata is passed on (EXIF with the
    place of a photograph, XMP, texts, what stands behind the image), but colour profiles are.

    Args:
        max_side: Longest side in pixels, 16 to 16384.
        max_bytes: Largest encoded size in bytes, before base64 (which adds a third); at least 4096.
        jpeg_quality: Quality to encode JPEG at, 30 to 95; lower only where the byte budget demands it.
        max_pixels: Most pixels a source may have, at most 178 956 970; more are refused as a decompression bomb.
        formats: Formats that pass as they are if they conform: any of JPEG, PNG, WEBP, GIF. Leave WEBP out for a
            server that doesn't read it. GIF is converted to PNG by default, as some local servers don't read it.
        check: How a JPEG or PNG whose bytes are passed on is checked. "structure" decodes no pixels: a JPEG is checked
            by its markers, segments and end, a PNG by its chunks, their checksums, its end and the beginning of its
            compressed data. Of what "decode" refuses, which decodes every image in full, that passes a PNG with
            right checksums around compressed data that is damaged or too short; its provider may refuse it, or not
            see it as it was. No other damage passes, as decoders pass over damaged entropy-coded data of a JPEG. Images
            that are encoded again, and WebP and GIF, are decoded either way, and the bytes sent are the same.

    Raises:
        BlpoError: If a value is out of range.
    """

    def prepare(self, source: ImageSource) -> PreparedImage:
        """Returns the image as this policy wants it; an image that it prepared before comes back as it is.

        Args:
            source: A path, bytes, a PIL image, a NumPy array (uint8, shape (height, width) or (height, width, 1, 3 or
                4)), a `dspy.Image`, a data URI, or an http(s) or gs URL. A URL is passed on by reference: it is never
                fetched, so nothing about it is checked, and no metadata left out. The type of an image is taken from
                its content, whatever its name.

        Raises:
            ImageError: If the source is missing, empty, not an image, damaged or too large, or not one of these kinds.
        """
        if isinstance(source, PreparedImage) and source._policy == self:
            return source
        try:
            return self._prepare(source)
        except ImageError as error:
            raise ImageError(error.reason, _name(source)) from error.__cause__

    def _prepare(self, source: ImageSource) -> PreparedImage:
        if isinstance(source, dspy.Image):
            source = source.url
        if isinstance(source, str) and is_reference(source):
            return self._prepared(source)
        if isinstance(source, np.ndarray):
            source = _of_array(source)
        if isinstance(source, Image.Image):
            media_type, data = conform_image(source, self)
        else:
            media_type, data = conform(_read(source), self)
        return self._prepared(f"data:{media_type};base64,{base64.b64encode(data).decode()}")

    def _prepared(self, url: str) -> PreparedImage:
        image = PreparedImage(url)
        image._policy = self
        return image

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON, without `check` where it has its default; `from_dict` reads it back."""
        plain = {**asdict(self), "formats": list(self.formats)}
        if self.check == PixelLimits.check:
            del plain["check"]  # which doesn't change what is sent, so that earlier files stay valid
        return plain

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PixelPolicy:
        """Returns the policy that `to_dict` wrote.

        Raises:
            BlpoError: If the data is not of that form.
        """
        names = [field.name for field in fields(cls) if field.name != "check"]
        if not isinstance(data, Mapping) or {*data} - {"check"} != {*names} or not isinstance(data["formats"], list):
            raise BlpoError(f"not a pixel policy: {data!r}; expected exactly the keys {names}, and perhaps 'check'")
        return cls(**{**data, "formats": tuple(str(kind) for kind in data["formats"])})


def try_prepare_all(
    sources: Iterable[ImageSource], policy: PixelPolicy | None = None
) -> list[PreparedImage | ImageError]:
    """Returns for each source, in order, the prepared image or the error that says why there is none."""
    policy = policy or PixelPolicy()

    def attempt(several: Sequence[ImageSource]) -> list[PreparedImage | ImageError]:
        return [_attempt(source, policy) for source in several]

    listed = list(sources)
    parts = [listed[start : start + _AT_ONCE] for start in range(0, len(listed), _AT_ONCE)]
    # Pillow decodes and encodes without the GIL.
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        return [image for part in pool.map(attempt, parts) for image in part]


def _attempt(source: ImageSource, policy: PixelPolicy) -> PreparedImage | ImageError:
    try:
        return policy.prepare(source)
    except ImageError as error:
        return error


def fingerprint(image: dspy.Image) -> str:
    """Returns the SHA-256 of an image's encoded content in hex, or of the URL of one passed by reference."""
    if isinstance(image, PreparedImage) and image._fingerprint is not None:
        return image._fingerprint
    content = image.url.encode() if is_reference(image.url) else _decode_uri(image.url)
    digest = hashlib.sha256(content).hexdigest()
    if isinstance(image, PreparedImage):
        image._fingerprint = digest
    return digest


def content(source: ImageSource) -> bytes | str:
    """Returns an image's bytes as they were given, of one in memory those of a PNG, or the URL of one by reference.

    Raises:
        ImageError: If the source cannot be read; bytes that were given are not checked.
    """
    if isinstance(source, dspy.Image):
        source = source.url
    if isinstance(source, np.ndarray):
        source = _of_array(source)
    if isinstance(source, Image.Image):
        buffer = io.BytesIO()
        (source if source.mode in _PNG_MODES else source.convert("RGB")).save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()
    return source if isinstance(source, str) and is_reference(source) else _read(source)


def unwrapped(cell: Any) -> Any:
    """Returns of an image as `datasets` stores it its bytes, or else its path; anything else as it is."""
    if isinstance(cell, Mapping) and {"bytes", "path"} & set(cell):
        return cell.get("path") if cell.get("bytes") is None else cell["bytes"]
    return cell


def _of_array(pixels: NDArray[Any]) -> Image.Image:
    """The picture of an array."""
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (3, 4))):
        raise ImageError(
            f"an array of shape {pixels.shape} and type {pixels.dtype} is not an image; give uint8 of shape (height, "
            "width), or with 3 or 4 channels at the end"
        )
    return Image.fromarray(pixels)


# No character that could end a URL in a prompt and begin a marker or another URL.
_PLAIN_HOST = re.compile(r"(?:https?|gs)://[A-Za-z0-9.-]+(?:[/?#]|:\d{1,5}(?:[/?#]|$)|$)", re.IGNORECASE)
_NOT_IN_A_URL = re.compile(r'[\s<>"\ud800-\udfff]')


def is_reference(text: str) -> bool:
    """Whether a text is an http(s) or gs URL, which is passed on by reference; one with white space or <>" is not."""
    if not text[:8].lower().startswith(("http://", "https://", "gs://")) or _NOT_IN_A_URL.search(text):
        return False
    if _PLAIN_HOST.match(text):
        return True
    try:
        return bool(urlsplit(text).netloc)
    except ValueError:
        return False


def _read(source: str | os.PathLike[str] | bytes | RemoteImage) -> bytes:
    if isinstance(source, bytes):
        return source
    if isinstance(source, RemoteImage):
        return source.read(MAX_FILE)
    if isinstance(source, str) and source[:5].lower() == "data:":
        return _decode_uri(source)
    if not isinstance(source, (str, os.PathLike)):
        raise ImageError(
            "an image is a path, bytes, a PIL image, a NumPy array, a dspy.Image, a data URI or an http(s) or gs URL"
        )
    if isinstance(source, str) and "://" in source:
        raise ImageError("not an http(s) or gs URL, and other addresses are not read; give a path instead")
    return _read_file(source)


def _read_file(source: str | os.PathLike[str]) -> bytes:
    try:
        status = os.stat(source)
        if not stat.S_ISREG(status.st_mode):
            raise ImageError("a folder, not a file" if stat.S_ISDIR(status.st_mode) else "not a regular file")
        if status.st_size > MAX_FILE:
            raise ImageError(f"the file has {status.st_size} bytes, more than {MAX_FILE}")
        with open(source, "rb") as file:
            return file.read()
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError(NO_FILE) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise ImageError(f"cannot be read ({getattr(error, 'strerror', None) or error})") from error


def _decode_uri(uri: str) -> bytes:
    header, comma, body = uri.partition(",")
    if not comma:
        raise ImageError("a data URI without data")
    if not header.lower().endswith(";base64"):
        return unquote_to_bytes(body)
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ImageError(f"a data URI whose base64 is damaged ({error})") from None


def _name(source: object) -> str:
    """What an error calls a source, in a few words."""
    if isinstance(source, dspy.Image):
        source = source.url
    if isinstance(source, (str, os.PathLike)):
        text = str(source)
        return shown(text[:40]) + "…" if text[:5].lower() == "data:" else brief(text)
    if isinstance(source, bytes):
        return f"bytes ({len(source)})"
    return f"{type(source).__name__} object"
