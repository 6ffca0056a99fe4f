"""The card of a compiled judge: how it was made."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import metadata
from typing import Any

import dspy

from blpo_dspy.data.examples import dataset_fingerprint, item_prints
from blpo_dspy.optimizers.bench.records import BLPOResult, Validation
from blpo_dspy.programs.cascade import stages_of
from blpo_dspy.programs.visual_judge import VisualJudge

_LIBRARIES = ("blpo-dspy", "dspy", "litellm", "pillow", "scikit-learn", "numpy")


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the libraries that a result may depend on."""
    return {"python": platform.python_version(), **{name: _version(name) for name in _LIBRARIES}}


_version = cache(metadata.version)  # it reads all of a library's metadata
_SETS = ("train", "val", "folds")


def card(
    record: BLPOResult, data: Mapping[str, Any], after: Validation | None, student: Mapping[str, Any], reasons: int
) -> dict[str, Any]:
    """Returns how a judge was compiled: only what the same seed and the same LM answers give again on any machine.

    Args:
        record: What the optimizer recorded.
        data: The sets by name, each as `described`.
        after: The judge on the validation set, if it was judged there.
        student: The card of the program that was compiled; empty unless that was compiled itself.
        reasons: How many training examples have a reason that the optimizer LM was shown or could be.
    """
    # Where a cap halts an optimizer that has no rounds, threads decide what was still answered.
    halted = record.capped and not record.rounds
    return {
        "options": dict(record.options),
        "rounds": len(record.rounds),
        "stop_reason": record.stop_reason,
        "answers": None if halted else dict(record.ledger.answered),
        "seed": record.options["seed"],
        "data": dict(data),
        "reasons": reasons,
        "ancestors": _ancestors(student),
        "agreement": {
            when: {record.validated_on: None if found is None or found.agreement is None else found.agreement.to_dict()}
            for when, found in (("before", record.before), ("after", after))
        },
        "versions": versions(),
    }


def described(examples: Sequence[dspy.Example]) -> dict[str, Any]:
    """Returns by what a set is known again: how many examples, a hash of them all and one of each."""
    return {"n": len(examples), "sha256": dataset_fingerprint(examples), "prints": item_prints(examples)}


def sets_of(compiled: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns by name the sets that the judge of a card was compiled with ("train", "val", "folds"), as `described`."""
    data = compiled.get("data")
    parts = {**(data if isinstance(data, dict) else {}), "folds": compiled.get("folds")}
    return {name: parts[name] for name in _SETS if isinstance(parts.get(name), dict)}


def ancestors_of(compiled: Mapping[str, Any]) -> list[dict[str, dict[str, Any]]]:
    """Returns the sets of the judges that the judge of a card was compiled from, the nearest first, as `sets_of`."""
    found = compiled.get("ancestors")
    return (
        [sets_of({"data": sets, **sets}) for sets in found if isinstance(sets, dict)] if isinstance(found, list) else []
    )


def known_prints(judge: VisualJudge) -> frozenset[str]:
    """Returns the hash of each example that a judge, one of a cascade, or an ancestor of it was compiled with."""
    cards = [stage.card for stage in stages_of(judge)]
    parts = (part for own in cards for sets in (sets_of(own), *ancestors_of(own)) for part in sets.values())
    return frozenset().union(*map(prints_of, parts))


def prints_of(part: Mapping[str, Any]) -> frozenset[str]:
    """Returns the hash of each example of a set."""
    prints = part.get("prints")
    return frozenset(prints.split()) if isinstance(prints, str) else frozenset()


def _ancestors(student: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The sets of the student and of all judges before it, each once, by what identifies examples."""
    kept = [
        {name: {key: part[key] for key in ("n", "sha256", "prints") if key in part} for name, part in sets.items()}
        for sets in (sets_of(student), *ancestors_of(student))
    ]
    return [sets for i, sets in enumerate(kept) if sets and sets not in kept[:i]]
