"""A judge's verdicts on a folder or table of images, written to a table; an interrupted call resumes."""

from __future__ import annotations

import json
import os
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import dspy
import numpy as np
from PIL import Image

from blpo_dspy.agreement.measure import Flips
from blpo_dspy.agreement.verdicts import Verdict
from blpo_dspy.calls.ledger import ROLES, Ledger
from blpo_dspy.calls.meter import CallCap, Meter
from blpo_dspy.calls.outages import MAX_OUTAGE, Outages
from blpo_dspy.calls.workers import Workers
from blpo_dspy.data.images.prepare import ImageError, ImageSource
from blpo_dspy.data.inputs import Inputs, checked, find_inputs, read_content
from blpo_dspy.data.labels.space import Method, Orders
from blpo_dspy.data.rows import Draft
from blpo_dspy.data.tables import TableRow, TableSource, in_memory
from blpo_dspy.errors import BlpoError, ModelError, check_kind
from blpo_dspy.log import log_event
from blpo_dspy.models.lm import Models, identity
from blpo_dspy.predictions.escalated import write_escalated
from blpo_dspy.predictions.files import check_target, write_rows
from blpo_dspy.predictions.journal import SUFFIX, PredictionJournal
from blpo_dspy.predictions.labelling import label_each, note_other_models
from blpo_dspy.programs.cascade import Cascade, models_of_stages, stages_of
from blpo_dspy.programs.pairs import asked_in
from blpo_dspy.programs.visual_judge import VisualJudge

_GIVEN = "given_"
_CHANGED = Verdict(None, failure="the image was changed after the run began; the same call judges it as it is now")


@dataclass(frozen=True)
class Progress:
    """Where a run of predictions stands.

    Attributes:
        total: Rows in all.
        known: Rows with a verdict or an error, of earlier sessions too.
        judged: Rows that this session has judged.
        labels: How often each label was given, in the order of the label space; of scores each of up to five bins.
        invalid: Rows whose answer states no label.
        flips: How often the order of two images decided; None where pairs were not judged in both orders.
        errors: Rows without an answer: the image cannot be used, or the model failed.
        ledger: The LM calls of this session.
        earlier: Those of the sessions before it.
        gone: Verdicts of the sessions before it on images, or with context, that are no longer there.
        escalated: Rows that a calibrated judge escalates to people; None of any other judge.
    """

    total: int
    known: int
    judged: int
    labels: Mapping[str, int]
    invalid: int
    errors: int
    ledger: Ledger
    earlier: Ledger
    gone: int = 0
    flips: Flips | None = None
    escalated: int | None = None

    @property
    def complete(self) -> bool:
        """Whether every row has a verdict or an error, so that the table was written."""
        return self.known == self.total

    @property
    def spent(self) -> Ledger:
        """The LM calls of all sessions."""
        return Ledger({role: self.ledger[role] + self.earlier[role] for role in ROLES})


def predict(
    judge: VisualJudge,
    source: TableSource | Sequence[ImageSource] | Inputs,
    *,
    out: str | os.PathLike[str],
    models: Models | Sequence[Models] | None = None,
    confidence: Method | None = None,
    escalated: str | os.PathLike[str] | None = None,
    image_column: str | None = None,
    texts: Mapping[str, str] | None = None,
    allow_outside: bool = False,
    num_threads: int | None = None,
    max_calls: int | None = None,
    max_outage: float = MAX_OUTAGE,
    orders: Orders = "both",
    on_read: Callable[[int], None] = lambda done: None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Judges every image of a folder, a table or a list, and writes a table with a row for each, in order.

    The table has the columns of the source (one that is named like a column below becomes `given_…`), then `label`,
    `description` and `reasoning` as far as the judge gives them, `answer` where it states no label, `invalid`, and
    `error` where there is no answer; for pairs in both orders also `inconsistent`, of a judge with a confidence
    `confidence`, and of a calibrated judge `escalate`. A Parquet file says in its metadata how the confidence was found
    (`blpo_confidence`). Images are loaded as their turn comes: a few for each thread lie in memory.

    Next to the table, `<out>.journal.jsonl` keeps what was paid for, so that the same call resumes after a crash, and
    later judges what is missing only: new rows, replaced images, rows with an error. A verdict belongs to the bytes of
    an image (or to its URL) and its context, not to its name; so all images are read before the first call, and equal
    rows are judged once. An image that changes after that has an error. Rows that are gone are left out. Remove the
    journal when you are done.

    Args:
        judge: The judge.
        source: A folder, in which images may lie anywhere; a .csv, .tsv, .jsonl or .parquet file; a table in memory
            (`pandas.DataFrame`, list of dictionaries, `datasets.Dataset`); or images as a judge takes them.
        out: The table, a .parquet, .csv or .jsonl file; its folder is made if need be.
        models: The models, of a cascade also a list with those of each judge; the judge's own, or those of DSPy's
            settings, if None.
        confidence: How a confidence is found, with the options of `VisualJudge.confident`; as the judge has it if None.
        escalated: A table for people, a .parquet, .csv or .jsonl file: the rows that a calibrated judge escalates, with
            its label as `judge_label` and an empty `label`.
        image_column: The column of a table with the only image, where it has another name than the judge's input: a
            path from the table's folder, a URL or the image itself.
        texts: Context texts that are the same for all images; others come from the columns of their names.
        allow_outside: Whether images may lie outside the folder, or that of the table.
        num_threads: The most LM calls under way at once; DSPy's setting if None.
        max_calls: The most LM calls of this session; the same call again continues.
        max_outage: Seconds that a server which has stopped answering is waited for.
        orders: Of a judge of pairs: "both" asks twice, the images changing places, and gives the label on which both
            orders agree, else the tie or none; "one" costs one call.
        on_read: Called with the number of rows read so far, while all are read before the first LM call.
        on_progress: Called before the first LM call, with what is known already, and then as rows are done.

    Raises:
        DataError: If the source cannot be read, or none of its rows can be used.
        ModelError: If a model cannot be used at all, or stops answering; what is done stays.
        BlpoError: If `out` or `escalated` cannot be written or is there without a journal, or its journal is that of
            another judge, other models or other images altogether, or the judge escalates nothing.
    """
    check_kind("judge", judge, VisualJudge, "judge", "VisualJudge.load('judge.json')")
    judge = judge if confidence is None else judge.confident(confidence)
    if isinstance(judge, Cascade):
        judge.check_calibrated()
    target, outages, cap = Path(out), Outages(max_outage), CallCap(max_calls)
    check_target(target)
    for_people = None if escalated is None else Path(escalated)
    _check_escalated(for_people, target, judge)
    asked = given_models(judge, models)
    note_other_models(judge, asked)
    inputs = source if isinstance(source, Inputs) else _inputs(judge, source, image_column, texts, allow_outside)
    both = asked_in(judge.labels, orders) > 1
    journal = _journal(target, judge, asked, inputs, both=both)
    try:
        session = _Session(judge, inputs, journal, on_read, on_progress, both=both)
        with Workers(num_threads) as workers:
            session.run(asked, workers, cap, outages)
        progress = session.progress()
        if progress.complete:
            session.write(target, for_people)
        _log_judged(progress, target)
        return progress
    finally:
        journal.close()


def _log_judged(progress: Progress, target: Path) -> None:
    log_event(
        "judged",
        f"{progress.judged} of {progress.total} rows judged for {target.name}, {progress.errors} errors, "
        f"{progress.invalid} invalid, {progress.ledger.total.calls} calls",
        rows=progress.total,
        judged=progress.judged,
        errors=progress.errors,
        invalid=progress.invalid,
        calls=progress.ledger.total.calls,
    )


def journal_of(out: Path) -> Path:
    """Returns the path of the journal of an output."""
    return out.with_name(out.name + SUFFIX)


class _Session:
    """One call of `predict`: what is missing is judged and noted, each content once."""

    def __init__(
        self,
        judge: VisualJudge,
        inputs: Inputs,
        journal: PredictionJournal,
        on_read: Callable[[int], None],
        on_progress: Callable[[Progress], None],
        *,
        both: bool,
    ) -> None:
        self._judge, self._inputs, self._journal, self._on_progress = judge, inputs, journal, on_progress
        self._both = both
        self._meter: Meter | None = None
        self._judged = 0
        self._stopped = False
        self._places: list[str] = []
        self._keys: list[str] = []
        self._unusable: dict[str, dict[str, Any]] = {}
        for number, draft in inputs.drafts(range(len(inputs.rows))):
            try:
                _, key = read_content(draft)
            except ImageError as error:
                key = f"row {number}"
                self._unusable[key] = _row(Verdict(None, failure=error.reason))
            self._places.append(draft.place)
            self._keys.append(key)
            on_read(number + 1)
        self._check_overlap()
        self._gone = len(journal.done - set(self._keys))
        self._times = Counter(self._keys)
        results = [self._result(key) for key in self._keys]
        self._counts = Counter(_kind(result) for result in results if result)
        self._inconsistent = Counter(result.get("inconsistent") for result in results if result)
        self._escalated = Counter(result.get("escalate") for result in results if result)

    def _check_overlap(self) -> None:
        """Refuses other images altogether, with which an earlier table would be overwritten by mistake."""
        judged = self._journal.done
        if judged and judged.isdisjoint(self._keys):
            raise BlpoError(
                f"{self._journal.path}: this is the journal of other images or other context: of the {len(judged):,} "
                f"that it knows, none is in {self._inputs.name}; name another output, or remove this one and its "
                "journal"
            )

    def run(self, models: Sequence[Models], workers: Workers, cap: CallCap, outages: Outages) -> None:
        self._on_progress(self.progress())
        known = self._journal.done | self._unusable.keys()
        left: dict[str, list[int]] = {}
        for number, key in enumerate(self._keys):
            if key not in known:
                left.setdefault(key, []).append(number)
        self._meter = Meter(num_threads=workers.num_threads, store=self._journal, admit=cap, outages=outages)
        orders: Orders = "both" if self._both else "one"
        judge = partial(label_each, self._judge, models, workers=workers, meter=self._meter, orders=orders)
        while not self._stopped and (wanted := {numbers.pop(0): key for key, numbers in left.items() if numbers}):
            self._judge_rows(judge, wanted, left)

    def _judge_rows(self, judge: Callable[..., None], wanted: Mapping[int, str], left: Mapping[str, list[int]]) -> None:
        """Judges a row of each content; one that has changed leaves it to the next row of that content."""
        waiting: deque[str] = deque()

        def calls() -> Iterator[dict[str, Any]]:
            for number, draft in self._inputs.drafts(wanted):
                if self._stopped:
                    return
                key = wanted[number]
                images = _images_of(draft, key)
                if images is not None:
                    waiting.append(key)
                    yield {**images, **draft.context}
                elif not left[key]:
                    self._note(key, _CHANGED)

        def done(verdict: Verdict) -> None:
            key = waiting.popleft()
            self._stopped = self._stopped or verdict.stopped
            if not verdict.stopped:
                left[key].clear()
                self._note(key, verdict)

        judge(calls(), done=done)

    def _result(self, key: str) -> dict[str, Any] | None:
        return self._unusable.get(key) or self._journal.row(key)

    def _note(self, key: str, verdict: Verdict) -> None:
        before = self._result(key)
        if before is not None:
            self._counts[_kind(before)] -= self._times[key]
            self._escalated[before.get("escalate")] -= self._times[key]
        row = _row(verdict)
        self._journal.put_row(key, row)
        self._counts[_kind(row)] += self._times[key]
        self._inconsistent[verdict.inconsistent] += self._times[key]
        self._escalated[verdict.escalate] += self._times[key]
        self._judged += self._times[key]
        self._on_progress(self.progress())

    def progress(self) -> Progress:
        flipped = self._inconsistent[True]
        return Progress(
            total=len(self._keys),
            known=self._counts.total(),
            judged=self._judged,
            labels=self._label_counts(),
            invalid=self._counts["invalid"],
            errors=self._counts["error"],
            ledger=Ledger({}) if self._meter is None else self._meter.ledger,
            earlier=self._journal.earlier,
            gone=self._gone,
            flips=Flips(flipped + self._inconsistent[False], flipped) if self._both else None,
            escalated=self._escalated[True] if _escalating(self._judge) else None,
        )

    def _label_counts(self) -> dict[str, int]:
        """How often each label was given; of scores, how many are in each bin."""
        labels = self._judge.labels
        if labels.kind != "scores":
            return {name: self._counts[f"label {name}"] for name in labels.names}
        given = [
            labels.coerce(kind.removeprefix("label "))
            for kind, count in self._counts.items()
            if kind.startswith("label ")
            for _ in range(count)
        ]
        names, groups = labels.strata(given)
        counts = Counter(groups)
        return {str(name): counts[name] for name in names}

    def write(self, target: Path, for_people: Path | None) -> None:
        found = _found_columns(self._judge, both=self._both)
        given = {name: _free(name, found, self._inputs.columns) for name in self._inputs.columns}

        def rows() -> Iterator[dict[str, Any]]:
            for row, place, key in zip(self._inputs.rows, self._places, self._keys, strict=True):
                result = self._result(key) or {}
                values = {**row.values, **_pictured(self._inputs, row, place)}
                yield {**{new: values.get(name) for name, new in given.items()}, **{n: result.get(n) for n in found}}

        types = {**{given[name]: str for name in self._inputs.image_columns}, **found}
        method = [None if stage.confidence is None else stage.confidence.to_dict() for stage in stages_of(self._judge)]
        metadata = {"blpo_confidence": json.dumps(method)} if any(method) else None
        write_rows(target, [*given.values(), *found], rows, types, metadata)
        if for_people is not None:
            write_escalated(for_people, list(given.values()), found, rows, types)


def _images_of(draft: Draft, key: str) -> dict[str, Any] | None:
    """A row's images, if they are still what they were when the run began."""
    try:
        images, now = read_content(draft)
    except ImageError:
        return None
    return images if now == key else None


def _pictured(inputs: Inputs, row: TableRow, place: str) -> dict[str, str]:
    """What a table of verdicts has in the columns of the images: names and addresses, never an image itself."""
    if len(inputs.image_columns) == 1 and not inputs.reader.columns.images[inputs.image_columns[0]].several:
        return {inputs.image_columns[0]: place}
    return {name: _named(row.values.get(name), row.where) for name in inputs.image_columns}


def _named(value: object, where: str) -> str:
    if isinstance(value, (list, tuple)):
        return "|".join(_named(part, where) for part in value)
    return value if isinstance(value, str) and value[:5].lower() != "data:" else where


def _row(verdict: Verdict) -> dict[str, Any]:
    unlabelled = verdict.label is None and not verdict.failure
    row = {
        "label": verdict.label,
        "description": verdict.description,
        "reasoning": verdict.reasoning or None,
        "answer": verdict.answer if unlabelled else None,
        "invalid": verdict.invalid,
        "error": verdict.failure or None,
    }
    more = {n: getattr(verdict, n) for n in ("inconsistent", "confidence", "escalate")}
    return {**row, **{name: value for name, value in more.items() if value is not None}}


def _kind(row: Mapping[str, Any]) -> str:
    if row["error"] is not None:
        return "error"
    return "invalid" if row["invalid"] else "none" if row["label"] is None else f"label {row['label']}"


def _found_columns(judge: VisualJudge, *, both: bool) -> dict[str, type]:
    """The columns that a judge adds, with their types."""
    label_types: dict[bool, type] = {judge.labels.numeric: int, judge.labels.kind == "scores": float}
    columns: dict[str, type] = {"label": label_types.get(True, str)}
    if judge.evidence != "image":
        columns["description"] = str
    if judge.reasoning:
        columns["reasoning"] = str
    columns |= {"answer": str, "invalid": bool, **({"inconsistent": bool} if both else {}), "error": str}
    if any(stage.confidence is not None for stage in stages_of(judge)):
        columns["confidence"] = float
    return {**columns, **({"escalate": bool} if _escalating(judge) else {})}


def _escalating(judge: VisualJudge) -> bool:
    """Whether a judge, or the last judge of a cascade, escalates to people."""
    return stages_of(judge)[-1].threshold is not None


def _check_escalated(path: Path | None, out: Path, judge: VisualJudge) -> None:
    if path is None:
        return
    check_target(path)
    if path.resolve() == out.resolve():
        raise BlpoError(f"{path}: all verdicts go there; name another file for what is escalated", option="escalated")
    if not _escalating(judge):
        raise BlpoError(
            f"{path} would be empty, as the judge escalates nothing to people: it isn't calibrated; calibrate it first "
            "(blpo_dspy.calibrate, blpo calibrate)",
            option="escalated",
        )
    if path.exists() and not journal_of(out).exists():
        raise BlpoError(f"{path}: there is such a file already; name another one, or remove it", option="escalated")


def _free(name: str, taken: Collection[str], columns: Collection[str]) -> str:
    """A column's name that differs from those that the judge adds."""
    if name not in taken:
        return name
    name = _GIVEN + name
    while name in columns:
        name = _GIVEN + name
    return name


def _inputs(
    judge: VisualJudge,
    source: TableSource | Sequence[ImageSource],
    image_column: str | None,
    texts: Mapping[str, str] | None,
    allow_outside: bool,
) -> Inputs:
    if isinstance(source, (str, bytes, os.PathLike, Mapping, Image.Image, np.ndarray, dspy.Image)):
        source = [source]
    elif not in_memory(source):
        check_kind("source", source, Iterable, "folder, table or list of images", "predict(judge, 'photos', out=…)")
        source = list(source)
    found = find_inputs(
        source, fields=judge.fields, texts=texts, image_column=image_column, allow_outside=allow_outside
    )
    return checked(found)


def models_of(judge: VisualJudge) -> Models:
    """Returns a judge's own models, or those of DSPy's settings; the judge's writes instructions.

    Raises:
        ModelError: If there are none.
    """
    found = {role: getattr(judge, role).lm or dspy.settings.lm for role in ("judge", "verbalizer")}
    if None in found.values():
        raise ModelError("the judge has no model: give models=Models.named(…), or dspy.configure(lm=…)")
    return Models(found["judge"], found["verbalizer"], found["judge"])


def given_models(judge: VisualJudge, models: Models | Sequence[Models] | None) -> list[Models]:
    """Returns the models of each judge of a cascade, or the only one: those given, or else its own.

    Raises:
        ModelError: If there are none.
        BlpoError: If there are as many models as judges neither given nor one for all.
    """
    return [models_of(stage) for stage in stages_of(judge)] if models is None else models_of_stages(judge, models)


def _journal(
    target: Path, judge: VisualJudge, models: Sequence[Models], inputs: Inputs, *, both: bool
) -> PredictionJournal:
    path = journal_of(target)
    if target.exists() and os.path.exists(inputs.name) and os.path.samefile(target, inputs.name):
        raise BlpoError(f"{target}: this is the table to be judged; name another output")
    if target.exists() and not path.exists():
        raise BlpoError(
            f"{target}: there is such a file already, but no journal of a run to continue; name another "
            "output, or remove it"
        )
    used = [
        {role: identity(getattr(own, role)) for role in ("judge", "verbalizer") if role in stage.roles}
        for stage, own in zip(stages_of(judge), models, strict=True)
    ]
    orders = {"orders": "both" if both else "one"} if judge.labels.paired else {}
    models_used: Any = used if isinstance(judge, Cascade) else used[0]
    return PredictionJournal(path, {"judge": judge.identity(), "models": models_used, **orders})
