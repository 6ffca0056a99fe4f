"""The parts of a prediction in shards: what was found in each shard, and what it has cost."""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from blpo_dspy.calls.journal_lines import role_in, usage_in
from blpo_dspy.calls.ledger import Ledger
from blpo_dspy.errors import BlpoError
from blpo_dspy.predictions.files import write_rows
from blpo_dspy.predictions.results import Outcome, outcome_of
from blpo_dspy.predictions.shards.manifest import Manifest

CONTENT = "content"
_SPENT = "blpo_spent"
_NEEDED = {CONTENT, "label", "invalid", "error"}
_COUNTED = {*_NEEDED, "inconsistent", "escalate", "served_by"}
# Parts whose rows are kept in memory while the table is written.
_PARTS_KEPT = 32


def write_part(
    path: Path, contents: Sequence[str], columns: Mapping[str, type], rows: Callable[[str], Any], spent: Ledger
) -> None:
    """Writes the verdicts of a shard, those that there are, and what it has cost.

    Raises:
        BlpoError: If the file cannot be written.
    """
    note = {_SPENT: json.dumps({role: asdict(usage) for role, usage in spent.roles.items()})}
    write_rows(
        path,
        [CONTENT, *columns],
        lambda: ({CONTENT: key, **row} for key in contents if (row := rows(key)) is not None),
        {CONTENT: str, **columns},
        note=note,
    )


class Parts:
    """The verdicts of the shards of a plan as far as they are written; to a session what a journal is.

    A part that is damaged, or holds other contents than the manifest says, counts as missing: its journal has it all.

    Args:
        manifest: The plan.
    """

    def __init__(self, manifest: Manifest) -> None:
        self.path = manifest.path
        self._manifest = manifest
        self._shard: dict[str, int] = {}
        self._outcomes: dict[str, Outcome] = {}
        self.spent: dict[int, Ledger] = {}
        self._loaded: OrderedDict[int, dict[str, dict[str, Any]]] = OrderedDict()
        for number in range(len(manifest.shards)):
            self.read(number)

    def read(self, number: int) -> None:
        """Takes up what the part of a shard says now."""
        self._loaded.pop(number, None)
        found = _read(self._manifest.part(number), _COUNTED)
        keys = self._manifest.shards[number]
        self._shard.update(dict.fromkeys(keys, number))
        if found is None or not _all_once([row[CONTENT] for row in found[0]], keys):
            self.spent.pop(number, None)
            return
        rows, self.spent[number] = found
        for key in keys:
            self._outcomes.pop(key, None)
        self._outcomes.update((row[CONTENT], outcome_of(row)) for row in rows)

    @property
    def done(self) -> frozenset[str]:
        """The contents with a verdict."""
        return frozenset(key for key, outcome in self._outcomes.items() if outcome.kind != "error")

    @property
    def earlier(self) -> Ledger:
        """The LM calls that the parts have cost."""
        return sum(self.spent.values(), Ledger({}))

    def outcome(self, key: str) -> Outcome | None:
        """Returns what rows of a content are counted for; None if it was not judged."""
        return self._outcomes.get(key)

    def row(self, key: str) -> dict[str, Any] | None:
        """Returns the verdict on a content, or why there is none; None if it was not judged."""
        if key not in self._outcomes:
            return None
        number = self._shard[key]
        if number not in self._loaded:
            found = _read(self._manifest.part(number))
            if found is None:
                raise BlpoError(f"{self._manifest.part(number)}: was removed or damaged meanwhile; repeat the call")
            self._loaded[number] = {row.pop(CONTENT): row for row in found[0]}
            while len(self._loaded) > _PARTS_KEPT:
                self._loaded.popitem(last=False)
        self._loaded.move_to_end(number)
        return self._loaded[number].get(key)


def _all_once(found: Sequence[str], planned: Collection[str]) -> bool:
    return len(set(found)) == len(found) and set(found) <= set(planned)


def _read(path: Path, columns: Collection[str] = ()) -> tuple[list[dict[str, Any]], Ledger] | None:
    """The rows of a part, with those of the columns that it has or all, and what it has cost.

    None if there is no such file, or it cannot be read.
    """
    import pyarrow  # noqa: PLC0415 - slow to import
    from pyarrow import parquet  # noqa: PLC0415

    if not os.path.exists(path):
        return None
    try:
        with parquet.ParquetFile(path) as file:
            there = file.schema_arrow.names
            table = file.read(columns=[name for name in there if name in columns or not columns])
        if not _NEEDED.issubset(there):
            return None
        spent = json.loads(table.schema.metadata[_SPENT.encode()])
        usage = {role_in({"role": role}): usage_in({"usage": used}) for role, used in spent.items()}
    except (OSError, KeyError, TypeError, ValueError, pyarrow.ArrowException):
        return None
    return table.to_pylist(), Ledger(usage)
