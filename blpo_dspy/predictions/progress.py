"""Where a run of predictions stands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from blpo_dspy.agreement.measure import Flips
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import counted
from blpo_dspy.log import log_event
from blpo_dspy.notebook import html_table, one_line
from blpo_dspy.predictions.results import Outcome
from blpo_dspy.workspace.ledger import ROLES, Ledger


@dataclass(frozen=True, repr=False)
class Progress:
    """Where a run of predictions stands.

    Attributes:
        total: Rows in all.
        known: Rows with a verdict or an error, of earlier sessions too.
        judged: Rows that this session has judged.
        invalid: Rows whose answer states no label.
        flips: How often the order of two images decided; None where pairs were not judged in both orders.
        errors: Rows without an answer: the image cannot be used, or the model failed.
        ledger: The LM calls of this session.
        earlier: Those of the sessions before it.
        counts: Rows by what they are counted for.
        space: The judge's labels.
        gone: Verdicts of the sessions before it on images, or with context, that are no longer there.
        escalated: Rows that a calibrated judge escalates to people; None of any other judge.
        note: What is to be known of rows that cannot be used, "" if all can.
    """

    total: int
    known: int
    judged: int
    invalid: int
    errors: int
    ledger: Ledger
    earlier: Ledger
    counts: Mapping[Outcome, int]
    space: LabelSpace
    gone: int = 0
    flips: Flips | None = None
    escalated: int | None = None
    note: str = ""

    def __repr__(self) -> str:
        given = ", ".join(f"{name}: {rows:,}" for name, rows in self.labels.items())
        faults = f"{self.invalid:,} invalid, {counted(self.errors, 'error')}"
        calls = counted(self.ledger.total.calls, "call")
        return one_line(self, f"{self.known:,} of {counted(self.total, 'row')}; {given}; {faults}; {calls}")

    def _repr_html_(self) -> str:
        found = {**self.labels, "invalid": self.invalid, "errors": self.errors, "not judged": self.total - self.known}
        return html_table([["", "rows"], *([name, f"{rows:,}"] for name, rows in found.items())])

    @cached_property
    def labels(self) -> Mapping[str, int]:
        """How often each label was given, in the order of the label space; of scores each of up to five bins."""
        times = Counter[str]()
        for outcome, rows in self.counts.items():
            if outcome.label is not None:
                times[outcome.label] += rows
        if self.space.kind == "scores":
            names, groups = self.space.strata([self.space.coerce(name) for name in times.elements()])
            return {str(name): groups.count(name) for name in names}
        return {name: times[name] for name in self.space.names}

    @property
    def complete(self) -> bool:
        """Whether every row has a verdict or an error; if not, a table is written only if it may be partial."""
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
