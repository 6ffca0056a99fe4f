"""Several pictures in one request: which is which, and which of a description's sections is about which of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from blpo_dspy.embedded.reading.request import IMAGE, Reading

_SECTION = re.compile(r"\bImage ([A-Za-z]\w*): ")
_NAMED = re.compile(r"(\w+)[\"'`*]{0,3}\s{0,3}[:=\]#]{1,3}[\s\"'`*]{0,6}" + IMAGE.pattern)
_REFERENCE = re.compile(r"original|reference|source|before|unedited|unaltered", re.IGNORECASE)
_PAIR = re.compile(
    r"(?:^|[:,\n]) ?(?P<first>[^,:\n]{1,40}) \(the first image\), (?P<second>[^,:\n]{1,40}) \(the second image\)"
    r"(?:, (?P<tie>[^,:\n]{1,40}) \(neither\))?"
)


@lru_cache(maxsize=256)
def pair_labels(text: str) -> tuple[str, ...]:
    """Returns the labels with which a text compares two pictures: for the first, the second, neither; () if none."""
    match = _PAIR.search(text)
    return tuple(label.strip() for label in match.groups() if label) if match else ()


def place_in_pair(label: str, labels: tuple[str, ...]) -> int:
    """Returns 1 for the label of the first picture, −1 for that of the second, 0 for neither."""
    name = label.strip().casefold()
    places = {known.casefold(): place for known, place in zip(labels, (1, -1, 0), strict=False)}
    return places.get(name, 0)


def named_images(reading: Reading) -> Mapping[str, bytes | None]:
    """Returns the pictures of a request by the names of their inputs; none unless there are several such inputs."""
    found: dict[str, bytes | None] = {}
    for name, text in reading.inputs.items():
        match = IMAGE.fullmatch(text.strip())
        if match and int(match[1]) < len(reading.images):
            found[name] = reading.images[int(match[1])]
    return found if len(found) > 1 else {}


def named_images_in(text: str, reading: Reading) -> Mapping[str, bytes]:
    """Returns the pictures in a part of a request by the names before them; none unless there are several."""
    found: dict[str, bytes] = {}
    for match in _NAMED.finditer(text):
        images = reading.images_of(match[0])
        if images:
            found[match[1]] = images[0]
    return found if len(found) > 1 else {}


def section(name: str, report: str) -> str:
    """Returns the report about one of several pictures, as `sections` finds it."""
    return f"Image {name}: {report}"


@lru_cache(maxsize=1024)
def sections(text: str) -> Mapping[str, str]:
    """Returns the reports of a description by the names of the pictures; none unless there are several."""
    marks = list(_SECTION.finditer(text))
    if len({mark[1] for mark in marks}) < 2:
        return {}
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    return {mark[1]: text[mark.end() : end] for mark, end in zip(marks, ends, strict=True)}


def difference(levels: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """Returns what the first of two pictures has more of each flaw than the second; less is negative."""
    first, second = list(levels.values())[:2]
    found = {flaw: first.get(flaw, 0) - second.get(flaw, 0) for flaw in {**first, **second}}
    return {flaw: level for flaw, level in found.items() if level}


def beyond_original(levels: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """Returns the flaws of the last picture other than an original, as far as the original doesn't have them."""
    originals = [name for name in levels if _REFERENCE.search(name)]
    judged = [name for name in levels if name not in originals] or list(levels)
    original = levels[originals[0]] if originals else {}
    found = {flaw: level - original.get(flaw, 0) for flaw, level in levels[judged[-1]].items()}
    return {flaw: level for flaw, level in found.items() if level > 0}


def has_original(levels: Mapping[str, object]) -> bool:
    """Whether one of several pictures is by its name what the others are compared with."""
    return any(_REFERENCE.search(name) for name in levels)
