"""`blpo label --next JUDGE`: what teaches a judge most comes next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from blpo_dspy.cli.begin import connect, load_judge, note_offline
from blpo_dspy.cli.screen import Screen, working
from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import Method
from blpo_dspy.data.tables import TABLE_SUFFIXES
from blpo_dspy.errors import BlpoError
from blpo_dspy.labelling.chosen import ChosenOrder
from blpo_dspy.labelling.items import Items
from blpo_dspy.labelling.judged import compiled_with, judge_items, label_of, opinions_in
from blpo_dspy.labelling.looks import looks_of
from blpo_dspy.labelling.opening import Work
from blpo_dspy.labelling.ordering import Ordering
from blpo_dspy.predictions.progress import Progress
from blpo_dspy.programs.visual_judge import VisualJudge
from blpo_dspy.runs.jobs import ModelNames


@dataclass(frozen=True)
class Next:
    """What says what comes next, and how far the judge agrees.

    Attributes:
        order: Makes the order in which some keys come next.
        verdict: The judge's label of an item by key, None where it has no say or was compiled with the item.
    """

    order: Callable[[list[str]], Ordering]
    verdict: Callable[[str], Label | None]


def next_by_judge(
    choice: str,
    work: Work,
    items: Items,
    screen: Screen,
    *,
    names: ModelNames,
    threads: int | None,
    confidence: Method | None,
    seed: int,
    share: float,
) -> Next:
    """Returns what a judge says of what comes next; images without a verdict are judged first.

    Args:
        choice: A judge's file, or the table with its verdicts.
        work: What is labelled.
        items: Its items.
        screen: Where it says what it did.
        names: The judge's models.
        threads: How many LM calls may be under way at once.
        confidence: How the judge's confidence is found; as its file has it if None.
        seed: Of the order.
        share: The share of random draws.

    Raises:
        BlpoError: If it is neither, or does not fit what is labelled.
        ModelError: If a model cannot be used, or stops answering; what is done stays.
    """
    file = Path(choice)
    known: Callable[[str], bool] = lambda key: False  # noqa: E731 - what a table knows
    if file.suffix.lower() in TABLE_SUFFIXES:
        screen.note(f"{file} does not say which images its judge was compiled with; their agreement counts too")
    elif file.suffix.lower() == ".json":
        judge = load_judge(file, None)
        if judge.labels != work.labels:
            raise BlpoError(f"{file} labels {judge.labels}, not {work.labels}; state the labels of the judge")
        judge = judge if confidence is None else judge.confident(confidence)
        file, known = _judged(judge, work, items, screen, names, threads), compiled_with(judge, items)
    else:
        raise BlpoError(
            f"--next {choice!r} is not an order; write --next random, or name a judge.json, or what "
            "`blpo judge --out` wrote"
        )
    opinions, notes = opinions_in(file, items, work.labels)
    for note in notes:
        screen.note(note)

    def order(keys: list[str]) -> Ordering:
        made = ChosenOrder(keys, opinions, looks_of(items), seed=seed, share=share)
        made.prepare()
        return made

    return Next(order, label_of(opinions, known))


def _judged(
    judge: VisualJudge, work: Work, items: Items, screen: Screen, names: ModelNames, threads: int | None
) -> Path:
    """The table with a judge's verdicts on the items."""
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
