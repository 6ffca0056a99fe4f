"""What a judge says of the items to label: read from its table of verdicts, which is made first if need be."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
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
from blpo_dspy.labelling.journal import labels_in_journals
from blpo_dspy.labelling.order.chosen import ChosenOrder, Opinion
from blpo_dspy.labelling.order.looks import looks_of
from blpo_dspy.labelling.session import LabelSession, open_session
from blpo_dspy.models.lm import Models, identity
from blpo_dspy.optimizers.bench.cards import known_prints
from blpo_dspy.predictions.files import Output
from blpo_dspy.predictions.given import Job
from blpo_dspy.predictions.outputs import spent_on
from blpo_dspy.predictions.predict import predicted
from blpo_dspy.predictions.progress import Progress
from blpo_dspy.predictions.reading import key_of, text_in, verdicts_in, whole_table
from blpo_dspy.programs.visual_judge import VisualJudge
from blpo_dspy.workspace.ledger import Ledger

_SCORES_IN_BIN = 20


def labels_before(items: Items, labels: LabelSpace, out: Path) -> dict[str, Label]:
    """Returns by key the labels that people gave so far: those of the items' table, and those in the journals.

    Raises:
        StoreError: If what is known of the table that the labels go to is damaged, or of another task.
    """
    given = {key: several[0].label for key, several in items.given.items()}
    found = {**labels_in_journals(out, labels, items.fields.names), **given}
    return {item.key: found[item.key] for item in items.items if item.key in found}


def verdicts_file(judge: VisualJudge, models: Models, out: Path) -> Path:
    """Returns the table with the verdicts of a judge and its models, next to that which the labels go to."""
    used = {"judge": judge.identity(), "models": [identity(models.judge), identity(models.verbalizer)]}
    print_ = hashlib.sha256(json.dumps(used, sort_keys=True).encode()).hexdigest()[:8]
    return out.with_name(f"{out.stem}.judged-{print_}.csv")


def inputs_to_judge(items: Items, judge: VisualJudge, models: Models, out: Path) -> Inputs:
    """Returns the items as a judge takes them, in a random order, so that a cap leaves out a random part of them.

    Items with a label are left out, as none is needed of them, unless the judge has a verdict on them already.

    Args:
        items: The items.
        judge: The judge.
        models: Its models.
        out: The table that the labels go to; images are named as in it.

    Raises:
        BlpoError: If the judge takes other images, or context that the items lack.
        StoreError: As `labels_before`.
    """
    check_fits(items, judge)
    file = verdicts_file(judge, models, out)
    needless = set(labels_before(items, judge.labels, out))
    if needless and file.exists():
        needless -= _verdicts_on(file, items, judge.labels, strict=False).keys()
    columns = TableColumns(items.reader.columns.images, None, judge.context, None, None)
    names = (*columns.images, *columns.context)
    hashed = sorted((item for item in items.items if item.key not in needless), key=lambda item: item.key)
    rows = [TableRow(item.row.where, {name: item.cells[name] for name in names}) for item in hashed]
    # Paths start from the folder of the labels; that they may be used was checked as the items were found.
    return Inputs(str(out), names, rows, RowReader(columns, None, out.parent, allow_outside=True))


def judge_items(
    items: Items,
    judge: VisualJudge,
    models: Models,
    out: Path,
    *,
    max_calls: int | None = None,
    max_usd: float | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> tuple[Path | None, Progress]:
    """Judges the items to label that have no label yet; the same call judges what is missing only.

    Args:
        items: The items.
        judge: The judge.
        models: Its models.
        out: The table that the labels go to. That with the verdicts lies next to it, one for each judge and its models.
        max_calls: The most LM calls, those of earlier calls of this function included: it is called again each time
            that a person resumes, and all people see the same order only if the same items are judged.
        max_usd: The most dollars, likewise.
        on_progress: Called before the first LM call, with what is known already, and then as images are done.

    Returns:
        The table with the verdicts, in which those that a cap left out are empty, None if all items have a label
        already, and how it went.

    Raises:
        BlpoError: As `inputs_to_judge` and `predict`.
        ModelError: If a model cannot be used, or stops answering; what is done stays.
    """
    file, inputs = verdicts_file(judge, models, out), inputs_to_judge(items, judge, models, out)
    if not inputs.rows:
        return None, Progress(0, 0, 0, 0, 0, Ledger({}), Ledger({}), {}, judge.labels)
    if max_calls is not None or max_usd is not None:
        spent = spent_on(file, judge, [models])
        max_calls = None if max_calls is None else max(0, max_calls - spent.calls)
        max_usd = None if max_usd is None else max_usd - spent.usd
        if max_usd is not None and max_usd <= 0:
            max_calls, max_usd = 0, None
    job = Job(
        judge=judge,
        inputs=inputs,
        output=Output.at(file),
        models=[models],
        max_calls=max_calls,
        max_usd=max_usd,
        partial=True,
        on_progress=on_progress,
    )
    return file, predicted(job)


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


def opinions_in(
    predictions: Path | None, items: Items, labels: LabelSpace, labelled: Mapping[str, Label] | None = None
) -> tuple[dict[str, Opinion], list[str]]:
    """Returns by key what a judge said of the items, and notes on the rest.

    An answer without a label counts as one in doubt. A call that failed says nothing.

    Args:
        predictions: The table with the verdicts, None if there is none.
        items: The items.
        labels: The judge's labels.
        labelled: By key the labels that people gave before; they stand for a verdict where there is none.

    Raises:
        DataError: If the table cannot be read, holds other labels, or none of the items' images.
    """
    known = {} if predictions is None else _verdicts_on(predictions, items, labels, strict=True)
    people = {key: label for key, label in (labelled or {}).items() if key not in known}
    said = [opinion.label for opinion in known.values() if opinion.label is not None]
    bins = map(str, labels.strata([*said, *people.values()], least=_SCORES_IN_BIN)[1])
    known = {key: replace(each, stratum="" if each.label is None else next(bins)) for key, each in known.items()}
    left = sum(item.key not in known and item.key not in people for item in items.items)
    notes = [f"{left} of {len(items.items)} images have no verdict and are drawn by chance alone"] * bool(left)
    return {**known, **{key: Opinion(stratum, None) for key, stratum in zip(people, bins, strict=True)}}, notes


def _verdicts_on(predictions: Path, items: Items, labels: LabelSpace, *, strict: bool) -> dict[str, Opinion]:
    """What a table says of the items by key, without strata; `strict` refuses one with none of their images."""
    table = whole_table(predictions)
    names = [name for name in (*items.reader.columns.images, *items.fields.context) if name in table.columns]
    if not names:
        raise DataError(f"{predictions}: has none of the columns {', '.join(items.reader.columns.images)}")
    verdicts = verdicts_in(table, labels)
    found: dict[str, Opinion] = {}
    for row, label, sure, undecided in zip(
        table.rows, verdicts.labels, verdicts.confidence, verdicts.undecided, strict=True
    ):
        if label is None and not undecided and text_in(row.values, "invalid").lower() != "true":
            continue
        doubt = 1.0 if undecided or label is None else 1.0 - (1.0 if sure is None else sure)
        found.setdefault(key_of(row.values, names), Opinion("", doubt, label))
    there = {key_of(row.values, names) for row in table.rows}
    if strict and not any(name in there for item in items.items for name in _names_of(item, names)):
        raise DataError(
            f"{predictions}: has none of the images to label; give what `blpo judge --out` wrote for the same folder "
            f"or table ({', '.join(names)} are compared)"
        )
    return {item.key: found[name] for item in items.items for name in _names_of(item, names) if name in found}


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
    work: Work, items: Items, predictions: Path | None, judge: VisualJudge | None, *, seed: int, share: float
) -> tuple[LabelSession, list[str]]:
    """Returns the session of a rater in which a judge's verdicts say what comes next, and notes on the verdicts.

    The agreement of a judge that is given is not measured on what it was compiled with.

    Raises:
        DataError: As `opinions_in`.
        BlpoError: As `open_session`.
        StoreError: As `labels_before`.
    """
    opinions, notes = opinions_in(predictions, items, work.labels, labels_before(items, work.labels, work.out))
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
