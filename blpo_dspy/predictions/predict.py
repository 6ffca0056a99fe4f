"""A judge's verdicts on a folder or table of images, written to a table; an interrupted call resumes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from blpo_dspy.data.images.prepare import ImageSource
from blpo_dspy.data.inputs import Inputs
from blpo_dspy.data.tables import TableSource
from blpo_dspy.errors import check_kind
from blpo_dspy.models.specs import ModelSpecs
from blpo_dspy.predictions.batches.api import BatchApi, batch_api_of
from blpo_dspy.predictions.batches.submission import Batches, check_no_batches
from blpo_dspy.predictions.chunk import Chunk, packed
from blpo_dspy.predictions.cluster import ClusterRun, connected
from blpo_dspy.predictions.files import Output
from blpo_dspy.predictions.given import Job, Processes, given_models, inputs_of
from blpo_dspy.predictions.job import opened_job
from blpo_dspy.predictions.outputs import check_output, fingerprint_of, kept_in
from blpo_dspy.predictions.progress import Progress, log_judged
from blpo_dspy.predictions.seen import SeenFiles
from blpo_dspy.predictions.session import Session, read_contents
from blpo_dspy.programs.visual_judge import VisualJudge
from blpo_dspy.workspace.cap import Cap
from blpo_dspy.workspace.outages import Outages
from blpo_dspy.workspace.watch import Watch, watching
from blpo_dspy.workspace.workers import Workers, thread_count
from blpo_dspy.workspace.workspace import current_workspace


def predict(
    judge: VisualJudge,
    source: TableSource | Sequence[ImageSource] | Inputs,
    *,
    out: str | os.PathLike[str],
    image_column: str | None = None,
    texts: Mapping[str, str] | None = None,
    allow_outside: bool = False,
    workers: Any = None,
    batch_api: bool | BatchApi = False,
    escalated: str | os.PathLike[str] | None = None,
    max_calls: int | None = None,
) -> Progress:
    """Judges every image of a folder, a table or a list, and writes a table with a row for each, in order.

    The table has the columns of the source (one that is named like a column below becomes `given_…`), then `label`,
    `description` and `reasoning` as far as the judge gives them, `answer` where it states no label, `invalid`, and
    `error` where there is no answer; for pairs in both orders also `inconsistent`; of a judge with a confidence
    `confidence`, and of a calibrated judge `escalate`; and `served_by` where a server reports another version of a
    model than the name that was asked for. A Parquet file says in its metadata how the confidence was found
    (`blpo_confidence`). Images are loaded lazily: a few for each thread are in memory.

    `workspace.sqlite` in its folder, or in that of the `Workspace`, keeps what was paid for, so that the same call
    resumes after a crash, and later judges what is missing only: new rows, replaced images, rows with an error. A
    verdict belongs to the bytes of an image (or to its URL) and its context, not to its name; so all images are read
    before the first call, and equal rows are judged once. An image that changes after that has an error. Rows that are
    gone are left out. A file with a verdict is not read by a later call as long as its path, size, times and inode are
    as they were, unless it was modified within 2 s of being read.

    With `workers` other processes judge, a few rows at a time, and this one writes. The models are built
    there from their names and options, with keys from the environment of those processes. A process that dies is
    replaced, at the price of the rows that it had; of these the calls count as made. All of them keep to the caps
    together, and wait where one is asked to wait by a rate limit. A script needs the usual
    `if __name__ == "__main__":` then.

    Args:
        judge: The judge; its models are the workspace's, or its own, or those of DSPy's settings.
        source: A folder, in which images may lie anywhere; a .csv, .tsv, .jsonl or .parquet file; a table in memory
            (`pandas.DataFrame`, list of dictionaries, `datasets.Dataset`); or images as a judge takes them. A folder or
            file may be an address that fsspec reads, such as s3://bucket/photos.
        out: The table, a .parquet, .csv or .jsonl file; its folder is made if need be. A table with an address that
            fsspec writes to (s3://…) is made in the current folder, and then copied.
        image_column: The column of a table with the only image, where it has another name than the judge's input: a
            path from the table's folder, a URL or the image itself.
        texts: Context texts that are the same for all images; others come from the columns of their names.
        allow_outside: Whether images may lie outside the folder, or that of the table.
        workers: How many processes judge, or a Dask cluster, or `Processes`; this one if None. It needs the extra
            `dask`.
        batch_api: Whether requests go through the provider's batch endpoint, which answers within a day at a lower
            price. The call waits for it; a call cut short takes up the batches under way. Evidence with a description
            takes two batches, one after the other. `max_calls` is then the most requests that are submitted.
        escalated: A table for people, a .parquet, .csv or .jsonl file: the rows that a calibrated judge escalates, with
            its label as `judge_label` and an empty `label`.
        max_calls: The most LM calls of this session, over all processes; the same call again continues.

    Returns:
        Where the run stands. The workspace's `progress` is called with such a record as rows are done.

    Raises:
        DataError: If the source cannot be read, or none of its rows can be used.
        ModelError: If a model cannot be used at all, or stops answering; what is done stays.
        BlpoError: If `out` cannot be written or is there but not known, or it is that of another judge,
            other models or other images altogether, or batches are under way and `batch_api` is not set; if
            `escalated` cannot be written, or the judge escalates nothing; if the workspace has a cap in dollars and a
            model has no known price.
    """
    check_kind("judge", judge, VisualJudge, "judge", "VisualJudge.load('judge.json')")
    output = Output.at(out)
    processes = workers if workers is None or isinstance(workers, Processes) else Processes(workers)
    with watching(resumes=kept_in(output.path)) as watch:
        job = Job(
            judge=judge,
            inputs=source
            if isinstance(source, Inputs)
            else inputs_of(judge, source, image_column, texts, allow_outside),
            output=output,
            models=given_models(judge),
            processes=processes,
            batch=batch_api_of(batch_api, current_workspace().prices),
            escalated=None if escalated is None else Path(escalated),
            max_calls=max_calls,
            on_read=partial(_show_read, watch),
            on_progress=partial(_show_progress, watch),
        )
        return predicted(job)


def _show_read(watch: Watch, done: int) -> None:
    watch.show("reading", done, "")


def _show_progress(watch: Watch, progress: Progress) -> None:
    if not progress.judged:
        watch.begin("judging", progress.total)
    watch.show("judging", progress.known, f"{progress.ledger.total.calls:,} calls")
    watch.found(progress)


def predicted(job: Job) -> Progress:
    """Judges what is missing of a job, and writes its table."""
    threads, processes, cap = thread_count(None), job.processes, Cap(job.max_calls, job.max_usd)
    if processes is not None:
        threads = min(threads, processes.max_in_flight or threads)
        count = processes.workers if isinstance(processes.workers, int) else None
        given = None if isinstance(processes.workers, int) else processes.workers
        with connected(count, given) as client, session_of(job) as session:
            _judge_elsewhere(job, session, client, cap, threads, processes.max_in_flight)
            return finished(job, session)
    with session_of(job) as session, Workers(threads) as pool:
        batches, patience = None, current_workspace().max_outage
        if job.batch is None:
            check_no_batches(session.job)
        else:
            caps: dict[str, Any] = {"max_outage": patience, "max_calls": job.max_calls, "max_usd": job.max_usd}
            batches = Batches(job.batch, session.job, earlier=session.job.earlier, **caps)
        session.run(job.models, pool, cap, Outages(patience, paces=True), batches=batches)
        return finished(job, session)


@contextlib.contextmanager
def session_of(job: Job) -> Iterator[Session]:
    """Yields what is to be judged, once all images were read."""
    target = job.output.path
    check_output(target, job.inputs)
    with contextlib.closing(opened_job(target, fingerprint_of(job.judge, job.models, both=job.both))) as kept:
        contents = read_contents(job.judge, job.inputs, job.on_read, SeenFiles(kept.store), kept.done)
        session = Session(job.judge, job.inputs, kept, contents, lambda s: job.on_progress(s.progress()), both=job.both)
        session.for_people = job.escalated
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
        max_outage=current_workspace().max_outage,
        orders="both" if job.both else "one",
        prices=current_workspace().prices,
    )


def finished(job: Job, session: Session) -> Progress:
    """Writes the table, if it is to be written."""
    progress = session.progress()
    if progress.complete or job.partial:
        session.write(job.output.path)
        job.output.send()
    log_judged(progress, job.output.path)
    return progress
