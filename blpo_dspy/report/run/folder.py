"""The folder of a run, read."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from blpo_dspy.agreement.label_errors import LikelyError
from blpo_dspy.errors import BlpoError, DataError
from blpo_dspy.report.html import REPORT_DATA, THUMBNAILS
from blpo_dspy.report.run.items import Item
from blpo_dspy.report.run.record import FORMAT
from blpo_dspy.workspace.store import FILE_NAME as STORE

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

RESULT = "result.json"
_THUMBNAIL = re.compile(r"[0-9a-f]{16}\.jpg")
_LARGEST_THUMBNAIL = 100_000  # bytes
_SHOWN = 80  # characters of a damaged value


@dataclass(frozen=True)
class ShownError(LikelyError):
    """A likely label error that a report shows.

    Attributes:
        thumbnail: The name of its small picture, None if there is none.
        reason: What people wrote beside the label.
    """

    thumbnail: str | None = None
    reason: str = ""


@dataclass(frozen=True)
class ReportData:
    """The content of report.json; for the fields see `RunFolder`."""

    format: str
    items: tuple[Item, ...]
    command: str = ""
    doubtful: tuple[ShownError, ...] = ()
    on: str = ""


@dataclass(frozen=True)
class RunFolder:
    """What a run left.

    Attributes:
        folder: Its folder.
        result: The content of result.json.
        command: The command line that made it, "" if that is not known.
        items: The test items, none if the test split was not judged.
        doubtful: The likely label errors that a report shows.
        on: The day, "" if that is not known.
    """

    folder: Path
    result: Mapping[str, Any]
    command: str
    items: tuple[Item, ...]
    doubtful: tuple[ShownError, ...] = ()
    on: str = ""

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
    if not (folder / RESULT).exists() and (folder / STORE).exists():
        raise BlpoError(
            f"{folder}: the run there has not ended, so that there is nothing to report; repeat its command, which "
            "resumes"
        )
    result = _read(folder / RESULT, "rounds")
    data: ReportData = read_data(folder / REPORT_DATA, ReportData, FORMAT, "items")
    return RunFolder(folder, result, data.command, data.items, data.doubtful, data.on)


def read_data(file: Path, kind: Any, form: str, key: str) -> Any:
    """Returns the content of a file that a run wrote: of this format, with this key.

    Raises:
        BlpoError: If it is not such a file; as `DataError`, naming all entries that are damaged.
    """
    data = _read(file, key)
    if data.get("format") != form:
        raise BlpoError(f"{file}: not the {form.removeprefix('blpo-dspy ')} of this version; run the command again")
    try:
        return _adapter(kind).validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        found = dict(map(_problem, error.errors(include_url=False)))  # text or a number: a problem for each of the two
        raise DataError(
            f"{file}: {len(found)} entries are damaged; restore the file, or run the command again",
            [f"{place} {what}" for place, what in found.items()],
        ) from error


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    """Reads a file of a run; made when first used, as that takes time."""
    return TypeAdapter(kind)


def _problem(found: ErrorDetails) -> tuple[str, str]:
    """Where in the file, without the types that a value may have, and what is wrong there."""
    place = ".".join(str(part) for part in found["loc"] if part not in ("str", "int"))
    return place, "is missing" if found["type"] == "missing" else f"is {json.dumps(found['input'])[:_SHOWN]}"


def _read(file: Path, key: str) -> dict[str, Any]:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BlpoError(
            f"{file}: cannot be read ({reason}); give the folder of `blpo compile --run-dir` or `blpo demo --out`"
        ) from error
    if not isinstance(data, dict) or key not in data:
        raise BlpoError(f"{file}: not the record of a run (it has no {key!r}); run the command again")
    return data
