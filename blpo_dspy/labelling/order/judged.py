"""What a judge says of the items to label: read from its table of verdicts, which is made first if need be."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import dspy

from blpo_dspy.data.examples import item_prints
from blpo_dspy.data.inputs import Inputs
from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.rows import RowReader, TableColumns
from blpo_dspy.data.tables import TableRow
from blpo_dspy.errors import BlpoError, DataError
from blpo_dspy.labelling.items import Item, Items, Work
from blpo_dspy.labelling.order.chosen import ChosenOrder, Opinion
from blpo_dspy.labelling.order.looks import looks_of
from blpo_dspy.labelling.session import LabelSession, open_session
from blpo_dspy.models.lm import Models, identity
from blpo_dspy.optimizers.bench.cards import known_prints
from blpo_dspy.predictions.predict import predict
from blpo_dspy.predictions.progress import Progress
from blpo_dspy.predictions.reading import key_of, text_in, verdicts_in, whole_table
from blpo_dspy.programs.visual_judge import VisualJudge

_SCORES_IN_BIN = 20


def judge_items(
    items: Items,
    judge: VisualJudge,
    models: Models,
    out: Path,
    *,
    num_threads: int | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> tuple[Path, Progress]:
    """Judges the items; in the table with the verdicts images are named as in the table of labels.

    It lies next to that table, one for each judge and its models. The same call judges what is missing only.

    Returns:
        That table, and how it went.

    Raises:
        BlpoError: If the judge takes other images, or context that the items lack, or as `predict`.
        ModelError: If a model cannot be used, or stops answering; what is done stays.
    """
    check_fits(items, judge)
    used = {"judge": judge.identity(), "models": [identity(models.judge), identity(models.verbalizer)]}
    print_ = hashlib.sha256(json.dumps(used, sort_keys=True).encode()).hexdigest()[:8]
    file = out.with_name(f"{out.stem}.judged-{print_}.csv")
    columns = TableColumns(items.reader.columns.images, None, judge.context, None, None)
    names = (*columns.images, *columns.context)
    rows = [TableRow(item.row.where, {name: item.cells[name] for name in names}) for item in items.items]
    # Paths start from the folder of the labels; that they may be used was checked as the items were found.
    inputs = Inputs(str(out), names, rows, RowReader(columns, None, out.parent, allow_outside=True))
    progress = predict(judge, inputs, out=file, models=models, num_threads=num_threads, on_progress=on_progress)
    return file, progress


def check_fits(items: Items, judge: VisualJudge) -> None:
    """Refuses a judge of other inputs.

    Raises:
        BlpoError: If it takes other images, or context that the items lack.
    """
    shown, taken = (", ".join(map(str, fields.images)) for fields in (items.fields, judge.fields))
    if shown != taken:
        raise BlpoError(f"the judge takes {taken}, but {shown} is to be labelled; give --images as it was compiled")
    missing = [name for name in judge.context if name not in items.columns]
    if missing:
        raise BlpoError(f"the judge takes the text {', '.join(missing)}, of which there is no column")


def opinions_in(predictions: Path, items: Items, labels: LabelSpace) -> tuple[dict[str, Opinion], list[str]]:
    """Returns by key what a judge said of the items, and notes on the rest.

    An answer without a label counts as one in doubt. A call that failed says nothing.

    Raises:
        DataError: If the table cannot be read, holds other labels, or none of the items.
    """
    table = whole_table(predictions)
    names = [name for name in (*items.reader.columns.images, *items.fields.context) if name in table.columns]
    if not names:
        raise DataError(f"{predictions}: has none of the columns {', '.join(items.reader.columns.images)}")
    verdicts = verdicts_in(table, labels)
    answered = [label for label in verdicts.labels if label is not None]
    bins = iter(labels.strata(answered, least=_SCORES_IN_BIN)[1])
    found: dict[str, Opinion] = {}
    for row, label, sure, undecided in zip(
        table.rows, verdicts.labels, verdicts.confidence, verdicts.undecided, strict=True
    ):
        stratum = "" if label is None else str(next(bins))
        if label is None and not undecided and text_in(row.values, "invalid").lower() != "true":
            continue
        doubt = 1.0 if undecided or label is None else 1.0 - (1.0 if sure is None else sure)
        found.setdefault(key_of(row.values, names), Opinion(stratum, doubt, label))
    known = {item.key: found[name] for item in items.items for name in _names_of(item, names) if name in found}
    if not known:
        raise DataError(
            f"{predictions}: has a verdict on none of the images to label; give what `blpo judge --out` wrote for the "
            f"same folder or table ({', '.join(names)} are compared)"
        )
    left = len(items.items) - len(known)
    return known, [f"{left} of {len(items.items)} images have no verdict and are drawn by chance alone"] * bool(left)


def compiled_with(judge: VisualJudge, items: Items) -> Callable[[str], bool]:
    """Returns what says by key whether a judge, or one that it was compiled from, was compiled with an item.

    An item that cannot be read counts as one: agreement on it would say nothing.
    """
    prints = known_prints(judge)
    places = {item.key: place for place, item in enumerate(items.items)}

    @cache
    def found(key: str) -> bool:
        item = items.items[places[key]]
        try:
            images = items.reader.read(item.row).sources
            texts = {name: item.cells[name] for name in judge.context}
            prepared = judge.fields.prepare({**images, **texts}, judge.pixel_policy)
        except BlpoError:
            return True
        return item_prints([dspy.Example(**prepared).with_inputs(*prepared)]) in prints

    return found if prints else lambda key: False


def session_by_judge(
    work: Work, items: Items, predictions: Path, judge: VisualJudge | None, *, seed: int, share: float
) -> tuple[LabelSession, list[str]]:
    """Returns the session of a rater in which a judge's verdicts say what comes next, and notes on the verdicts.

    The agreement of a judge that is given is not measured on what it was compiled with.

    Raises:
        DataError: As `opinions_in`.
        BlpoError: As `open_session`.
    """
    opinions, notes = opinions_in(predictions, items, work.labels)
    look, known = looks_of(items), None if judge is None else compiled_with(judge, items)

    def order(keys: list[str]) -> ChosenOrder:
        made = ChosenOrder(keys, opinions, look, seed=seed, share=share)
        made.prepare()
        return made

    def verdict(key: str) -> Label | None:
        return None if key not in opinions or (known is not None and known(key)) else opinions[key].label

    return open_session(work, items, order, verdict), notes


def _names_of(item: Item, names: list[str]) -> Iterator[str]:
    """How tables name an item: as that of its labels does, or as its source."""
    yield key_of(dict(item.cells), names)
    yield key_of(item.row.values, names)
