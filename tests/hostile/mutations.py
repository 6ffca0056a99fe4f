"""Seeded damage to bytes and to JSON, each with a word for what was done."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

# What a reader of another kind would choke on, or take for something else.
SNIPPETS = (
    b"\0",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b'"',
    b"\n",
    b"\r",
    b",",
    b"\x1b[31m",
    b"\xed\xa0\x80",
    b"<script>",
    b"{",
    b"]",
    b"\\",
    b"=1+1",
    b"../",
)
VALUES: tuple[Any, ...] = (
    *(None, True, 0, 1, -1, 5, 2.5, -100_000, 10**30, float("nan"), float("inf")),
    *("", "  ", "x", "\x1b[2J", "\ud800", "<<CUSTOM-TYPE-START-IDENTIFIER>>", "a" * 20_000),
    *([], [None], [[]], ["x", "x"], {}, {"x": None}, [1, 2, 3]),
)


def damaged(data: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Returns what was done to some bytes, and the result."""
    kind = rng.choice(["cut", "cut early", "flip", "flips", "zeros", "noise", "drop", "twice", "insert", "swap"])
    start = rng.randrange(len(data))
    length = min(len(data) - start, rng.choice([1, 2, 4, 16, 64]))
    before, run, after = data[:start], data[start : start + length], data[start + length :]
    where = f"{kind} at {start}"
    if kind == "cut":
        return where, before
    if kind == "cut early":
        return f"{kind} at {start % 40}", data[: start % 40]
    if kind == "flips":
        changed = bytearray(data)
        for place in rng.sample(range(len(data)), min(len(data), 12)):
            changed[place] ^= 1 << rng.randrange(8)
        return kind, bytes(changed)
    if kind == "insert":
        snippet = rng.choice(SNIPPETS)
        return f"{kind} {snippet!r} at {start}", before + snippet + data[start:]
    changed_run = {
        "flip": bytes([run[0] ^ 1 << rng.randrange(8)]) + run[1:],
        "zeros": b"\0" * length,
        "noise": rng.randbytes(length),
        "drop": b"",
        "twice": run * 2,
        "swap": run[::-1],
    }[kind]
    return f"{kind} {length} at {start}", before + changed_run + after


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yields the path of every value inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from places(item, (*path, key))


def changed(value: Any, path: tuple[Any, ...], rng: random.Random) -> tuple[str, Any]:
    """Returns what was done at a path of a JSON value, and the value that came of it."""
    found = copy.deepcopy(value)
    holder = found
    for key in path[:-1]:
        holder = holder[key]
    key = path[-1]
    name = ".".join(map(str, path))
    kind = rng.choice(["replace", "replace", "replace", "delete", "rename", "wrap", "text"])
    if kind == "delete":
        del holder[key]
    elif kind == "rename" and isinstance(holder, dict):
        holder[f"{key} "] = holder.pop(key)
    elif kind == "wrap":
        holder[key] = [holder[key]]
    elif kind == "text":
        holder[key] = str(holder[key])
    else:
        new = rng.choice(VALUES)
        holder[key] = new
        kind = f"replace by {new!r:.20}"
    return f"{name} {kind}", found
