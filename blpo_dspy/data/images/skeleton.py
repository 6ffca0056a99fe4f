"""An encoded image without its pixels' data: what a decoder checks before it decodes, at a fraction of the time."""

from __future__ import annotations

import struct
import zlib

from blpo_dspy.data.images.metadata import PNG_SIGNATURE, MalformedError, bare_jpeg_parts, png_chunks, without_metadata

_ENOUGH = 4096  # bytes of zlib's data from which at least one byte is decompressed
_FILTERS = 5  # of a row of a PNG; its first byte says which (PNG, third edition, §9.2)
_NO_PIXELS = b"\0\0\0\0IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))


def bare_with_skeleton(kind: str, data: bytes) -> tuple[bytes, bytes] | None:
    """Returns an image file without metadata, and one without the data of its pixels, which a decoder reads like it.

    A JPEG keeps all its segments, so that a decoder refuses the same tables, frames and scans; damage within the
    entropy-coded data makes no decoder refuse a JPEG. In a PNG all chunks come before the pixels, whose data is only
    checked at its beginning, and the metadata stay: they may say anywhere how the image is turned.

    Args:
        kind: JPEG or PNG.
        data: The file; of a PNG, one whose checksums are right.

    Returns:
        Both; None if it is malformed or unusual (an animation), and has to be decoded to say whether it is whole.
    """
    try:
        if kind == "JPEG":
            parts = bare_jpeg_parts(data)
            whole = sum(len(segment) + len(scan) for segment, scan in parts) == len(data)
            bare = data if whole else b"".join(segment + scan for segment, scan in parts)
            return bare, b"".join(segment for segment, _ in parts)
        bare_png, bones = without_metadata(kind, data), _png(data)
        return (bare_png, bones) if bare_png and bones else None
    except (IndexError, struct.error, zlib.error, MalformedError):
        return None


def _png(data: bytes) -> bytes | None:
    chunks = png_chunks(data)
    names = [name for name, _ in chunks]
    places = [place for place, name in enumerate(names) if name == b"IDAT"]
    if not places or places[-1] - places[0] >= len(places) or b"acTL" in names:
        return None
    pixels = b"".join(chunk[8:-4] for name, chunk in chunks if name == b"IDAT")
    if zlib.decompressobj().decompress(pixels[:_ENOUGH], 1)[0] >= _FILTERS:
        return None
    others = [chunk for name, chunk in chunks if name != b"IDAT"]
    return b"".join([PNG_SIGNATURE, *others[:-1], _NO_PIXELS, others[-1]])
