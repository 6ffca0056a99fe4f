"""A judge's verdicts on a folder or table of images, written to a table; an interrupted call resumes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from blpo_dspy.calls.leases import LeasedCap, Office
from blpo_dspy.calls.outages import MAX_OUTAGE, Outages, checked_outage
from blpo_dspy.calls.workers import Workers, thread_count
from blpo_dspy.data.images.prepare import ImageSource
from blpo_dspy.data.inputs import Inputs
from blpo_dspy.data.labels.space import Method, Orders
from blpo_dspy.data.tables import TableSource
from blpo_dspy.errors import BlpoError, check_kind, check_least
from blpo_dspy.models.lm import Models
from blpo_dspy.models.prices import Prices, checked_prices
from blpo_dspy.predictions.batches.api import BatchApi, batch_api_of
from blpo_dspy.predictions.batches.submission import Batches, check_no_batches
from blpo_dspy.predictions.files import Output
from blpo_dspy.predictions.given import Job, check_plain, given_models, inputs_of, priced
from blpo_dspy.predictions.journal import PredictionJournal
from blpo_dspy.predictions.labelling import note_other_models
from blpo_dspy.predictions.outputs import check_escalated, check_output, files_of, fingerprint_of, in_shards, journal_of
from blpo_dspy.predictions.progress import Progress, log_judged
from blpo_dspy.predictions.seen import SeenFiles
from blpo_dspy.predictions.session import Session, read_contents
from blpo_dspy.predictions.shards.cluster import Cluster
from blpo_dspy.predictions.shards.manifest import SHARD_ROWS, folder_of, writing
from blpo_dspy.predictions.shards.plan import judge_shard, planned
from blpo_dspy.predictions.shards.pool import Pool
from blpo_dspy.programs.visual_judge import VisualJudge

# Shards for each process, so that none is idle for long at the end; calls for each thread, so that threads are seldom
# idle at the end of a shard; and the fewest rows that are worth one.
_SHARDS_EACH, _CALLS_EACH, _FEWEST_ROWS = 4, 16, 16


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
    prices: Prices | None = None,
    batch_api: bool | BatchApi = False,
    partial_table: bool = False,
    on_read: Callable[[int], None] = lambda done: None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Judges every image of a folder, a table or a list, and writes a table with a row for each, in order.

    The table has the columns of the source (one that is named like a column below becomes `given_…`), then `label`,
    `description` and `reasoning` as far as the judge gives them, `answer` where it states no label, `invalid`, and
    `error` where there is no answer; for pairs in both orders also `inconsistent`; of a judge with a confidence
    `confidence`, and of a calibrated judge `escalate`; and `served_by` where a server reports another version of a
    model than the name that was asked for. A Parquet file says in its metadata how the confidence was found
    (`blpo_confidence`). Images are loaded lazily: a few for each thread are in memory.

    Next to the table, `<out>.journal.jsonl` keeps what was paid for, so that the same call resumes after a crash, and
    later judges what is missing only: new rows, replaced images, rows with an error. A verdict belongs to the bytes of
    an image (or to its URL) and its context, not to its name; so all images are read before the first call, and equal
    rows are judged once. An image that changes after that has an error. Rows that are gone are left out. A file with a
    verdict is not read by a later call as long as its path, size, times and inode are those that `<out>.files.json`
    has, unless it was modified within 2 s of being read. Remove the journal and that file when you are done.

    With `workers` or `cluster` other processes judge, in shards of up to about 500 contents: `<out>.shards` takes the
    place of both files, and the same holds for it. The models are built there from their names and options, with keys
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
        max_outage: Seconds to wait for a server that has stopped answering.
        orders: For a judge of pairs: "both" asks twice, with the images swapped, and gives the label on which both
            orders agree, else the tie or none; "one" costs one call.
        prices: US dollars per million prompt and completion tokens of single calls by model, where DSPy's tables lack
            them; with `batch_api` they may be in the `BatchApi` instead.
        batch_api: Whether requests go through the provider's batch endpoint, which answers within a day at a lower
            price. The call waits for it; a call cut short takes up the batches under way. Evidence with a description
            takes two batches, one after the other. `max_calls` is then the most requests that are submitted.
        partial_table: Whether the table is written also when a cap stops the call; a row that was not judged is then
            empty in the columns above.
        on_read: Called with the number of rows read so far, while all are read before the first LM call.
        on_progress: Called before the first LM call, with what is known already, and then as rows are done.

    Raises:
        DataError: If the source cannot be read, or none of its rows can be used.
        ModelError: If a model cannot be used at all, or stops answering; what is done stays.
        BlpoError: If `out` cannot be written or is there without a journal, or its journal is that of another judge,
            other models or other images altogether, or names batches under way and `batch_api` is not set; if
            `escalated` cannot be written, or the judge escalates nothing; if `max_usd` is given and a model has no
            known price.
    """
    check_kind("judge", judge, VisualJudge, "judge", "VisualJudge.load('judge.json')")
    judge = judge if confidence is None else judge.confident(confidence)
    output, caps = Output.at(out), (max_calls, max_usd)
    target, office, batch = output.path, Office(*caps), batch_api_of(batch_api, checked_prices(prices))
    checked_outage(max_outage)
    thread_count(num_threads)
    if max_in_flight is not None:
        check_least("max_in_flight", max_in_flight, 1)
    for_people = None if escalated is None else Path(escalated)
    check_escalated(for_people, target, judge)
    asked = given_models(judge, models)
    note_other_models(judge, asked)
    priced(judge, asked, max_usd if batch is None else None, prices)
    check_plain(judge, batch=batch is not None, shards=workers is not None or cluster is not None)
    inputs = source if isinstance(source, Inputs) else inputs_of(judge, source, image_column, texts, allow_outside)
    job = Job(judge, inputs, output, asked, orders, prices, max_outage, on_read, on_progress, partial_table)
    if workers is None and cluster is None and not in_shards(target):
        limits: dict[str, Any] = {"max_outage": max_outage, "max_calls": max_calls, "max_usd": max_usd}
        batches = None if batch is None else partial(Batches, batch, **limits)
        cap = LeasedCap(partial(office.ask, None))
        return _judged_here(job, for_people, cap, _threads(num_threads, max_in_flight, 1)[0], batches)
    if batch is not None:
        raise BlpoError(
            f"{target}: it is judged in shards, by plain calls; leave out batch_api=True, or name another output "
            "without workers= and cluster=",
            option=("batch_api", "workers", "cluster"),
        )
    with _processes(workers, cluster) as where, writing(folder_of(target)):
        threads = _threads(num_threads, max_in_flight, where.processes)
        office = Office(*caps, holders=len(threads))
        return _judged_in_shards(job, for_people, where, office, threads, max_in_flight)


def _judged_in_shards(
    job: Job, people: Path | None, where: Pool | Cluster, office: Office, threads: list[int], most: int | None
) -> Progress:
    """Has other processes judge."""
    plan = planned(job, _shard_rows(len(job.inputs.rows), len(threads), threads[0]))
    plan.escalate_to(people)
    return plan.run(partial(where.run, judge_shard, threads=threads), office, most)


def _judged_here(
    job: Job,
    people: Path | None,
    cap: LeasedCap,
    num_threads: int,
    batches_of: Callable[..., Batches] | None,
) -> Progress:
    """Judges in this process, by plain calls or in batches."""
    judge, inputs, target = job.judge, job.inputs, job.output.path
    outages = Outages(job.max_outage, paces=True)
    check_output(target, inputs, journal_of(target))
    journal = PredictionJournal(journal_of(target), fingerprint_of(judge, job.models, both=job.both))
    try:
        if batches_of is None:
            check_no_batches(journal)
        contents = read_contents(judge, inputs, job.on_read, SeenFiles(files_of(target)), journal.done)
        session = Session(judge, inputs, journal, contents, lambda s: job.on_progress(s.progress()), both=job.both)
        batches = None if batches_of is None else batches_of(journal, earlier=journal.earlier)
        with Workers(num_threads) as pool:
            session.run(job.models, pool, cap, outages, batches=batches, prices=job.prices)
        session.for_people = people
        progress = session.progress()
        if progress.complete or job.partial:
            session.write(target)
            job.output.send()
        log_judged(progress, target)
        return progress
    finally:
        journal.close()


@contextlib.contextmanager
def _processes(workers: int | None, cluster: Any) -> Iterator[Pool | Cluster]:
    """Where shards are judged; what was begun in shards continues in one process unless there are to be more."""
    if cluster is None:
        yield Pool(1 if workers is None else workers)
        return
    if workers is not None:
        raise BlpoError(
            "workers= starts processes here and cluster= uses those of Dask; give one of them",
            option=("workers", "cluster"),
        )
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
