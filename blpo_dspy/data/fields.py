"""The further text inputs of a judge: the names that they can have, and their texts."""

from __future__ import annotations

import keyword
from collections.abc import Mapping, Sequence
from typing import Any

import dspy
import numpy as np
from PIL import Image

from blpo_dspy.errors import BlpoError, check_kind
from blpo_dspy.text import as_data

# Fields of the judge and the verbalizer, of an example, and of DSPy's chat format, which ends with "completed".
_OURS = frozenset({"image", "label", "description", "reasoning", "answer", "id", "group", "completed"})
# Arguments that DSPy's calls reserve.
_DSPYS = frozenset({"self", "signature", "new_signature", "demos", "config", "lm", "prediction"})


def check_context(context: Sequence[str]) -> tuple[str, ...]:
    """Returns the names of context inputs if all can be fields of a DSPy signature in addition to those of the judge.

    Only ASCII letters are allowed, as other letters can look like them: two fields of a prompt would look the same.

    Raises:
        BlpoError: If a name is taken, given twice, or not such an identifier.
    """
    if isinstance(context, str):
        raise BlpoError(f"context is a list of names, got the text {context!r}; write [{context!r}]")
    check_kind("context", context, Sequence, "list of names", "context=['prompt']")
    for name in context:
        if not isinstance(name, str) or not (name.isidentifier() and name.isascii()) or keyword.iskeyword(name):
            raise BlpoError(
                f"context name {name!r} is not an identifier; rename the column to letters a to z, digits and _"
            )
        if name in _OURS | _DSPYS or name.startswith("_") or hasattr(dspy.Signature, name):
            raise BlpoError(f"context name {name!r} is taken by the judge or DSPy; rename the column")
    if len(set(context)) < len(context):
        raise BlpoError(f"context names {list(context)} are not all different")
    return tuple(context)


def context_text(name: str, value: Any) -> str:
    """Returns the text of a context input, as data.

    Raises:
        BlpoError: If it is or holds an image or other media, whose bytes would become text.
    """
    media = _media(value)
    if media is not None:
        raise BlpoError(
            f"context input {name!r} takes text, but holds a {type(media).__module__.partition('.')[0]} "
            f"{type(media).__name__}; the judge's image goes into 'image', and it takes one"
        )
    return as_data(value)


def _media(value: Any) -> Any:
    """The first image or other media in a value, None if there is none."""
    if isinstance(value, (dspy.Type, Image.Image, bytes, bytearray, memoryview, np.ndarray)):
        return value
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple, set)) else ()
    return next((media for part in parts if (media := _media(part)) is not None), None)
