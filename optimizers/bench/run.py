"""What one compile works with: the student on the bench, metered LMs, the budget, the job."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dspy

from blpo_dspy.data.splits import check_labels
from blpo_dspy.errors import BlpoError, ModelError
from blpo_dspy.models.prices import check_priced
from blpo_dspy.optimizers.bench.bench import Bench, find_predictors
from blpo_dspy.optimizers.bench.records import Instructions
from blpo_dspy.optimizers.bench.setup import (
    Dataset,
    dataset,
    fingerprint,
    in_balanced_order,
    label_space,
    program_lms,
)
from blpo_dspy.optimizers.options import OptimizerOptions
from blpo_dspy.workspace.allowance import Allowance
from blpo_dspy.workspace.budget import CAPS, Budget
from blpo_dspy.workspace.job import Job
from blpo_dspy.workspace.meter import GRACE, Meter
from blpo_dspy.workspace.workers import Workers
from blpo_dspy.workspace.workspace import current_workspace


class Run:
    """The student, the data and the LMs of one compile, with everything that is spent.

    Attributes:
        budget: The caps, None for none.
        seed: Of every draw.
        label_field: The name of the label in examples.
        data: The examples; training and validation positions.
        labels: The label space.
        workers: The threads of the run.
        allowance: What the budget leaves.
        bench: Judges and describes examples under any instructions.
        optimizer_lm: The metered optimizer LM.
        start: The student's instructions.
        predictors: The names of the student's two predictors.
        lms: For each predictor name its metered LM.
        job: Where answers are kept, and what comes of the run if it keeps that.
        per_example: LM calls that judging an example takes, as far as is known from the program.
        describes: Whether judging an example takes a description of it, as far as is known from the program.
        judging: Those that judging it takes once it is described.
        evidence: What the judge reads (`VisualJudge.evidence`), None where the program doesn't say.
        keeps: Whether what comes of the run is kept in a store.
        ended: Why the algorithm ended before its last round, where it did.
        max_calls: The cap on calls less those that are kept for later, None if there is none.
    """

    def __init__(
        self,
        optimizer: OptimizerOptions,
        student: dspy.Module,
        trainset: Sequence[dspy.Example],
        valset: Sequence[dspy.Example] | None,
        workers: Workers,
    ) -> None:
        self.workers = workers
        self.seed, self.label_field = optimizer.seed, optimizer.label_field
        self.predictors = predictors = find_predictors(student, optimizer.verbalizer, optimizer.judge)
        self.data: Dataset = dataset(student, trainset, valset, optimizer.label_field, reasons=optimizer.reads_reasons)
        self.labels = label_space(optimizer.labels, student, self.data.examples, self.label_field, optimizer.metric)
        self.data = in_balanced_order(self.data, self.labels, self.label_field, self.seed)
        if self.labels is not None:
            check_labels([self.data.examples[i][self.label_field] for i in self.data.train], self.labels)
        lms = program_lms(student, predictors, optimizer.task_model, optimizer.verbalizer_model)
        workspace, budget = current_workspace(), optimizer.budget
        check_priced(
            workspace.left.get("max_usd") if budget is None or budget.max_usd is None else budget.max_usd,
            [optimizer.prompt_model, *(lm for lm, _ in lms.values())],
            workspace.prices,
        )
        named = dict(student.named_predictors())
        self.start = Instructions(
            named[predictors.judge].signature.instructions, named[predictors.verbalizer].signature.instructions
        )
        self.per_example: int = getattr(student, "calls_per_image", len(named))
        self.describes = self.per_example > 1
        self.judging = self.per_example - self.describes
        self.evidence: str | None = getattr(student, "evidence", None)
        self.ended = ""
        self.job = optimizer.answers or self._opened(optimizer, student, {name: lm for name, (lm, _) in lms.items()})
        self.keeps = optimizer.answers is None and self.job.path is not None
        room = self.job.room()
        self.budget = (budget or Budget()).within(room) if room else budget
        self.max_calls = None if self.budget is None else self.budget.calls
        self.allowance = Allowance(self.budget, lambda: self.meter.ledger, optimizer.refusal)
        self.meter = Meter(
            num_threads=workers.num_threads,
            job=self.job,
            admit=self.allowance.admit,
            deadline=self.allowance.deadline,
        )
        self.lms = {name: self.meter.wrap(lm, role) for name, (lm, role) in lms.items()}
        self.bench = Bench(
            student,
            predictors,
            self.lms,
            self.data.examples,
            metric=optimizer.metric,
            labels=self.labels,
            label_field=optimizer.label_field,
            workers=workers,
            max_failed_share=optimizer.max_failed_share,
            afford=self.allowance.afford,
            per_example=self.per_example,
        )
        self.optimizer_lm = self.meter.wrap(optimizer.prompt_model, "optimizer")

    def _opened(self, optimizer: OptimizerOptions, student: dspy.Module, lms: dict[str, dspy.BaseLM]) -> Job:
        models = {"optimizer": optimizer.prompt_model, **lms}
        about = fingerprint(student, self.data, optimizer.label_field, models, optimizer.metric, self.labels)
        folder = None if optimizer.log_dir is None else Path(optimizer.log_dir)
        job: Job = current_workspace().job("search", {"options": optimizer.options, **about}, folder)
        return job

    def write(self, kind: str, number: int, data: Any) -> None:
        """Writes down what came of the run, if that is kept."""
        if self.keeps:
            self.job.record(kind, number, data)

    def check_answered(self, stop_reason: str) -> None:
        """Refuses to return a program of a search in which every LM call failed.

        Raises:
            ModelError: If none was answered.
        """
        ledger = self.meter.ledger
        if ledger.total.failed and not any(ledger.answered.values()):
            raise unmeasured(self.meter, "no LM call was answered", stop_reason)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is not None:
                self.meter.stop()
                if self.keeps:
                    # What is under way is paid for: wait a little for the answers, which are kept.
                    self.workers.drain(GRACE)
        finally:
            if self.keeps:
                self.job.end("done" if kind is None else kind.__name__)
                self.job.close()


def unmeasured(meter: Meter, what: str, stop_reason: str) -> BlpoError:
    """Returns the error for a run that a cap ended before anything was measured."""
    total, failure = meter.ledger.total, meter.failure
    if failure is None:
        return BlpoError(f"{what}, so there is nothing to return: {stop_reason}", option=CAPS)
    first_line = str(failure).partition("\n")[0]
    failed = f"{total.failed} of {total.calls} LM calls failed, the last one with: {first_line}"
    return ModelError(f"{what}, so there is nothing to return: {stop_reason}; {failed}", option=CAPS)
