"""The docstring of an optimizer, which describes every option that its constructor takes."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

_ARGS = re.compile(r"(?<=^Args:\n).*?(?=\n\n|\Z)", re.DOTALL | re.MULTILINE)
_ENTRY = re.compile(r"^    (\w+): .*(?:\n {8}.*)*", re.MULTILINE)


def with_inherited_options(cls: type) -> str | None:
    """Returns a class's docstring with the `Args` of its base class added; None if it has none of its own."""
    if cls.__doc__ is None:
        return None
    own, inherited = inspect.cleandoc(cls.__doc__), inspect.getdoc(cls.__base__) or ""
    documented = dict(_entries(own))
    further = [entry for name, entry in _entries(inherited) if name not in documented]
    if not documented:
        own += "\n\nArgs:\n"
    return _ARGS.sub("\n".join([*documented.values(), *further]).replace("\\", r"\\"), own, count=1)


def _entries(doc: str) -> Iterator[tuple[str, str]]:
    """The names of the documented arguments, each with all that is said of it."""
    section = _ARGS.search(doc)
    yield from ((entry[1], entry[0]) for entry in _ENTRY.finditer(section[0] if section else ""))
