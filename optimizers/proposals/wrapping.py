"""What optimizer LMs write around a text that was to stand alone: fences, quotes, JSON, headings, an introduction.

All of it would become part of the instruction that a judge is given.
"""

from __future__ import annotations

import json
import re

# A block at the start; what follows it is a remark.
_FENCED = re.compile(r"(`{3,}|~{3,})[\w-]*[ \t]*\n(.*?)\n?[ \t]*\1(?!.*\1)", re.DOTALL)
_QUOTES = {'"': '"', "'": "'", "`": "`", "“": "”", "‘": "’", "«": "»", "„": "“", "「": "」", "『": "』"}
_INSTRUCTION = r"(?:(?:judge|verbali[sz]er|report|complete|full|new|final|updated)[ _])*(?:instructions?|prompt)"
_WRITTEN = r"(?:revised|improved|updated|rewritten|refined|optimi[sz]ed|new|merged|better|verbali[sz]er)"
# "Here is the revised instruction:", "Sure! Below is an improved version of the prompt:", "## Revised Instruction",
# "**Improved instruction:** …": only what a colon or the end of the line sets apart.
_INTRODUCTION = re.compile(
    r"\A(?:(?:sure|certainly|of course|okay|ok)\b[,.!]*\s+)?"
    r"(?:(?:here(?:['’]s| is)|below is|this is|the following is)\b[^\n:]{0,80}"
    r"\b(?:instructions?|prompt|version|revision)\b[^\n:]{0,60}:[*_]*(?:\s+|$)"
    rf"|[#*_ \t]*(?:(?:my|the|your) )?{_WRITTEN}[ _]{_INSTRUCTION}[*_ \t]*(?::[*_]*(?:\s+|$)|\n+|$))",
    re.IGNORECASE,
)
_NAME = re.compile(r"instruction|prompt|text", re.IGNORECASE)
_PLACEHOLDER = re.compile(r"[{<\[]+[\w ]{1,60}[}>\]]+")


def unwrapped(text: str) -> str:
    """Returns a text without what stands around it; "" for one that is nothing but a placeholder."""
    before, text = None, text.strip()
    while text != before:
        before, text = text, _INTRODUCTION.sub("", text)
        fenced = _FENCED.match(text)
        text = _of_json(_unquoted((fenced[2] if fenced else text).strip()))
    return "" if _PLACEHOLDER.fullmatch(text) else text


def _unquoted(text: str) -> str:
    """A text without the quotes around it, but not without those of words at its start and its end."""
    if len(text) < 2 or _QUOTES.get(text[0]) != text[-1] or {text[0], text[-1]} & {*text[1:-1]}:
        return text
    return text[1:-1].strip()


def _of_json(text: str) -> str:
    """The only text of a JSON object, if it is called an instruction, or the text itself."""
    if not text.startswith("{"):
        return text
    try:
        found = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return text
    if not isinstance(found, dict) or len(found) != 1:
        return text
    ((name, value),) = found.items()
    return value.strip() if isinstance(value, str) and _NAME.search(name) else text
