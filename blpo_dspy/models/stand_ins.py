"""Prompts that are formatted once, with a word instead of each image and each text that changes from call to call.

DSPy's adapters write an image into the text of a message, search that text for it and encode it three times over, and
its engines read, check and write it again, which costs more than everything else about a call. The word of an image is
the base64 of a data URI. Words are replaced after formatting, so that the messages are the same either way, or not
before the request is sent (`splicing.py`).
"""

from __future__ import annotations

import functools
import json
import re
import secrets
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

import dspy
from dspy.utils.callback import BaseCallback

# Valid base64 that no text of a user can hold; with the four digits of a place's number, as long as base64 has to be.
_WORD = secrets.token_hex(16)
_PLACE = re.compile(rf"{_WORD}(\d{{4}})")
_URI = re.compile(r"data:image/[a-z]+;base64,")
_MARKER = "CUSTOM-TYPE-"  # text that an adapter takes apart
_MOST_PROMPTS, _MOST_REQUESTS = 64, 16

# Adapters whose messages depend on the signature and the inputs alone, and are passed on as they are.
_STANDARD = (dspy.ChatAdapter, dspy.JSONAdapter)


class Prompt:
    """Messages with words in their places, and the requests made of them, by what these depend on otherwise."""

    def __init__(self, messages: list[dict[str, Any]]) -> None:
        self.messages = messages
        self.requests: dict[Any, Any] = {}

    def keep(self, key: Any, request: Any) -> None:
        """Keeps a request for later calls."""
        if len(self.requests) >= _MOST_REQUESTS:
            self.requests.clear()
        self.requests[key] = request


class Filling:
    """What one call puts into the places of a prompt.

    Args:
        prompt: The prompt.
        images: The base64 of an image, by the number of its place.
        texts: Likewise the texts.

    Attributes:
        messages: A copy of the messages, with the words in them.
        sent: Whether a request with them may have reached a server.
    """

    def __init__(self, prompt: Prompt, images: Mapping[int, str], texts: Mapping[int, str]) -> None:
        self.prompt, self._images, self._texts = prompt, images, texts
        self._encoded = dict[int, bytes]()
        self.messages = _copied(prompt.messages)
        self.sent = False

    def whole(self) -> list[dict[str, Any]]:
        """Returns the messages of the call."""
        messages = _copied(self.prompt.messages)
        self._fill(messages)
        return messages

    def restore(self) -> list[dict[str, Any]]:
        """Puts everything into its place in `messages`, and returns them."""
        self._fill(self.messages)
        return self.messages

    def in_json(self, text: str, *, ascii_only: bool) -> list[bytes] | None:
        """Returns the pieces of a JSON text with everything in its place; None if one of the places is missing."""
        pieces = _PLACE.split(text)
        numbers = [int(number) for number in pieces[1::2]]
        if set(numbers) != self._images.keys() | self._texts.keys():
            return None
        if not self._encoded:
            self._encoded = {number: data.encode() for number, data in self._images.items()}
        texts = {number: json.dumps(text, ensure_ascii=ascii_only)[1:-1] for number, text in self._texts.items()}
        found = [piece.encode() for piece in pieces[::2]]
        for place, number in reversed(list(enumerate(numbers, 1))):
            found.insert(place, self._encoded[number] if number in self._images else texts[number].encode())
        return found

    def _fill(self, messages: list[dict[str, Any]]) -> None:
        def put(text: str) -> str:
            return _PLACE.sub(lambda place: self._images.get(int(place[1])) or self._texts[int(place[1])], text)

        for message in messages:
            if isinstance(message["content"], str):
                message["content"] = put(message["content"])
            for part in message["content"] if isinstance(message["content"], list) else ():
                if part["type"] == "text":
                    part["text"] = put(part["text"])
                elif part["type"] == "image_url":
                    part["image_url"]["url"] = put(part["image_url"]["url"])


class Splice:
    """A call whose request may be sent with words in it; `filling` says which ones, if it was formatted with some."""

    def __init__(self) -> None:
        self.filling: Filling | None = None


SPLICE: ContextVar[Splice | None] = ContextVar("blpo_splice", default=None)
"""Set where the LM that is called takes messages with words in them."""


def with_stand_ins(adapter: dspy.Adapter) -> Callable[..., list[dict[str, Any]]]:
    """Returns the `format` of an adapter, made faster for images."""
    return functools.partial(_format, adapter)


def has_stand_ins(adapter: dspy.Adapter) -> bool:
    """Whether an adapter's `format` was made by `with_stand_ins`."""
    own = vars(adapter).get("format")
    return isinstance(own, functools.partial) and own.func is _format


def is_watched(callbacks: Sequence[BaseCallback], *names: str) -> bool:
    """Whether a callback, of these or of DSPy's settings, handles one of the events."""
    every = [*dspy.settings.callbacks, *callbacks]
    return any(getattr(type(call), name) is not getattr(BaseCallback, name) for call in every for name in names)


def _format(
    adapter: Any, signature: type[dspy.Signature], demos: list[Any], inputs: dict[str, Any]
) -> list[dict[str, Any]]:
    splice = SPLICE.get()
    if splice is not None:
        splice.filling = None
    if not is_watched(adapter.callbacks, "on_adapter_format_start", "on_adapter_format_end"):
        standard = type(adapter) in _STANDARD and not any(map(callable, vars(adapter).values()))
        filling = _filling(adapter, signature, demos, inputs, standard=standard)
        if filling is not None and splice is not None and standard:
            splice.filling = filling
            return filling.messages
        if filling is not None:
            return filling.restore()
    formatted: list[dict[str, Any]] = adapter.format(signature, demos, inputs)
    return formatted


def _filling(
    adapter: Any, signature: Any, demos: list[Any], inputs: dict[str, Any], *, standard: bool
) -> Filling | None:
    """A prompt with its places filled; None where there is no image in it, or one that is written otherwise."""
    headers, images, texts = dict[str, str](), dict[int, str](), dict[int, str]()
    for number, (name, value) in enumerate(inputs.items()):
        if isinstance(value, dspy.Image) and (header := _URI.match(value.url)):
            headers[name], images[number] = header[0], value.url[header.end() :]
        elif standard and not demos and type(value) is str and _is_plain(value):
            headers[name], texts[number] = "", value
    if not images:
        return None
    if standard and not demos and len(headers) == len(inputs):
        fields = repr([(name, info.annotation, info.json_schema_extra) for name, info in signature.fields.items()])
        kind: Any = type(adapter)
        prompt = _prompt(kind, signature, signature.instructions, fields, tuple(headers.items()))
    else:
        prompt = _formatted(adapter, signature, demos, {**inputs, **_words(inputs, headers)}, len(headers))
    return None if prompt is None else Filling(prompt, images, texts)


@functools.lru_cache(maxsize=_MOST_PROMPTS)
def _prompt(
    adapter: Callable[[], dspy.Adapter],
    signature: Hashable,
    instructions: str,  # a signature can be changed in place
    fields: str,
    headers: tuple[tuple[str, str], ...],
) -> Prompt | None:
    inputs = _words([name for name, _ in headers], dict(headers))
    return _formatted(adapter(), signature, [], inputs, len(headers))


def _words(names: Sequence[str] | Mapping[str, Any], headers: Mapping[str, str]) -> dict[str, Any]:
    """A word for each input that has a header, as the image or text that it stands for."""
    words = {name: f"{headers[name]}{_WORD}{number:04}" for number, name in enumerate(names) if name in headers}
    return {name: dspy.Image(word) if headers[name] else word for name, word in words.items()}


def _formatted(adapter: Any, signature: Any, demos: list[Any], inputs: dict[str, Any], places: int) -> Prompt | None:
    """The messages with words in them; None if one of those isn't in its place, or where white space is cut off."""
    messages: list[dict[str, Any]] = adapter.format(signature, demos, inputs)
    found = set()
    for message in messages:
        content = message.get("content")
        if not isinstance(content, (str, list)):
            return None
        parts: list[dict[str, Any]] = content if isinstance(content, list) else [{"type": "text", "text": content}]
        for part in parts:
            is_image = part.get("type") == "image_url"
            text = str(part["image_url"]["url"] if is_image else part.get("text"))
            numbers = _PLACE.findall(text)
            names = [list(inputs)[int(number)] for number in numbers]
            if any(isinstance(inputs[name], dspy.Image) is not is_image for name in names):
                return None
            if not is_image and _PLACE.search(text[: len(_WORD) + 4] + "\n" + text[-len(_WORD) - 4 :]):
                return None
            found.update(numbers)
    return Prompt(messages) if len(found) == places else None


def _is_plain(text: str) -> bool:
    """Whether an adapter writes a text as it stands, and a server can be sent it."""
    return _MARKER not in text and not re.search("[\ud800-\udfff]", text)


def _copied(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {**message, "content": list(map(_copied_part, message["content"]))}
        if isinstance(message["content"], list)
        else {**message}
        for message in messages
    ]


def _copied_part(part: dict[str, Any]) -> dict[str, Any]:
    return {**part, "image_url": {**part["image_url"]}} if part.get("type") == "image_url" else {**part}
