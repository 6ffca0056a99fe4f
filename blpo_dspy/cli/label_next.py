"""`blpo label --next JUDGE`: what teaches a judge most comes next."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from blpo_dspy.cli.begin import connect, load_judge, note_offline
from blpo_dspy.cli.screen import Screen, working
from blpo_dspy.data.inputs import TABLE_SUFFIXES
from blpo_dspy.errors import BlpoError
from blpo_dspy.labelling.chosen import ChosenOrder
from blpo_dspy.labelling.items import Items
from blpo_dspy.labelling.judged import judge_items, opinions_in
from blpo_dspy.labelling.looks import looks_of
from blpo_dspy.labelling.opening import Work
from blpo_dspy.labelling.ordering import Ordering
from blpo_dspy.predictions.predict import Progress
from blpo_dspy.runs.jobs import ModelNames


def judged(choice: str, work: Work, items: Items, asked: tuple[ModelNames, int | None], screen: Screen) -> Path:
    """Returns the table with a judge's verdicts on the items; what is missing is judged first.

    Args:
        choice: A judge's file, or such a table.
        work: What is labelled.
        items: Its items.
        asked: The judge's models, and how many LM calls may be under way at once.
        screen: Where it says what it did.

    Raises:
        BlpoError: If it is neither, or the judge doesn't fit.
        ModelError: If a model cannot be used, or stops answering; what is done stays.
    """
    file = Path(choice)
    if file.suffix.lower() in TABLE_SUFFIXES:
        return file
    if file.suffix.lower() != ".json":
        raise BlpoError(
            f"--next {choice!r} is not an order; write --next random, or name a judge.json, or what "
            "`blpo judge --out` wrote"
        )
    judge, (names, threads) = load_judge(file, None), asked
    if judge.labels != work.labels:
        raise BlpoError(f"{file} labels {judge.labels}, not {work.labels}; state the labels of the judge")
    models = connect(names)
    note_offline(names, screen, "model")
    with working(screen) as watch:
        watch.begin("judging", len(items.items))

        def show(progress: Progress) -> None:
            watch.show("judging", progress.known, f"{progress.ledger.total.calls:,} calls")

        out, done = judge_items(items, judge, models, work.out, num_threads=threads, on_progress=show)
    counts = f"{done.total:,} images, {done.invalid:,} invalid, {done.errors:,} errors"
    screen.text(f"Judged  {out}: {counts}; {done.ledger.total.calls:,} calls")
    return out


def chosen_order(
    predictions: Path, work: Work, items: Items, screen: Screen, *, seed: int, share: float
) -> Callable[[list[str]], Ordering]:
    """Returns what makes the order in which some keys come next.

    Raises:
        BlpoError: If the verdicts cannot be used.
    """
    opinions, notes = opinions_in(predictions, items, work.labels)
    for note in notes:
        screen.note(note)
    return lambda keys: ChosenOrder(keys, opinions, looks_of(items), seed=seed, share=share)
