"""`blpo judge`: verdicts on images as lines, or on a folder or table as a file."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from blpo_dspy.agreement.intervals import flips_in_words
from blpo_dspy.agreement.verdicts import Verdict
from blpo_dspy.cli.begin import load_judge, note_offline
from blpo_dspy.cli.flags import given_texts, with_flags
from blpo_dspy.cli.groups import Scale
from blpo_dspy.cli.jobs import JudgeJob
from blpo_dspy.cli.judging.batches import BatchScreen, batch_asked
from blpo_dspy.cli.judging.escalation import connected, cost_of, doubting, for_people, names_by_role, note_cost
from blpo_dspy.cli.screen import Screen, cost_in_words, models_line, show_verdict, verdict_record, working
from blpo_dspy.data.inputs import Inputs, check_usable, find_inputs
from blpo_dspy.errors import BlpoError, ModelError, brief, counted
from blpo_dspy.predictions.batches.api import BatchApi
from blpo_dspy.predictions.files import Output
from blpo_dspy.predictions.given import MOST_NOTES, Job, Processes
from blpo_dspy.predictions.labelling import label_each, note_other_models
from blpo_dspy.predictions.outputs import kept_in
from blpo_dspy.predictions.predict import predicted
from blpo_dspy.predictions.progress import Progress
from blpo_dspy.programs.cascade import Cascade
from blpo_dspy.programs.visual_judge import VisualJudge
from blpo_dspy.workspace.meter import Meter
from blpo_dspy.workspace.watch import Watch
from blpo_dspy.workspace.workers import Workers
from blpo_dspy.workspace.workspace import current_workspace

_INTERRUPTED = 130


def judge_images(job: JudgeJob, screen: Screen) -> int:
    """Judges images; returns the exit code: 0 if all of them got a label, 1 if not, 130 after Ctrl-C."""
    judge = doubting(load_judge(job.judge, job.program), job.judge, job.escalation).in_orders(job.orders)
    batches = BatchScreen(screen)
    if isinstance(judge, Cascade):
        judge.check_calibrated()
    batch = batch_asked(job, batches)
    if job.out is not None:
        Output.at(job.out)
    elif given := [name for name, value in _kept_options(job).items() if value is not None]:
        raise BlpoError(f"--{given[0].replace('_', '-')} needs --out, so that what was paid for is kept")
    elif (people := for_people(job.escalation)) is not None:
        raise BlpoError(f"--escalate-to {people} needs --out, where all verdicts go")
    inputs = find_inputs(
        job.images,
        fields=judge.fields,
        texts=given_texts(job.context, tuple(pair.partition("=")[0].strip() for pair in job.context)),
        image_column=job.image_column,
        allow_outside=job.allow_outside,
    )
    if job.out is not None:
        check_usable(inputs)
    for note in inputs.notes[:MOST_NOTES]:
        screen.note(note)
    if len(inputs.notes) > MOST_NOTES:
        screen.note(f"… and {len(inputs.notes) - MOST_NOTES} more")
    note_cost(judge, len(inputs.rows), job.orders, screen)
    if job.out is None:
        return 0 if _print_verdicts(judge, inputs, job, screen) else 1
    return _write_predictions(judge, inputs, job, job.out, screen, batches, batch)


def _kept_options(job: JudgeJob) -> dict[str, object]:
    """The options of a command whose answers are kept."""
    return {"max_calls": job.max_calls, **asdict(job.scale)}


def processes_of(scale: Scale) -> Processes | None:
    """Returns the processes that judge, None for this one.

    Raises:
        BlpoError: If both kinds are named.
    """
    if scale.workers is not None and scale.cluster is not None:
        raise BlpoError("--workers starts processes here and --cluster uses those of Dask; give one of them")
    workers = scale.workers or scale.cluster
    if workers is None and scale.max_in_flight is not None:
        raise BlpoError("--max-in-flight bounds the calls of several processes; use --threads for this one")
    return None if workers is None else Processes(workers, scale.max_in_flight)


def _print_verdicts(judge: VisualJudge, inputs: Inputs, job: JudgeJob, screen: Screen) -> bool:
    """Prints a verdict for each image, in order; returns whether all of them got a label."""
    models = connected(judge, job.models, job.escalation)
    note_offline(job.models, screen, "model")
    note_other_models(judge, models)
    waiting: deque[tuple[str, Verdict | None]] = deque()
    labelled: list[bool] = []

    def show(image: str, verdict: Verdict) -> None:
        labelled.append(not verdict.invalid and not verdict.failure)
        if screen.as_json:
            screen.json(verdict_record(image, verdict, described=judge.evidence != "image"), indent=None)
        else:
            show_verdict(screen, image, verdict)

    def show_unusable() -> None:
        while waiting and (verdict := waiting[0][1]) is not None:
            show(waiting.popleft()[0], verdict)

    def calls() -> Iterator[dict[str, Any]]:
        for _, draft in inputs.drafts(range(len(inputs.rows))):
            # Its cell comes first in the line.
            failure = "; ".join(draft.problems).removeprefix(f"{brief(draft.place)}: ")
            waiting.append((draft.place, Verdict(None, failure=failure) if failure else None))
            if not failure:
                yield {**draft.sources, **draft.context}

    # On a terminal that shows the verdicts as they come, a live line would only be in their way.
    with working(screen, live=not screen.out.is_terminal) as watch, Workers(None) as workers:

        def done(verdict: Verdict) -> None:
            show_unusable()
            show(waiting.popleft()[0], verdict)
            watch.advance()

        watch.begin("judging", len(inputs.rows))
        meter = Meter(num_threads=workers.num_threads, job=current_workspace().job("verdicts", {}))
        label_each(judge, models, calls(), workers=workers, meter=meter, done=done, orders=job.orders)
        show_unusable()
    return all(labelled)


def _write_predictions(
    judge: VisualJudge,
    inputs: Inputs,
    job: JudgeJob,
    out: str,
    screen: Screen,
    batches: BatchScreen,
    batch: BatchApi | None,
) -> int:
    """Writes a table with a verdict for each image; returns the exit code."""
    models = connected(judge, job.models, job.escalation)
    note_offline(job.models, screen, "model")
    prices, batching = job.shared.prices, job.batching.batch_api  # batches say themselves what they cost
    shown = ShownProgress(
        screen, lambda left: "" if batching else cost_of(judge, models, inputs, left, job.orders, prices)
    )
    try:
        with working(screen) as shown.watch:
            batches.watch = shown.watch
            shown.watch.begin("reading", len(inputs.rows))
            progress = predicted(
                Job(
                    judge=judge,
                    inputs=inputs,
                    output=Output.at(out),
                    models=models,
                    processes=processes_of(job.scale),
                    batch=batch,
                    escalated=for_people(job.escalation),
                    max_calls=job.max_calls,
                    max_usd=job.scale.max_usd,
                    on_read=shown.watch.advance,
                    on_progress=shown.update,
                )
            )
    except ModelError as error:
        how = f"{_how_to_resume(out, shown.last)}{batches.under_way()}"
        raise ModelError(f"{error}\n{how}", option=error.options) from error
    except KeyboardInterrupt:
        how = f"{_how_to_resume(out, shown.last)}{batches.under_way()}"
        screen.remark(f"Interrupted. {how}")
        return _INTERRUPTED
    names = names_by_role(job.models, job.escalation)
    if screen.as_json:
        screen.json(_record(progress, out, names))
    else:
        _show(screen, progress, out, models_line(names), for_people(job.escalation))
    return 0 if progress.complete and not progress.invalid and not progress.errors else 1


class ShownProgress:
    """The progress of a long run: a live line on a terminal, a line now and then in a log file.

    Args:
        screen: Where it is shown.
        cost: Returns in words what it costs to judge so many images, which is said first.

    Attributes:
        watch: The live line.
        last: Where the run stands, None before it began.
    """

    watch: Watch

    def __init__(self, screen: Screen, cost: Callable[[int], str]) -> None:
        self._screen, self._cost = screen, cost
        self.last: Progress | None = None

    def update(self, progress: Progress) -> None:
        """Shows where the run stands; the first time, what is known and what the rest costs."""
        if self.last is None:
            self._tell_known(progress)
        self.last = progress
        faults = f"{progress.invalid:,} invalid, {counted(progress.errors, 'error')}"
        status = f"{progress.known:,} of {progress.total:,}, {faults}, {progress.ledger.total.calls:,} calls"
        self.watch.show("judging", progress.known, status)
        self._screen.pulse(f"judged {status}")

    def _tell_known(self, progress: Progress) -> None:
        if progress.note:
            self._screen.note(with_flags(progress.note, ["allow_outside"]))
        known = progress.known - progress.errors
        images, left = counted(progress.total, "image"), progress.total - known
        cost = self._cost(left) if left else ""
        if known:
            self._screen.note(f"{images}: {known:,} known from earlier runs, {left:,} to judge{cost and '; '}{cost}")
        elif cost:
            self._screen.note(f"{images}: {cost}")
        if progress.gone:
            verdicts = counted(progress.gone, "verdict")
            self._screen.note(f"{verdicts} of earlier runs left out, as image or context is no longer there")


def _how_to_resume(out: str, progress: Progress | None) -> str:
    if progress is None:
        return f"{out} was not written; repeat the command to resume."
    kept = f"{progress.known:,} of {progress.total:,} rows are kept in {kept_in(out)}"
    return f"{out} was not written; {kept}. Repeat the command to resume from there."


def _record(progress: Progress, out: str, models: dict[str, str]) -> dict[str, Any]:
    return {
        "out": out if progress.complete else None,
        "rows": progress.total,
        "known": progress.known,
        "judged": progress.judged,
        "labels": dict(progress.labels),
        "invalid": progress.invalid,
        "errors": progress.errors,
        **({} if progress.escalated is None else {"escalated": progress.escalated}),
        **({} if progress.flips is None else {"flips": asdict(progress.flips), "flip_rate": progress.flips.rate}),
        "calls": progress.ledger.calls(),
        "spent": {role: usage for role, usage in progress.spent.to_dict().items() if role in models},
        "models": models,
    }


def _show(screen: Screen, progress: Progress, out: str, models: str, people: Path | None) -> None:
    if progress.complete:
        screen.text(f"Wrote   {out} ({counted(progress.total, 'row')})")
    else:
        screen.text(f"Stopped at a cap. {_how_to_resume(out, progress)}")
    screen.text("Labels  " + ", ".join(f"{name}: {count:,}" for name, count in progress.labels.items()))
    more = " (in column error; the same command tries them again)" if progress.errors else ""
    screen.text(f"Invalid {progress.invalid:,}")
    if progress.flips is not None:
        screen.text(f"Orders  {flips_in_words(progress.flips)}")
    screen.text(f"Errors  {progress.errors:,}{more}")
    if progress.escalated is not None:
        to = "" if people is None else f"; they are in {people}"
        screen.text(f"People  {progress.escalated:,} of {counted(progress.total, 'image')} escalated{to}")
    screen.text(f"Models  {models}")
    now, before = progress.ledger, progress.earlier
    by_role = ", ".join(f"{role} {now[role].calls:,}" for role in ("judge", "verbalizer"))
    earlier = f"; {before.total.calls:,} in earlier sessions" if before.total.calls else ""
    screen.text(f"Calls   {now.total.calls:,} ({by_role}){earlier}; {cost_in_words(progress.spent)}")
