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
# Within a scan 0xff stands before a zero, where it is data, or before a restart; 0xff may fill up before any marker.
_NOT_IN_A_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7]")
_FILLED = re.compile(rb"\xff+([^\x00\xd0-\xd7\xff]?)")

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
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
    except (IndexError, struct.error, MalformedError):
        return None


class MalformedError(Exception):
    """Data that does not follow its format."""


def _part(data: bytes, start: int, end: int) -> bytes:
    if end > len(data):
        raise MalformedError
    return data[start:end]


def jpeg_parts(data: bytes) -> list[tuple[bytes, bytes]]:
    """Returns the segments of the first image of a JPEG, each with the entropy-coded data behind it.

    Phones append further pictures and videos, with metadata.

    Raises:
        MalformedError: If they don't follow each other up to the end of the image; `IndexError` or `struct.error`
            where the data ends within one.
    """
    parts = [(data[:2], b"")]
    position = 2
    while True:
        start, marker = _next_marker(data, position)
        if start != position:
            raise MalformedError
        begin = marker + 1
        if data[marker] == _END:
            return [*parts, (data[start:begin], b"")]
        end = begin + struct.unpack_from(">H", data, begin)[0]
        segment = _part(data, start, end)
        position = _next_marker(data, end)[0] if data[marker] == _SCAN else end
        parts.append((segment, data[end:position]))


def bare_jpeg_parts(data: bytes) -> list[tuple[bytes, bytes]]:
    """Returns the segments that affect the pixels; see `jpeg_parts`."""
    return [(segment, scan) for segment, scan in jpeg_parts(data) if _is_kept(segment.lstrip(b"\xff"))]


def _next_marker(data: bytes, position: int) -> tuple[int, int]:
    """Where the next marker that is not within a scan begins, with its fill bytes, and where its code stands."""
    while found := _NOT_IN_A_SCAN.search(data, position):
        filled = _FILLED.match(data, found.start())
        assert filled is not None, "it begins there"
        if filled[1]:
            return filled.start(), filled.end() - 1
        position = filled.end()
    raise MalformedError


def _jpeg(data: bytes) -> bytes:
    return b"".join(segment + scan for segment, scan in bare_jpeg_parts(data))


def _is_kept(segment: bytes) -> bool:
    """Whether a segment of a JPEG, from the code of its marker, affects the pixels."""
    marker = segment[0]
    if marker in _APPLICATIONS:
        return marker in _BEGINNINGS and segment[3:].startswith(_BEGINNINGS[marker])
    return marker != _COMMENT


def png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Returns the chunks of a PNG up to its end, each with its name.

    Raises:
        MalformedError: If one is cut short; `struct.error` where there is no end.
    """
    chunks: list[tuple[bytes, bytes]] = []
    position = len(PNG_SIGNATURE)
    while not chunks or chunks[-1][0] != b"IEND":
        (length,), name = struct.unpack_from(">I", data, position), data[position + 4 : position + 8]
        chunks.append((name, _part(data, position, position + 12 + length)))
        position += 12 + length
    return chunks


def _png(data: bytes) -> bytes:
    kept = [chunk for name, chunk in png_chunks(data) if name[0:1].isupper() or name in _PNG_KEPT]
    return b"".join([PNG_SIGNATURE, *kept])


def _webp(data: bytes) -> bytes:
    (size,) = struct.unpack_from("<I", data, 4)
    whole = _part(data, 0, 8 + size)
    chunks: list[bytes] = []
    dropped, position = False, 12
    while position < len(whole):
        name, (length,) = whole[position : position + 4], struct.unpack_from("<I", whole, position + 4)
        chunk = whole[position : position + 8 + length + length % 2]
        if len(chunk) < 8 + length:
            raise MalformedError
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
            raise MalformedError
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
