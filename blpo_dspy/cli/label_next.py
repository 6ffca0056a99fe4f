"""`blpo label --next JUDGE`: what teaches a judge most comes next."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from blpo_dspy.cli.begin import connect, load_judge, note_offline
from blpo_dspy.cli.jobs import LabelJob
from blpo_dspy.cli.screen import Screen, working
from blpo_dspy.data.inputs import TABLE_SUFFIXES
from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.errors import BlpoError
from blpo_dspy.labelling.chosen import ChosenOrder
from blpo_dspy.labelling.items import Items
from blpo_dspy.labelling.judged import compiled_with, judge_items, label_of, opinions_in
from blpo_dspy.labelling.looks import looks_of
from blpo_dspy.labelling.opening import Work
from blpo_dspy.labelling.ordering import Ordering
from blpo_dspy.predictions.progress import Progress
from blpo_dspy.programs.visual_judge import VisualJudge


def next_by_judge(
    job: LabelJob, work: Work, items: Items, screen: Screen
) -> tuple[Callable[[list[str]], Ordering], Callable[[str], Label | None]]:
    """Returns what makes the order of some keys, and the judge's label of an item by key.

    Images without a verdict are judged first. The label is None where the judge has no say or was compiled with the
    item.

    Raises:
        BlpoError: If `--next` names neither a judge nor verdicts, or they do not fit what is labelled.
        ModelError: If a model cannot be used, or stops answering; what is done stays.
    """
    file = Path(job.next)
    known: Callable[[str], bool] = lambda key: False  # noqa: E731 - what a table knows
    if file.suffix.lower() in TABLE_SUFFIXES:
        screen.note(f"{file} does not say which images its judge was compiled with; their agreement counts too")
    elif file.suffix.lower() == ".json":
        judge = load_judge(file, None)
        if judge.labels != work.labels:
            raise BlpoError(f"{file} labels {judge.labels}, not {work.labels}; state the labels of the judge")
        judge = judge if job.confidence is None else judge.confident(job.confidence)
        file, known = _judged(judge, work, items, screen, job), compiled_with(judge, items)
    else:
        raise BlpoError(
            f"--next {job.next!r} is not an order; write --next random, or name a judge.json, or what "
            "`blpo judge --out` wrote"
        )
    opinions, notes = opinions_in(file, items, work.labels)
    for note in notes:
        screen.note(note)

    def order(keys: list[str]) -> Ordering:
        made = ChosenOrder(keys, opinions, looks_of(items), seed=job.seed, share=job.random_share)
        made.prepare()
        return made

    return order, label_of(opinions, known)


def _judged(judge: VisualJudge, work: Work, items: Items, screen: Screen, job: LabelJob) -> Path:
    """The table with a judge's verdicts on the items."""
    models = connect(job.models)
    note_offline(job.models, screen, "model")
    with working(screen) as watch:
        watch.begin("judging", len(items.items))

        def show(progress: Progress) -> None:
            watch.show("judging", progress.known, f"{progress.ledger.total.calls:,} calls")

        out, done = judge_items(items, judge, models, work.out, num_threads=job.threads, on_progress=show)
    counts = f"{done.total:,} images, {done.invalid:,} invalid, {done.errors:,} errors"
    screen.text(f"Judged  {out}: {counts}; {done.ledger.total.calls:,} calls")
    return out
