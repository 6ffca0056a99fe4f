"""Reading a request: which fields it asks for and in which form, what it says, and which images lie where.

Routing looks at the requested output fields alone, as DSPy's adapters or plain text state them. Text inside an
input never changes what is asked: the request's own closing words decide.
"""

from __future__ import annotations

import ast
import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import Any

from dspy import lm15

_HEADER = re.compile(r"\[\[ ## (\w+) ## \]\]")
_DECLARED = re.compile(r"^\d+\. `(\w+)` \((.*?)\): ?(.*)$", re.MULTILINE)
_OBJECTIVE = "In adhering to this structure, your objective is:"
_CLOSINGS = (
    ("chat", "Respond with the corresponding output fields, starting with the field", _HEADER),
    ("json", "Respond with a JSON object in the following order of fields:", re.compile(r"`(\w+)`")),
    ("xml", "Respond with the corresponding output fields wrapped in XML tags", re.compile(r"`<(\w+)>`")),
)
IMAGE = re.compile("\ue000(\\d+)\ue001")
"""The placeholder of a picture in a text."""


@dataclass(frozen=True)
class OutputField:
    """A field that the request asks for: its name, its Python type as text, and what the prompt says of it."""

    name: str
    type: str = "str"
    desc: str = ""

    def options(self) -> tuple[Any, ...]:
        """The values of a Literal type, () for any other."""
        match = re.search(r"Literal(\[.*\])", self.type, re.DOTALL)
        if match is None:
            return ()
        try:
            values = ast.literal_eval(match.group(1))
        except (ValueError, SyntaxError):
            return ()
        return tuple(values)


@dataclass(frozen=True)
class Reading:
    """A request as the engine understands it.

    Attributes:
        form: "chat", "json", "xml" or "plain".
        outputs: The requested fields; empty for plain text.
        objective: What the request instructs: the objective of a DSPy prompt, else all of its text.
        inputs: Input field → text, images as placeholders; empty for plain text.
        text: The text of the last user message, images as placeholders.
        images: The images of the last user message (None for one by URL), in order.
        images_in_all: Number of images in the whole request.
        seed: The request's own seed, or None.
    """

    form: str
    outputs: tuple[OutputField, ...]
    objective: str
    inputs: dict[str, str]
    text: str
    images: tuple[bytes | None, ...]
    images_in_all: int
    seed: int | None = None
    system: str = field(default="", repr=False)

    @cached_property
    def prompt(self) -> str:
        """All the text that the request's author wrote or passed on: system and last message."""
        return f"{self.system}\n{self.text}"

    def images_of(self, text: str) -> tuple[bytes, ...]:
        """Returns the images whose placeholders stand in a text."""
        numbers = [int(n) for n in IMAGE.findall(text)]
        return tuple(image for n in numbers if n < len(self.images) and (image := self.images[n]) is not None)


def without_images(text: str) -> str:
    """Returns a text without image placeholders."""
    return IMAGE.sub(" ", text)


def read(request: lm15.Request) -> Reading:
    """Returns what a request asks and says."""
    system = _system(request)
    last = [m for m in request.messages if m.role == "user"][-1:] or list(request.messages[-1:])
    text, images = _content(last[0].parts) if last else ("", ())
    form, outputs, body = _requested(system, text)
    return Reading(
        form=form,
        outputs=outputs,
        objective=_objective(system) if _OBJECTIVE in system else f"{system}\n{text}".strip(),
        inputs=_inputs(system, body, form),
        text=text,
        images=images,
        images_in_all=sum(part.type == "image" for message in request.messages for part in message.parts),
        seed=request.config.seed,
        system=system,
    )


def _system(request: lm15.Request) -> str:
    if request.system is None or isinstance(request.system, str):
        return request.system or ""
    return "".join(getattr(part, "text", "") for part in request.system)


def _content(parts: Any) -> tuple[str, tuple[bytes | None, ...]]:
    """The text of message parts with a numbered placeholder for each image; text cannot forge a placeholder."""
    texts: list[str] = []
    images: list[bytes | None] = []
    for part in parts:
        if part.type == "text":
            texts.append(part.text.replace("\ue000", "").replace("\ue001", ""))
        elif part.type == "image":
            texts.append(f"\ue000{len(images)}\ue001")
            images.append(_bytes(part))
    return "".join(texts), tuple(images)


def _bytes(part: Any) -> bytes | None:
    if not part.data:
        return None
    try:
        return base64.b64decode(part.data, validate=False)
    except (binascii.Error, ValueError) as error:
        raise lm15.InvalidRequestError(f"an image of the request is not valid base64: {error}") from error


def _requested(system: str, text: str) -> tuple[str, tuple[OutputField, ...], str]:
    """The form of the answer, the requested fields, and the message without the closing words."""
    closings = [(text.rfind(words), form, names) for form, words, names in _CLOSINGS]
    position, form, names = max(closings, key=lambda closing: closing[0])
    declared = _declared(system, "Your output fields are:")
    if position < 0:
        return ("chat" if declared else "plain"), tuple(declared.values()), text
    tail = text[position:]
    found = [name for name in dict.fromkeys(names.findall(tail)) if name != "completed"]
    return form, tuple(declared.get(name, OutputField(name)) for name in found), text[:position]


@lru_cache(maxsize=64)
def _declared(system: str, heading: str) -> Mapping[str, OutputField]:
    """The fields that a DSPy system prompt lists under a heading."""
    start = system.find(heading)
    if start < 0:
        return MappingProxyType({})
    ends = [
        p
        for words in ("Your output fields are:", "All interactions will be")
        if (p := system.find(words, start + 1)) > 0
    ]
    block = system[start : min(ends, default=len(system))]
    found = list(_DECLARED.finditer(block))
    fields = {}
    for i, match in enumerate(found):
        rest = block[match.end() : found[i + 1].start() if i + 1 < len(found) else len(block)].strip()
        fields[match[1]] = OutputField(match[1], match[2], f"{match[3]} {rest}".strip())
    return MappingProxyType(fields)


def _objective(system: str) -> str:
    body = system.split(_OBJECTIVE, 1)[1]
    return "\n".join(line.removeprefix(" " * 8) for line in body.splitlines()).strip()


def _inputs(system: str, text: str, form: str) -> dict[str, str]:
    """The input fields, each from its own header to the next declared one; a header inside a value is text."""
    position, spans = 0, []
    for name in _declared(system, "Your input fields are:"):
        mark = f"<{name}>" if form == "xml" else f"[[ ## {name} ## ]]"
        at = text.find(mark, position)
        if at >= 0:
            spans.append((name, at, at + len(mark)))
            position = at + len(mark)
    inputs = {}
    for i, (name, _, start) in enumerate(spans):
        end = spans[i + 1][1] if i + 1 < len(spans) else len(text)
        inputs[name] = text[start:end].strip().removesuffix(f"</{name}>" if form == "xml" else "").strip()
    return inputs
