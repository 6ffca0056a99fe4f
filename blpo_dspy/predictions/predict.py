"""A judge's verdicts on a folder or table of images, written to a table; an interrupted call resumes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from blpo_dspy.data.images.prepare import ImageSource
from blpo_dspy.data.inputs import Inputs
from blpo_dspy.data.labels.space import Method, Orders
from blpo_dspy.data.tables import TableSource
from blpo_dspy.errors import BlpoError, check_kind, check_least
from blpo_dspy.models.lm import Models
from blpo_dspy.models.prices import Prices, checked_prices
from blpo_dspy.models.specs import ModelSpecs
from blpo_dspy.predictions.batches.api import BatchApi, batch_api_of
from blpo_dspy.predictions.batches.submission import Batches, check_no_batches
from blpo_dspy.predictions.chunk import Chunk, packed
from blpo_dspy.predictions.cluster import ClusterRun, connected
from blpo_dspy.predictions.files import Output
from blpo_dspy.predictions.given import Job, check_plain, given_models, inputs_of, priced
from blpo_dspy.predictions.job import opened_job
from blpo_dspy.predictions.labelling import note_other_models
from blpo_dspy.predictions.outputs import check_escalated, check_output, fingerprint_of
from blpo_dspy.predictions.progress import Progress, log_judged
from blpo_dspy.predictions.seen import SeenFiles
from blpo_dspy.predictions.session import Session, read_contents
from blpo_dspy.programs.visual_judge import VisualJudge
from blpo_dspy.workspace.cap import Cap
from blpo_dspy.workspace.outages import MAX_OUTAGE, Outages, checked_outage
from blpo_dspy.workspace.workers import Workers, thread_count


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

    `workspace.sqlite` in its folder keeps what was paid for, so that the same call resumes after a crash, and later
    judges what is missing only: new rows, replaced images, rows with an error. A verdict belongs to the bytes of
    an image (or to its URL) and its context, not to its name; so all images are read before the first call, and equal
    rows are judged once. An image that changes after that has an error. Rows that are gone are left out. A file with a
    verdict is not read by a later call as long as its path, size, times and inode are as they were,
    unless it was modified within 2 s of being read.

    With `workers` or `cluster` other processes judge, a few rows at a time, and this one writes. The models are built
    there from their names and options, with keys from the environment of those processes. A process that dies is
    replaced, at the price of the rows that it had; of these the calls count as made. All of them keep to the caps
    together, and wait where one is asked to wait by a rate limit. With `workers` a script needs the usual
    `if __name__ == "__main__":`.

    Args:
        judge: The judge.
        source: A folder, in which images may lie anywhere; a .csv, .tsv, .jsonl or .parquet file; a table in memory
            (`pandas.DataFrame`, list of dictionaries, `datasets.Dataset`); or images as a judge takes them. A folder or
            file may be an address that fsspec reads, such as s3://bucket/photos.
        out: The table, a .parquet, .csv or .jsonl file; its folder is made if need be. A table with an address that
            fsspec writes to (s3://…) is made in the current folder, and then copied.
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
        workers: How many processes judge, started here; this one if None. It needs the extra `dask`.
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
        BlpoError: If `out` cannot be written or is there but not known, or it is that of another judge,
            other models or other images altogether, or batches are under way and `batch_api` is not set; if
            `escalated` cannot be written, or the judge escalates nothing; if `max_usd` is given and a model has no
            known price.
    """
    check_kind("judge", judge, VisualJudge, "judge", "VisualJudge.load('judge.json')")
    judge = judge if confidence is None else judge.confident(confidence)
    output, cap = Output.at(out), Cap(max_calls, max_usd)
    target, batch = output.path, batch_api_of(batch_api, checked_prices(prices))
    elsewhere = _elsewhere(workers, cluster, batch=batch is not None)
    checked_outage(max_outage)
    threads = thread_count(num_threads)
    if max_in_flight is not None:
        check_least("max_in_flight", max_in_flight, 1)
    for_people = None if escalated is None else Path(escalated)
    check_escalated(for_people, target, judge)
    asked = given_models(judge, models)
    note_other_models(judge, asked)
    priced(judge, asked, max_usd if batch is None else None, prices)
    check_plain(judge, batch=batch is not None, elsewhere=elsewhere)
    inputs = source if isinstance(source, Inputs) else inputs_of(judge, source, image_column, texts, allow_outside)
    job = Job(judge, inputs, output, asked, orders, prices, max_outage, on_read, on_progress, partial_table)
    threads = min(threads, max_in_flight or threads)
    if elsewhere:
        with connected(workers, cluster) as client, session_of(job, for_people) as session:
            _judge_elsewhere(job, session, client, cap, threads, max_in_flight)
            return finished(job, session)
    with session_of(job, for_people) as session, Workers(threads) as pool:
        batches = None
        if batch is None:
            check_no_batches(session.job)
        else:
            caps: dict[str, Any] = {"max_outage": max_outage, "max_calls": max_calls, "max_usd": max_usd}
            batches = Batches(batch, session.job, earlier=session.job.earlier, **caps)
        outages = Outages(max_outage, paces=True)
        session.run(asked, pool, cap, outages, batches=batches, prices=prices)
        return finished(job, session)


def _elsewhere(workers: int | None, cluster: Any, *, batch: bool) -> bool:
    """Whether other processes judge."""
    if workers is not None:
        check_least("workers", workers, 1)
    if workers is not None and cluster is not None:
        raise BlpoError(
            "workers= starts processes here and cluster= uses those of Dask; give one of them",
            option=("workers", "cluster"),
        )
    elsewhere = workers is not None or cluster is not None
    if elsewhere and batch:
        raise BlpoError(
            "other processes make plain calls; leave out batch_api=True, or workers= and cluster=",
            option=("batch_api", "workers", "cluster"),
        )
    return elsewhere


@contextlib.contextmanager
def session_of(job: Job, for_people: Path | None) -> Iterator[Session]:
    """Yields what is to be judged, once all images were read."""
    target = job.output.path
    check_output(target, job.inputs)
    with contextlib.closing(opened_job(target, fingerprint_of(job.judge, job.models, both=job.both))) as kept:
        contents = read_contents(job.judge, job.inputs, job.on_read, SeenFiles(kept.store), kept.done)
        session = Session(job.judge, job.inputs, kept, contents, lambda s: job.on_progress(s.progress()), both=job.both)
        session.for_people = for_people
        yield session
        kept.end("done" if session.progress().complete else "stopped")


def _judge_elsewhere(
    job: Job, session: Session, client: Any, cap: Cap, threads: int, max_in_flight: int | None
) -> None:
    """Has other processes judge what is missing."""
    job.on_progress(session.progress())
    check_no_batches(session.job)
    calls = job.judge.calls_per_image * (2 if job.both else 1)
    ClusterRun(client, session, cap, common_chunk(job, threads), calls, max_in_flight).until_done()


def common_chunk(job: Job, threads: int) -> Chunk:
    """Returns a chunk without rows."""
    return Chunk(
        judge=packed(job.judge),
        models=ModelSpecs.of(job.models[0]),
        inputs=job.inputs.subset([]),
        keys=(),
        max_calls=None,
        num_threads=threads,
        max_outage=job.max_outage,
        orders="both" if job.both else "one",
        prices=job.prices,
    )


def finished(job: Job, session: Session) -> Progress:
    """Writes the table, if it is to be written."""
    progress = session.progress()
    if progress.complete or job.partial:
        session.write(job.output.path)
        job.output.send()
    log_judged(progress, job.output.path)
    return progress
