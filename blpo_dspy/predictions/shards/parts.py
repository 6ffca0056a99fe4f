"""Predictions in shards: a plan of parts that processes judge one by one, and what each of them has found.

The folder `<out>.shards` holds `manifest.json`, which says what verdicts depend on and which contents are in which
shard, and for each shard its part, a Parquet file with a verdict for each content, and its journal. A content is a hash
of the images and context of a row. One process at a time writes a shard: it holds the lock of the shard's journal.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import cloudpickle
import dspy
from filelock import FileLock, Timeout

from blpo_dspy.calls.journal_file import JournalError, JournalInUseError
from blpo_dspy.calls.journal_lines import differences, role_in, usage_in
from blpo_dspy.calls.leases import Grant, Office
from blpo_dspy.calls.ledger import Ledger
from blpo_dspy.data.inputs import Inputs
from blpo_dspy.data.labels.space import Orders
from blpo_dspy.errors import BlpoError
from blpo_dspy.files import write_json
from blpo_dspy.models.specs import ModelSpecs
from blpo_dspy.predictions.files import write_rows
from blpo_dspy.programs.visual_judge import VisualJudge

FORMAT_VERSION = 1
SHARD_ROWS = 500
"""Contents of a shard, unless it would leave processes idle."""
MANIFEST = "manifest.json"
SUFFIX = ".shards"
CONTENT = "content"
_SPENT = "blpo_spent"
# Parts whose rows are kept in memory while the table is written.
_PARTS_KEPT = 32


def folder_of(out: Path) -> Path:
    """Returns the folder with the shards of an output."""
    return out.with_name(out.name + SUFFIX)


@dataclass(frozen=True)
class Shard:
    """What a process needs to judge one shard; it can be pickled, and holds no key.

    Attributes:
        number: Which one it is.
        part: The file that its verdicts go to, with its journal next to it.
        fingerprint: What verdicts depend on apart from the rows.
        judge: The judge, and DSPy's adapter if one was set, pickled.
        models: Its models.
        inputs: The rows.
        keys: The content of each row.
        contents: All contents of the shard, also those that no row has any more.
        num_threads: The most LM calls under way at once.
        max_outage: Seconds that a server which has stopped answering is waited for.
        orders: In how many orders a judge of pairs is asked.
        patience: Seconds for which another process that still writes the shard is waited for.
        answered: Whether the models have answered before, so that a failure is an outage and no wrong address.
    """

    number: int
    part: Path
    fingerprint: Mapping[str, Any]
    judge: bytes
    models: ModelSpecs
    inputs: Inputs
    keys: tuple[str, ...]
    contents: tuple[str, ...]
    num_threads: int | None
    max_outage: float
    orders: Orders
    patience: float = 60.0
    answered: bool = False


def packed(judge: VisualJudge) -> bytes:
    """Returns a judge without its models, and DSPy's adapter, for another process."""
    bare = judge.deepcopy()
    for _, predictor in bare.named_predictors():
        predictor.lm = None
    return bytes(cloudpickle.dumps((bare, dspy.settings.adapter)))


def unpacked(data: bytes) -> tuple[VisualJudge, dspy.Adapter | None]:
    """Returns what `packed` was given.

    Raises:
        BlpoError: If the program of the judge cannot be imported in this process.
    """
    try:
        judge, adapter = cloudpickle.loads(data)
    except (ImportError, AttributeError) as error:
        raise BlpoError(f"the judge's program cannot be loaded where it judges ({error}); install it there") from error
    assert isinstance(judge, VisualJudge)
    return judge, adapter


@dataclass(frozen=True)
class Report:
    """How far a process has got with a shard.

    Attributes:
        number: The shard.
        counts: Rows by what was found about them.
        marks: Rows by whether the order of their images decided, and how many are escalated.
        judged: Rows that this process has judged.
        ledger: The LM calls of this process.
        earlier: Those that its journal had when the process began.
    """

    number: int
    counts: Counter[str]
    marks: Counter[bool | str | None]
    judged: int
    ledger: Ledger
    earlier: Ledger


class Line(Protocol):
    """The connection of a process that judges a shard to the one that planned it."""

    def ask(self, ledger: Ledger, under_way: int) -> Grant:
        """Asks for more LM calls; see `Office.ask`."""

    def stopped(self) -> str:
        """Returns why the process is to end early, "" if it isn't."""

    def report(self, make: Callable[[], Report]) -> None:
        """Says how far it has got, if it is time for that."""

    def paused(self, quota: str, seconds: float) -> None:
        """Says that a model is not to be asked for some seconds."""

    def on_pause(self, pause: Callable[[str, float], None]) -> None:
        """Names what is called when another process says so."""


class Alone:
    """The line of a process that nobody waits for: it has caps of its own.

    Args:
        max_calls: The most LM calls; None for no cap.
        max_usd: The most dollars; None for no cap.
    """

    def __init__(self, max_calls: int | None = None, max_usd: float | None = None) -> None:
        self._office = Office(max_calls, max_usd)

    def ask(self, ledger: Ledger, under_way: int) -> Grant:
        """Asks the own caps."""
        return self._office.ask(None, ledger, under_way)

    def stopped(self) -> str:
        """Returns ""."""
        return ""

    def report(self, make: Callable[[], Report]) -> None:
        """Does nothing."""

    def paused(self, quota: str, seconds: float) -> None:
        """Does nothing."""

    def on_pause(self, pause: Callable[[str, float], None]) -> None:
        """Does nothing."""


@dataclass
class Desk:
    """What the process that planned shards does with what it hears of those that judge them.

    Attributes:
        office: Grants their calls.
        take: Counts a report.
        lost: Notes that the process that judged a shard has died.
        answered: Whether the models are known to answer.
        max_in_flight: The most LM calls under way at once over all of them, None for no cap.
    """

    office: Office
    take: Callable[[Report], None]
    lost: Callable[[int], None]
    answered: bool = False
    max_in_flight: int | None = None

    def hear(self, report: Report) -> None:
        """Counts a report."""
        total = report.ledger.total
        self.answered = self.answered or total.calls > total.failed
        self.take(report)


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Holds the lock of a folder of shards, which is made if need be, while the block runs.

    Raises:
        JournalError: If another process holds it, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{MANIFEST}.lock", timeout=0):
            yield
    except Timeout as error:
        raise JournalInUseError(
            f"{folder}: another run is judging these shards; wait for it, or name another output"
        ) from error
    except OSError as error:
        raise JournalError(f"{folder}: cannot be written ({error.strerror or error}); name another output") from error


@dataclass
class Manifest:
    """Which contents are in which shard.

    Attributes:
        path: Its file.
        fingerprint: What verdicts depend on apart from the rows.
        shards: The contents of each shard, in order.
        images: The shard of each image, where several contents may have the same one.
    """

    path: Path
    fingerprint: Mapping[str, Any]
    shards: list[list[str]] = field(default_factory=list)
    images: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path, fingerprint: Mapping[str, Any]) -> Manifest:
        """Returns the manifest in a folder, or an empty one.

        Raises:
            JournalError: If it is damaged, of another version, or that of another judge or other models.
        """
        path, plain = folder / MANIFEST, json.loads(json.dumps(fingerprint, default=str))
        if not path.exists():
            return cls(path, plain)
        try:
            data = json.loads(path.read_bytes())
            if data["format_version"] != FORMAT_VERSION:
                raise ValueError(f"format version {data['format_version']!r}, not {FORMAT_VERSION}")
            found = cls(path, data["fingerprint"], [list(map(str, s)) for s in data["shards"]], dict(data["images"]))
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise JournalError(f"{path}: cannot be read ({error}); restore it, or name another output") from error
        if differing := differences(found.fingerprint, plain):
            listed = "\n".join(f"  - {difference}" for difference in differing)
            raise JournalError(
                f"{path}: these are the shards of another run, which differs in:\n{listed}\nrepeat the call as it was "
                "to continue that run, or name another output"
            )
        return found

    @property
    def contents(self) -> dict[str, int]:
        """The shard of each content."""
        return {key: number for number, keys in enumerate(self.shards) for key in keys}

    def add(self, images: Mapping[str, str], shard_rows: int) -> None:
        """Puts contents that are new into further shards, those with equal images into one, and writes the file.

        Args:
            images: The hash of the images of each content, in order.
            shard_rows: About how many contents a shard gets.

        Raises:
            BlpoError: If the file cannot be written.
        """
        known, new = self.contents, len(self.shards)
        for key, image in images.items():
            if key in known:
                continue
            if image not in self.images:
                if len(self.shards) == new or len(self.shards[-1]) >= shard_rows:
                    self.shards.append([])
                self.images[image] = len(self.shards) - 1
            self.shards[self.images[image]].append(key)
        if any(key not in known for key in images):
            own = set(images.values()) - set(images)  # where each image has one content, its hash says nothing new
            kept = {image: number for image, number in self.images.items() if own}
            data = {"fingerprint": self.fingerprint, "shards": self.shards, "images": kept}
            write_json(self.path, {"format_version": FORMAT_VERSION, **data}, indent=None)

    def part(self, number: int) -> Path:
        """Returns the file of a shard's verdicts."""
        return self.path.with_name(f"part-{number:05}.parquet")


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
        self._failed: dict[str, int] = {}
        self._done: set[str] = set()
        self.spent: dict[int, Ledger] = {}
        self._loaded: OrderedDict[int, dict[str, dict[str, Any]]] = OrderedDict()
        for number in range(len(manifest.shards)):
            self.read(number)

    def read(self, number: int) -> None:
        """Takes up what the part of a shard says now."""
        self._loaded.pop(number, None)
        found = _read(self._manifest.part(number), [CONTENT, "error"])
        keys = self._manifest.shards[number]
        self._shard.update(dict.fromkeys(keys, number))
        if found is None or not _all_once([row[CONTENT] for row in found[0]], keys):
            self.spent.pop(number, None)
            return
        rows, self.spent[number] = found
        for key in keys:
            self._failed.pop(key, None)
        for row in rows:
            if row["error"] is None:
                self._done.add(row[CONTENT])
            else:
                self._failed[row[CONTENT]] = number

    @property
    def done(self) -> frozenset[str]:
        """The contents with a verdict."""
        return frozenset(self._done)

    @property
    def earlier(self) -> Ledger:
        """The LM calls that the parts have cost."""
        return sum(self.spent.values(), Ledger({}))

    def row(self, key: str) -> dict[str, Any] | None:
        """Returns the verdict on a content, or why there is none; None if it was not judged."""
        if key not in self._done and key not in self._failed:
            return None
        number = self._shard[key]
        if number not in self._loaded:
            found = _read(self._manifest.part(number), None)
            if found is None:
                raise BlpoError(f"{self._manifest.part(number)}: was removed or damaged meanwhile; repeat the call")
            self._loaded[number] = {row.pop(CONTENT): row for row in found[0]}
            while len(self._loaded) > _PARTS_KEPT:
                self._loaded.popitem(last=False)
        self._loaded.move_to_end(number)
        return self._loaded[number].get(key)


def _all_once(found: Sequence[str], planned: Collection[str]) -> bool:
    return len(set(found)) == len(found) and set(found) <= set(planned)


def _read(path: Path, columns: list[str] | None) -> tuple[list[dict[str, Any]], Ledger] | None:
    """The rows of a part and what it has cost; None if there is no such file, or it cannot be read."""
    import pyarrow  # noqa: PLC0415 - slow to import
    from pyarrow import parquet  # noqa: PLC0415

    if not os.path.exists(path):
        return None
    try:
        table = parquet.read_table(path, columns=columns)
        spent = json.loads(table.schema.metadata[_SPENT.encode()])
        usage = {role_in({"role": role}): usage_in({"usage": used}) for role, used in spent.items()}
    except (OSError, KeyError, TypeError, ValueError, pyarrow.ArrowException):
        return None
    return table.to_pylist(), Ledger(usage)
