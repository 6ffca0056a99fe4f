"""The pixel policy: what goes in, what comes out, and what is refused."""

from __future__ import annotations

import base64
import copy
import io
import logging
import os
import pickle
import struct
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cloudpickle
import dspy
import numpy as np
import pytest
from dspy import lm15
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import animated, content, decoded, encoded, noise, photo, png, png_header, turned
from PIL import ExifTags, Image, ImageFile, ImageOps, PngImagePlugin, features

from blpo_dspy.data.images import encoding
from blpo_dspy.data.images.encoding import MemoryBudget
from blpo_dspy.data.images.metadata import without_metadata
from blpo_dspy.data.images.prepare import (
    ImageError,
    PixelPolicy,
    PreparedImage,
    fingerprint,
    is_reference,
    try_prepare_all,
)
from blpo_dspy.errors import BlpoError

POLICY = PixelPolicy()
SMALL = PixelPolicy(max_side=64, max_bytes=4096)


def data_uri(data: bytes, media_type: str = "image/png") -> str:
    """The bytes as a data URI."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def pixels(image: Image.Image) -> np.ndarray:
    """RGB values, height × width × 3, that can be subtracted."""
    return np.asarray(image.convert("RGB")).astype(int)


# What conforms keeps its bytes


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize(("kind", "media_type"), [("JPEG", "image/jpeg"), ("PNG", "image/png"), ("WEBP", "image/webp")])
def test_a_conforming_file_keeps_its_exact_bytes(tmp_path: Path, kind: str, media_type: str, mode: str) -> None:
    """From a path, from bytes and from a data URI alike."""
    data = encoded(photo().convert(mode), kind)
    file = tmp_path / "picture"
    file.write_bytes(data)
    for source in (file, str(file), data, data_uri(data), dspy.Image(data_uri(data))):
        assert content(POLICY.prepare(source).url) == (media_type, data)


def test_the_type_comes_from_the_content_not_from_the_name(tmp_path: Path) -> None:
    """A JPEG called .png is sent as a JPEG, and a data URI with a wrong type is put right."""
    data = encoded(photo(), "JPEG")
    (tmp_path / "picture.png").write_bytes(data)
    assert content(POLICY.prepare(tmp_path / "picture.png").url) == ("image/jpeg", data)
    assert content(POLICY.prepare(data_uri(data, "image/gif")).url) == ("image/jpeg", data)


def test_a_percent_encoded_data_uri_is_read() -> None:
    """RFC 2397 has a form without base64."""
    data = encoded(photo())
    assert content(POLICY.prepare("data:image/png," + "".join(f"%{byte:02x}" for byte in data)).url)[1] == data


def test_a_phones_jpeg_with_more_pictures_behind_the_first_stays_a_jpeg() -> None:
    """MPO is read by every JPEG decoder; the other pictures, which have metadata of their own, are not passed on."""
    data = encoded(photo(), "MPO", save_all=True, append_images=[photo(seed=1)])
    assert Image.open(io.BytesIO(data)).format == "MPO"
    assert content(POLICY.prepare(data).url) == ("image/jpeg", encoded(photo(), "JPEG"))


def test_formats_left_out_of_the_policy_are_encoded_anew() -> None:
    """For servers that cannot read them."""
    data = encoded(photo(), "WEBP", quality=80)
    media_type, _ = content(PixelPolicy(formats=("JPEG", "PNG")).prepare(data).url)
    assert media_type == "image/jpeg"
    media_type, _ = content(PixelPolicy(formats=("JPEG",)).prepare(encoded(photo())).url)
    assert media_type == "image/jpeg"


def test_a_still_gif_passes_only_where_the_policy_names_gif() -> None:
    """By default its palette becomes RGB, without loss."""
    data = encoded(photo().quantize(16), "GIF")
    prepared = POLICY.prepare(data)
    assert content(prepared.url)[0] == "image/png"
    assert decoded(prepared.url).mode == "RGB"
    assert np.array_equal(pixels(decoded(prepared.url)), pixels(Image.open(io.BytesIO(data))))
    assert content(PixelPolicy(formats=("JPEG", "PNG", "GIF")).prepare(data).url) == ("image/gif", data)


# What does not conform


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_upright(kind: str, orientation: int) -> None:
    """All eight EXIF orientations, with Pillow's own transposition as the judge."""
    data = turned(photo(48, 32), orientation, kind)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    result = decoded(POLICY.prepare(data).url)
    assert result.size == upright.size
    assert np.abs(pixels(result) - pixels(upright)).mean() < 3
    assert (content(POLICY.prepare(data).url)[1] == without_metadata(kind, data)) is (orientation == 1)


def test_a_tiff_is_turned_once() -> None:
    """Pillow turns a TIFF while it loads it."""
    data = turned(photo(48, 32), 6, "TIFF")
    result = decoded(POLICY.prepare(data).url)
    assert np.array_equal(pixels(result), pixels(photo(48, 32).transpose(Image.Transpose.ROTATE_270)))


def test_a_pil_image_is_turned_upright_and_left_as_it_is() -> None:
    """The caller's object is not changed."""
    image = Image.open(io.BytesIO(turned(photo(48, 32), 6, "PNG")))
    result = decoded(POLICY.prepare(image).url)
    assert result.size == (32, 48)
    assert (image.size, image.mode, image.format) == ((48, 32), "RGB", "PNG")


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_an_animation_is_reduced_to_its_first_frame(kind: str) -> None:
    """Models see one picture."""
    prepared = POLICY.prepare(animated(kind))
    assert getattr(decoded(prepared.url), "n_frames", 1) == 1
    assert np.abs(pixels(decoded(prepared.url)) - pixels(photo(seed=0))).mean() < 8


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_flattened_onto_white(mode: str) -> None:
    """Half-transparent black becomes grey, clear pixels white."""
    image = Image.new("LA", (3, 1))
    image.putdata([(0, 0), (0, 128), (0, 255)])
    result = decoded(POLICY.prepare(image.convert("RGBA").convert(mode)).url)
    assert result.mode == "RGB"
    assert pixels(result)[0, :, 0].tolist() == [255, 127, 0]


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_a_transparent_colour_is_flattened_onto_white(mode: str) -> None:
    """PNG can name one colour as transparent in modes without an alpha channel."""
    image = Image.new(mode, (2, 1), 0)
    data = encoded(image, "PNG", transparency=(0, 0, 0) if mode == "RGB" else 0)
    assert pixels(decoded(POLICY.prepare(data).url)).min() == 255


def test_sixteen_bits_become_eight_without_clipping() -> None:
    """Grey and RGB PNGs with 16 bits per channel."""
    grey = Image.fromarray(np.array([[0, 257 * 100, 65535]], dtype=np.uint16))
    assert np.asarray(decoded(POLICY.prepare(encoded(grey)).url)).tolist() == [[0, 100, 255]]
    rgb = png(1, 1, b"\0" + bytes([10, 99, 20, 99, 30, 99]), depth=16)
    _, data = content(POLICY.prepare(rgb).url)
    assert data[24] == 8
    assert pixels(decoded(POLICY.prepare(rgb).url)).tolist() == [[[10, 20, 30]]]


@pytest.mark.parametrize(("values", "grey"), [([0.0, 0.5, 1.0], [0, 128, 255]), ([0.0, 128.0, 900.0], [0, 128, 255])])
def test_floats_become_eight_bits(values: list[float], grey: list[int]) -> None:
    """From [0, 1] or [0, 255]; what is outside is clipped, and not-a-number is black."""
    image = Image.fromarray(np.array([[*values, np.nan]], dtype=np.float32))
    assert np.asarray(decoded(POLICY.prepare(encoded(image, "TIFF")).url)).tolist() == [[*grey, 0]]


def test_cmyk_becomes_rgb() -> None:
    """A printer's JPEG."""
    data = encoded(photo().convert("CMYK"), "JPEG")
    result = decoded(POLICY.prepare(data).url)
    assert (result.mode, result.format) == ("RGB", "JPEG")
    assert np.abs(pixels(result) - pixels(photo())).mean() < 8


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "PPM", "ICO"])
def test_other_lossless_formats_become_png(kind: str) -> None:
    """With the same pixels."""
    result = decoded(POLICY.prepare(encoded(photo(32, 32), kind)).url)
    assert result.format == "PNG"
    assert np.array_equal(pixels(result), pixels(photo(32, 32)))


@pytest.mark.parametrize("kind", ["JPEG2000", *(["AVIF"] if features.check("avif") else [])])
def test_other_lossy_formats_become_jpeg(kind: str) -> None:
    """A lossless copy would cost bytes and add nothing."""
    result = decoded(POLICY.prepare(encoded(photo(), kind)).url)
    assert result.format == "JPEG"
    assert np.abs(pixels(result) - pixels(photo())).mean() < 10


def test_a_large_image_is_fitted_and_keeps_its_proportions() -> None:
    """The longer side decides; a line stays at least one pixel wide."""
    assert decoded(SMALL.prepare(photo(640, 320)).url).size == (64, 32)
    assert decoded(SMALL.prepare(encoded(photo(320, 640), "JPEG")).url).size == (32, 64)
    assert decoded(SMALL.prepare(photo(5000, 1)).url).size == (64, 1)


@pytest.mark.slow
def test_a_large_jpeg_is_decoded_at_a_fraction_of_its_size() -> None:
    """A hundred times the pixels take no more memory, and the side still comes out exactly."""
    taken = []
    for side in (400, 4000):
        data = encoded(photo(side, side), "JPEG")
        Image.core.reset_stats()
        SMALL.prepare(data)
        taken.append(Image.core.get_stats()["allocated_blocks"])
    assert taken[1] <= taken[0] + 1  # decoded in full it would be several more
    assert decoded(PixelPolicy(max_side=130).prepare(encoded(photo(1000, 1000), "JPEG")).url).size == (130, 130)


@pytest.mark.parametrize(
    ("kind", "options"), [("WEBP", {"lossless": True}), ("WEBP", {}), ("GIF", {}), ("PNG", {}), ("JPEG", {})]
)
def test_what_cannot_be_decoded_is_not_passed_on(kind: str, options: dict[str, bool]) -> None:
    """A file that conforms by its header is decoded to its end, whatever byte is damaged."""
    whole = encoded(photo(20, 16), kind, **options)
    policy = PixelPolicy(formats=("JPEG", "PNG", "WEBP", "GIF"))
    damaged = (whole[:i] + bytes([whole[i] ^ 0x55]) + whole[i + 1 :] for i in range(12, len(whole), 5))
    refused = 0
    for data in damaged:
        try:
            Image.open(io.BytesIO(data)).load()
        except (OSError, SyntaxError, ValueError, EOFError):
            refused += 1
            with pytest.raises(ImageError):
                policy.prepare(data)
    assert refused


def test_an_image_waits_for_room_for_all_of_its_pixels() -> None:
    """Eight bytes for each: as it was decoded, and flattened."""
    data, needed, done = encoded(photo(100, 100), "PNG"), 100 * 100 * 8, threading.Event()

    def prepare() -> None:
        PixelPolicy(max_side=64).prepare(data)
        done.set()

    with encoding._BUDGET.taken(encoding.DECODED_AT_ONCE - needed):
        prepare()
    done.clear()
    waiting = threading.Thread(target=prepare)
    with encoding._BUDGET.taken(encoding.DECODED_AT_ONCE - needed + 1):
        waiting.start()
        assert not done.wait(0.3)
    assert done.wait(20)
    waiting.join()


def test_a_small_image_is_not_enlarged() -> None:
    """Fitting only ever reduces."""
    assert decoded(POLICY.prepare(photo(5, 3)).url).size == (5, 3)


def test_over_the_byte_budget_a_lossless_source_becomes_jpeg_and_then_smaller() -> None:
    """The budget always holds."""
    jpeg = PixelPolicy(max_bytes=60_000).prepare(noise(200, 200))
    assert decoded(jpeg.url).format == "JPEG"
    assert decoded(jpeg.url).size == (200, 200)
    tiny = PixelPolicy(max_bytes=4096).prepare(noise(400, 300))
    assert len(content(tiny.url)[1]) <= 4096
    assert max(decoded(tiny.url).size) < 400


def test_metadata_is_left_behind_where_an_image_is_encoded_anew_but_its_colours_stay() -> None:
    """No EXIF (it may say where a photograph was taken); the RGB colour profile is kept, if it is small."""
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    data = encoded(photo(200, 100), "JPEG", exif=exif, icc_profile=b"profile", comment=b"secret")
    result = decoded(SMALL.prepare(data).url)
    assert not result.getexif()
    assert result.info["icc_profile"] == b"profile"
    assert b"secret" not in content(SMALL.prepare(data).url)[1]
    large = encoded(photo(200, 100), "JPEG", icc_profile=b"p" * 4000)
    assert "icc_profile" not in decoded(SMALL.prepare(large).url).info


def with_metadata(kind: str, image: Image.Image) -> bytes:
    """An image that says in many ways where it was taken."""
    exif = Image.Exif()
    exif[0x010E] = "SECRET description"
    exif.get_ifd(ExifTags.IFD.GPSInfo).update({1: "N", 2: (48.0, 51.0, 29.0), 29: "SECRET"})
    if kind == "PNG":
        texts = PngImagePlugin.PngInfo()
        texts.add_text("parameters", "SECRET prompt")
        texts.add_text("Comment", "SECRET comment", zip=True)
        texts.add_itxt("XML:com.adobe.xmp", "<x:xmpmeta>SECRET</x:xmpmeta>")
        texts.add(b"prVt", b"SECRET", after_idat=True)
        return encoded(image, kind, exif=exif, pnginfo=texts) + b"SECRET trailer"
    if kind == "GIF":
        return encoded(image, kind, comment=b"SECRET") + b"SECRET trailer"
    xmp = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>SECRET</x:xmpmeta>"
    if kind == "WEBP":
        return encoded(image, kind, exif=exif, xmp=xmp) + b"SECRET trailer"
    data = encoded(image, kind, exif=exif, xmp=xmp, comment=b"SECRET", progressive=True)
    photoshop = b"\xff\xed" + struct.pack(">H", 8) + b"SECRET"
    return data[:2] + photoshop + data[2:] + b"\0\0\0\x18ftypmp42 SECRET film"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
def test_metadata_is_left_out_where_the_pixels_bytes_stay(kind: str) -> None:
    """The place of a photograph, texts, and what stands behind the image; what is left is what was never there."""
    policy = PixelPolicy(formats=("JPEG", "PNG", "WEBP", "GIF"))
    data = with_metadata(kind, photo())
    media_type, bare = content(policy.prepare(data).url)
    assert data.count(b"SECRET") > 1
    assert b"SECRET" not in bare
    assert not Image.open(io.BytesIO(bare)).getexif()
    never = encoded(photo(), kind, **({"progressive": True} if kind == "JPEG" else {}))
    if kind == "WEBP":  # the container of one with metadata has a header, which stays
        assert bare.endswith(never[12:])
    else:
        assert bare.replace(b"GIF89a", b"GIF87a") == never  # a version of GIF that has comments
    assert (media_type, decoded(policy.prepare(bare).url).format) == (f"image/{kind.lower()}", kind)
    assert content(policy.prepare(bare).url)[1] == bare
    assert fingerprint(policy.prepare(data)) == fingerprint(policy.prepare(bare))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_what_says_how_pixels_look_stays_with_them(kind: str) -> None:
    """The colour profile, and the resolution."""
    data = encoded(photo(), kind, icc_profile=b"profile", dpi=(72, 72))
    assert content(POLICY.prepare(data).url)[1] == data


def test_a_photograph_with_metadata_is_still_turned_upright() -> None:
    """The orientation is honoured before it is left out."""
    for orientation in (1, 6):
        result = decoded(POLICY.prepare(turned(photo(40, 30), orientation)).url)
        assert result.size == ((40, 30) if orientation == 1 else (30, 40))
        assert not result.getexif()


def test_metadata_is_left_out_of_a_file_that_is_not_built_as_it_should_be() -> None:
    """It is encoded again."""
    data = with_metadata("JPEG", photo())
    data = data.replace(b"\xff\xdb", b"\0\0\xff\xdb", 1)  # two bytes between segments, which decoders pass over
    assert without_metadata("JPEG", data) is None
    assert b"SECRET" not in content(POLICY.prepare(data).url)[1]


@pytest.mark.slow
@settings(max_examples=25)
@given(st.sampled_from(["JPEG", "PNG", "WEBP", "GIF"]), st.data())
def test_metadata_of_a_damaged_file_raises_nothing(kind: str, data: st.DataObject) -> None:
    """Whatever is cut or overwritten."""
    file = bytearray(with_metadata(kind, photo()))
    for _ in range(data.draw(st.integers(0, 3))):
        file[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.integers(0, 255))
    bare = without_metadata(kind, bytes(file[: data.draw(st.integers(0, len(file)))]))
    assert bare is None or len(bare) <= len(file)


MODES = ("1", "L", "P", "RGB", "RGBA", "CMYK", "LA", "PA", "I;16", "I", "F", "YCbCr", "HSV", "RGBX", "RGBa")
FILES = {
    "PNG": ("1", "L", "P", "RGB", "RGBA", "LA", "I;16"),
    "JPEG": ("L", "RGB", "CMYK"),
    "WEBP": ("RGB", "RGBA"),
    "GIF": ("L", "P"),
    "BMP": ("1", "L", "P", "RGB"),
    "TIFF": ("1", "L", "RGB", "RGBA", "CMYK", "I;16", "F", "LA"),
    None: MODES,
}


@st.composite
def sources(draw: st.DrawFn) -> bytes | Image.Image:
    """A random picture in a random mode, as a PIL image or as a file of a random format, perhaps turned."""
    kind = draw(st.sampled_from(sorted(FILES, key=str)))
    mode = draw(st.sampled_from(FILES[kind]))
    width, height = draw(st.integers(1, 150)), draw(st.integers(1, 150))
    rgb = draw(st.sampled_from([photo, noise]))(width, height, seed=draw(st.integers(0, 9)))
    if mode == "P":
        image = rgb.quantize(8)
    elif mode in ("RGBA", "LA", "PA", "RGBa"):
        rgb.putalpha(rgb.getchannel(0))
        image = rgb.convert("RGBa") if mode == "RGBa" else rgb.convert(mode)
    else:
        image = rgb.convert("L").convert(mode) if mode in ("1", "I", "F", "I;16") else rgb.convert(mode)
    if kind is None:
        return image
    exif = Image.Exif()
    exif[274] = draw(st.integers(1, 8))
    return encoded(image, kind, **({"exif": exif} if kind in ("PNG", "JPEG", "WEBP", "TIFF") else {}))


@pytest.mark.slow
@settings(max_examples=150, derandomize=True, deadline=None)
@given(sources(), st.sampled_from([SMALL, PixelPolicy(max_side=100, max_bytes=20_000), POLICY]))
def test_any_image_comes_out_within_the_policy_and_only_once(source: bytes | Image.Image, policy: PixelPolicy) -> None:
    """Upright 8-bit RGB or grey within side and bytes; preparing the result again changes nothing."""
    prepared = policy.prepare(source)
    media_type, data = content(prepared.url)
    result = decoded(prepared.url)
    assert media_type == Image.MIME[result.format]
    assert result.mode in ("RGB", "L")
    assert max(result.size) <= policy.max_side
    assert len(data) <= policy.max_bytes
    assert result.getexif().get(274, 1) == 1
    assert policy.prepare(prepared) is prepared
    assert policy.prepare(dspy.Image(prepared.url)).url == prepared.url
    assert policy.prepare(source).url == prepared.url


@pytest.mark.slow
@settings(max_examples=120, derandomize=True, deadline=None)
@given(st.sampled_from(["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"]), st.data())
def test_a_damaged_file_is_prepared_or_refused_in_one_line(kind: str, data: st.DataObject) -> None:
    """Cut anywhere or with bytes overwritten: never another exception."""
    whole = encoded(photo(60, 50), kind)
    start = data.draw(st.integers(0, len(whole) - 1))
    damage = data.draw(st.sampled_from([b"", None, b"\xff" * 8, b"\0" * 40]))
    broken = whole[:start] if damage is None else whole[:start] + damage + whole[start + len(damage) + 1 :]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            outcome = decoded(POLICY.prepare(broken).url)
        except ImageError as error:
            outcome = str(error)
    assert "\n" not in outcome if isinstance(outcome, str) else max(outcome.size) <= POLICY.max_side


@pytest.mark.slow
@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.sampled_from([("PNG", {}), ("JPEG", {}), ("JPEG", {"progressive": True}), ("WEBP", {})]), st.data())
def test_a_file_cut_short_is_refused(kind: tuple[str, dict[str, bool]], data: st.DataObject) -> None:
    """Wherever it is cut, down to the last bytes (of a PNG, all but the checksum of its empty end)."""
    whole = encoded(photo(60, 50), kind[0], **kind[1])
    end = data.draw(st.integers(1, len(whole) - (5 if kind[0] == "PNG" else 1)))
    with pytest.raises(ImageError):
        POLICY.prepare(whole[:end])


# What is refused

JPEG_FILE, PNG_FILE = encoded(photo(), "JPEG"), encoded(noise(60, 60), "PNG")
BROKEN = {
    "truncated.jpg": (JPEG_FILE[: len(JPEG_FILE) // 2], "truncated"),
    "one-byte-short.jpg": (JPEG_FILE[:-2], "truncated"),
    "truncated.png": (PNG_FILE[: len(PNG_FILE) // 2], "truncated"),
    "only-a-header.png": (png_header(40, 30), "truncated"),
    "empty.png": (b"", "empty"),
    "text.jpg": (b"this is not a picture", "not an image"),
    "page.webp": (b"<html>404</html>", "not an image"),
    "bomb.png": (png(50_000, 50_000, b""), "pixels"),
    "damaged.png": (PNG_FILE[:80] + b"\0" * 200 + PNG_FILE[280:], "damaged"),
    "postscript.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
    "drawing.png": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused_with_its_name_and_the_reason(tmp_path: Path, name: str) -> None:
    """Whatever its name promises."""
    data, reason = BROKEN[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ImageError, match=reason) as caught:
        POLICY.prepare(tmp_path / name)
    assert str(caught.value).startswith(f"{tmp_path / name}: ")
    assert "\n" not in str(caught.value)


def test_all_broken_files_are_named_in_one_list(tmp_path: Path) -> None:
    """In the order given, and the sound ones not."""
    for name, (data, _) in BROKEN.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "sound.png").write_bytes(encoded(photo()))
    files = [tmp_path / name for name in (*BROKEN, "sound.png", "missing.png")]
    problems = [str(result) for result in try_prepare_all(files) if isinstance(result, ImageError)]
    assert [problem.split(":")[0] for problem in problems] == [str(f) for f in files if f.name != "sound.png"]


def test_images_are_prepared_in_order() -> None:
    """Though several threads work."""
    images = [noise(30 + 10 * (i % 3), 30, seed=i) for i in range(12)]
    assert [p.url for p in try_prepare_all(images)] == [POLICY.prepare(image).url for image in images]


def test_threads_share_the_memory_for_pixels_in_the_order_of_arrival() -> None:
    """More than all of it goes alone; a small amount doesn't overtake a large one that waits."""
    budget = MemoryBudget(100)
    entered: list[int] = []

    def work(amount: int) -> None:
        with budget.taken(amount):
            entered.append(amount)

    def begin(amount: int) -> threading.Thread:
        thread = threading.Thread(target=work, args=(amount,), daemon=True)
        thread.start()
        return thread

    with budget.taken(60):
        begin(40).join(10)
        large = begin(1000)
        while not budget._turn.locked():
            time.sleep(0.001)
        small = begin(10)
        small.join(0.05)
        assert entered == [40]
    large.join(10)
    small.join(10)
    assert entered == [40, 1000, 10]
    with budget.taken(100):
        pass


def test_memory_is_given_back_by_an_image_that_fails() -> None:
    """So that the next one doesn't wait for ever."""
    budget = MemoryBudget(10)
    with pytest.raises(ImageError), budget.taken(10):
        raise ImageError("damaged")
    with budget.taken(10):
        pass


_MEASURE = """
import resource, sys
from blpo_dspy.data.images.prepare import PixelPolicy
small, large = (open(name, "rb").read() for name in sys.argv[1:])
PixelPolicy().prepare(small)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
PixelPolicy().prepare(large)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_a_deep_image_with_transparency_takes_few_copies_of_its_pixels(tmp_path: Path) -> None:
    """Some 10 bytes for each pixel: as it was decoded, and flattened."""
    files = [tmp_path / "small.png", tmp_path / "large.png"]
    for file, side in zip(files, (20, 3000), strict=True):
        row = b"\0" + bytes(range(200)) * (8 * side // 200) + bytes(8 * side % 200)
        file.write_bytes(png(side, side, row * side, depth=16, colour=6))
    done = subprocess.run([sys.executable, "-c", _MEASURE, *files], capture_output=True, text=True, check=True)
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(done.stdout) * unit < 14 * 3000 * 3000


@pytest.mark.slow
def test_large_images_are_flattened_as_small_ones_are() -> None:
    """In strips, the last of which is lower."""
    clear = photo(1500, 1000)
    clear.putalpha(clear.getchannel(0))
    white = Image.new("RGBA", clear.size, "white")
    flat = Image.alpha_composite(white, clear).convert("RGB")
    policy = PixelPolicy(max_side=2000, max_bytes=2**23)
    assert np.array_equal(pixels(decoded(policy.prepare(clear).url)), pixels(flat))
    deep = np.linspace(0, 65535, 1500 * 1000).reshape(1000, 1500)
    for values, grey in (
        (deep.astype(np.uint16), deep.astype(np.uint16) / 257),
        (np.float32(deep / 65535), deep / 257),
    ):
        result = np.asarray(decoded(policy.prepare(Image.fromarray(values)).url))
        assert np.abs(result - grey).max() < 0.51


def test_more_pixels_than_the_policy_allows_are_refused_before_they_are_decoded() -> None:
    """Files and images in memory."""
    policy = PixelPolicy(max_pixels=1000)
    for source in (encoded(photo(40, 30)), photo(40, 30), png(40, 30, b"")):
        with pytest.raises(ImageError, match="40 × 30 pixels are more than the limit of 1000"):
            policy.prepare(source)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("no/such.png", "no such file"),
        ("", "no such file"),
        (Path("/"), "a folder"),
        ("a\0b.png", "cannot be read"),
        ("x" * 5000, "cannot be read"),
        ("s3://bucket/key.png", "not an http"),
        ("file:///etc/passwd", "not an http"),
        ("http://", "not an http"),
        ("data:image/png;base64,%%%", "base64 is damaged"),
        ("data:image/png", "without data"),
        (b"", "empty"),
        (17, "an image is a path"),
        (None, "an image is a path"),
        (Image.new("RGB", (0, 5)), "no pixels"),
    ],
)
def test_what_is_no_image_source_is_refused(source: object, reason: str) -> None:
    """With the reason, and the source shortened to a few words."""
    with pytest.raises(ImageError, match=reason) as caught:
        POLICY.prepare(source)
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    """Only regular files are opened."""
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ImageError, match="not a regular file"):
        POLICY.prepare(tmp_path / "pipe.png")


def test_a_closed_pil_image_is_refused(tmp_path: Path) -> None:
    """As its pixels can no longer be read."""
    (tmp_path / "a.png").write_bytes(encoded(photo()))
    with Image.open(tmp_path / "a.png") as image:
        pass
    with pytest.raises(ImageError, match="damaged"):
        POLICY.prepare(image)


def test_pillows_global_switches_stay_as_they_are() -> None:
    """Other users of Pillow in the process are not affected, and their switches do not weaken ours."""
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
    try_prepare_all([data for data, _ in BROKEN.values()])
    assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)


# References


@pytest.mark.parametrize("url", ["https://example.org/a.png", "HTTP://example.org/a", "gs://bucket/a.jpg"])
def test_a_url_is_passed_on_and_never_fetched(url: str) -> None:
    """The network guard of the tests would fail a fetch."""
    prepared = POLICY.prepare(url)
    assert prepared.url == url
    assert POLICY.prepare(prepared) is prepared
    assert is_reference(url)


# Once per image


@pytest.mark.slow
def test_a_prepared_image_comes_back_at_once() -> None:
    """The same object, in a fraction of the time of any decoding."""
    prepared = POLICY.prepare(noise(1000, 1000))
    start = time.perf_counter()
    for _ in range(1000):
        assert POLICY.prepare(prepared) is prepared
    assert time.perf_counter() - start < 30


def test_an_equal_policy_knows_its_images_and_another_one_checks_them() -> None:
    """What counts is the policy's values."""
    prepared = POLICY.prepare(photo(100, 80))
    assert PixelPolicy().prepare(prepared) is prepared
    assert decoded(SMALL.prepare(prepared).url).size == (64, 51)


@pytest.mark.parametrize(
    "copied",
    [
        copy.copy,
        copy.deepcopy,
        lambda x: pickle.loads(pickle.dumps(x)),
        lambda x: cloudpickle.loads(cloudpickle.dumps(x)),
    ],
    ids=["copy", "deepcopy", "pickle", "cloudpickle"],
)
def test_copies_of_a_prepared_image_remember_it(copied: object) -> None:
    """DSPy copies examples and programs freely."""
    prepared = POLICY.prepare(photo())
    twin = copied(prepared)
    assert POLICY.prepare(twin) is twin
    assert fingerprint(twin) == fingerprint(prepared)


def test_a_prepared_image_that_nobody_prepared_is_checked() -> None:
    """Made by hand, it is like any other image."""
    with pytest.raises(ImageError, match="not an image"):
        POLICY.prepare(PreparedImage(data_uri(b"garbage")))


def test_a_prepared_image_equals_a_plain_one_of_the_same_url() -> None:
    """Both ways round, and as a key."""
    prepared = POLICY.prepare(photo())
    plain = dspy.Image(prepared.url)
    assert prepared == plain
    assert plain == prepared
    assert len({prepared, plain}) == 1
    assert prepared != POLICY.prepare(photo(seed=1))


class Recorder:
    """An engine that keeps what it is asked."""

    def __init__(self) -> None:
        self.requests: list[lm15.Request] = []

    def complete(self, request: lm15.Request) -> lm15.Response:
        self.requests.append(request)
        text = "[[ ## answer ## ]]\nyes\n\n[[ ## completed ## ]]"
        message = lm15.Message.assistant([lm15.TextPart(text)])
        usage = lm15.Usage(input_tokens=1, output_tokens=1, total_tokens=2)
        return lm15.Response(id="1", model=request.model, message=message, finish_reason="stop", usage=usage)

    def close(self) -> None:
        """Nothing to close."""


def test_a_prepared_image_reaches_the_model_as_the_exact_bytes(caplog: pytest.LogCaptureFixture) -> None:
    """As one image part of a DSPy request, without a warning about its type."""
    data = encoded(photo(), "JPEG")
    engine = Recorder()
    with dspy.context(lm=dspy.LM("recorder/any", engine=engine, cache=False)), caplog.at_level(logging.WARNING):
        logging.getLogger("dspy").addHandler(caplog.handler)
        try:
            dspy.Predict("image: dspy.Image -> answer: str")(image=POLICY.prepare(data))
        finally:
            logging.getLogger("dspy").removeHandler(caplog.handler)
    parts = [part for message in engine.requests[0].messages for part in message.parts if part.type == "image"]
    assert [(part.media_type, part.bytes) for part in parts] == [("image/jpeg", data)]
    assert not caplog.records


def test_threads_that_prepare_the_same_sources_get_the_same_bytes(tmp_path: Path) -> None:
    """A policy holds no state."""
    files = []
    for i in range(6):
        files.append(tmp_path / f"{i}.jpg")
        files[-1].write_bytes(encoded(noise(200, 150, seed=i), "JPEG"))
    with ThreadPoolExecutor(8) as pool:
        rounds = list(pool.map(lambda _: [SMALL.prepare(f).url for f in files], range(8)))
    assert all(urls == rounds[0] for urls in rounds)


# Fingerprints and the record of the policy


def test_the_fingerprint_is_that_of_the_content() -> None:
    """The same for a path, bytes and an image of DSPy; another for another image; a URL's own for a reference."""
    import hashlib

    data = encoded(photo(), "JPEG")
    expected = hashlib.sha256(data).hexdigest()
    assert fingerprint(POLICY.prepare(data)) == expected
    assert fingerprint(dspy.Image(data_uri(data, "image/jpeg"))) == expected
    assert fingerprint(POLICY.prepare(encoded(photo(seed=1), "JPEG"))) != expected
    url = "https://example.org/a.png"
    assert fingerprint(POLICY.prepare(url)) == fingerprint(dspy.Image(url)) == hashlib.sha256(url.encode()).hexdigest()


def test_a_policy_is_recorded_and_read_back() -> None:
    """As plain JSON data."""
    import json

    policy = PixelPolicy(max_side=512, max_bytes=100_000, jpeg_quality=80, max_pixels=10**6, formats=("PNG", "JPEG"))
    assert PixelPolicy.from_dict(json.loads(json.dumps(policy.to_dict()))) == policy
    decoding = PixelPolicy(check="decode")
    assert PixelPolicy.from_dict(json.loads(json.dumps(decoding.to_dict()))) == decoding != PixelPolicy()


def test_a_default_policy_is_recorded_as_it_was_before_there_was_a_choice_of_checks() -> None:
    """A file without the key has the default, and journals of a default policy keep their identity."""
    recorded = {
        "max_side": 1024,
        "max_bytes": 1_500_000,
        "jpeg_quality": 90,
        "max_pixels": 89_478_485,
        "formats": ["JPEG", "PNG", "WEBP"],
    }
    assert list(PixelPolicy().to_dict().items()) == list(recorded.items())
    assert PixelPolicy.from_dict(recorded) == PixelPolicy()
    assert PixelPolicy(check="decode").to_dict() == {**recorded, "check": "decode"}


@pytest.mark.parametrize(
    "data",
    [
        {},
        {**PixelPolicy().to_dict(), "max_side": "1024"},
        {**PixelPolicy().to_dict(), "max_side": True},
        {**PixelPolicy().to_dict(), "max_bytes": 0},
        {**PixelPolicy().to_dict(), "jpeg_quality": 100},
        {**PixelPolicy().to_dict(), "max_pixels": 10**12},
        {**PixelPolicy().to_dict(), "formats": "JPEG"},
        {**PixelPolicy().to_dict(), "formats": ["PNG"]},
        {**PixelPolicy().to_dict(), "formats": ["JPEG", "EPS"]},
        {**PixelPolicy().to_dict(), "formats": [["JPEG"]]},
        {**PixelPolicy().to_dict(), "extra": 1},
        {**PixelPolicy().to_dict(), "check": "none"},
        {**PixelPolicy().to_dict(), "check": ["decode"]},
        [],
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(data: object) -> None:
    """So that an artifact cannot bring one in."""
    with pytest.raises(BlpoError):
        PixelPolicy.from_dict(data)


@pytest.mark.parametrize(
    "text", ['https://a/x?<<MARKER>>[{"url": "b"}]', "https://a/x y", 'https://a/"', "https://a/\nb"]
)
def test_an_address_that_could_smuggle_text_is_refused(text: str) -> None:
    """A URL with white space or markup is no reference: no cell of a table can add text or images to a prompt."""
    assert not is_reference(text)
