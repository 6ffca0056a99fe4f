"""The names that further text inputs of a judge can have."""

from __future__ import annotations

import keyword
from collections.abc import Sequence

import dspy

from blpo_dspy.errors import BlpoError

# Fields of the judge and the verbalizer, of an example, and of DSPy's chat format, which ends with "completed".
_OURS = frozenset({"image", "label", "description", "reasoning", "answer", "id", "group", "completed"})
# Arguments that DSPy's calls keep to themselves.
_DSPYS = frozenset({"self", "signature", "new_signature", "demos", "config", "lm", "prediction"})


def check_context(context: Sequence[str]) -> tuple[str, ...]:
    """Returns the names of context inputs if all can be fields of a DSPy signature beside those of the judge.

    Letters are those from a to z, as others can look like them: two fields of a prompt would be one to the eye.

    Raises:
        BlpoError: If a name is taken, twice there, or no such identifier.
    """
    if isinstance(context, str):
        raise BlpoError(f"context is a list of names, got the text {context!r}; write [{context!r}]")
    for name in context:
        if not isinstance(name, str) or not (name.isidentifier() and name.isascii()) or keyword.iskeyword(name):
            raise BlpoError(
                f"context name {name!r} is no identifier; rename the column to letters a to z, digits and _"
            )
        if name in _OURS | _DSPYS or name.startswith("_") or hasattr(dspy.Signature, name):
            raise BlpoError(f"context name {name!r} is taken by the judge or DSPy; rename the column")
    if len(set(context)) < len(context):
        raise BlpoError(f"context names {list(context)} are not all different")
    return tuple(context)
