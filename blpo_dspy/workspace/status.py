"""Which jobs a store knows, how they ended, and what they spent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from blpo_dspy.errors import BlpoError
from blpo_dspy.workspace.ledger import Usage
from blpo_dspy.workspace.store import FILE_NAME, SPENT, Store


@dataclass(frozen=True)
class JobStatus:
    """A job of a store.

    Attributes:
        kind: What it is, such as "search" or "prediction".
        name: Distinguishes jobs of one kind.
        began: When it began, in seconds since 1970.
        ended: When its last session ended, None if it runs or was killed.
        state: "running", "killed", "done", "stopped", or the name of the error that ended it.
        command: The command line of its last session.
        spent: By role and model what all of its sessions spent; seconds, retries and images are not counted.
    """

    kind: str
    name: str
    began: float
    ended: float | None
    state: str
    command: str
    spent: Mapping[tuple[str, str], Usage]

    @property
    def total(self) -> Usage:
        """All roles and models together."""
        return sum(self.spent.values(), Usage())

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON."""
        spent = [
            {"role": role, "model": model, **{name: getattr(usage, name) for name in SPENT}}
            for (role, model), usage in self.spent.items()
        ]
        return {**asdict(self), "spent": spent}


def status_of(folder: Path) -> list[JobStatus]:
    """Returns the jobs in the store of a folder, in the order in which they began.

    Raises:
        BlpoError: If the folder has no store.
        StoreError: If it cannot be read.
    """
    path = folder / FILE_NAME
    if not path.exists():
        raise BlpoError(f"{path}: there is no such file; name the folder of a run, or that of predictions or labels")
    store = Store(path)
    try:
        return status_in(store)
    finally:
        store.close()


def status_in(store: Store) -> list[JobStatus]:
    """Returns the jobs in an open store, likewise."""
    sql = "SELECT id, kind, name, began, ended, outcome, command, session FROM jobs ORDER BY began, id"
    return [_status(store, *row) for row in store.rows(sql)]


def _status(
    store: Store, job: int, kind: str, name: str, began: float, ended: float | None, outcome: str | None, *last: Any
) -> JobStatus:
    command, session = last
    sql = f"SELECT role, model, {', '.join(SPENT)} FROM spent WHERE job = ? ORDER BY role, model"
    spent = {
        (role, model): Usage(**dict(zip(SPENT, counts, strict=True)))
        for role, model, *counts in store.rows(sql, (job,))
    }
    state = outcome or ("running" if store.lives(session) else "killed")
    return JobStatus(kind, name, began, ended, state, command, spent)
