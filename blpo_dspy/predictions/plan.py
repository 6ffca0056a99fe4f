"""A prediction in chunks for an engine of your own, such as Ray."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace

from blpo_dspy.data.images.prepare import ImageSource
from blpo_dspy.data.inputs import Inputs
from blpo_dspy.data.tables import TableSource
from blpo_dspy.errors import check_kind, check_least
from blpo_dspy.predictions.chunk import Chunk, ChunkReport
from blpo_dspy.predictions.files import Output
from blpo_dspy.predictions.given import Job, check_plain, given_models, inputs_of
from blpo_dspy.predictions.predict import common_chunk, finished, session_of
from blpo_dspy.predictions.progress import Progress
from blpo_dspy.predictions.session import Session
from blpo_dspy.programs.visual_judge import VisualJudge


class ChunkPlan:
    """The chunks of an output of which something is missing, and the writing of its table.

    Attributes:
        chunks: What is left to be judged: `judge_chunk` judges one of them, in any process that sees the same files
            under the same paths.
    """

    def __init__(self, job: Job, session: Session, chunks: Sequence[Chunk], opened: ExitStack) -> None:
        self._job, self._session, self._opened = job, session, opened
        self.chunks = tuple(chunks)

    def merge(self, reports: Iterable[ChunkReport]) -> Progress:
        """Writes down what `judge_chunk` returned, each report as it arrives, and then the table if nothing is missing.

        Raises:
            BlpoError: If an error stopped a chunk, once all reports are written down, or the table cannot be written.
        """
        with self._opened:
            errors = []
            for report in reports:
                self._session.job.take(report.answers, report.failures)
                self._session.take(report.rows, report.ledger)
                errors += [] if report.error is None else [report.error]
            if errors:
                raise errors[0]
            return finished(self._job, self._session)


def plan_chunks(
    judge: VisualJudge,
    source: TableSource | Sequence[ImageSource] | Inputs,
    *,
    out: str | os.PathLike[str],
    contents: int = 32,
    num_threads: int = 8,
) -> ChunkPlan:
    """Divides what is missing of a folder, table or list of images into chunks; the same call again gives what is left.

    Args:
        judge: The judge.
        source: As for `predict`.
        out: The table that `ChunkPlan.merge` writes.
        contents: How many different images a chunk gets.
        num_threads: The most LM calls under way at once in each chunk that is being judged.

    Raises:
        BlpoError: As `predict`.
    """
    check_kind("judge", judge, VisualJudge, "judge", "VisualJudge.load('judge.json')")
    check_least("contents", contents, 1)
    check_plain(judge, batch=False, elsewhere=True)
    inputs = source if isinstance(source, Inputs) else inputs_of(judge, source, None, None, False)
    job = Job(judge, inputs, Output.at(out), given_models(judge))
    with ExitStack() as opened:
        session = opened.enter_context(session_of(job))
        left, common = list(session.left().items()), common_chunk(job, num_threads)
        parts = [left[start : start + contents] for start in range(0, len(left), contents)]
        rows = [session.subset(dict(part)) for part in parts]
        chunks = [replace(common, inputs=found, keys=keys) for found, keys in rows]
        return ChunkPlan(job, session, chunks, opened.pop_all())
