"""The card of a compiled judge: how it was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dspy

from blpo_dspy.data import dataset_fingerprint, item_prints
from blpo_dspy.optimizers.records import BLPOResult, Validation
from blpo_dspy.versions import versions


def card(record: BLPOResult, data: Mapping[str, Any], after: Validation | None) -> dict[str, Any]:
    """Returns how a judge was compiled: only what the same seed and the same LM answers give again on any machine.

    Args:
        record: What the optimizer recorded.
        data: The sets by name, each as `described`.
        after: The judge on the validation set, if it was judged there.
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
        "agreement": {"before": _on_validation(record.before), "after": _on_validation(after)},
        "versions": versions(),
    }


def described(examples: Sequence[dspy.Example]) -> dict[str, Any]:
    """Returns by what a set is known again: how many examples, a hash of them all and one of each."""
    return {"n": len(examples), "sha256": dataset_fingerprint(examples), "prints": item_prints(examples)}


def _on_validation(validation: Validation | None) -> dict[str, Any]:
    agreement = None if validation is None else validation.agreement
    return {"val": None if agreement is None else agreement.to_dict()}
