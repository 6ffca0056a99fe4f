"""What tests look for in a store."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from blpo_dspy.workspace.store import FILE_NAME


def select(folder: Path, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    """Returns the rows that a query gives in the store of a folder."""
    with closing(sqlite3.connect(folder / FILE_NAME)) as store:
        return store.execute(sql, values).fetchall()


def change(folder: Path, *statements: str) -> None:
    """Changes the store of a folder."""
    with closing(sqlite3.connect(folder / FILE_NAME)) as store:
        for statement in statements:
            store.execute(statement)
        store.commit()


def records(folder: Path) -> list[tuple[str, int, Any]]:
    """Returns kind, number and data of the records of a search, in the order of their numbers."""
    sql = "SELECT kind, number, data FROM records ORDER BY kind, number"
    return [(kind, number, json.loads(data)) for kind, number, data in select(folder, sql)]


def answers(folder: Path) -> int:
    """Returns how many answers there are, none in a store that is not made yet."""
    tables = (
        select(folder, "SELECT 1 FROM sqlite_master WHERE name = 'answers'") if (folder / FILE_NAME).exists() else []
    )
    return 0 if not tables else int(select(folder, "SELECT COUNT(*) FROM answers")[0][0])


def dump(folder: Path) -> str:
    """Returns all that a store holds, as text."""
    with closing(sqlite3.connect(folder / FILE_NAME)) as store:
        return "\n".join(store.iterdump())
