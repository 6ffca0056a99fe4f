"""Images without their pixels' data: what is checked of a file whose bytes are passed on, and what is not."""

from __future__ import annotations

import io
import random
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from image_files import animated, content, encoded, noise, photo, png_header, turned
from PIL import Image, PngImagePlugin

from blpo_dspy.data.images.prepare import ImageError, PixelPolicy
from blpo_dspy.data.images.skeleton import bare_with_skeleton

STRUCTURE, DECODE = PixelPolicy(), PixelPolicy(check="decode")


def outcome(policy: PixelPolicy, data: bytes) -> str:
    """What comes of an image: its URL, or why it is refused."""
    try:
        return policy.prepare(data).url
    except ImageError as error:
        return error.reason


def chunk(name: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def behind_the_pixels(name: bytes, data: bytes) -> bytes:
    """A PNG with a chunk between its pixels and its end."""
    whole = encoded(photo(20, 16))
    return whole[:-12] + chunk(name, data) + whole[-12:]


def exif(orientation: int) -> bytes:
    """EXIF data that says how to turn an image, as a PNG holds it."""
    whole = turned(photo(20, 16), orientation, "PNG")
    start = whole.index(b"eXIf")
    return whole[start + 4 : start + 4 + struct.unpack(">I", whole[start - 4 : start])[0]]


XMP = b'XML:com.adobe.xmp\0\0\0\0\0<x:xmpmeta tiff:Orientation="%d"/>'
FILES: dict[str, Callable[[], bytes]] = {
    "JPEG": lambda: encoded(photo(20, 16), "JPEG"),
    "progressive JPEG": lambda: encoded(noise(40, 30), "JPEG", progressive=True),
    "grey JPEG": lambda: encoded(photo(20, 16).convert("L"), "JPEG"),
    "JPEG with restarts": lambda: encoded(noise(40, 30), "JPEG", restart_marker_blocks=1),
    "JPEG with fill bytes": lambda: encoded(photo(20, 16), "JPEG").replace(b"\xff\xc4", b"\xff\xff\xff\xc4"),
    "MPO": lambda: encoded(photo(20, 16), "MPO", save_all=True, append_images=[photo(seed=1)]),
    "upright JPEG": lambda: turned(photo(20, 16), 1),
    "turned JPEG": lambda: turned(photo(20, 16), 6),
    "CMYK": lambda: encoded(photo(20, 16).convert("CMYK"), "JPEG"),
    "PNG": lambda: encoded(photo(20, 16)),
    "PNG in several parts": lambda: encoded(noise(200, 200)),
    "turned PNG": lambda: turned(photo(20, 16), 6, "PNG"),
    "PNG turned behind its pixels": lambda: behind_the_pixels(b"eXIf", exif(3)),
    "PNG upright behind its pixels": lambda: behind_the_pixels(b"eXIf", exif(1)),
    "PNG turned by XMP behind its pixels": lambda: behind_the_pixels(b"iTXt", XMP % 8),
    "PNG with a text behind its pixels": lambda: behind_the_pixels(b"tEXt", b"date:create\x002026"),
    "PNG with a damaged text behind its pixels": lambda: behind_the_pixels(b"zTXt", b"a\0\0garbage"),
    "PNG that is transparent behind its pixels": lambda: behind_the_pixels(b"tRNS", b"\0\1\0\2\0\3"),
    "PNG with alpha": lambda: encoded(photo(20, 16).convert("RGBA")),
    "palette": lambda: encoded(photo(20, 16).quantize(8)),
    "animated PNG": lambda: animated("PNG"),
}


@pytest.mark.parametrize("name", FILES)
def test_the_same_bytes_are_sent_as_of_an_image_that_is_decoded(name: str) -> None:
    """Whatever the image says of itself, before its pixels or behind them."""
    data = FILES[name]()
    assert DECODE.prepare(data).url == STRUCTURE.prepare(data).url


@pytest.mark.parametrize("name", FILES)
def test_damage_is_refused_as_it_is_by_decoding(name: str) -> None:
    """Any byte, a stretch that is cut out, and an early end: for the same reason, or the same bytes are sent."""
    whole, rng = FILES[name](), random.Random(f"damage:{name}")
    refused = 0
    for _ in range(250):
        start = rng.randrange(len(whole))
        damage = rng.choice([b"", None, b"\xff\xd8", b"\0" * 9, bytes([whole[start] ^ 1 << rng.randrange(8)])])
        data = whole[:start] if damage is None else whole[:start] + damage + whole[start + len(damage or b"xx") :]
        expected = outcome(DECODE, data)
        assert outcome(STRUCTURE, data) == expected, (start, damage)
        refused += not expected.startswith("data:")
    assert refused > 20


def test_a_jpegs_scans_are_left_out() -> None:
    """What is left of a large file is a few hundred bytes, of the same size in pixels."""
    data = encoded(noise(900, 600), "JPEG", progressive=True)
    found = bare_with_skeleton("JPEG", data)
    assert found is not None
    bare, bones = found
    assert bare is data
    assert len(bones) * 100 < len(data)
    assert Image.open(io.BytesIO(bones)).size == (900, 600)


def test_only_the_pixels_of_a_png_are_left_out() -> None:
    """What stands behind them comes before them, so that opening the file reads it."""
    texts = PngImagePlugin.PngInfo()
    texts.add(b"prVt", b"private", after_idat=True)
    found = bare_with_skeleton("PNG", encoded(noise(200, 200), "PNG", pnginfo=texts))
    assert found is not None
    _, bones = found
    assert len(bones) < 120
    opened = Image.open(io.BytesIO(bones))
    assert isinstance(opened, PngImagePlugin.PngImageFile)
    assert (opened.size, opened.mode, opened.private_chunks) == ((200, 200), "RGB", [(b"prVt", b"private")])


@pytest.mark.parametrize("check", ["structure", "decode"])
def test_only_decoding_finds_damage_of_a_png_with_right_checksums(check: str) -> None:
    """Data that ends early, and data that is damaged after its beginning; nothing of it is decoded by structure."""
    values = photo(40, 30).tobytes()
    rows = zlib.compress(b"".join(b"\0" + values[start : start + 120] for start in range(0, len(values), 120)))
    end, policy = chunk(b"IEND", b""), PixelPolicy(check=check)  # type: ignore[arg-type]
    for pixels in (rows[: len(rows) // 2], rows[:500] + bytes(byte ^ 0x55 for byte in rows[500:])):
        data = png_header(40, 30) + chunk(b"IDAT", pixels) + end
        if check == "structure":
            assert content(policy.prepare(data).url) == ("image/png", data)
        else:
            with pytest.raises(ImageError, match=r"truncated|damaged"):
                policy.prepare(data)


@pytest.mark.parametrize(
    "pixels", [b"", b"garbage that is no zlib data", zlib.compress(b""), zlib.compress(b"\x09" + b"\0" * 12)]
)
def test_a_png_whose_pixels_cannot_begin_is_refused(pixels: bytes) -> None:
    """Without data, with data that is not compressed, and with a filter that no decoder knows."""
    with pytest.raises(ImageError):
        STRUCTURE.prepare(png_header(4, 1) + chunk(b"IDAT", pixels) + chunk(b"IEND", b""))


def test_a_scan_of_fill_bytes_is_read_in_linear_time() -> None:
    """They may stand before any marker, in any number."""
    whole = encoded(photo(20, 16), "JPEG")
    began = time.perf_counter()
    for end in (b"", b"\0", b"\xd9"):
        outcome(STRUCTURE, whole[:-2] + b"\xff" * 1_400_000 + end)
    assert time.perf_counter() - began < 10


def test_an_image_checked_by_structure_is_checked_again_where_it_is_to_be_decoded(tmp_path: Path) -> None:
    """A prepared image remembers how it was checked."""
    data = png_header(40, 30) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    (tmp_path / "short.png").write_bytes(data)
    prepared = STRUCTURE.prepare(tmp_path / "short.png")
    assert STRUCTURE.prepare(prepared) is prepared
    with pytest.raises(ImageError, match="truncated"):
        DECODE.prepare(prepared)
