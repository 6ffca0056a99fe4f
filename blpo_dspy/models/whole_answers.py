"""Answers read whole.

DSPy's adapters keep one text of a field that is stated twice, and pass over what follows the end of the form.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import dspy
from dspy.utils.exceptions import AdapterParseError

from blpo_dspy.models.seams import field_header_pattern

TAKES_REST = "takes_rest"
"""Marks an output field that text after the end of the form belongs to, as it may take back what the field states."""

_END = "completed"
# What stands for a pair of a JSON object that cannot be decoded: a key, and all up to the next one.
_PAIR = re.compile(r"[\"'](\w+)[\"']\s*:(.*?)(?=[\"']\w+[\"']\s*:|\Z)", re.DOTALL)
_JSON = json.JSONDecoder(object_pairs_hook=list, strict=False)


def read_whole(adapter: Any, signature: type[dspy.Signature], completion: str) -> dict[str, Any]:
    """Returns the fields of an answer as an adapter parses it, unless it states a field twice with different texts.

    Neither text is guessed to be the right one: such an answer is out of form, and the error holds both, joined, as the
    text of the field. A field that is marked with `TAKES_REST` has the text after the end of the form, too.

    Args:
        adapter: DSPy's chat, JSON or XML adapter; of any other kind the fields are taken as parsed.
        signature: The fields.
        completion: The answer.

    Raises:
        AdapterParseError: If the answer is out of form; `parsed_result` holds the fields that can be read.
    """
    problem: AdapterParseError | None = None
    try:
        fields = dict(adapter.parse(signature, completion))
    except AdapterParseError as error:
        fields, problem = dict(error.parsed_result or {}), error
    stated, rest = _stated(adapter, completion)
    twice = {name: texts for name in fields if len(texts := _different(stated, name)) > 1}
    fields.update({name: "\n\n".join(texts) for name, texts in twice.items()})
    if re.search(r"\w", rest):
        fields.update(
            {
                name: f"{text}\n\n{rest.strip()}"
                for name, text in fields.items()
                if (signature.output_fields[name].json_schema_extra or {}).get(TAKES_REST)
            }
        )
    if problem is None and not twice:
        return fields
    message = f"The answer states {', '.join(twice)} twice." if twice else None
    raise AdapterParseError(type(adapter).__name__, signature, completion, message, parsed_result=fields) from problem


def is_followed(completion: str, field: str) -> bool:
    """Returns whether another header follows a field in the chat format: then a cut at the end isn't in its text."""
    return field in [name for name, _ in _sections(completion)][:-1]


def _different(stated: list[tuple[str, str]], name: str) -> list[str]:
    """The different texts of a field, in order."""
    return list(dict.fromkeys(text for field, text in stated if field == name))


def _stated(adapter: Any, completion: str) -> tuple[list[tuple[str, str]], str]:
    """The fields with their texts, as often as the answer states them, and the text after the end of the form."""
    if isinstance(adapter, dspy.JSONAdapter):
        return _stated_in_json(completion)
    if isinstance(adapter, dspy.XMLAdapter):  # of an element that is there twice DSPy makes a list
        return [], completion.rpartition("</")[2].partition(">")[2]
    if isinstance(adapter, dspy.ChatAdapter):
        sections = list(_sections(completion))
        return sections, "\n\n".join(text for name, text in sections if name == _END)
    return [], ""


def _sections(completion: str) -> Iterator[tuple[str, str]]:
    """The sections of an answer in the chat format, as DSPy separates them."""
    name, lines = "", list[str]()
    for line in completion.splitlines():
        header = field_header_pattern.match(line.strip())
        if header:
            yield name, "\n".join(lines).strip()
            name, lines = header.group(1), [line.strip()[header.end() :]]
        else:
            lines.append(line)
    yield name, "\n".join(lines).strip()


def _stated_in_json(completion: str) -> tuple[list[tuple[str, str]], str]:
    """The pairs of all objects of an answer, and the text after the last one.

    Of an object that cannot be decoded, and that DSPy repairs, the pairs are taken as they stand.
    """
    stated, rest, start = list[tuple[str, str]](), "", completion.find("{")
    while start >= 0:
        try:
            pairs, end = _JSON.raw_decode(completion, start)
            following, rest = completion.find("{", end), completion[end:]
        except (ValueError, RecursionError):
            following, rest = completion.find("{", start + 1), ""
            found = _PAIR.findall(completion, start, len(completion) if following < 0 else following)
            pairs = [(key, text.strip(" \t\r\n\"',{}")) for key, text in found]
        stated += [(key, str(value).strip()) for key, value in pairs]
        start = following
    return stated, rest
