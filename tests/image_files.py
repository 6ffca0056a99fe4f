"""Image files for tests: sound ones of many kinds, and broken ones."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ORIENTATION = 274


def photo(width: int = 40, height: int = 30, *, seed: int = 0) -> Image.Image:
    """A smooth, asymmetric RGB picture, different for every seed."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


def noise(width: int, height: int, *, seed: int = 0) -> Image.Image:
    """An RGB picture that no encoder can compress."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The image as a file of a format."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def turned(image: Image.Image, orientation: int, kind: str = "JPEG") -> bytes:
    """The image as a file whose EXIF data says how to turn it."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return encoded(image, kind, exif=exif)


def animated(kind: str, frames: int = 3) -> bytes:
    """A file of several different frames."""
    first, *others = (photo(seed=i) for i in range(frames))
    lossless = {"lossless": True} if kind == "WEBP" else {}
    return encoded(first, kind, save_all=True, append_images=others, duration=50, **lossless)


def png_header(width: int, height: int, depth: int = 8, colour: int = 2) -> bytes:
    """The first chunk of a PNG, with its signature."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


def png(width: int, height: int, rows: bytes, *, depth: int = 8, colour: int = 2) -> bytes:
    """A PNG of given raw rows (each begins with its filter byte), for what Pillow cannot write."""
    chunks = b""
    for name, data in ((b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        chunks += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    return png_header(width, height, depth, colour) + chunks


def content(url: str) -> tuple[str, bytes]:
    """The media type and the bytes of a data URI."""
    head, body = url.split(",", 1)
    return head.removeprefix("data:").removesuffix(";base64"), base64.b64decode(body)


def decoded(url: str) -> Image.Image:
    """The picture in a data URI."""
    image = Image.open(io.BytesIO(content(url)[1]))
    image.load()
    return image


def write_photos(folder: Path, count: int, *, first: int = 0) -> list[str]:
    """Writes distinct PNG files into a folder and returns their names."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{i:03}.png" for i in range(first, first + count)]
    for seed, name in enumerate(names, first):
        (folder / name).write_bytes(encoded(photo(8, 6, seed=seed)))
    return names
