"""Preparing the pixels of an image for a model: checked, turned upright, flattened, fitted."""

from __future__ import annotations

import io
import struct
import threading
import warnings
import zlib
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from PIL import Image, UnidentifiedImageError

from blpo_dspy.data.images.metadata import without_metadata
from blpo_dspy.data.images.skeleton import bare_with_skeleton
from blpo_dspy.errors import BlpoError, check_kind

Check: TypeAlias = Literal["structure", "decode"]
"""How an image whose bytes are passed on is checked; `PixelPolicy` explains them."""

MEDIA_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "GIF": "image/gif"}

# Only decoders of pictures: Pillow also knows formats that start another program (EPS runs Ghostscript).
_READ = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "ICO")
_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"GIF8", b"BM", b"II*\0", b"MM\0*")
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")
_LOSSY = ("JPEG", "WEBP", "AVIF", "JPEG2000")

DECODED_AT_ONCE = 2**30
"""The most bytes of decoded pixels in memory at once, over all threads; a larger image is decoded alone."""

_BYTES_PER_PIXEL = 8  # as it was decoded, and flattened
_STRIP = 2**20  # pixels that are flattened at a time
_MOST_BONES = 2**14  # bytes of a JPEG without the data of its pixels up to which its check is remembered

# What Pillow's decoders are known to raise on damaged files.
_DAMAGE = (
    *(OSError, SyntaxError, ValueError, EOFError, KeyError, IndexError, TypeError, AttributeError, AssertionError),
    *(OverflowError, RuntimeError, struct.error, zlib.error),
)

_ORIENTATION = 274  # EXIF tag, Exif 2.32 §4.6.4
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class MemoryBudget:
    """Bytes of memory that threads share; one that needs more than are left waits, first come, first served."""

    def __init__(self, total: int) -> None:
        self._total = self._left = total
        self._turn, self._room = threading.Lock(), threading.Condition()

    @contextmanager
    def taken(self, amount: int) -> Iterator[None]:
        """Takes an amount, at most all there is, while the block runs."""
        amount = min(amount, self._total)
        with self._turn, self._room:
            self._room.wait_for(lambda: self._left >= amount)
            self._left -= amount
        try:
            yield
        finally:
            with self._room:
                self._left += amount
                self._room.notify()


_BUDGET = MemoryBudget(DECODED_AT_ONCE)


class ImageError(BlpoError):
    """An image that cannot be used.

    Args:
        reason: Why, in one line.
        name: The file, row or kind of source.
    """

    def __init__(self, reason: str, name: str = "") -> None:
        self.reason = reason
        self.name = name
        super().__init__(f"{name}: {reason}" if name else reason)


@cache
def _readable() -> tuple[str, ...]:
    """The formats to read that this build of Pillow knows."""
    Image.init()
    return tuple(kind for kind in _READ if kind in Image.OPEN)


def kind_of(path: Path) -> str | None:
    """Returns the format of a file that is an image by its content, whatever its name; None for any other.

    HEIC, which phones write and no decoder here reads, is recognized too.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of many pixels: none are decoded
            with Image.open(path, formats=_readable()) as image:
                return str(image.format)
    except UnidentifiedImageError:
        with path.open("rb") as file:
            beginning = file.read(12)
        return "HEIC" if beginning[4:8] == b"ftyp" and beginning[8:] in _HEIC else None
    except (*_DAMAGE, Image.DecompressionBombError):
        return None


_BOMB = 89_478_485  # pixels; Pillow warns of a decompression bomb above this, and refuses above twice as many


@dataclass(frozen=True)
class PixelLimits:
    """What an encoded image must keep to; `PixelPolicy` explains the options."""

    max_side: int = 1024
    max_bytes: int = 1_500_000
    jpeg_quality: int = 90
    max_pixels: int = _BOMB
    formats: tuple[str, ...] = ("JPEG", "PNG", "WEBP")
    check: Check = "structure"

    def __post_init__(self) -> None:
        ranges = {
            "max_side": (16, 16384),
            "max_bytes": (4096, 2**30),
            "jpeg_quality": (30, 95),
            "max_pixels": (1, 2 * _BOMB),
        }
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise BlpoError(f"{name} must be a whole number from {low} to {high}, got {value!r}")
        check_kind("formats", self.formats, Collection, "list of formats", 'formats=("JPEG", "PNG")')
        known = all(isinstance(kind, str) and kind in MEDIA_TYPES for kind in self.formats)
        if isinstance(self.formats, str) or not known or "JPEG" not in self.formats:
            raise BlpoError(f"formats must name JPEG and any of {', '.join(MEDIA_TYPES)}, got {self.formats!r}")
        if self.check not in get_args(Check):
            raise BlpoError(f"check must be 'structure' or 'decode', got {self.check!r}")
        object.__setattr__(self, "formats", tuple(kind for kind in MEDIA_TYPES if kind in self.formats))


def conform(data: bytes, policy: PixelLimits) -> tuple[str, bytes]:
    """Returns the media type and the bytes of an encoded image as the policy wants it.

    An image that conforms already keeps its bytes, without metadata.
    """
    if not data:
        raise ImageError("the file is empty (0 bytes)")
    with _reasons(data), _open(data) as image:
        # MPO is a JPEG with more pictures behind the first one; phones write it, and any JPEG decoder reads the first.
        kind = "JPEG" if image.format == "MPO" else str(image.format)
        _check_size(image, policy)
        if kind == "PNG":
            _open(data).verify()  # other decoders refuse a wrong checksum, which Pillow doesn't look at when it loads
        if policy.check == "structure" and kind in ("JPEG", "PNG"):
            bare = _whole(image, kind, data, policy)
            if bare is not None:
                return MEDIA_TYPES[kind], bare
        with _decoding(image):
            if kind != "JPEG":
                image.load()  # before reading metadata, which may load too, and damage is reported only once
            if len(data) <= policy.max_bytes and _conforms(image, kind, data, policy):
                bare = without_metadata(kind, data)
                if bare is not None:
                    if kind == "JPEG":
                        image.draft("L", (1, 1))  # an eighth of the size still reads all data, so damage shows
                        image.load()
                    return MEDIA_TYPES[kind], bare
            pixels = _plain(image, policy.max_side)
    return _encode(pixels, policy, lossless=kind not in _LOSSY)


def conform_image(image: Image.Image, policy: PixelLimits) -> tuple[str, bytes]:
    """Returns the media type and the bytes for an image in memory, which stays as it is."""
    with _reasons(b""):
        _check_size(image, policy)
        with _decoding(image):
            image.load()
            pixels = _plain(image.copy(), policy.max_side)
    return _encode(pixels, policy, lossless=image.format not in (*_LOSSY, "MPO"))


def _open(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data), formats=_readable())


def _decoding(image: Image.Image) -> AbstractContextManager[None]:
    """Waits until there is memory for an image's pixels, and reserves it while the block runs."""
    return _BUDGET.taken(image.width * image.height * _BYTES_PER_PIXEL)


def _check_size(image: Image.Image, policy: PixelLimits) -> None:
    width, height = image.size
    if not width * height:
        raise ImageError(f"the image has no pixels ({width} × {height})")
    if width * height > policy.max_pixels:
        raise ImageError(f"{width} × {height} pixels are more than the limit of {policy.max_pixels} (max_pixels)")


def _conforms(image: Image.Image, kind: str, data: bytes, policy: PixelLimits) -> bool:
    """Whether an image of a permitted size in bytes may stay as it is."""
    deep = kind == "PNG" and data[24] > 8  # bit depth in IHDR; Pillow shows 16-bit RGB as RGB
    return (
        kind in policy.formats
        and max(image.size) <= policy.max_side
        and (image.mode in ("RGB", "L") or kind == "GIF")
        and not deep
        and not image.has_transparency_data
        and (kind == "JPEG" or not getattr(image, "is_animated", False))
        and _orientation(image) not in _UPRIGHT
    )


def _whole(image: Image.Image, kind: str, data: bytes, policy: PixelLimits) -> bytes | None:
    """The bytes to pass on of a JPEG or PNG that conforms and is whole, none of its pixels decoded.

    None for any other, which is decoded: it may be damaged, unusual, or not conform.
    """
    if len(data) > policy.max_bytes:
        return None
    found = bare_with_skeleton(kind, data)
    if found is None:
        return None
    bare, bones = found
    if kind == "JPEG":
        decodable = _is_decodable if len(bones) <= _MOST_BONES else _is_decodable.__wrapped__
        return bare if _conforms(image, kind, data, policy) and decodable(bones) else None
    try:
        with _open(bones) as read:
            return bare if _conforms(read, kind, data, policy) else None
    except _DAMAGE:
        return None


@lru_cache(maxsize=256)
def _is_decodable(bones: bytes) -> bool:
    """Whether a decoder takes a JPEG without the data of its pixels; those from one source are often all alike."""
    try:
        with _open(bones) as image, _decoding(image):
            image.draft("L", (1, 1))
            image.load()
    except _DAMAGE:
        return False
    return True


def _orientation(image: Image.Image) -> int | None:
    try:
        # The method of PNG loads all pixels first, for metadata behind them, which the caller has read.
        return Image.Image.getexif(image).get(_ORIENTATION)
    except _DAMAGE:
        return None  # broken metadata around good pixels


def _plain(image: Image.Image, max_side: int) -> Image.Image:
    """The first frame as upright RGB or grey, at most `max_side` on its longer side, without metadata."""
    scale = min(1.0, max_side / max(image.size))
    if scale < 1:  # a JPEG decoder can scale down while it decodes; the last 1.5 times are left to the better filter
        image.draft(image.mode, (int(image.width * scale * 1.5) + 1, int(image.height * scale * 1.5) + 1))
    image.load()
    orientation = _orientation(image)  # only now: a TIFF is turned by loading it
    profile = image.info.get("icc_profile") if image.mode in ("RGB", "RGBA", "L") else None
    plain = _flat(image)
    plain.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    if orientation in _UPRIGHT:
        plain = plain.transpose(_UPRIGHT[orientation])
    plain.info = {"icc_profile": profile} if profile else {}
    return plain


def _flat(image: Image.Image) -> Image.Image:
    """A copy of an image in mode RGB or L: 8 bits, no palette, transparency on white."""
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        return Image.fromarray(_eight_bit(np.asarray(image)))
    if image.has_transparency_data:
        return _on_white(image)
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _on_white(image: Image.Image) -> Image.Image:
    """An image with transparency on white; in strips, as each takes several copies of its pixels."""
    flat = Image.new("RGB", image.size)
    rows = max(1, _STRIP // image.width)
    for top in range(0, image.height, rows):
        clear = image.crop((0, top, image.width, min(top + rows, image.height))).convert("RGBA")
        white = Image.new("RGBA", clear.size, "white")
        flat.paste(Image.alpha_composite(white, clear).convert("RGB"), (0, top))
    return flat


def _eight_bit(values: np.ndarray) -> np.ndarray:
    """Grey values of 16 bits, or floats in [0, 1] or [0, 255], as 8 bits; others are clipped to that range."""
    rows = max(1, _STRIP // values.shape[1])
    strips = [slice(top, top + rows) for top in range(0, len(values), rows)]
    whole = values.dtype.kind != "f"
    unit = not whole and max(np.nan_to_num(values[strip].astype(np.float64)).max() for strip in strips) <= 1
    grey = np.empty(values.shape, np.uint8)
    for strip in strips:
        part = np.nan_to_num(values[strip].astype(np.float64))
        part = part / 257 if whole else part * 255 if unit else part
        grey[strip] = np.clip(part.round(), 0, 255).astype(np.uint8)
    return grey


def _encode(image: Image.Image, policy: PixelLimits, *, lossless: bool) -> tuple[str, bytes]:
    """Lossless where the source was and the budget allows it, else the best JPEG that fits, smaller if need be."""
    profile = image.info.pop("icc_profile", None)
    if profile is not None and len(profile) * 10 > policy.max_bytes:
        profile = None
    if lossless and "PNG" in policy.formats:
        data = _save(image, "PNG", icc_profile=profile)
        if len(data) <= policy.max_bytes:
            return MEDIA_TYPES["PNG"], data
    while True:
        for quality in (policy.jpeg_quality, 75, 60):
            data = _save(image, "JPEG", icc_profile=profile, quality=min(quality, policy.jpeg_quality))
            if len(data) <= policy.max_bytes:
                return MEDIA_TYPES["JPEG"], data
        smaller = (max(1, image.width * 3 // 4), max(1, image.height * 3 // 4))
        assert smaller != image.size, "a JPEG of one pixel fits into any permitted budget"
        image = image.resize(smaller, Image.Resampling.LANCZOS)


def _save(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@contextmanager
def _reasons(data: bytes) -> Iterator[None]:
    """Says in one line why Pillow could not read an image."""
    try:
        yield
    except ImageError:
        raise
    except UnidentifiedImageError:
        if data.startswith(_BEGINNINGS):
            raise ImageError("truncated or damaged image file (only its beginning is that of an image)") from None
        raise ImageError(f"not an image that can be read (it begins with {data[:12]!r})") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"far more pixels than a photograph has ({error})") from None
    except _DAMAGE as error:
        text = " ".join(str(error).split()) or type(error).__name__
        reason = "truncated image file" if "truncat" in text.lower() else f"damaged image file ({text})"
        raise ImageError(reason) from error
