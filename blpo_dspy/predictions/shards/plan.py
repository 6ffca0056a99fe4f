"""The shards of an output: planned, judged one by one, and merged into one table."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import dspy

from blpo_dspy.calls.leases import LeasedCap, Office
from blpo_dspy.calls.ledger import ROLES, Ledger
from blpo_dspy.calls.outages import MAX_OUTAGE, Outages
from blpo_dspy.calls.workers import Workers
from blpo_dspy.data.images.prepare import ImageSource
from blpo_dspy.data.inputs import Inputs
from blpo_dspy.data.labels.space import Orders
from blpo_dspy.data.tables import TableSource
from blpo_dspy.errors import BlpoError, check_kind, check_least
from blpo_dspy.models.lm import Models
from blpo_dspy.models.prices import Prices, checked_prices
from blpo_dspy.models.specs import ModelSpecs
from blpo_dspy.predictions.files import Output
from blpo_dspy.predictions.given import Job, check_plain, inputs_of, models_of
from blpo_dspy.predictions.journal import PredictionJournal
from blpo_dspy.predictions.labelling import note_other_models
from blpo_dspy.predictions.outputs import check_output, fingerprint_of, journal_of
from blpo_dspy.predictions.progress import Progress, log_judged
from blpo_dspy.predictions.seen import SeenFiles
from blpo_dspy.predictions.session import Contents, Session, read_contents
from blpo_dspy.predictions.shards.line import Alone, Desk, Line, Report
from blpo_dspy.predictions.shards.manifest import MANIFEST, SHARD_ROWS, Manifest, folder_of, writing
from blpo_dspy.predictions.shards.parts import Parts, write_part
from blpo_dspy.predictions.shards.shard import Shard, packed, unpacked
from blpo_dspy.programs.pairs import asked_in
from blpo_dspy.programs.visual_judge import VisualJudge


class ShardedSession(Session):
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
        """Counts what a process has found in a shard so far, instead of what was known of it."""
        first = report.number not in self._reports
        before = self._at_first(report) if first else self._reports[report.number]
        # One that has died may have judged more than it has said.
        unsaid = 0 if first else report.counts.total() - before.counts.total()
        self._counts.update(report.counts)
        self._counts.subtract(before.counts)
        self._judged += max(report.judged - before.judged, unsaid)
        self._ledger = _changed(_changed(self._ledger, before.ledger, report.ledger), before.earlier, report.earlier)
        self._reports[report.number] = report
        self._on_change(self)

    def _at_first(self, report: Report) -> Report:
        """What was known of a shard before its first report; the journal may hold more than the part says."""
        kept = self._journal.spent.get(report.number, Ledger({}))
        self._earlier = _changed(self._earlier, kept, report.earlier)
        keys = (self._keys[row] for row in self._rows[report.number])
        return Report(report.number, self._counted(keys), 0, Ledger({}), report.earlier)

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
            self._counts = self._counted(self._keys)

    def progress(self) -> Progress:
        """Returns where all processes stand together."""
        return replace(super().progress(), ledger=self._ledger, earlier=self._earlier)


def _changed(ledger: Ledger, less: Ledger, more: Ledger) -> Ledger:
    return Ledger({role: ledger[role] - less[role] + more[role] for role in ROLES})


class ShardPlan:
    """The shards of an output of which something is missing, and the merging of all into one table.

    Attributes:
        shards: What is left to be judged: `judge_shard` judges one of them, in any process that sees the same files
            under the same paths.
    """

    def __init__(
        self, session: ShardedSession, shards: Sequence[Shard], output: Output, *, partial_table: bool
    ) -> None:
        self._session, self._output, self._partial = session, output, partial_table
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
        if progress.complete or self._partial:
            self._session.write(self._output.path)
            self._output.send()
        log_judged(progress, self._output.path)
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
    prices: Prices | None = None,
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
        prices: See `predict`.
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
    checked_prices(prices)
    models = models_of(judge, models)
    note_other_models(judge, models)
    check_plain(judge, batch=False, shards=True)
    inputs = source if isinstance(source, Inputs) else inputs_of(judge, source, image_column, texts, allow_outside)
    with writing(folder_of(output.path)):
        job = Job(judge, inputs, output, [models], orders, prices, max_outage, on_read, on_progress)
        return planned(job, shard_rows, num_threads)


def planned(job: Job, shard_rows: int, num_threads: int | None = None) -> ShardPlan:
    """Returns the plan of an output whose source was read; arguments as for `plan_shards`."""
    judge, target, specs = job.judge, job.output.path, ModelSpecs.of(job.models[0])
    check_output(target, job.inputs, folder_of(target) / MANIFEST)
    if journal_of(target).exists():
        raise BlpoError(
            f"{journal_of(target)}: this is the journal of a run in one process, which shards do not continue; repeat "
            "the call without workers= and cluster=, or name another output",
            option=("workers", "cluster"),
        )
    fingerprint = fingerprint_of(judge, job.models, both=job.both)
    manifest = Manifest.of(folder_of(target), fingerprint)
    parts, seen = Parts(manifest), SeenFiles(folder_of(target) / "files.json")
    contents = read_contents(judge, job.inputs, job.on_read, seen, parts.done)
    session = ShardedSession(
        judge, job.inputs, parts, contents, lambda s: job.on_progress(s.progress()), manifest=manifest, both=job.both
    )
    session.plan(contents.images, shard_rows)
    shard = partial(
        Shard,
        fingerprint=fingerprint,
        judge=packed(judge),
        models=specs,
        num_threads=num_threads,
        max_outage=job.max_outage,
        orders=job.orders,
        prices=job.prices,
    )
    return ShardPlan(session, session.left(shard), job.output, partial_table=job.partial)


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
    contents = Contents(list(shard.keys), [""] * len(shard.keys))
    journal = PredictionJournal(journal_of(shard.part), shard.fingerprint, patience=shard.patience)
    both = asked_in(judge.labels, shard.orders) > 1

    def changed(session: Session) -> None:
        line.report(partial(session.report, shard.number))

    try:
        with dspy.context(adapter=adapter), Workers(shard.num_threads) as workers:
            session = Session(judge, shard.inputs, journal, contents, changed, both=both)
            try:
                cap, answered = LeasedCap(line.ask, line.stopped), shard.answered
                session.run([models], workers, cap, outages, answered=answered, prices=shard.prices)
            finally:
                spent = session.progress().spent
                write_part(shard.part, shard.contents, session.columns(), journal.row, spent)
            return session.report(shard.number)
    finally:
        journal.close()
