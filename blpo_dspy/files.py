"""Files that are whole or as they were before, whatever happens while they are written."""

from __future__ import annotations

import csv
import json
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from blpo_dspy.errors import BlpoError, brief, check_kind


def as_path(path: str | os.PathLike[str]) -> Path:
    """Returns the path of a file.

    Raises:
        BlpoError: If it is of another type.
    """
    check_kind("path", path, (str, os.PathLike), "path", "the path of a file, such as 'judge.json'")
    return Path(path)


def check_path(path: Path) -> None:
    """Refuses a path that no file can have, such as one with a name of over 255 bytes; better now than at the end.

    Raises:
        BlpoError: Saying what is wrong with it.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise BlpoError(f"{brief(path)}: no file can be written there ({reason}); name another one") from None


@contextmanager
def writing_output() -> Iterator[None]:
    """Says in one line why standard output could not be written; a pipe that nobody reads on is another matter.

    Raises:
        BlpoError: If it could not.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise BlpoError(
            f"standard output cannot be written ({error.strerror or error}); what was written to files is kept"
        ) from error


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields the path of a file to write, which takes the place of `path` once the block has ended without an error.

    Raises:
        OSError: If it cannot be written to the disk or put in place.
    """
    target = Path(path)
    # A name may fill the 255 bytes that file systems allow.
    temporary = target.with_name(f".{target.name[:40]}.{secrets.token_hex(4)}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(
    path: str | os.PathLike[str], data: Mapping[str, Any] | Sequence[Any], *, indent: int | None = 2
) -> None:
    """Writes JSON so that the file is either complete or as it was before.

    Raises:
        BlpoError: If the data is not plain JSON data, or the file cannot be written.
    """
    target = as_path(path)
    check_path(target)
    try:
        text = json.dumps(data, indent=indent, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    except (TypeError, ValueError) as error:
        raise BlpoError(f"{target}: not written, as the content is not plain JSON data ({error})") from error
    try:
        with replacing(target) as temporary:
            temporary.write_bytes(text)
    except OSError as error:
        raise BlpoError(
            f"{target}: cannot be written ({error.strerror}); is {target.parent} a folder of yours?"
        ) from error


def writable_file(path: Path) -> Path:
    """Returns the path of a JSON file that can be written, its folder made if need be.

    Raises:
        BlpoError: If it can't be written; better known now than after the LM calls.
    """
    if path.suffix != ".json":
        raise BlpoError(f"{path}: the file is JSON, so its name should end in .json")
    check_path(path)
    if path.is_dir():
        raise BlpoError(f"{path}: a folder of this name is in the way; give the path of a file")
    writable_folder(path.parent)
    return path


def writable_folder(folder: Path) -> Path:
    """Returns a folder that files can be written to, made if need be.

    Raises:
        BlpoError: If it can't be made or written to.
    """
    check_path(folder)
    if folder.exists() and not folder.is_dir():
        raise BlpoError(f"{folder}: a file, not a folder; choose another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".blpo-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise BlpoError(
            f"{folder}: the folder cannot be made or written to ({error.strerror or error}); choose another folder"
        ) from error
    return folder


RESULTS = "results.json"


# A cell that begins so is run as a formula by spreadsheets.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def spreadsheet_cell(value: object) -> object:
    """Returns a value for a CSV cell; text that a spreadsheet would run as a formula gets an apostrophe in front."""
    return f"'{value}" if isinstance(value, str) and _is_formula(value) else value


def plain_cell(text: str) -> str:
    """Returns the text of a CSV cell, without the apostrophe that `spreadsheet_cell` puts in front."""
    return text[1:] if text.startswith("'") and _is_formula(text) else text


def _is_formula(text: str) -> bool:
    """Whether it is one behind any apostrophes: those of its own need another, to be read as they were."""
    text = text.lstrip("'")
    return text.startswith(_FORMULA) and not _NUMBER.fullmatch(text)


def write_sheet(path: str | os.PathLike[str], rows: Iterable[Iterable[object]]) -> None:
    """Writes a CSV for a spreadsheet, its header first; the file is either complete or as it was before.

    Raises:
        BlpoError: If the file cannot be written.
    """
    try:
        with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(map(spreadsheet_cell, row) for row in rows)
    except OSError as error:
        raise BlpoError(f"{path}: cannot be written ({error.strerror or error})") from error
