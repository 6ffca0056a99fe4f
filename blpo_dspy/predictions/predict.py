"""A judge's verdicts on a folder or table of images, written to a table; an interrupted call resumes."""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import dspy
import numpy as np
from PIL import Image

from blpo_dspy.agreement.measure import Flips
from blpo_dspy.agreement.verdicts import Verdict
from blpo_dspy.calls.leases import LeasedCap, Office
from blpo_dspy.calls.ledger import ROLES, Ledger
from blpo_dspy.calls.meter import Meter
from blpo_dspy.calls.outages import MAX_OUTAGE, Outages
from blpo_dspy.calls.workers import Workers, thread_count
from blpo_dspy.data.images.prepare import ImageError, ImageSource
from blpo_dspy.data.inputs import Inputs, checked, find_inputs, images_key, read_content
from blpo_dspy.data.labels.space import Method, Orders
from blpo_dspy.data.rows import Draft
from blpo_dspy.data.tables import TableRow, TableSource, in_memory
from blpo_dspy.errors import BlpoError, ModelError, check_kind, check_least
from blpo_dspy.log import log_event
from blpo_dspy.models.lm import Models, identity
from blpo_dspy.models.specs import ModelSpecs
from blpo_dspy.predictions.batch_api import BatchApi, batch_api_of
from blpo_dspy.predictions.batches import Batches, check_no_batches
from blpo_dspy.predictions.cluster import Cluster
from blpo_dspy.predictions.escalated import write_escalated
from blpo_dspy.predictions.files import Output, check_target, write_rows
from blpo_dspy.predictions.journal import SUFFIX, PredictionJournal
from blpo_dspy.predictions.labelling import label_each, note_other_models
from blpo_dspy.predictions.pool import Pool
from blpo_dspy.predictions.shards import (
    MANIFEST,
    SHARD_ROWS,
    Alone,
    Desk,
    Line,
    Manifest,
    Parts,
    Report,
    Shard,
    folder_of,
    packed,
    unpacked,
    write_part,
    writing,
)
from blpo_dspy.programs.cascade import Cascade, models_of_stages, stages_of
from blpo_dspy.programs.pairs import asked_in
from blpo_dspy.programs.visual_judge import VisualJudge

_GIVEN, _ESCALATED = "given_", "escalated"
# Shards for each process, so that none is idle for long at the end; calls for each thread, so that threads are seldom
# idle at the end of a shard; and the fewest rows that are worth one.
_SHARDS_EACH, _CALLS_EACH, _FEWEST_ROWS = 4, 16, 16
_CHANGED = Verdict(None, failure="the image was changed after the run began; the same call judges it as it is now")


@dataclass(frozen=True)
class Progress:
    """Where a run of predictions stands.

    Attributes:
        total: Rows in all.
        known: Rows with a verdict or an error, of earlier sessions too.
        judged: Rows that this session has judged.
        labels: How often each label was given, in the order of the label space; of scores each of up to five bins.
        invalid: Rows whose answer states no label.
        flips: How often the order of two images decided; None where pairs were not judged in both orders.
        errors: Rows without an answer: the image cannot be used, or the model failed.
        ledger: The LM calls of this session.
        earlier: Those of the sessions before it.
        gone: Verdicts of the sessions before it on images, or with context, that are no longer there.
        escalated: Rows that a calibrated judge escalates to people; None of any other judge.
    """

    total: int
    known: int
    judged: int
    labels: Mapping[str, int]
    invalid: int
    errors: int
    ledger: Ledger
    earlier: Ledger
    gone: int = 0
    flips: Flips | None = None
    escalated: int | None = None

    @property
    def complete(self) -> bool:
        """Whether every row has a verdict or an error, so that the table was written."""
        return self.known == self.total

    @property
    def spent(self) -> Ledger:
        """The LM calls of all sessions."""
        return Ledger({role: self.ledger[role] + self.earlier[role] for role in ROLES})


def predict(
    judge: VisualJudge,
    source: TableSource | Sequence[ImageSource] | Inputs,
    *,
    out: str | os.PathLike[str],
    models: Models | Sequence[Models] | None = None,
    confidence: Method | None = None,
    escalated: str | os.PathLike[str] | None = None,
    image_column: str | None = None,
    texts: Mapping[str, str] | None = None,
    allow_outside: bool = False,
    num_threads: int | None = None,
    workers: int | None = None,
    cluster: Any = None,
    max_in_flight: int | None = None,
    max_calls: int | None = None,
    max_usd: float | None = None,
    max_outage: float = MAX_OUTAGE,
    orders: Orders = "both",
    batch_api: bool | BatchApi = False,
    on_read: Callable[[int], None] = lambda done: None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Judges every image of a folder, a table or a list, and writes a table with a row for each, in order.

    The table has the columns of the source (one that is named like a column below becomes `given_…`), then `label`,
    `description` and `reasoning` as far as the judge gives them, `answer` where it states no label, `invalid`, and
    `error` where there is no answer; for pairs in both orders also `inconsistent`; of a judge with a confidence
    `confidence`, and of a calibrated judge `escalate`; and `served_by` where a server reports another version of a
    model than the name that was asked for. A Parquet file says in its metadata how the confidence was found
    (`blpo_confidence`). Images are loaded as their turn comes: a few for each thread lie in memory.

    Next to the table, `<out>.journal.jsonl` keeps what was paid for, so that the same call resumes after a crash, and
    later judges what is missing only: new rows, replaced images, rows with an error. A verdict belongs to the bytes of
    an image (or to its URL) and its context, not to its name; so all images are read before the first call, and equal
    rows are judged once. An image that changes after that has an error. Rows that are gone are left out. Remove the
    journal when you are done.

    With `workers` or `cluster` other processes judge, in shards of up to about 500 contents: `<out>.shards` takes the
    place of the journal, and the same holds for it. The models are built there from their names and options, with keys
    from the environment of those processes. A process that dies is replaced, at the price of the calls that it had
    under way. All of them keep to the caps together, and wait where one is asked to wait by a rate limit.

    Args:
        judge: The judge.
        source: A folder, in which images may lie anywhere; a .csv, .tsv, .jsonl or .parquet file; a table in memory
            (`pandas.DataFrame`, list of dictionaries, `datasets.Dataset`); or images as a judge takes them. A folder or
            file may be an address that fsspec reads, such as s3://bucket/photos.
        out: The table, a .parquet, .csv or .jsonl file; its folder is made if need be. A table with an address that
            fsspec writes to (s3://…) is made in the current folder, where its journal is, and then copied.
        models: The models, of a cascade also a list with those of each judge; the judge's own, or those of DSPy's
            settings, if None.
        confidence: How a confidence is found, with the options of `VisualJudge.confident`; as the judge has it if None.
        escalated: A table for people, a .parquet, .csv or .jsonl file: the rows that a calibrated judge escalates, with
            its label as `judge_label` and an empty `label`.
        image_column: The column of a table with the only image, where it has another name than the judge's input: a
            path from the table's folder, a URL or the image itself.
        texts: Context texts that are the same for all images; others come from the columns of their names.
        allow_outside: Whether images may lie outside the folder, or that of the table.
        num_threads: The most LM calls under way at once in a process; DSPy's setting if None.
        workers: How many processes judge; this one if None.
        cluster: A `distributed.Client` of Dask or the address of its scheduler, whose workers judge instead; they see
            the same files under the same paths. It needs the extra `dask`.
        max_in_flight: The most LM calls under way at once over all processes.
        max_calls: The most LM calls of this session, over all processes; the same call again continues.
        max_usd: The most dollars of this session, over all processes; it can be exceeded by what the calls under way
            cost above the average.
        max_outage: Seconds that a server which has stopped answering is waited for.
        orders: Of a judge of pairs: "both" asks twice, the images changing places, and gives the label on which both
            orders agree, else the tie or none; "one" costs one call.
        batch_api: Whether requests go through the provider's batch endpoint, which answers within a day at a lower
            price. The call waits for it; a call cut short takes up the batches under way. Evidence with a description
            takes two batches, one after the other. `max_calls` is then the most requests that are submitted.
        on_read: Called with the number of rows read so far, while all are read before the first LM call.
        on_progress: Called before the first LM call, with what is known already, and then as rows are done.

    Raises:
        DataError: If the source cannot be read, or none of its rows can be used.
        ModelError: If a model cannot be used at all, or stops answering; what is done stays.
        BlpoError: If `out` cannot be written or is there without a journal, or its journal is that of another judge,
            other models or other images altogether, or names batches under way and `batch_api` is not set; if
            `escalated` cannot be written, or the judge escalates nothing.
    """
    check_kind("judge", judge, VisualJudge, "judge", "VisualJudge.load('judge.json')")
    judge = judge if confidence is None else judge.confident(confidence)
    output, outages, caps = Output.at(out), Outages(max_outage, paces=True), (max_calls, max_usd)
    target = output.path
    alone, batch = Alone(*caps), batch_api_of(batch_api)
    thread_count(num_threads)
    if max_in_flight is not None:
        check_least("max_in_flight", max_in_flight, 1)
    for_people = None if escalated is None else Path(escalated)
    _check_escalated(for_people, target, judge)
    asked = given_models(judge, models)
    note_other_models(judge, asked)
    _check_plain(judge, batch=batch is not None, shards=workers is not None or cluster is not None)
    inputs = source if isinstance(source, Inputs) else _inputs(judge, source, image_column, texts, allow_outside)
    both = asked_in(judge.labels, orders) > 1
    if workers is not None or cluster is not None or in_shards(target):
        if batch is not None:
            raise BlpoError(
                f"{target}: it is judged in shards, by plain calls; leave out batch_api=True, or leave out workers and "
                "cluster and name another output",
                option="batch_api",
            )
        with _processes(workers, cluster) as where, writing(folder_of(target)):
            threads = _threads(num_threads, max_in_flight, where.processes)
            office = Office(*caps, holders=len(threads))
            rows = _shard_rows(len(inputs.rows), len(threads), threads[0])
            plan = _plan(judge, inputs, output, asked[0], orders, max_outage, on_read, on_progress, rows)
            plan.escalate_to(for_people)
            return plan.run(partial(where.run, judge_shard, threads=threads), office, max_in_flight)
    _check_output(target, inputs, journal_of(target))
    journal = PredictionJournal(journal_of(target), _fingerprint(judge, asked, both=both))
    cap, num_threads = LeasedCap(alone.ask), _threads(num_threads, max_in_flight, 1)[0]
    try:
        if batch is None:
            check_no_batches(journal)
        contents = _read_contents(judge, inputs, on_read)
        session = _Session(judge, inputs, journal, contents, lambda s: on_progress(s.progress()), both=both)
        batches = None
        if batch is not None:
            batches = Batches(batch, journal, max_outage=max_outage, earlier=journal.earlier)
            batches.max_calls, batches.max_usd = max_calls, max_usd
        with Workers(num_threads) as pool:
            session.run(asked, pool, cap, outages, batches=batches)
        session.for_people = for_people
        progress = session.progress()
        if progress.complete:
            session.write(target)
            output.send()
        _log_judged(progress, target)
        return progress
    finally:
        journal.close()


def _log_judged(progress: Progress, target: Path) -> None:
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


def journal_of(out: Path) -> Path:
    """Returns the path of the journal of an output."""
    return out.with_name(out.name + SUFFIX)


def in_shards(out: Path) -> bool:
    """Whether an output is being judged in shards."""
    return (folder_of(out) / MANIFEST).exists()


def kept_in(out: str | os.PathLike[str]) -> Path:
    """Returns the file or folder from which an output resumes."""
    path = Output.at(out).path
    return folder_of(path) if in_shards(path) else journal_of(path)


@contextlib.contextmanager
def _processes(workers: int | None, cluster: Any) -> Iterator[Pool | Cluster]:
    """Where shards are judged; what was begun in shards continues in one process unless there are to be more."""
    if cluster is None:
        yield Pool(1 if workers is None else workers)
        return
    if workers is not None:
        raise BlpoError("workers= starts processes here and cluster= uses those of Dask; give one of them")
    with Cluster.at(cluster) as connected:
        yield connected


def _threads(num_threads: int | None, max_in_flight: int | None, processes: int) -> list[int]:
    """How many LM calls each of some processes may have under way; there are no more processes than calls."""
    own = thread_count(num_threads)
    if max_in_flight is None:
        return [own] * processes
    processes = min(processes, max_in_flight)
    share, more = divmod(max_in_flight, processes)
    return [min(own, share + (number < more)) for number in range(processes)]


def _shard_rows(rows: int, processes: int, threads: int) -> int:
    """About how many contents a new shard gets."""
    wanted = max(rows // (_SHARDS_EACH * processes), _CALLS_EACH * threads)
    return min(SHARD_ROWS, max(_FEWEST_ROWS, min(rows // processes, wanted)))


@dataclass
class _Contents:
    """What the rows of a job hold.

    Attributes:
        keys: The content of each row.
        places: A short name for the images of each row.
        images: A hash of the images of each content.
        unusable: The rows of those that cannot be used, by content.
    """

    keys: list[str] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    images: dict[str, str] = field(default_factory=dict)
    unusable: dict[str, dict[str, Any]] = field(default_factory=dict)


def _read_contents(judge: VisualJudge, inputs: Inputs, on_read: Callable[[int], None]) -> _Contents:
    """Reads all images once."""
    found, several = _Contents(), len(judge.fields.images) > 1
    for number, draft in inputs.drafts(range(len(inputs.rows))):
        try:
            images, key = read_content(draft)
            found.images[key] = images_key(images) if several else key
        except ImageError as error:
            key = f"row {number}"
            found.unusable[key] = _row(Verdict(None, failure=error.reason))
        found.places.append(draft.place)
        found.keys.append(key)
        on_read(number + 1)
    return found


class _Session:
    """One call of `predict`: what is missing is judged and noted, each content once.

    Attributes:
        for_people: The table that what is escalated goes to.
    """

    for_people: Path | None = None

    def __init__(
        self,
        judge: VisualJudge,
        inputs: Inputs,
        journal: PredictionJournal | Parts,
        contents: _Contents,
        on_change: Callable[[_Session], None],
        *,
        both: bool,
    ) -> None:
        self._judge, self._inputs, self._journal, self._on_change = judge, inputs, journal, on_change
        self._both = both
        self._meter: Meter | None = None
        self._judged = 0
        self._stopped = False
        self._keys, self._places, self._unusable = contents.keys, contents.places, contents.unusable
        self._check_overlap()
        self._gone = len(journal.done - set(self._keys))
        self._times = Counter(self._keys)
        self._count()

    def _count(self) -> None:
        """Counts what is known of all rows."""
        results = [result for key in self._keys if (result := self._result(key))]
        self._counts = Counter(map(_kind, results))
        self._marks = Counter(mark for result in results for mark in _marks(result))
        self._served = any(result.get("served_by") for result in results)

    def _check_overlap(self) -> None:
        """Refuses other images altogether, with which an earlier table would be overwritten by mistake."""
        judged = self._journal.done
        if judged and judged.isdisjoint(self._keys):
            raise BlpoError(
                f"{self._journal.path}: this is the journal of other images or other context: of the {len(judged):,} "
                f"that it knows, none is in {self._inputs.name}; name another output, or remove this one and its "
                "journal"
            )

    def run(
        self,
        models: Sequence[Models],
        workers: Workers,
        cap: LeasedCap,
        outages: Outages,
        *,
        answered: bool = False,
        batches: Batches | None = None,
    ) -> None:
        assert isinstance(self._journal, PredictionJournal)
        self._on_change(self)
        known = self._journal.done | self._unusable.keys()
        left: dict[str, list[int]] = {}
        for number, key in enumerate(self._keys):
            if key not in known:
                left.setdefault(key, []).append(number)
        if batches is None:
            self._meter = Meter(num_threads=workers.num_threads, store=self._journal, admit=cap, outages=outages)
        else:
            self._meter = batches.meter
        cap.under_way = lambda: 0 if self._meter is None else self._meter.under_way
        orders: Orders = "both" if self._both else "one"
        if batches is not None:
            first = {numbers[0]: key for key, numbers in left.items()}
            batches.buy(self._judge, models[0], workers, partial(self._inputs_of, first), first, orders)
        options: dict[str, Any] = {"workers": workers, "meter": self._meter, "orders": orders, "answered": answered}
        judge = partial(label_each, self._judge, models, **options)
        while not self._stopped and (wanted := {numbers.pop(0): key for key, numbers in left.items() if numbers}):
            self._judge_rows(judge, wanted, left)

    def _judge_rows(self, judge: Callable[..., None], wanted: Mapping[int, str], left: Mapping[str, list[int]]) -> None:
        """Judges a row of each content; one that has changed leaves it to the next row of that content."""
        waiting: deque[str] = deque()

        def calls() -> Iterator[dict[str, Any]]:
            for number, draft in self._inputs.drafts(wanted):
                if self._stopped:
                    return
                key = wanted[number]
                images = _images_of(draft, key)
                if images is not None:
                    waiting.append(key)
                    yield {**images, **draft.context}
                elif not left[key]:
                    self._note(key, _CHANGED)

        def done(verdict: Verdict) -> None:
            key = waiting.popleft()
            self._stopped = self._stopped or verdict.stopped
            if not verdict.stopped:
                left[key].clear()
                self._note(key, verdict)

        judge(calls(), done=done)

    def _inputs_of(self, keys: Mapping[int, str], wanted: Collection[int]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Position and inputs of rows, without those whose images have changed."""
        for number, draft in self._inputs.drafts(wanted):
            images = _images_of(draft, keys[number])
            if images is not None:
                yield number, {**images, **draft.context}

    def _result(self, key: str) -> dict[str, Any] | None:
        return self._unusable.get(key) or self._journal.row(key)

    def _note(self, key: str, verdict: Verdict) -> None:
        before = self._result(key)
        if before is not None:
            self._counts[_kind(before)] -= self._times[key]
            self._marks.subtract(dict.fromkeys(_marks(before), self._times[key]))
        row = _row(verdict)
        assert isinstance(self._journal, PredictionJournal)
        self._journal.put_row(key, row)
        self._counts[_kind(row)] += self._times[key]
        self._marks.update(dict.fromkeys(_marks(row), self._times[key]))
        self._served = self._served or bool(verdict.served_by)
        self._judged += self._times[key]
        self._on_change(self)

    def report(self, number: int) -> Report:
        """Returns how far the session has got with the shard of this number."""
        assert isinstance(self._journal, PredictionJournal)
        ledger = Ledger({}) if self._meter is None else self._meter.ledger
        counts, marks = Counter(self._counts), Counter(self._marks)
        return Report(number, counts, marks, self._judged, ledger, self._journal.earlier)

    def progress(self) -> Progress:
        flipped = self._marks[True]
        return Progress(
            total=len(self._keys),
            known=self._counts.total(),
            judged=self._judged,
            labels=self._label_counts(),
            invalid=self._counts["invalid"],
            errors=self._counts["error"],
            ledger=Ledger({}) if self._meter is None else self._meter.ledger,
            earlier=self._journal.earlier,
            gone=self._gone,
            flips=Flips(flipped + self._marks[False], flipped) if self._both else None,
            escalated=self._marks[_ESCALATED] if _escalating(self._judge) else None,
        )

    def _label_counts(self) -> dict[str, int]:
        """How often each label was given; of scores, how many are in each bin."""
        labels = self._judge.labels
        if labels.kind != "scores":
            return {name: self._counts[f"label {name}"] for name in labels.names}
        given = [
            labels.coerce(kind.removeprefix("label "))
            for kind, count in self._counts.items()
            if kind.startswith("label ")
            for _ in range(count)
        ]
        names, groups = labels.strata(given)
        counts = Counter(groups)
        return {str(name): counts[name] for name in names}

    def columns(self) -> dict[str, type]:
        """The columns that are found, with their types."""
        served: dict[str, type] = {"served_by": str} if self._served else {}
        return {**_found_columns(self._judge, both=self._both), **served}

    def write(self, target: Path) -> None:
        found = self.columns()
        given = {name: _free(name, found, self._inputs.columns) for name in self._inputs.columns}

        def rows() -> Iterator[dict[str, Any]]:
            for row, place, key in zip(self._inputs.rows, self._places, self._keys, strict=True):
                result = self._result(key) or {}
                values = {**row.values, **_pictured(self._inputs, row, place)}
                yield {**{new: values.get(name) for name, new in given.items()}, **{n: result.get(n) for n in found}}

        types = {**{given[name]: str for name in self._inputs.image_columns}, **found}
        method = [None if stage.confidence is None else stage.confidence.to_dict() for stage in stages_of(self._judge)]
        note = {"blpo_confidence": json.dumps(method)} if any(method) else None
        write_rows(target, [*given.values(), *found], rows, types, note=note)
        if self.for_people is not None:
            write_escalated(self.for_people, list(given.values()), found, rows, types)


class _Sharded(_Session):
    """One call of `predict` over processes: what is missing is judged in shards, and their parts are merged."""

    _journal: Parts

    def __init__(self, *arguments: Any, manifest: Manifest, both: bool) -> None:
        super().__init__(*arguments, both=both)
        self._manifest, self._reports = manifest, dict[int, Report]()
        self._rows: dict[int, list[int]] = {}
        self._earlier, self._ledger = self._journal.earlier, Ledger({})

    def plan(self, images: Mapping[str, str], shard_rows: int) -> None:
        """Puts what is new into shards; arguments as for `Manifest.add`."""
        self._manifest.add(images, shard_rows)
        shard_of = self._manifest.contents
        for number, key in enumerate(self._keys):
            if key in shard_of:
                self._rows.setdefault(shard_of[key], []).append(number)

    def on_change(self) -> None:
        """Says where the session stands."""
        self._on_change(self)

    def left(self, shard: Callable[..., Shard]) -> list[Shard]:
        """Returns the shards of which something is missing, each made of its number, rows, keys and contents."""
        done = self._journal.done
        missing = [n for n, rows in self._rows.items() if not done.issuperset(self._keys[row] for row in rows)]
        return [
            shard(
                number=number,
                part=self._manifest.part(number).absolute(),
                inputs=self._inputs.subset(self._rows[number]),
                keys=tuple(self._keys[row] for row in self._rows[number]),
                contents=tuple(self._manifest.shards[number]),
            )
            for number in sorted(missing)
        ]

    def take(self, report: Report) -> None:
        """Counts what a process has found in a shard so far, in place of what was known of it."""
        first = report.number not in self._reports
        before = self._at_first(report) if first else self._reports[report.number]
        # One that has died may have judged more than it has said.
        unsaid = 0 if first else report.counts.total() - before.counts.total()
        self._counts.update(report.counts)
        self._counts.subtract(before.counts)
        self._marks.update(report.marks)
        self._marks.subtract(before.marks)
        self._judged += max(report.judged - before.judged, unsaid)
        self._ledger = _changed(_changed(self._ledger, before.ledger, report.ledger), before.earlier, report.earlier)
        self._reports[report.number] = report
        self._on_change(self)

    def _at_first(self, report: Report) -> Report:
        """What was known of a shard before its first report; the journal may hold more than the part says."""
        kept = self._journal.spent.get(report.number, Ledger({}))
        self._earlier = _changed(self._earlier, kept, report.earlier)
        results = [result for row in self._rows[report.number] if (result := self._result(self._keys[row]))]
        counts = Counter(_kind(result) for result in results)
        marks = Counter(mark for result in results for mark in _marks(result))
        return Report(report.number, counts, marks, 0, Ledger({}), report.earlier)

    def lost(self, number: int) -> None:
        """Notes that a process has died; what the next one says it has judged is on top of that."""
        if number in self._reports:
            self._reports[number] = replace(self._reports[number], judged=0)

    def merge(self) -> None:
        """Takes up the parts that were written, and counts their rows.

        Raises:
            BlpoError: If one is not there that was.
        """
        for number in self._reports:
            self._journal.read(number)
            if number not in self._journal.spent:
                raise BlpoError(
                    f"{self._manifest.part(number)}: was judged, but cannot be read here; the folder of the output "
                    "must be the same for all processes"
                )
        if self._reports:
            self._count()

    def progress(self) -> Progress:
        return replace(super().progress(), ledger=self._ledger, earlier=self._earlier)


def _changed(ledger: Ledger, less: Ledger, more: Ledger) -> Ledger:
    return Ledger({role: ledger[role] - less[role] + more[role] for role in ROLES})


class ShardPlan:
    """The shards of an output of which something is missing, and the merging of all into one table.

    Attributes:
        shards: What is left to be judged: `judge_shard` judges one of them, in any process that sees the same files
            under the same paths.
    """

    def __init__(self, session: _Sharded, shards: Sequence[Shard], output: Output) -> None:
        self._session, self._output = session, output
        self.shards = tuple(shards)

    def escalate_to(self, path: Path | None) -> None:
        """Names the table that what is escalated goes to."""
        self._session.for_people = path

    def run(self, run: Callable[[Sequence[Shard], Desk], None], office: Office, max_in_flight: int | None) -> Progress:
        """Has the shards judged, and merges them."""
        self._session.on_change()
        answered = self._session.progress().earlier.total.calls > 0
        run(self.shards, Desk(office, self._session.take, self._session.lost, answered, max_in_flight))
        return self.merge(())

    def merge(self, reports: Iterable[Report]) -> Progress:
        """Counts what was judged and writes the table if nothing is missing.

        Args:
            reports: What `judge_shard` returned.

        Raises:
            BlpoError: If a part of it cannot be read here, or the table cannot be written.
        """
        for report in reports:
            self._session.take(report)
        self._session.merge()
        progress = self._session.progress()
        if progress.complete:
            self._session.write(self._output.path)
            self._output.send()
        _log_judged(progress, self._output.path)
        return progress


def plan_shards(
    judge: VisualJudge,
    source: TableSource | Sequence[ImageSource] | Inputs,
    *,
    out: str | os.PathLike[str],
    models: Models | None = None,
    image_column: str | None = None,
    texts: Mapping[str, str] | None = None,
    allow_outside: bool = False,
    num_threads: int | None = None,
    max_outage: float = MAX_OUTAGE,
    orders: Orders = "both",
    shard_rows: int = SHARD_ROWS,
    on_read: Callable[[int], None] = lambda done: None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> ShardPlan:
    """Divides a folder, table or list of images into shards, for an engine of your own to judge; see `predict`.

    The same call again gives what is left: new rows and rows with an error too.

    Args:
        judge: The judge.
        source: As for `predict`, and so are the arguments that are not listed here.
        out: The table that `ShardPlan.merge` writes; the folder `<out>.shards` next to it must be shared by all
            processes.
        models: The models; other processes build them from names and options, with keys from their environment.
        image_column: See `predict`.
        texts: See `predict`.
        allow_outside: See `predict`.
        num_threads: The most LM calls under way at once in each shard that is being judged.
        max_outage: See `predict`.
        orders: See `predict`.
        shard_rows: About how many contents a new shard gets; equal images are in one shard.
        on_read: See `predict`.
        on_progress: Called with each report that is merged.

    Raises:
        BlpoError: As `predict`.
    """
    check_kind("judge", judge, VisualJudge, "judge", "VisualJudge.load('judge.json')")
    check_least("shard_rows", shard_rows, 1)
    output = Output.at(out)
    Outages(max_outage)
    models = models_of(judge) if models is None else models
    note_other_models(judge, models)
    _check_plain(judge, batch=False, shards=True)
    inputs = source if isinstance(source, Inputs) else _inputs(judge, source, image_column, texts, allow_outside)
    with writing(folder_of(output.path)):
        return _plan(judge, inputs, output, models, orders, max_outage, on_read, on_progress, shard_rows, num_threads)


def _plan(
    judge: VisualJudge,
    inputs: Inputs,
    output: Output,
    models: Models,
    orders: Orders,
    max_outage: float,
    on_read: Callable[[int], None],
    on_progress: Callable[[Progress], None],
    shard_rows: int,
    num_threads: int | None = None,
) -> ShardPlan:
    specs, both, target = ModelSpecs.of(models), asked_in(judge.labels, orders) > 1, output.path
    _check_output(target, inputs, folder_of(target) / MANIFEST)
    if journal_of(target).exists():
        raise BlpoError(
            f"{journal_of(target)}: this is the journal of a run in one process, which shards do not continue; repeat "
            "the call without workers= and cluster=, or name another output"
        )
    fingerprint = _fingerprint(judge, [models], both=both)
    manifest = Manifest.of(folder_of(target), fingerprint)
    contents = _read_contents(judge, inputs, on_read)
    session = _Sharded(
        judge, inputs, Parts(manifest), contents, lambda s: on_progress(s.progress()), manifest=manifest, both=both
    )
    session.plan(contents.images, shard_rows)
    shard = partial(
        Shard,
        fingerprint=fingerprint,
        judge=packed(judge),
        models=specs,
        num_threads=num_threads,
        max_outage=max_outage,
        orders=orders,
    )
    return ShardPlan(session, session.left(shard), output)


def judge_shard(
    shard: Shard, *, max_calls: int | None = None, max_usd: float | None = None, line: Line | None = None
) -> Report:
    """Judges what is missing of a shard and writes its part; a repeated call resumes from the shard's journal.

    It holds the lock of that journal, so that of two processes with the same shard one waits, at most a minute.

    Args:
        shard: One of `ShardPlan.shards`.
        max_calls: The most LM calls; None for no cap.
        max_usd: The most dollars; None for no cap.
        line: The connection to the process that planned the shards; it replaces these caps by shared ones.

    Returns:
        What was found, for `ShardPlan.merge`.

    Raises:
        ModelError: If a model cannot be used at all, or stops answering; what is done stays.
        JournalError: If the journal cannot be written, or another process still writes it after a minute.
    """
    judge, adapter = unpacked(shard.judge)
    models = shard.models.build()
    line = Alone(max_calls, max_usd) if line is None else line
    outages = Outages(shard.max_outage, known=shard.answered, paces=True, on_pause=line.paused)
    line.on_pause(partial(outages.pause, tell=False))
    contents = _Contents(list(shard.keys), [""] * len(shard.keys))
    journal = PredictionJournal(journal_of(shard.part), shard.fingerprint, patience=shard.patience)
    both = asked_in(judge.labels, shard.orders) > 1

    def changed(session: _Session) -> None:
        line.report(partial(session.report, shard.number))

    try:
        with dspy.context(adapter=adapter), Workers(shard.num_threads) as workers:
            session = _Session(judge, shard.inputs, journal, contents, changed, both=both)
            try:
                session.run([models], workers, LeasedCap(line.ask, line.stopped), outages, answered=shard.answered)
            finally:
                spent = session.progress().spent
                write_part(shard.part, shard.contents, session.columns(), journal.row, spent)
            return session.report(shard.number)
    finally:
        journal.close()


def _images_of(draft: Draft, key: str) -> dict[str, Any] | None:
    """A row's images, if they are still what they were when the run began."""
    try:
        images, now = read_content(draft)
    except ImageError:
        return None
    return images if now == key else None


def _pictured(inputs: Inputs, row: TableRow, place: str) -> dict[str, str]:
    """What a table of verdicts has in the columns of the images: names and addresses, never an image itself."""
    if len(inputs.image_columns) == 1 and not inputs.reader.columns.images[inputs.image_columns[0]].several:
        return {inputs.image_columns[0]: place}
    return {name: _named(row.values.get(name), row.where) for name in inputs.image_columns}


def _named(value: object, where: str) -> str:
    if isinstance(value, (list, tuple)):
        return "|".join(_named(part, where) for part in value)
    return value if isinstance(value, str) and value[:5].lower() != "data:" else where


def _row(verdict: Verdict) -> dict[str, Any]:
    unlabelled = verdict.label is None and not verdict.failure
    row = {
        "label": verdict.label,
        "description": verdict.description,
        "reasoning": verdict.reasoning or None,
        "answer": verdict.answer if unlabelled else None,
        "invalid": verdict.invalid,
        "error": verdict.failure or None,
        **({"served_by": verdict.served_by} if verdict.served_by else {}),
    }
    more = {name: getattr(verdict, name) for name in ("inconsistent", "confidence", "escalate")}
    return {**row, **{name: value for name, value in more.items() if value is not None}}


def _marks(row: Mapping[str, Any]) -> list[bool | str | None]:
    """What a row is counted for beside its label: whether its orders disagree, and that it is escalated."""
    return [row.get("inconsistent"), *([_ESCALATED] if row.get("escalate") else [])]


def _kind(row: Mapping[str, Any]) -> str:
    if row["error"] is not None:
        return "error"
    return "invalid" if row["invalid"] else "none" if row["label"] is None else f"label {row['label']}"


def _found_columns(judge: VisualJudge, *, both: bool) -> dict[str, type]:
    """The columns that a judge adds, with their types."""
    label_types: dict[bool, type] = {judge.labels.numeric: int, judge.labels.kind == "scores": float}
    columns: dict[str, type] = {"label": label_types.get(True, str)}
    if judge.evidence != "image":
        columns["description"] = str
    if judge.reasoning:
        columns["reasoning"] = str
    columns |= {"answer": str, "invalid": bool, **({"inconsistent": bool} if both else {}), "error": str}
    if any(stage.confidence is not None for stage in stages_of(judge)):
        columns["confidence"] = float
    return {**columns, **({"escalate": bool} if _escalating(judge) else {})}


def _escalating(judge: VisualJudge) -> bool:
    """Whether a judge, or the last judge of a cascade, escalates to people."""
    return stages_of(judge)[-1].threshold is not None


def _check_plain(judge: VisualJudge, *, batch: bool, shards: bool) -> None:
    """Refuses what a judge that is asked several times cannot use."""
    if batch and judge.calls_per_image != len(set(judge.roles)):
        raise BlpoError(
            "a batch holds one answer of each model to an image, and this judge is asked several times; leave out "
            "batch_api=True, or use confidence='logprobs'",
            option="batch_api",
        )
    if shards and isinstance(judge, Cascade):
        raise BlpoError(
            "a cascade is judged in one process, which has the models of all its judges; leave out workers= and "
            "cluster=",
            option=("workers", "cluster"),
        )
    if isinstance(judge, Cascade):
        judge.check_calibrated()


def _check_escalated(path: Path | None, out: Path, judge: VisualJudge) -> None:
    if path is None:
        return
    check_target(path)
    if path.resolve() == out.resolve():
        raise BlpoError(f"{path}: all verdicts go there; name another file for what is escalated", option="escalated")
    if not _escalating(judge):
        raise BlpoError(
            f"{path} would be empty, as the judge escalates nothing to people: it isn't calibrated; calibrate it first "
            "(blpo_dspy.calibrate, blpo calibrate)",
            option="escalated",
        )
    if path.exists() and not kept_in(out).exists():
        raise BlpoError(f"{path}: there is such a file already; name another one, or remove it", option="escalated")


def _free(name: str, taken: Collection[str], columns: Collection[str]) -> str:
    """A column's name that differs from those that the judge adds."""
    if name not in taken:
        return name
    name = _GIVEN + name
    while name in columns:
        name = _GIVEN + name
    return name


def _inputs(
    judge: VisualJudge,
    source: TableSource | Sequence[ImageSource],
    image_column: str | None,
    texts: Mapping[str, str] | None,
    allow_outside: bool,
) -> Inputs:
    if isinstance(source, (str, bytes, os.PathLike, Mapping, Image.Image, np.ndarray, dspy.Image)):
        source = [source]
    elif not in_memory(source):
        check_kind("source", source, Iterable, "folder, table or list of images", "predict(judge, 'photos', out=…)")
        source = list(source)
    found = find_inputs(
        source, fields=judge.fields, texts=texts, image_column=image_column, allow_outside=allow_outside
    )
    return checked(found)


def models_of(judge: VisualJudge) -> Models:
    """Returns a judge's own models, or those of DSPy's settings; the judge's writes instructions.

    Raises:
        ModelError: If there are none.
    """
    found = {role: getattr(judge, role).lm or dspy.settings.lm for role in ("judge", "verbalizer")}
    if None in found.values():
        raise ModelError("the judge has no model: give models=Models.named(…), or dspy.configure(lm=…)")
    return Models(found["judge"], found["verbalizer"], found["judge"])


def given_models(judge: VisualJudge, models: Models | Sequence[Models] | None) -> list[Models]:
    """Returns the models of each judge of a cascade, or the only one: those given, or else its own.

    Raises:
        ModelError: If there are none.
        BlpoError: If there are as many models as judges neither given nor one for all.
    """
    return [models_of(stage) for stage in stages_of(judge)] if models is None else models_of_stages(judge, models)


def _check_output(target: Path, inputs: Inputs, kept: Path) -> None:
    """Refuses an output that is the source, or that is there without what an earlier call has kept of it."""
    if target.exists() and os.path.exists(inputs.name) and os.path.samefile(target, inputs.name):
        raise BlpoError(f"{target}: this is the table to be judged; name another output")
    if target.exists() and not kept.exists():
        raise BlpoError(
            f"{target}: there is such a file already, but no journal of a run to continue; name another "
            "output, or remove it"
        )


def _fingerprint(judge: VisualJudge, models: Sequence[Models], *, both: bool) -> dict[str, Any]:
    """What verdicts depend on apart from the rows."""
    used = [
        {role: identity(getattr(own, role)) for role in ("judge", "verbalizer") if role in stage.roles}
        for stage, own in zip(stages_of(judge), models, strict=True)
    ]
    orders = {"orders": "both" if both else "one"} if judge.labels.paired else {}
    return {"judge": judge.identity(), "models": used if isinstance(judge, Cascade) else used[0], **orders}
