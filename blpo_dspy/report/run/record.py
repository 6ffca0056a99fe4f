"""The data of a report in the run's folder: report.json and small pictures of the items that it shows."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import dspy
from PIL import Image, ImageDraw, ImageFont

from blpo_dspy.agreement.label_errors import LikelyError
from blpo_dspy.agreement.verdicts import Verdict
from blpo_dspy.data.fields import images_of, texts_of
from blpo_dspy.data.images.prepare import ImageError, PixelPolicy, is_reference
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.reasons import reason_of
from blpo_dspy.errors import BlpoError
from blpo_dspy.files import write_json
from blpo_dspy.report.html import REPORT_DATA, THUMBNAILS, command_line, today
from blpo_dspy.report.run.items import MOST_SHOWN, Item, worth_showing

FORMAT = "blpo-dspy report data"
_LINE, _GAP = 18, 6  # of an image's name above it, and between two images, in pixels
_SIDE, _QUALITY = 288, 72  # of the longest side, in pixels; at this quality even noise stays below 60 kB


def write_report_data(
    folder: Path,
    labels: LabelSpace,
    examples: Sequence[dspy.Example],
    before: Sequence[Verdict],
    after: Sequence[Verdict],
    *,
    doubtful: Sequence[tuple[LikelyError, dspy.Example]] = (),
    command: Sequence[str] = (),
) -> None:
    """Writes what a report shows of the test examples.

    Of those that it shows as pictures, small ones and the texts are kept; of all others only the labels.

    Args:
        folder: The run's folder.
        labels: The label space.
        examples: The test examples.
        before: What the start said about each; empty where the test split was not judged.
        after: Likewise for the compiled judge.
        doubtful: Likely label errors with their examples, in order.
        command: The command line that made the run; addresses in it are left out.

    Raises:
        BlpoError: If the folder cannot be written to.
    """
    judged = zip(examples, before, after, strict=True) if before else ()
    items = [_item(example, first, second) for example, first, second in judged]
    shown = {place for _, places in worth_showing(items, labels).values() for place in places}
    pictures = folder / THUMBNAILS
    try:
        items = [
            replace(item, thumbnail=_thumbnail(pictures, examples[i])) if i in shown else item.bare()
            for i, item in enumerate(items)
        ]
        doubts = [
            {**error.to_dict(), "thumbnail": _thumbnail(pictures, example), "reason": reason_of(example)}
            for error, example in doubtful[:MOST_SHOWN]
        ]
    except OSError as error:
        raise BlpoError(f"{error.filename or folder}: cannot be written ({error.strerror or error})") from error
    data = {
        "format": FORMAT,
        "on": today(),
        "command": command_line(command, folder),
        "items": [item.to_dict() for item in items],
        "doubtful": doubts,
    }
    write_json(folder / REPORT_DATA, data)


def _item(example: dspy.Example, before: Verdict, after: Verdict) -> Item:
    return Item(
        id=str(example.get("id", "")),
        label=example.label,
        before=before,
        after=after,
        group=str(example.get("group", "")),
        context=texts_of(example),
        reason=reason_of(example),
    )


def _thumbnail(folder: Path, example: dspy.Example) -> str | None:
    """Writes a small JPEG of an example's images side by side, without metadata, and returns its name.

    None where none can be shown, as they are only passed on by URL, or cannot be decoded.
    """
    images = images_of(example)
    shown = [(name, image) for name, several in images.items() for image in several if not is_reference(image.url)]
    policy = PixelPolicy(check="decode")
    try:
        contents = [base64.b64decode(policy.prepare(image).url.partition(",")[2]) for _, image in shown]
    except ImageError:
        return None
    if not contents:
        return None
    small = [_small(content) for content in contents]
    if len(images) > 1:
        small = [_under_name(picture, name) for picture, (name, _) in zip(small, shown, strict=True)]
    folder.mkdir(exist_ok=True)
    name = f"{hashlib.sha256(b''.join(contents)).hexdigest()[:16]}.jpg"
    _side_by_side(small).save(folder / name, "JPEG", quality=_QUALITY, optimize=True)
    return name


def _small(content: bytes) -> Image.Image:
    with Image.open(io.BytesIO(content)) as picture:
        picture.thumbnail((_SIDE, _SIDE))
        small = picture.convert("RGB")
    small.info = {}  # Pillow would write a comment of the original
    return small


def _under_name(picture: Image.Image, name: str) -> Image.Image:
    named = Image.new("RGB", (picture.width, picture.height + _LINE), "white")
    ImageDraw.Draw(named).text((2, 1), name, "black", ImageFont.load_default(_LINE - 4))
    named.paste(picture, (0, _LINE))
    return named


def _side_by_side(pictures: Sequence[Image.Image]) -> Image.Image:
    if len(pictures) == 1:
        return pictures[0]
    width = sum(picture.width for picture in pictures) + _GAP * (len(pictures) - 1)
    strip = Image.new("RGB", (width, max(picture.height for picture in pictures)), "white")
    left = 0
    for picture in pictures:
        strip.paste(picture, (left, 0))
        left += picture.width + _GAP
    return strip
