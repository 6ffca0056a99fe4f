"""Texts that must not change unnoticed, kept in tests/snapshots/."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "snapshots"


def prompt(body: Mapping[str, Any]) -> str:
    """Returns the messages of a chat request as they went over the wire, each image as a placeholder."""
    lines = []
    for message in body["messages"]:
        content = message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        shown = "".join(part["text"] if part["type"] == "text" else f"<{part['type']}>" for part in parts)
        lines.append(f"===== {message['role']} =====\n{shown}\n")
    return "\n".join(lines)


def check(name: str, text: str) -> None:
    """Compares a text with the one on file; with UPDATE_SNAPSHOTS=1 in the environment it is put there instead."""
    file = FOLDER / f"{name}.txt"
    if os.environ.get("UPDATE_SNAPSHOTS") == "1":
        FOLDER.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
    expected = file.read_text(encoding="utf-8") if file.exists() else ""
    difference = difflib.unified_diff(
        expected.splitlines(), text.splitlines(), f"tests/snapshots/{file.name}", "now", lineterm=""
    )
    assert text == expected, "\n".join(["if it is meant, run again with UPDATE_SNAPSHOTS=1", *difference])
