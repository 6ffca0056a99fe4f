"""A judge compiled, and then measured once on the sealed test split."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import dspy

from blpo_dspy.agreement.measure import Agreement
from blpo_dspy.agreement.verdicts import Verdict, agreement_of
from blpo_dspy.data.examples import dataset_fingerprint
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import ModelError, notice
from blpo_dspy.models.lm import Models
from blpo_dspy.optimizers.bench.records import BLPOResult
from blpo_dspy.optimizers.bench.run import unmeasured
from blpo_dspy.optimizers.blpo.algorithm import BLPO
from blpo_dspy.predictions.batches.submission import check_no_batches
from blpo_dspy.predictions.labelling import inputs_of, label_images
from blpo_dspy.programs.visual_judge import VisualJudge
from blpo_dspy.runs.checks.after import (
    Ask,
    Checks,
    fidelity_sample,
    find_label_errors,
    late_verdicts,
    stated_in,
    text_fidelity,
    validated_verdicts,
)
from blpo_dspy.runs.checks.batched import BatchedAnswers, check_search
from blpo_dspy.runs.checks.costs import costs_after, optimizer_of
from blpo_dspy.runs.data.sets import Sets
from blpo_dspy.runs.jobs import Search
from blpo_dspy.runs.progress import CompileWatch
from blpo_dspy.runs.record import Aligned, SplitAgreement, card
from blpo_dspy.workspace.allowance import Allowance
from blpo_dspy.workspace.failures import RunStoppedError
from blpo_dspy.workspace.job import Job
from blpo_dspy.workspace.ledger import Ledger
from blpo_dspy.workspace.meter import GRACE, Meter
from blpo_dspy.workspace.outages import Outages
from blpo_dspy.workspace.watch import Watch
from blpo_dspy.workspace.workers import Workers
from blpo_dspy.workspace.workspace import current_workspace


def compile_and_measure(
    start: VisualJudge,
    sets: Sets,
    models: Models,
    search: Search,
    watch: Watch,
    ceiling: VisualJudge | None = None,
    log_dir: Path | None = None,
) -> Aligned:
    """Returns the judge compiled from a start, its card filled in, with its agreement before and after.

    With a log folder the same call continues a run that was cut short. A ceiling is a judge whose instruction states
    the truth, which is measured on the test split.

    Raises:
        BlpoError: As `BLPO.compile`, or if a cap was reached, or a model failed, before anything was measured. A model
            that fails after the search ends what is measured: a warning says what is missing.
    """
    began = time.monotonic()
    costs = costs_after(start, sets, search)
    optimizer = make_optimizer(models, search, costs.reserved, log_dir)
    if aside := _measured_under_another_budget(optimizer, sets, search):
        optimizer.budget = search.budget(costs.reserved + aside)
    compiled = _compile(optimizer, start, sets, watch)
    aligned = _measured(optimizer, _Judges(start, compiled, sets, search, ceiling, began), models, watch)
    compiled.card = card(aligned, sets)
    return aligned


def measure_compiled(
    start: VisualJudge, compiled: VisualJudge, sets: Sets, models: Models, search: Search, watch: Watch
) -> Aligned:
    """Returns what `compile_and_measure` measures of a judge that is compiled already; the judge is left as it is.

    Raises:
        BlpoError: If nothing could be measured.
    """
    return _measured(make_optimizer(models, search, 0), _Judges(start, compiled, sets, search), models, watch)


@dataclass(frozen=True)
class _Judges:
    """The judges of a run, with what they are measured on."""

    start: VisualJudge
    compiled: VisualJudge
    sets: Sets
    search: Search
    ceiling: VisualJudge | None = None
    began: float = field(default_factory=time.monotonic)

    @property
    def record(self) -> BLPOResult:
        """What the search recorded."""
        record: BLPOResult = self.compiled.detailed_results
        return record


def _measured(optimizer: BLPO, judges: _Judges, models: Models, watch: Watch) -> Aligned:
    """Measures with what the search left of the budget; its answers are known."""
    search, record = judges.search, judges.record
    allowance = Allowance(search.budget(), lambda: record.ledger + meter.ledger, RunStoppedError, judges.began)
    grace = 0.0 if optimizer.log_dir is None else GRACE
    with _final_answers(optimizer, judges.sets) as job, Workers(None, grace=grace) as workers:
        if optimizer.log_dir is not None:
            job.spend_under(search.budget())
        batched = BatchedAnswers(job, search, watch) if search.batch_api and optimizer.log_dir is not None else None
        meter = (
            batched.meter
            if batched is not None
            else Meter(
                num_threads=workers.num_threads,
                job=job,
                admit=lambda ledger: allowance.admit(record.ledger + record.unused + ledger),
                deadline=allowance.deadline,
                outages=Outages(current_workspace().max_outage, known=any(record.ledger.answered.values())),
            )
        )

        def ask(what: str, judge: VisualJudge, examples: Sequence[dspy.Example]) -> list[Verdict]:
            watch.begin(f"judging {what}", len(examples))
            inputs = inputs_of(examples)
            try:
                if batched is not None:
                    spent = record.ledger + record.unused + meter.ledger
                    batched.buy(judge, models, workers, inputs, spent, allowance.kept)
                return label_images(judge, models, inputs, workers=workers, meter=meter, done=watch.advance)
            except ModelError as error:  # the judge that the search found was paid for, and needs no more calls
                notice(
                    f"judging {what} failed, so this and what comes after it is missing; the judge is returned without "
                    f"it, and `blpo evaluate` can measure it later ({error})"
                )
                return [Verdict(None, failure=str(error), stopped=True)] * len(inputs)

        found = _looked_into(judges, ask, allowance)
        if not (record.rounds or found.before.val or found.before.test):
            raise unmeasured(meter, "no round was completed, and the start was not measured", record.stop_reason)
    seconds = time.monotonic() - judges.began
    return replace(found, final=meter.ledger, unused=record.unused + meter.unused, seconds=seconds)


def _measured_under_another_budget(optimizer: BLPO, sets: Sets, search: Search) -> int:
    """How many calls an earlier session measured with, which this search may not need."""
    if optimizer.log_dir is None:
        return 0
    with _final_answers(optimizer, sets) as job:
        job.spend_under(search.budget())
        return job.unused().total.calls


def _looked_into(judges: _Judges, ask: Ask, allowance: Allowance) -> Aligned:
    """The compiled judge with everything that is measured about it; cost and wall time aren't known yet."""
    start, compiled, sets, search = judges.start, judges.compiled, judges.sets, judges.search
    costs = costs_after(start, sets, search)
    known = late_verdicts(judges.record, sets.train, start.labels)
    with allowance.keeping(costs.reserved):
        errors, looked_at = find_label_errors(
            compiled, sets.train, known, ask, most=search.label_errors, seed=search.seed
        )
    measured, verdicts, on_val = _agreements(judges, ask, val=costs.val > 0, test=costs.test is not None)
    top = None
    if judges.ceiling is not None:
        top = _agreement(start.labels, sets.test, ask("the ceiling", judges.ceiling, sets.test))
    checks = _checked(judges, verdicts, ask, faithful=costs.fidelity > 0 and bool(verdicts["after"]))
    return Aligned(
        start=start,
        judge=compiled,
        record=judges.record,
        before=measured["before"],
        after=measured["after"],
        verdicts=(verdicts["before"], verdicts["after"]),
        ceiling=top,
        final=Ledger({}),
        seconds=0.0,
        checks=replace(checks, label_errors=tuple(errors), looked_at=looked_at),
        validated=on_val or validated_verdicts(judges.record, judges.sets.train, judges.sets.val, start.labels),
    )


def claim(start: VisualJudge, sets: Sets, models: Models, search: Search, log_dir: Path | None) -> None:
    """Takes a log folder for `compile_and_measure`, so that one of another run is refused before any call.

    Raises:
        StoreError: If it holds another run.
        BlpoError: If a batch endpoint is to be used and can't be, or is not to be and batches are under way.
    """
    check_search(search, start, models, log_dir)
    if log_dir is None:
        return
    optimizer = make_optimizer(models, search, 0, log_dir)
    optimizer.claim_folder(start, trainset=sets.train, valset=sets.val or None)
    with _final_answers(optimizer, sets) as job:
        if not search.batch_api:
            check_no_batches(job)


def _agreements(
    judges: _Judges, ask: Ask, *, val: bool, test: bool
) -> tuple[dict[str, SplitAgreement], dict[str, list[Verdict]], list[tuple[dspy.Example, Verdict]]]:
    """The agreement before and after, the test verdicts, and the result's on validation examples judged for this.

    What the search validated is not judged again.

    Test verdicts are missing where the budget paid for none before or after.
    """
    start, compiled, sets, record = judges.start, judges.compiled, judges.sets, judges.record
    validated: dict[str, Agreement | None] = {}
    on_val: list[tuple[dspy.Example, Verdict]] = []
    verdicts: dict[str, list[Verdict]] = {}
    for when, judge, known in (("before", start, record.before), ("after", compiled, record.after)):
        validated[when] = None if known is None else known.agreement
        if val:
            on_val = list(zip(sets.val, ask(f"val {when}", judge, sets.val), strict=True))
            validated[when] = _agreement(start.labels, sets.val, [verdict for _, verdict in on_val])
        verdicts[when] = ask(f"test {when}", judge, sets.test) if test else []
    missing = sum(verdict.stopped for said in verdicts.values() for verdict in said)
    if missing:
        why = next(verdict.failure for said in verdicts.values() for verdict in said if verdict.stopped)
        notice(f"the test split was not judged in full: {missing} of {2 * len(sets.test)} are missing ({why})")
    if any(all(verdict.stopped for verdict in said) for said in verdicts.values()):
        verdicts = {when: [] for when in verdicts}
    measured = {
        when: SplitAgreement(validated[when], _agreement(start.labels, sets.test, said))
        for when, said in verdicts.items()
    }
    return measured, verdicts, on_val


def _agreement(labels: LabelSpace, examples: Sequence[dspy.Example], verdicts: list[Verdict]) -> Agreement | None:
    """The agreement of verdicts with people, None where the budget paid for none of them."""
    return None if all(verdict.stopped for verdict in verdicts) else agreement_of(labels, examples, verdicts)


def _checked(judges: _Judges, verdicts: Mapping[str, list[Verdict]], ask: Ask, *, faithful: bool) -> Checks:
    """What is checked on the test split once it is judged; the fidelity only if it is asked for."""
    start, sets, search = judges.start, judges.sets, judges.search
    both = (("before", start), ("after", judges.compiled))
    if not faithful:
        judged = [(sets.test if verdicts[when] else [], verdicts[when]) for when, _ in both]
        pair = None
    else:
        sample = fidelity_sample(sets.test, search.fidelity, search.seed)
        found = [text_fidelity(judge, sample, ask, when) for when, judge in both]
        pair = (found[0][0], found[1][0])
        judged = [
            (sets.test, verdicts[when]) if judge.evidence != "image" else (sample, texts)
            for (when, judge), (_, texts) in zip(both, found, strict=True)
        ]
    stated = [stated_in(start.labels, examples, said) for examples, said in judged]
    return Checks(pair, (stated[0], stated[1]))


@contextlib.contextmanager
def _final_answers(optimizer: BLPO, sets: Sets) -> Iterator[Job]:
    """The job of the measurements after the search, whose answers are known."""
    if optimizer.log_dir is None:
        assert optimizer.answers is not None
        yield optimizer.answers
        return
    fingerprint = {"test": dataset_fingerprint(sets.test), "val": dataset_fingerprint(sets.val)}
    with contextlib.closing(current_workspace().job("measurement", fingerprint, Path(optimizer.log_dir))) as job:
        yield job
        job.end("done")


def make_optimizer(models: Models, search: Search, reserved: int, log_dir: Path | None = None) -> BLPO:
    """Returns the optimizer that a search is made with; `reserved` calls of its cap are kept for the test split."""
    make: Callable[..., BLPO] = optimizer_of(search)
    guards = make(prompt_model=models.optimizer).guards
    return make(
        prompt_model=models.optimizer,
        task_model=models.judge,
        verbalizer_model=models.verbalizer,
        seed=search.seed,
        budget=search.budget(reserved),
        guards=replace(guards, **search.guards()),
        log_dir=log_dir,
        answers=Job.in_memory() if log_dir is None else None,
        **search.given(),
    )


def _compile(optimizer: BLPO, start: VisualJudge, sets: Sets, watch: Watch) -> VisualJudge:
    follow = CompileWatch(watch, optimizer)
    optimizer.on_round, optimizer.on_validation = follow.round, follow.validation
    watch.begin("compiling", follow.rounds)
    with dspy.context(callbacks=[*dspy.settings.callbacks, follow]):
        return optimizer.compile(start, trainset=sets.train, valset=sets.val or None)
