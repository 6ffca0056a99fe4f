"""Images pass DSPy's formatting under short addresses.

DSPy's adapters write an image into the text of a message, search that text for it and encode it three times over, which
costs more than everything else about a call. The messages that come out are the same either way.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import dspy
from dspy.utils.callback import BaseCallback

# ".invalid" is never a host (RFC 2606), and no text of a user can hold the address.
_HOST = f"https://{secrets.token_hex(8)}.invalid/"


def with_stand_ins(adapter: dspy.Adapter) -> Callable[..., list[dict[str, Any]]]:
    """Returns the `format` of an adapter, made faster for images."""
    return partial(_format, adapter)


def has_stand_ins(adapter: dspy.Adapter) -> bool:
    """Whether an adapter's `format` was made by `with_stand_ins`."""
    own = vars(adapter).get("format")
    return isinstance(own, partial) and own.func is _format


def _format(
    adapter: dspy.Adapter, signature: type[dspy.Signature], demos: list[Any], inputs: dict[str, Any]
) -> list[dict[str, Any]]:
    images = {name: value for name, value in inputs.items() if isinstance(value, dspy.Image) and _is_data(value.url)}
    if images and not _watched(adapter):
        addresses = {f"{_HOST}{name}": image.url for name, image in images.items()}
        short = {name: dspy.Image(f"{_HOST}{name}") for name in images}
        messages: list[dict[str, Any]] = adapter.format(signature, demos, {**inputs, **short})
        if _restored(messages, addresses):
            return messages
    formatted: list[dict[str, Any]] = adapter.format(signature, demos, inputs)
    return formatted


def _is_data(url: str) -> bool:
    return url[:5].lower() == "data:"


def _watched(adapter: dspy.Adapter) -> bool:
    """Whether a callback reads what is formatted, and has to get the images themselves."""
    names = ("on_adapter_format_start", "on_adapter_format_end")
    callbacks = [*dspy.settings.callbacks, *adapter.callbacks]
    return any(getattr(type(call), name) is not getattr(BaseCallback, name) for call in callbacks for name in names)


def _restored(messages: Sequence[Mapping[str, Any]], urls: Mapping[str, str]) -> bool:
    """Puts the images back into their places; whether each had one, and none has become text."""
    found = set()
    for message in messages:
        content = message.get("content")
        if isinstance(content, str) and _HOST in content:
            return False
        for part in content if isinstance(content, list) else ():
            address = str(part["image_url"].get("url")) if part.get("type") == "image_url" else ""
            if address in urls:
                part["image_url"]["url"] = urls[address]
                found.add(address)
            elif _HOST in str(part.get("text")):
                return False
    return len(found) == len(urls)
