"""Published sets of labelled images: labels first, a balanced draw, and only then the images that it needs.

`open_source("seetrue").draw(400)` returns examples, the task that a judge starts from, and a report of what was seen.
"""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import TYPE_CHECKING, Any

from blpo_dspy.errors import BlpoError

if TYPE_CHECKING:
    from blpo_dspy.data.sources.draw import Source

__all__ = ["SOURCES", "open_source"]


# The module of this package and the class in it, by the name that a user writes.
SOURCES: dict[str, tuple[str, str]] = {
    "unsafebench": ("published.unsafebench", "UnsafeBench"),
    "seetrue": ("published.seetrue", "SeeTRUE"),
    "imagereward": ("published.imagereward", "ImageReward"),
    "agin": ("published.agin", "AGIN"),
    "agiqa3k": ("published.agiqa3k", "AGIQA3K"),
    "huggingface": ("huggingface", "HuggingFace"),
}


def open_source(name: str, **options: Any) -> Source:
    """Returns a source by name; nothing is read before its `draw`.

    Args:
        name: One of `SOURCES`.
        **options: The fields of the source's class, such as split, revision, token or local_dir.

    Raises:
        BlpoError: If there is no source of this name, or it has no such option.
    """
    if name not in SOURCES:
        raise BlpoError(f"no source {name!r}; the sources are {', '.join(SOURCES)}")
    module, class_name = SOURCES[name]
    make = getattr(import_module(f"{__name__}.{module}"), class_name)
    parameters = inspect.signature(make).parameters.values()
    known = {parameter.name: parameter.default is inspect.Parameter.empty for parameter in parameters}
    unknown = sorted(set(options) - set(known))
    missing = sorted(name for name, required in known.items() if required and name not in options)
    if unknown or missing:
        wrong = [f"no option {', '.join(unknown)}"] * bool(unknown) + [f"needs {', '.join(missing)}"] * bool(missing)
        raise BlpoError(f"source {name!r}: {'; '.join(wrong)}; its options are {', '.join(known)}")
    source: Source = make(**options)
    return source
