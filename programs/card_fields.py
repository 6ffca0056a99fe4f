"""The fields of a judge's card, which are checked where it is read from a file or written to one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from blpo_dspy.errors import BlpoError, brief


@dataclass(frozen=True)
class _Kind:
    """What a value is to be, in words, and whether it is."""

    words: str
    holds: Callable[[Any], bool]


@dataclass(frozen=True)
class _Many:
    """A list, or a dictionary with any names, whose entries are of one kind."""

    container: type
    entries: Any


@dataclass(frozen=True)
class _OrNull:
    """A value that is not always known."""

    known: Any


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


_CONTAINERS: Mapping[type, str] = {list: "a list", dict: "a dictionary"}
_TEXT = _Kind("text", lambda value: isinstance(value, str))
_COUNT = _Kind("a whole number that is not negative", lambda value: type(value) is int and value >= 0)
_WHOLE = _Kind("a whole number", lambda value: type(value) is int)
_NUMBER = _Kind("a number", _is_number)
_LABEL = _Kind("a label", lambda value: isinstance(value, str) or _is_number(value))
_OPEN = _Kind("a dictionary", lambda value: isinstance(value, dict))

# A dictionary stands for one with these fields, each of which may be missing: earlier releases wrote fewer.
_SET = {"n": _COUNT, "sha256": _TEXT, "prints": _TEXT, "swapped": _COUNT}
_SETS = {"train": _SET, "val": _SET, "test": _SET}
_FIGURES = ("accuracy", "macro_f1", "kappa", "invalid_rate", "spearman", "mae", "pearson", "flip_rate")
_AGREEMENT = {
    **dict.fromkeys(("n", "failed", "invalid"), _COUNT),
    **dict.fromkeys(_FIGURES, _OrNull(_NUMBER)),
    "labels": _OPEN,
    "confusion": _Many(list, _Many(list, _COUNT)),
    "pairs": _Many(list, _Many(list, _OrNull(_LABEL))),
    "flips": {"pairs": _COUNT, "flipped": _COUNT},
}
_JUDGED = dict.fromkeys(_SETS, _OrNull(_AGREEMENT))
_CARD: Mapping[str, Any] = {
    "options": _OPEN,
    "rounds": _COUNT,
    "stop_reason": _TEXT,
    "answers": _OrNull(_Many(dict, _COUNT)),
    "seed": _WHOLE,
    "data": _SETS,
    "reasons": _COUNT,
    "ancestors": _Many(list, {**_SETS, "folds": _SET}),
    "agreement": {"before": _JUDGED, "after": _JUDGED},
    "versions": _Many(dict, _TEXT),
    "sealed_test": _OrNull({"n": _COUNT, "sha256": _TEXT, "used": _TEXT, "times": _COUNT, "run": _TEXT}),
    "folds": {
        "n": _COUNT,
        "images": _COUNT,
        "sha256": _TEXT,
        "prints": _TEXT,
        "figures": _TEXT,
        "agreement": {"before": _AGREEMENT, "after": _AGREEMENT},
    },
    "calibration": {
        **dict.fromkeys(("agreement", "risk", "agreement_at_least", "coverage"), _NUMBER),
        **dict.fromkeys(("n", "selected", "agreeing", "within"), _COUNT),
        **dict.fromkeys(("thresholds", "coverage_interval"), _Many(list, _NUMBER)),
        "confidence": _Many(list, _OPEN),
        "orders": _TEXT,
        "models": _Many(list, _Many(dict, _TEXT)),
        "data": _SET,
    },
}


def checked_card(card: object) -> dict[str, Any]:
    """Returns a copy of a judge's card whose fields are all such as this library writes.

    Raises:
        BlpoError: Naming every other field, and what it should be.
    """
    problems = "; ".join(_problems(card, _CARD, "card"))
    if problems or not isinstance(card, dict):
        raise BlpoError(problems)
    return dict(card)


def _problems(value: Any, spec: Any, where: str, more: str = "") -> Iterator[str]:
    """What is wrong with a value and all that is in it; `more` says what else it may be."""
    if isinstance(spec, _OrNull):
        if value is not None:
            yield from _problems(value, spec.known, where, " or null")
        return
    kind = spec if isinstance(spec, _Kind) else _container(spec.container if isinstance(spec, _Many) else dict)
    if not kind.holds(value):
        yield f"{where} is {brief(repr(value), 80)}, and has to be {kind.words}{more}"
    elif isinstance(spec, _Many):
        for place, inner in value.items() if spec.container is dict else enumerate(value):
            yield from _problems(inner, spec.entries, _inside(where, place))
    elif isinstance(spec, Mapping):
        for name, inner in value.items():
            if name in spec:
                yield from _problems(inner, spec[name], _inside(where, name))
            else:
                yield f"{_inside(where, name)} is unknown; {where} has the fields {', '.join(spec)}"


def _container(kind: type) -> _Kind:
    return _Kind(_CONTAINERS[kind], lambda value: isinstance(value, kind))


def _inside(where: str, place: object) -> str:
    return f"{where}[{place}]" if isinstance(place, int) else f"{where}.{brief(place, 80)}"
