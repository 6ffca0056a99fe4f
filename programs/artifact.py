"""The judge as a file: one JSON object that is also a DSPy state file."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blpo_dspy.errors import ArtifactError

FORMAT = "blpo-dspy judge"
FORMAT_VERSION = 1
_REQUIRED = ("labels", "evidence", "context", "reasoning", "pixel_policy", "verbalizer", "judge", "card")


def write_json(path: str | os.PathLike[str], data: Mapping[str, Any]) -> None:
    """Writes JSON so that the file is either complete or as it was before."""
    target = Path(path)
    text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def read_artifact(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Returns the content of a judge file; no code of the file is run.

    Raises:
        ArtifactError: If the file is missing, is no JSON (truncated, a pickle, an image, …), no judge, or one of
            another format version.
    """
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise ArtifactError(
            f"{path}: cannot be read ({error.strerror}); give the path of a saved judge.json"
        ) from error
    if raw[:1] == b"\x80" or raw[:2] == b"PK":
        raise ArtifactError(
            f"{path}: this is a pickle or an archive, not a judge; only the JSON of judge.save() is loaded"
        )
    try:
        data = json.loads(raw)
    except ValueError as error:
        raise ArtifactError(
            f"{path}: not valid JSON ({error}), so the file is damaged or truncated; save the judge again"
        ) from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ArtifactError(
            f"{path}: not a judge saved by VisualJudge.save() (its 'format' is not {FORMAT!r}); for a plain DSPy state "
            "build the judge first and call judge.load(path) on it"
        )
    if data.get("format_version") != FORMAT_VERSION:
        raise ArtifactError(
            f"{path}: format version {data.get('format_version')!r}, but this blpo-dspy reads "
            f"version {FORMAT_VERSION}; load it with the blpo-dspy release that wrote it, or save it again"
        )
    missing = [key for key in _REQUIRED if key not in data]
    if missing:
        raise ArtifactError(f"{path}: incomplete judge, {missing} missing; save the judge again")
    return data
