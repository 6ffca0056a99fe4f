"""The job of a prediction: what was paid for and the verdict on each content, so that an interrupted call resumes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from blpo_dspy.predictions.results import Outcome, outcome_of
from blpo_dspy.workspace.job import Job
from blpo_dspy.workspace.store import StoreError
from blpo_dspy.workspace.workspace import current_workspace


class PredictionJob(Job):
    """A job with verdicts, of a size that fits no memory; arguments as for `Job`.

    Attributes:
        earlier: The usage of earlier sessions.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{"counting": "none", "elsewhere": "name another output", **options})
        self._outcomes: dict[str, Outcome] = {}
        self._alike: dict[Outcome, Outcome] = {}  # one object for all rows that are alike
        for key, data in self.store.rows("SELECT key, data FROM verdicts WHERE job = ?", (self.id,)):
            self._note(key, json.loads(data))
        self.earlier = self.spent()

    @property
    def done(self) -> frozenset[str]:
        """The keys of rows that need no further call: those with an error are tried again."""
        return frozenset(key for key, outcome in self._outcomes.items() if outcome.kind != "error")

    def outcome(self, key: str) -> Outcome | None:
        """Returns what rows of this content are counted for."""
        return self._outcomes.get(key)

    def row(self, key: str) -> dict[str, Any] | None:
        """Returns what was last written about rows of this content."""
        found = self.store.one("SELECT data FROM verdicts WHERE job = ? AND key = ?", (self.id, key))
        return None if found is None else dict(json.loads(found[0]))

    def put_row(self, key: str, data: Mapping[str, Any]) -> Outcome:
        """Writes the verdict on rows of this content; rows with an error are tried again by the next session.

        Returns:
            What such a row is counted for.

        Raises:
            StoreError: If it cannot be written.
        """
        sql = "INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?)"
        self.store.write(sql, (self.id, key, json.dumps(dict(data), default=str)))
        return self._note(key, data)

    def paid(self) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Returns the answers and failures of this job, as `take` takes them."""
        of = "FROM {} WHERE job = ?"
        answers = self.store.rows(f"SELECT key, role, model, usage, answer {of.format('answers')}", (self.id,))
        failures = self.store.rows(f"SELECT key, role, '', usage {of.format('failures')}", (self.id,))
        return tuple(answers), tuple(failures)

    def answers(self, keys: Iterable[str]) -> list[tuple[Any, ...]]:
        """Returns the answers to requests, as `take` takes them."""
        sql = "SELECT key, role, model, usage, answer FROM answers WHERE memory = ? AND key = ?"
        return [row for key in keys if (row := self.store.one(sql, (self._memory, key))) is not None]

    def take(self, answers: Iterable[tuple[Any, ...]], failures: Iterable[tuple[Any, ...]]) -> None:
        """Writes down what another process was answered, and what failed there."""
        with self.store.transaction():
            for key, role, model, usage, answer in answers:
                self._keep(key, role, model, json.loads(usage), answer)
            for key, role, model, usage in failures:
                self.store.fail(self.id, key, role, model, json.loads(usage))

    def _note(self, key: str, data: Mapping[str, Any]) -> Outcome:
        outcome = outcome_of(data)
        outcome = self._outcomes[key] = self._alike.setdefault(outcome, outcome)
        return outcome


def opened_job(out: Path, fingerprint: Mapping[str, Any]) -> PredictionJob:
    """Returns the job of an output, in the store of its folder.

    Raises:
        StoreError: As `Store`, or if the output is that of another judge or other models, or was begun by a version
            without a store.
    """
    for suffix in (".journal.jsonl", ".shards"):
        old = out.with_name(out.name + suffix)
        if old.exists():
            raise StoreError(
                f"{old}: was written by an earlier version of blpo-dspy, whose predictions this one does not continue; "
                "name another output, or remove it"
            )
    job: PredictionJob = current_workspace().job("prediction", fingerprint, out.parent, PredictionJob, name=out.name)
    return job


def is_known(out: Path) -> bool:
    """Whether the store knows an output."""
    return current_workspace().knows("prediction", out.parent, out.name)
