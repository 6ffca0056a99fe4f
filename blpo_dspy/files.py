"""Files that are whole or as they were before, whatever happens while they are written."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from blpo_dspy.errors import BlpoError


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields the path of a file to write, which takes the place of `path` once the block has ended without an error.

    Raises:
        OSError: If it cannot be written to the disk or put in place.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | os.PathLike[str], data: Mapping[str, Any], *, indent: int = 2) -> None:
    """Writes JSON so that the file is either complete or as it was before.

    Raises:
        BlpoError: If the data is not plain JSON data, or the file cannot be written.
    """
    target = Path(path)
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
