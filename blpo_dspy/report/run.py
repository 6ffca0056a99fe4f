"""A run's folder read back."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blpo_dspy.errors import BlpoError
from blpo_dspy.report.items import Item
from blpo_dspy.report.record import FORMAT, REPORT_DATA, THUMBNAILS

RESULT = "result.json"
_THUMBNAIL = re.compile(r"[0-9a-f]{16}\.jpg")
_LARGEST_THUMBNAIL = 100_000  # bytes


@dataclass(frozen=True)
class RunFolder:
    """What a run left.

    Attributes:
        folder: Its folder.
        result: The content of result.json.
        command: The command line that made it, "" if that is not known.
        items: The test items, none if the test split was not judged.
        doubtful: The likely label errors that a report shows.
    """

    folder: Path
    result: Mapping[str, Any]
    command: str
    items: tuple[Item, ...]
    doubtful: tuple[Mapping[str, Any], ...] = ()

    def picture(self, name: str | None) -> str | None:
        """Returns a small JPEG of the run as a data URI, None if there is none of that name."""
        content = self._thumbnail(name)
        return None if content is None else f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"

    def _thumbnail(self, name: str | None) -> bytes | None:
        if name is None or not _THUMBNAIL.fullmatch(name):
            return None
        try:
            content = (self.folder / THUMBNAILS / name).read_bytes()
        except OSError:
            return None  # a report without one picture is better than none
        return content if content.startswith(b"\xff\xd8") and len(content) <= _LARGEST_THUMBNAIL else None


def load_run(folder: Path) -> RunFolder:
    """Returns what `blpo compile --run-dir` or `blpo demo --out` left in a folder.

    Raises:
        BlpoError: If the folder holds no run, or a file of it is damaged.
    """
    result = _read(folder / RESULT, "rounds")
    data = _read(folder / REPORT_DATA, "items")
    if data.get("format") != FORMAT:
        raise BlpoError(f"{folder / REPORT_DATA}: not the report data of this version; run the command anew")
    try:
        items = tuple(Item.from_dict(item) for item in data["items"])
    except (KeyError, TypeError) as error:
        raise BlpoError(f"{folder / REPORT_DATA}: an item is damaged ({error}); run the command anew") from error
    return RunFolder(folder, result, str(data.get("command", "")), items, tuple(data.get("doubtful", ())))


def _read(file: Path, key: str) -> dict[str, Any]:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BlpoError(
            f"{file}: cannot be read ({reason}); give the folder of `blpo compile --run-dir` or `blpo demo --out`"
        ) from error
    if not isinstance(data, dict) or key not in data:
        raise BlpoError(f"{file}: not the record of a run (it has no {key!r}); run the command anew")
    return data
