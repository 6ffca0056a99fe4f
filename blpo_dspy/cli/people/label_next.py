"""`blpo label --next JUDGE`: what teaches a judge most comes next."""

from __future__ import annotations

from pathlib import Path

from blpo_dspy.cli.begin import connect, load_judge, note_offline, note_prices
from blpo_dspy.cli.jobs import LabelJob
from blpo_dspy.cli.judging.escalation import cost_of, note_cost
from blpo_dspy.cli.judging.judge import ShownProgress
from blpo_dspy.cli.screen import Screen, cost_in_words, working
from blpo_dspy.data.tables import TABLE_SUFFIXES
from blpo_dspy.errors import BlpoError, counted
from blpo_dspy.labelling.items import Items, Work
from blpo_dspy.labelling.order.judged import inputs_to_judge, judge_items, session_by_judge
from blpo_dspy.labelling.session import LabelSession
from blpo_dspy.programs.visual_judge import VisualJudge


def session_of_next(job: LabelJob, work: Work, items: Items, screen: Screen) -> LabelSession:
    """Returns the session in which a judge says what comes next; images without a verdict are judged first.

    Raises:
        BlpoError: If `--next` names neither a judge nor verdicts, or they do not fit what is labelled.
        ModelError: If a model cannot be used, or stops answering; what is done stays.
    """
    file: Path | None
    file, judge = Path(job.next), None
    if file.suffix.lower() in TABLE_SUFFIXES:
        screen.note(f"{file} does not say which images its judge was compiled with; their agreement counts too")
    elif file.suffix.lower() == ".json":
        judge = load_judge(file, None)
        if judge.labels != work.labels:
            raise BlpoError(f"{file} labels {judge.labels}, not {work.labels}; state the labels of the judge")
        judge = judge if job.confidence is None else judge.confident(job.confidence)
        file = _judged(judge, work, items, screen, job)
    else:
        raise BlpoError(
            f"--next {job.next!r} is not an order; write --next random, or name a judge.json, or what "
            "`blpo judge --out` wrote"
        )
    session, notes = session_by_judge(work, items, file, judge, seed=job.seed, share=job.random_share)
    for note in notes:
        screen.note(note)
    return session


def _judged(judge: VisualJudge, work: Work, items: Items, screen: Screen, job: LabelJob) -> Path | None:
    """The table with a judge's verdicts on the items without a label; None if all have one."""
    models = connect(job.models)
    note_offline(job.models, screen, "model")
    note_prices(job.shared.prices, job.models, screen)
    inputs = inputs_to_judge(items, judge, models, work.out)
    if left_out := len(items.items) - len(inputs.rows):
        screen.note(f"{left_out:,} of {counted(len(items.items), 'image')} not judged, as people labelled them before")
    if not inputs.rows:
        return None
    note_cost(judge, len(inputs.rows), "both", screen)
    shown = ShownProgress(screen, lambda left: cost_of(judge, [models], inputs, left, "both", job.shared.prices))
    with working(screen) as shown.watch:
        shown.watch.begin("judging", len(inputs.rows))
        out, done = judge_items(
            items,
            judge,
            models,
            work.out,
            max_calls=job.max_calls,
            max_usd=job.max_usd,
            on_progress=shown.update,
        )
    stopped = "" if done.complete else " until a cap was reached (a higher one judges more)"
    faults = f"{done.invalid:,} invalid, {counted(done.errors, 'error')}"
    screen.text(
        f"Judged  {out}: {done.known:,} of {counted(done.total, 'image')}{stopped}, {faults}; "
        f"{counted(done.ledger.total.calls, 'call')}, {done.spent.total.calls:,} in all; {cost_in_words(done.spent)}"
    )
    return out
