"""What a prompt says about instructions: the current one, and earlier ones with their scores."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from blpo_dspy.embedded.reading.evidence import objects
from blpo_dspy.embedded.reading.request import Reading, without_images

FALLBACK = "Judge how good this picture is."

_INSTRUCTION_NAME = re.compile(r"instruction|prompt|guideline|rubric|variable|system_message", re.IGNORECASE)
_OTHERS_NAME = re.compile(r"previous|attempt|histor|proposed|revision|scored|past|earlier|candidates", re.IGNORECASE)
_BEST_NAMES = ("current", "basic", "base", "judge", "initial", "")
_NAMED = (
    r"(?:current|existing|original|following|my|the|zero-shot|classifier|judge'?s?|base|basic|system)\b[^\n:]{0,60}?"
    r"\b(?:prompts?|instructions?|variable)\b[^\n:]{0,40}"
)
_SHOWN = (
    re.compile(rf"{_NAMED}:?\s*(?:\"\"\"|```\w*\n|''')(.{{1,8000}}?)(?:\"\"\"|```|''')", re.IGNORECASE | re.DOTALL),
    re.compile(
        r"<((?:CURRENT_?)?(?:VARIABLE|INSTRUCTIONS?|PROMPT|SYSTEM_PROMPT|LM_SYSTEM_PROMPT))>(.{1,8000}?)</\1>",
        re.IGNORECASE | re.DOTALL,
    ),
    re.compile(r"\bInput:(.{1,8000}?)\n[ \t\n]{0,9}Output:", re.DOTALL),
    re.compile(rf"{_NAMED}:\s{{0,9}}\"([^\"]{{1,8000}})\"", re.IGNORECASE),
    re.compile(rf"{_NAMED}:\s{{0,9}}(.{{1,8000}}?)(?:\n[ \t]*\n|$)", re.IGNORECASE | re.DOTALL),
)
_MARK = re.compile(
    r"(?P<text>\b(?:text|instruction|prompt) ?\d{0,4} ?:)"
    r"|\bscore ?\d{0,4} ?[:=]\s{0,9}(?P<score>-?\d{1,9}(?:\.\d{1,9})?)",
    re.IGNORECASE,
)
_TRIED = re.compile(
    r"Instruction #(?P<n>\d{1,4}): (?P<text>.{1,8000}?)(?:»|\", \"|\n(?=Prefix|Resulting)).{0,4000}?"
    r"Resulting Score #(?P=n): (?P<score>-?\d{1,9}(?:\.\d{1,9})?)",
    re.DOTALL,
)


@dataclass(frozen=True)
class Tried:
    """An instruction that a prompt shows with the score it earned; None where it shows no score."""

    instruction: str
    score: float | None


def current_instruction(reading: Reading) -> str:
    """Returns the instruction that a prompt asks to improve: the one it shows as current, else the best scored."""
    for key in _BEST_NAMES:
        named = _input_named(key, reading)
        if named is not None:
            return named
    best = best_tried(reading)
    if best is not None:
        return best.instruction
    text = without_images("\n".join(reading.inputs.values()) if reading.inputs else reading.prompt)
    for pattern in _SHOWN:
        match = pattern.search(text)
        if match and match[match.lastindex or 0].strip():
            return match[match.lastindex or 0].strip().strip("\"'`")
    return FALLBACK


def judge_instruction(reading: Reading) -> str:
    """Returns the judge's instruction where a prompt about reports shows it, else ""."""
    return _input_named("judge", reading) or ""


def _input_named(key: str, reading: Reading) -> str | None:
    """The first instruction among the inputs that has `key` in its name, except those tried earlier; None if none."""
    for name, text in reading.inputs.items():
        if key in name.lower() and text and _INSTRUCTION_NAME.search(name) and not _OTHERS_NAME.search(name):
            return without_images(text).strip()
    return None


def tried(reading: Reading) -> list[Tried]:
    """Returns the instructions that a prompt lists with or without scores, in its order."""
    found: list[Tried] = []
    for text in reading.inputs.values() if reading.inputs else [reading.text]:
        listed = [entry for x in objects(text) if (entry := _entry(x)) is not None]
        if not listed:
            pairs = [(m["text"], m["score"]) for m in _TRIED.finditer(text)]
            pairs = pairs or _pairs(text)
            listed = [Tried(instruction.strip().strip("\"'«»"), float(score)) for instruction, score in pairs]
        found += listed
    return found


def _pairs(text: str) -> list[tuple[str, str]]:
    """Each score of a text with what stands between it and the last heading before it."""
    pairs, heading = [], None
    for mark in _MARK.finditer(text):
        if mark["text"]:
            heading = mark
        elif heading is not None:
            body = text[heading.end() : mark.start()].strip().removesuffix("resulting").strip()
            pairs.append((body, mark["score"]))
            heading = None
    return [pair for pair in pairs if pair[0]]


def _entry(item: dict[str, Any]) -> Tried | None:
    text = next((v for k, v in item.items() if _INSTRUCTION_NAME.search(k) and isinstance(v, str)), None)
    score = next((v for k, v in item.items() if "score" in k.lower() and isinstance(v, (int, float))), None)
    others = [k for k in item if "label" in k.lower() or "description" in k.lower()]
    return Tried(text, None if score is None else float(score)) if text and not others else None


def best_tried(reading: Reading) -> Tried | None:
    """Returns the listed instruction with the highest score, the first of equals, or None."""
    scored = [entry for entry in tried(reading) if entry.score is not None]
    return max(scored, key=lambda entry: entry.score or 0.0, default=None)
