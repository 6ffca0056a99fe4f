"""The sealed test set: whether other runs were measured on its images before, as far as files show.

Nothing is written for this but the run's own files. Earlier uses are looked for in the records of runs, comparisons and
reviews whose folders are next to this run's or next to the files that it writes, and in the files that it is about to
overwrite.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import dspy

from blpo_dspy.data.examples import dataset_fingerprint, item_prints, reasons_fingerprint
from blpo_dspy.data.fields import IMAGE
from blpo_dspy.files import RESULTS
from blpo_dspy.programs.visual_judge import VisualJudge
from blpo_dspy.report.run.to_review import REVIEWED
from blpo_dspy.runs.data.sets import Seal, Sets, Use
from blpo_dspy.runs.jobs import Search

_RUNS = ("result.json", RESULTS)
_LARGEST = 200_000_000  # bytes; a larger file is not the record of a run


def seal(test: Sequence[dspy.Example], run: str, *, run_dir: Path | None, files: Iterable[Path] = ()) -> Seal:
    """Returns a test set with its earlier uses; those by this very run, which is repeated then, don't count."""
    sha256, images = dataset_fingerprint(test), frozenset(item_prints(test).split())
    found: dict[str, Use] = {}
    seen: set[str] = set()
    for path in _places(run_dir, files):
        for use, shared in _uses(path, sha256, images):
            if use.run != run:
                found.setdefault(use.run, use)
                seen |= shared
    return Seal(len(test), sha256, run, tuple(found.values()), (len(seen), len(images)))


def run_of(start: VisualJudge, sets: Sets, search: Search) -> str:
    """Returns the identity of a run: the same start, search and data give the same, on any machine."""
    options = {name: value for name, value in asdict(search).items() if name not in ("threads", "max_outage")}
    begun = [start.labels.to_dict(), start.instruction, start.verbalizer_instruction, start.context, start.evidence]
    if start.images != (IMAGE,):
        begun.append(start.images)
    if reasons := reasons_fingerprint(sets.train):
        begun.append({"reasons": reasons})
    prints = {name: dataset_fingerprint(examples) for name, examples in sets.named().items()}
    return hashlib.sha256(json.dumps([begun, options, prints], sort_keys=True).encode()).hexdigest()[:16]


def _places(run_dir: Path | None, files: Iterable[Path]) -> list[Path]:
    """The files that may record an earlier use; not the record that a repeated run left itself."""
    written = [path.resolve() for path in (*([] if run_dir is None else [run_dir]), *files)]
    folders = dict.fromkeys(path.parent for path in written)
    nearby = [found for folder in folders for name in (*_RUNS, REVIEWED) for found in sorted(folder.glob(f"*/{name}"))]
    own = [] if run_dir is None else [run_dir.resolve() / name for name in _RUNS]
    return [path for path in dict.fromkeys((*nearby, *written)) if path not in own and path.is_file()]


def _uses(path: Path, sha256: str, images: frozenset[str]) -> Iterator[tuple[Use, frozenset[str]]]:
    """The use that a file records, with the images it shares with a test set; None if it is not a record or judge."""
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8")) if path.stat().st_size < _LARGEST else None
        use, used = _use_in(data, sha256)
        shared = images & frozenset(used)
        if shared:
            yield Use(f"{path.parent.name}/{path.name}", images=len(shared), **use), shared
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return


def _use_in(data: Any, sha256: str) -> tuple[dict[str, Any], list[str]]:
    """The use by whatever wrote a record, and the images."""
    if "reviewed" in data:  # test images that were relabelled by somebody who had seen the judge's label
        found = data["reviewed"]
        use = {"on": str(found["on"]), "run": f"review of {found['run']}", "times": 1}
        return use, [name for prints in found["prints"] for name in prints.split()]
    return _compared(data) if "rows" in data else _compiled(data.get("card", data), sha256)


def _compiled(record: Any, sha256: str) -> tuple[dict[str, Any], list[str]]:
    """The use by a run, by its record or the judge's card, and the images."""
    sealed = record["sealed_test"]
    on, whole = sealed.get("on"), sealed["sha256"] == sha256
    use = {
        "on": None if on is None else str(on),
        "run": str(sealed["run"]),
        "times": int(sealed["times"]) if whole else 1,
    }
    return use, [] if sealed["used"] == "not used" else record["data"]["test"]["prints"].split()


def _compared(record: Any) -> tuple[dict[str, Any], list[str]]:
    """The use by a comparison, and the images."""
    about = record["about"]
    run = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
    judged = any(row["test"] is not None for row in record["rows"])
    return {"on": None, "run": run, "times": 1}, about["test_prints"].split() if judged else []
