"""Where a run of predictions stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from blpo_dspy.agreement.measure import Flips
from blpo_dspy.calls.ledger import ROLES, Ledger
from blpo_dspy.log import log_event


@dataclass(frozen=True)
class Progress:
    """Where a run of predictions stands.

    Attributes:
        total: Rows in all.
        known: Rows with a verdict or an error, of earlier sessions too.
        judged: Rows that this session has judged.
        labels: How often each label was given, in the order of the label space; of scores each of up to five bins.
        invalid: Rows whose answer states no label.
        flips: How often the order of two images decided; None where pairs were not judged in both orders.
        errors: Rows without an answer: the image cannot be used, or the model failed.
        ledger: The LM calls of this session.
        earlier: Those of the sessions before it.
        gone: Verdicts of the sessions before it on images, or with context, that are no longer there.
        escalated: Rows that a calibrated judge escalates to people; None of any other judge.
    """

    total: int
    known: int
    judged: int
    labels: Mapping[str, int]
    invalid: int
    errors: int
    ledger: Ledger
    earlier: Ledger
    gone: int = 0
    flips: Flips | None = None
    escalated: int | None = None

    @property
    def complete(self) -> bool:
        """Whether every row has a verdict or an error, so that the table was written."""
        return self.known == self.total

    @property
    def spent(self) -> Ledger:
        """The LM calls of all sessions."""
        return Ledger({role: self.ledger[role] + self.earlier[role] for role in ROLES})


def log_judged(progress: Progress, target: Path) -> None:
    """Logs what a session has judged."""
    log_event(
        "judged",
        f"{progress.judged} of {progress.total} rows judged for {target.name}, {progress.errors} errors, "
        f"{progress.invalid} invalid, {progress.ledger.total.calls} calls",
        rows=progress.total,
        judged=progress.judged,
        errors=progress.errors,
        invalid=progress.invalid,
        calls=progress.ledger.total.calls,
    )
