"""The English of messages, docstrings and pages: phrases that read translated, each with the wording to use."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

import blpo_dspy

ROOT = Path(__file__).parent.parent
PHRASES = {
    r"as (its|their) turns? comes?": "lazily, one after the other",
    r"(is|are|was|were|not|of) waited for": "wait for …",
    r"\bgoes by\b": "uses, compares",
    r"what it loses": "the loss of …",
    r"(?<!\bbe )\btold (it|him|them|which|apart from)\b": "given, distinguished from",
    r"\banew\b": "again",
    r"(has|have) come to give": "now gives",
    r"\bare no (pairs|images|cells|test)\b": "are not …",
    r"\bis no error\b": "is not an error",
    r"from which on": "above which",
    r"(?<!takes )(?<!take )(?<!the )\bin place of\b": "instead of",
    r"that are there already": "existing …",
    r"\bvery (images|same|file)\b": "exactly these, the same",
    r"two looks at": "polls of",
    r"half of the price": "half the price",
    r"as a rule\b": "usually",
    r"\bmay be apart\b": "differ by at most …",
    r"no more apart": "differ by no more",
    r"\blie in memory\b": "are in memory",
    r"(is|are|was|were) taken down\b": "recorded",
    r"where other machines are to": "if other machines should",
}
# A prompt: other words are another request.
PROMPTS = {"asking.py"}


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Yields the lines of a page, or of the strings and comments of a source file, with their numbers."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        yield from enumerate(text.splitlines(), 1)
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.STRING, tokenize.COMMENT):
            yield from enumerate(token.string.splitlines(), token.start[0])


def found_in(paths: list[Path]) -> list[str]:
    """Returns where these files have which of the phrases, and what to write."""
    known = {re.compile(phrase, re.IGNORECASE): better for phrase, better in PHRASES.items()}
    return [
        f"{path.name}:{number}: “{match[0]}”: write “{better}”"
        for path in paths
        for number, line in texts(path)
        for phrase, better in known.items()
        if (match := phrase.search(line)) and not (path.name in PROMPTS and match[0] == "anew")
    ]


def test_the_package_is_in_plain_english() -> None:
    """No message, docstring or comment of the library has one of these phrases."""
    package = Path(blpo_dspy.__file__).parent
    assert found_in(sorted(package.rglob("*.py")) + sorted((package / "programs").rglob("*.py"))) == []


@pytest.mark.parametrize("name", ["README.md", "examples/README.md"])
def test_the_pages_are_in_plain_english(name: str) -> None:
    """Nor have the README and the guide."""
    assert found_in([ROOT / name]) == []


def test_a_phrase_is_found_with_its_place(tmp_path: Path) -> None:
    """In a string, not in the code around it."""
    (tmp_path / "some.py").write_text('goes_by = 1\nprint("""x\nit is waited for""")\n', encoding="utf-8")
    assert found_in([tmp_path / "some.py"]) == ["some.py:3: “is waited for”: write “wait for …”"]
