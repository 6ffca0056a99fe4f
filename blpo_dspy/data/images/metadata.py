"""Removing metadata from encoded images: EXIF with the location of a photograph, texts, trailers."""

from __future__ import annotations

import re
import struct

# A JPEG keeps its JFIF header, its colour profile and Adobe's note on the colours; no other application segment and no
# comment affects the pixels.
_JFIF, _PROFILES, _ADOBE, _COMMENT = 0xE0, 0xE2, 0xEE, 0xFE
_APPLICATIONS = range(0xE0, 0xF0)
_BEGINNINGS = {_JFIF: b"JFIF\0", _PROFILES: b"ICC_PROFILE\0", _ADOBE: b"Adobe"}
_SCAN, _END = 0xDA, 0xD9
_NEXT_MARKER = re.compile(rb"\xff+([^\x00\xd0-\xd7\xff])")  # not one within a scan

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# In addition to the critical chunks, those that affect the pixels (PNG, third edition, §11.3).
_PNG_KEPT = (b"tRNS", b"cHRM", b"gAMA", b"iCCP", b"sBIT", b"sRGB", b"cICP", b"mDCV", b"cLLI", b"bKGD", b"hIST", b"pHYs")

_WEBP_KEPT = (b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"ICCP")
_WEBP_FLAGS = 0b0000_1100  # EXIF and XMP, in the first byte of VP8X

_GIF_IMAGE, _GIF_EXTENSION, _GIF_END = 0x2C, 0x21, 0x3B
_GIF_KEPT = 0xF9  # the graphic control extension


def without_metadata(kind: str, data: bytes) -> bytes | None:
    """Returns an encoded image without metadata, its pixels untouched; the same bytes if there is none.

    Args:
        kind: JPEG, PNG, WEBP or GIF.
        data: The file.

    Returns:
        The file without it; None if it is malformed and has to be encoded again.
    """
    strip = {"JPEG": _jpeg, "PNG": _png, "WEBP": _webp, "GIF": _gif}[kind]
    try:
        return strip(data)
    except (IndexError, struct.error, _MalformedError):
        return None


class _MalformedError(Exception):
    """Data that does not follow its format."""


def _part(data: bytes, start: int, end: int) -> bytes:
    if end > len(data):
        raise _MalformedError
    return data[start:end]


def _jpeg(data: bytes) -> bytes:
    """Segments up to the end of the first image; phones append further pictures and videos, with metadata."""
    kept = [data[:2]]
    position = 2
    while True:
        found = _NEXT_MARKER.match(data, position)
        if found is None:
            raise _MalformedError
        marker, start = found[1][0], found.end()
        if marker == _END:
            return b"".join([*kept, data[position:start]])
        end = start + struct.unpack_from(">H", data, start)[0]
        segment = _part(data, position, end)
        if marker == _SCAN:
            following = _NEXT_MARKER.search(data, end)
            if following is None:
                raise _MalformedError
            end = following.start()
            segment = data[position:end]
        position = end
        if _is_kept(marker, data[start + 2 : start + 14]):
            kept.append(segment)


def _is_kept(marker: int, beginning: bytes) -> bool:
    """Whether a segment of a JPEG affects its pixels."""
    if marker in _APPLICATIONS:
        return marker in _BEGINNINGS and beginning.startswith(_BEGINNINGS[marker])
    return marker != _COMMENT


def _png(data: bytes) -> bytes:
    kept = [_PNG_SIGNATURE]
    position = len(_PNG_SIGNATURE)
    while True:
        (length,), name = struct.unpack_from(">I", data, position), data[position + 4 : position + 8]
        chunk = _part(data, position, position + 12 + length)
        position += len(chunk)
        if name[0:1].isupper() or name in _PNG_KEPT:
            kept.append(chunk)
        if name == b"IEND":
            return b"".join(kept)


def _webp(data: bytes) -> bytes:
    (size,) = struct.unpack_from("<I", data, 4)
    whole = _part(data, 0, 8 + size)
    chunks: list[bytes] = []
    dropped, position = False, 12
    while position < len(whole):
        name, (length,) = whole[position : position + 4], struct.unpack_from("<I", whole, position + 4)
        chunk = whole[position : position + 8 + length + length % 2]
        if len(chunk) < 8 + length:
            raise _MalformedError
        position += len(chunk)
        if name in _WEBP_KEPT:
            chunks.append(chunk)
        else:
            dropped = True
    if not dropped:
        return whole
    body = b"".join(_without_flags(chunk) if chunk.startswith(b"VP8X") else chunk for chunk in chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def _without_flags(chunk: bytes) -> bytes:
    return chunk[:8] + bytes([chunk[8] & ~_WEBP_FLAGS]) + chunk[9:]


def _gif(data: bytes) -> bytes:
    position = 13 + _colours(data[10])
    kept = [_part(data, 0, position)]
    while data[position] != _GIF_END:
        start = position
        if data[position] == _GIF_IMAGE:
            position = _after_blocks(data, position + 11 + _colours(data[position + 9]))
        elif data[position] == _GIF_EXTENSION:
            position = _after_blocks(data, position + 2)
        else:
            raise _MalformedError
        if data[start] == _GIF_IMAGE or data[start + 1] == _GIF_KEPT:
            kept.append(data[start:position])
    return b"".join([*kept, bytes([_GIF_END])])


def _colours(flags: int) -> int:
    """The length in bytes of the colour table that a byte of flags announces."""
    return 3 * 2 ** ((flags & 0b111) + 1) if flags & 0b1000_0000 else 0


def _after_blocks(data: bytes, position: int) -> int:
    """Where a chain of data blocks ends."""
    while data[position]:
        position += data[position] + 1
    return position + 1
