"""The sealed test set: whether other runs were measured on it before, as far as files show that the user named.

Nothing is written for this but the run's own files. Earlier uses are looked for in the records of the runs whose
folders stand beside this run's, and in the files that this run is about to overwrite.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from blpo_dspy.data import dataset_fingerprint
from blpo_dspy.options import Search
from blpo_dspy.programs.visual_judge import VisualJudge
from blpo_dspy.sets import Sets

_RECORD = "result.json"
_LARGEST = 200_000_000  # bytes; a larger file is no record of a run
_MOST_NAMED = 3


@dataclass(frozen=True)
class Use:
    """One earlier run that was measured on a test set.

    Attributes:
        file: The record or judge that tells of it, by the name of its folder and its own.
        on: The day (UTC), None if the file doesn't tell.
        run: What tells runs apart.
        times: How often the test set had been used with that run.
    """

    file: str
    on: str | None
    run: str
    times: int


@dataclass(frozen=True)
class Seal:
    """A test set before its use.

    Attributes:
        n: Its examples.
        sha256: Its fingerprint.
        run: What tells this run apart: the same start, search and data give the same, on any machine.
        earlier: Other runs that were measured on it.
    """

    n: int
    sha256: str
    run: str
    earlier: tuple[Use, ...] = ()

    @property
    def times(self) -> int:
        """How often it has been used once this run has."""
        return 1 + max([len(self.earlier), *(use.times for use in self.earlier)])

    @property
    def warning(self) -> str | None:
        """What to know about earlier uses, None if there are none."""
        if not self.earlier:
            return None
        named = [use.file + (f" on {use.on}" if use.on else "") for use in self.earlier[:_MOST_NAMED]]
        more = len(self.earlier) - len(named)
        told = ", ".join(named) + (f" and {more} more" if more else "")
        return (
            f"this test set ({self.n} images) has been used before, by {told}: it is no longer sealed. Who picks among "
            "judges by its figures gets one that looks better than it is; label new test images for a figure to report"
        )

    def card(self, *, judged: bool) -> dict[str, Any]:
        """Returns what a judge's card says."""
        used = "once, after compiling" if judged else "not used"
        times = self.times if judged else self.times - 1
        return {"n": self.n, "sha256": self.sha256, "used": used, "times": times, "run": self.run}

    def to_dict(self, *, judged: bool) -> dict[str, Any]:
        """Returns plain data for the record of the run: the card's, the day, and the earlier uses."""
        on = datetime.now(timezone.utc).date().isoformat() if judged else None
        earlier = [asdict(use) for use in self.earlier]
        return {**self.card(judged=judged), "on": on, "earlier": earlier, "warning": self.warning}


def seal(start: VisualJudge, sets: Sets, search: Search, *, run_dir: Path | None, files: Iterable[Path]) -> Seal:
    """Returns the test set with its earlier uses; those by this very run, which is repeated then, don't count.

    Args:
        start: The judge to begin with.
        sets: The labelled examples.
        search: How BLPO searches.
        run_dir: The run's folder: records are looked for in the folders beside it.
        files: What the run is about to overwrite.
    """
    prints = {name: dataset_fingerprint(examples) for name, examples in sets.named().items()}
    run = _run(start, search, prints)
    beside = [] if run_dir is None else sorted(run_dir.resolve().parent.glob(f"*/{_RECORD}"))
    own = None if run_dir is None else run_dir.resolve() / _RECORD
    places = dict.fromkeys(path.resolve() for path in (*beside, *files) if path.resolve() != own)
    found: dict[str, Use] = {}
    for use in (use for path in places for use in _uses(path, prints["test"])):
        if use.run != run:
            found.setdefault(use.run, use)
    return Seal(len(sets.test), prints["test"], run, tuple(found.values()))


def _run(start: VisualJudge, search: Search, prints: Mapping[str, str]) -> str:
    told = {name: value for name, value in asdict(search).items() if name != "threads"}
    begun = [start.labels.to_dict(), start.instruction, start.verbalizer_instruction, start.context, start.evidence]
    return hashlib.sha256(json.dumps([begun, told, prints], sort_keys=True).encode()).hexdigest()[:16]


def _uses(path: Path, sha256: str) -> Iterator[Use]:
    """The use that a record or a judge tells of, if it is one of this test set; any other file tells of none."""
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8")) if path.stat().st_size < _LARGEST else None
        sealed = data.get("card", data)["sealed_test"]
        if sealed["sha256"] == sha256 and sealed["used"] != "not used":
            on = sealed.get("on")
            name = f"{path.parent.name}/{path.name}"
            yield Use(name, None if on is None else str(on), str(sealed["run"]), int(sealed["times"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return
