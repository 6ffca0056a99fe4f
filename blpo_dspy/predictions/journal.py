"""The job of a prediction: what was paid for and the verdict on each content, so that an interrupted call resumes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from blpo_dspy.calls.job import Job
from blpo_dspy.predictions.results import Outcome, outcome_of


class PredictionJob(Job):
    """A job with verdicts, of a size that fits no memory; arguments as for `Job`.

    Attributes:
        earlier: The usage of earlier sessions.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, counting="none", elsewhere="name another output", **options)
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

    def _note(self, key: str, data: Mapping[str, Any]) -> Outcome:
        outcome = outcome_of(data)
        outcome = self._outcomes[key] = self._alike.setdefault(outcome, outcome)
        return outcome
