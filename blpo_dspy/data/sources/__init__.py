"""Published sets of labelled images: labels first, a balanced draw, and only then the images that it needs.

`open_source("seetrue").draw(400)` returns examples, the task that a judge starts from, and a report of what was seen.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from blpo_dspy.errors import BlpoError

if TYPE_CHECKING:
    from blpo_dspy.data.sources.base import Source

__all__ = ["SOURCES", "Entry", "open_source"]


@dataclass(frozen=True)
class Entry:
    """A source that `open_source` knows.

    Args:
        summary: One line: what it holds and where it comes from.
        module: The module of this package that reads it.
        attribute: What in that module makes the source.
    """

    summary: str
    module: str
    attribute: str


SOURCES: dict[str, Entry] = {
    "unsafebench": Entry("safe or unsafe, 11 categories; gated, Hub", "published.unsafebench", "UnsafeBench"),
    "seetrue": Entry("does a text match an image, 1 or 0; Hub", "published.seetrue", "SeeTRUE"),
    "imagereward": Entry("how well an image matches its prompt, 1 to 7; Hub", "published.imagereward", "ImageReward"),
    "agin": Entry("naturalness of generated images, 1 to 5; by hand", "published.agin", "AGIN"),
    "agiqa3k": Entry("quality or alignment of generated images, 1 to 5; by hand", "published.agiqa3k", "AGIQA3K"),
    "evalmuse": Entry("how well an image matches its prompt, 1 to 5; Hub", "published.evalmuse", "EvalMuse"),
    "vl-rewardbench": Entry(
        "which of two answers about an image is better; Hub", "published.vlrewardbench", "VLRewardBench"
    ),
    "smid": Entry("safe or unsafe, moral content; Hub", "published.companions", "smid"),
    "nsfw": Entry("safe or unsafe, sexual content; Hub", "published.companions", "nsfw"),
    "multiheaded": Entry("safe or unsafe, several kinds; Hub", "published.companions", "multiheaded"),
    "violence": Entry("safe or unsafe, violence; Hub", "published.companions", "violence"),
    "self-harm": Entry("safe or unsafe, self-harm; Hub", "published.companions", "self_harm"),
    "huggingface": Entry("any image dataset on the Hub, by id and column names", "huggingface", "HuggingFace"),
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
    entry = SOURCES[name]
    make = getattr(import_module(f"{__name__}.{entry.module}"), entry.attribute)
    known = _options(make)
    unknown = sorted(set(options) - set(known))
    missing = sorted(name for name, required in known.items() if required and name not in options)
    if unknown or missing:
        wrong = [f"no option {', '.join(unknown)}"] * bool(unknown) + [f"needs {', '.join(missing)}"] * bool(missing)
        raise BlpoError(f"source {name!r}: {'; '.join(wrong)}; its options are {', '.join(known)}")
    source: Source = make(**options)
    return source


def _options(make: Any) -> dict[str, bool]:
    """The options of a source's class (or of a partial call of it), and whether each must be given."""
    parameters = inspect.signature(make).parameters.values()
    return {parameter.name: parameter.default is inspect.Parameter.empty for parameter in parameters}
