"""A few rows of a prediction, as a process that judges them is given them, and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import cloudpickle
import dspy

from blpo_dspy.data.inputs import Inputs
from blpo_dspy.data.labels.space import Orders
from blpo_dspy.errors import BlpoError
from blpo_dspy.models.prices import Prices
from blpo_dspy.models.specs import ModelSpecs
from blpo_dspy.predictions.job import PredictionJob
from blpo_dspy.predictions.session import Contents, Session
from blpo_dspy.programs.pairs import asked_in
from blpo_dspy.programs.visual_judge import VisualJudge
from blpo_dspy.workspace.cap import Cap
from blpo_dspy.workspace.ledger import Ledger
from blpo_dspy.workspace.outages import Outages
from blpo_dspy.workspace.store import Store
from blpo_dspy.workspace.workers import Workers

Kept: TypeAlias = tuple[str, str, str, str, str]
"""Of an answer its request, role, model, usage and text; of a failure the text is missing."""


@dataclass(frozen=True)
class Chunk:
    """What a process needs to judge a few contents; it can be pickled, and holds no key.

    Attributes:
        judge: The judge, and DSPy's adapter if one was set, pickled.
        models: Its models.
        inputs: The rows.
        keys: The content of each row.
        max_calls: The most LM calls.
        num_threads: The most LM calls under way at once.
        max_outage: Seconds to wait for a server that has stopped answering.
        orders: In how many orders a judge of pairs is asked.
        answered: Whether the models have answered before, so that a failure is an outage and no wrong address.
        prices: What tokens cost where DSPy's tables lack it.
        known: Answers that were paid for in an attempt that was cut short.
    """

    judge: bytes
    models: ModelSpecs
    inputs: Inputs
    keys: tuple[str, ...]
    max_calls: int | None
    num_threads: int | None
    max_outage: float
    orders: Orders
    answered: bool = False
    prices: Prices | None = None
    known: tuple[Kept, ...] = ()


@dataclass(frozen=True)
class ChunkReport:
    """What was found in a chunk.

    Attributes:
        rows: By content what a table of verdicts has in its row; contents without a verdict are missing.
        answers: What was answered.
        failures: What failed.
        ledger: The LM calls by role.
        error: What stopped it, None if nothing did.
        begun: Whether an earlier attempt, whose process has died, had begun, so that this one made no call.
    """

    rows: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    answers: tuple[Kept, ...] = ()
    failures: tuple[Kept, ...] = ()
    ledger: Ledger = field(default_factory=lambda: Ledger({}))
    error: BlpoError | None = None
    begun: bool = False


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


def judge_chunk(
    chunk: Chunk, *, outages: Outages | None = None, stopped: Callable[[], str] = lambda: ""
) -> ChunkReport:
    """Judges a chunk, in any process that sees the same files under the same paths; nothing is written.

    Args:
        chunk: The rows.
        outages: How outages and rate limits are handled, where other processes are to hear of them.
        stopped: Returns why no call may be made any more, "" if they may.

    Returns:
        What was found, also where an error stopped it.
    """
    judge, adapter = unpacked(chunk.judge)
    outages = outages or Outages(chunk.max_outage, known=chunk.answered, paces=True)
    job = PredictionJob(Store(None), "prediction", {})
    PredictionJob(job.store, "known", {}).take(chunk.known, ())
    both, error = asked_in(judge.labels, chunk.orders) > 1, None
    session = Session(judge, chunk.inputs, job, Contents(list(chunk.keys), [""] * len(chunk.keys)), both=both)
    try:
        models = [chunk.models.build()]
        with dspy.context(adapter=adapter), Workers(chunk.num_threads) as workers:
            cap = Cap(chunk.max_calls, stopped=stopped)
            session.run(models, workers, cap, outages, answered=chunk.answered, prices=chunk.prices)
    except BlpoError as stopping:
        error = stopping
    rows = {key: row for key in dict.fromkeys(chunk.keys) if (row := job.row(key)) is not None}
    report = ChunkReport(rows, *job.paid(), session.progress().ledger, error)
    job.close()
    return report
