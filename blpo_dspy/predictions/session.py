"""One call of `predict`: what is missing is judged and noted, each content once."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from blpo_dspy.agreement.measure import Flips
from blpo_dspy.agreement.verdicts import Verdict
from blpo_dspy.data.images.prepare import ImageError
from blpo_dspy.data.inputs import Inputs, content_key, images_key, print_of, read_images
from blpo_dspy.data.labels.space import Orders
from blpo_dspy.data.rows import Draft
from blpo_dspy.errors import BlpoError, brief
from blpo_dspy.models.lm import Models
from blpo_dspy.models.prices import Prices
from blpo_dspy.predictions.batches.submission import Batches
from blpo_dspy.predictions.escalated import write_escalated
from blpo_dspy.predictions.files import write_rows
from blpo_dspy.predictions.job import PredictionJob
from blpo_dspy.predictions.labelling import label_each
from blpo_dspy.predictions.progress import Progress
from blpo_dspy.predictions.results import (
    UNUSABLE,
    Outcome,
    escalates_to_people,
    found_columns,
    free_name,
    picturing,
    row_of,
)
from blpo_dspy.predictions.seen import SeenFiles
from blpo_dspy.programs.cascade import stages_of
from blpo_dspy.programs.visual_judge import VisualJudge
from blpo_dspy.workspace.cap import Cap
from blpo_dspy.workspace.ledger import Ledger
from blpo_dspy.workspace.meter import Meter
from blpo_dspy.workspace.outages import Outages
from blpo_dspy.workspace.workers import Workers

# Rows of equal content that another process is given, should the first ones have changed.
_EQUAL = 3
_CHANGED = Verdict(None, failure="the image was changed after the run began; the same call judges it as it is now")


@dataclass
class Contents:
    """What the rows of a job hold.

    Attributes:
        keys: The content of each row.
        places: A short name for the images of each row.
        images: A hash of the images of each content.
        unusable: The rows of those that cannot be used, by content.
        note: What is to be known of these, with the first of them, "" if there are none.
        unchanged: Whether a row's images are known to be what they were, once they were read again.
    """

    keys: list[str] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    images: dict[str, str] = field(default_factory=dict)
    unusable: dict[str, dict[str, Any]] = field(default_factory=dict)
    note: str = ""
    unchanged: Callable[[Draft], bool] = lambda draft: False


def read_contents(
    judge: VisualJudge, inputs: Inputs, on_read: Callable[[int], None], seen: SeenFiles, done: Collection[str]
) -> Contents:
    """Reads all images once, but no files that are as they were seen and whose verdicts, by key, are `done`."""
    found, several, first = Contents(unchanged=seen.unchanged), len(judge.fields.images) > 1, ""
    for number, draft in inputs.drafts(range(len(inputs.rows))):
        try:
            key, prints = seen.content(draft, done)
            found.images[key] = images_key(prints) if several else key
        except ImageError as error:
            key = f"row {number}"
            found.unusable[key] = row_of(Verdict(None, failure=error.reason))
            first = first or _placed(draft, error.reason)
        found.places.append(draft.place)
        found.keys.append(key)
        on_read(number + 1)
    seen.save()
    if first:
        rows = f"{len(found.unusable):,} of {len(found.keys):,} rows"
        found.note = f"{rows} cannot be used and will have an error; the first is {first}"
    return found


def _placed(draft: Draft, reason: str) -> str:
    """What is wrong with a row, and where it is."""
    place = "" if draft.problems or draft.place == draft.where else f"{brief(draft.place)}: "
    return f"{draft.where}: {place}{reason}"


class Session:
    """One call of `predict`: what is missing is judged and noted, each content once.

    Attributes:
        job: Where verdicts are kept.
        for_people: The table that what is escalated goes to.
    """

    for_people: Path | None = None

    def __init__(
        self,
        judge: VisualJudge,
        inputs: Inputs,
        job: PredictionJob,
        contents: Contents,
        on_change: Callable[[Session], None] = lambda session: None,
        *,
        both: bool,
    ) -> None:
        self._judge, self._inputs, self.job, self._on_change = judge, inputs, job, on_change
        self._elsewhere = Ledger({})
        self._both = both
        self._meter: Meter | None = None
        self._judged = 0
        self._stopped = False
        self._keys, self._places, self._unusable = contents.keys, contents.places, contents.unusable
        self._note_on_rows, self._unchanged = contents.note, contents.unchanged
        self._check_overlap()
        self._gone = len(job.done - set(self._keys))
        self._times = Counter(self._keys)
        self._counts = self._counted(self._keys)

    def _counted(self, keys: Iterable[str]) -> Counter[Outcome]:
        """Counts what is known of rows."""
        return Counter(outcome for key in keys if (outcome := self._outcome(key)))

    def _outcome(self, key: str) -> Outcome | None:
        return UNUSABLE if key in self._unusable else self.job.outcome(key)

    def _check_overlap(self) -> None:
        """Refuses other images altogether, with which an earlier table would be overwritten by mistake."""
        judged = self.job.done
        if judged and judged.isdisjoint(self._keys):
            raise BlpoError(
                f"{self.job.path}: this is the store of other images or other context: of the {len(judged):,} "
                f"that it knows, none is in {self._inputs.name}; name another output"
            )

    def run(
        self,
        models: Sequence[Models],
        workers: Workers,
        cap: Cap,
        outages: Outages,
        *,
        answered: bool = False,
        batches: Batches | None = None,
        prices: Prices | None = None,
    ) -> None:
        """Judges what is missing, until a cap or a server stops it."""
        self._on_change(self)
        left = self.left()
        if batches is None:
            self._meter = Meter(
                num_threads=workers.num_threads, job=self.job, admit=cap, outages=outages, prices=prices
            )
        else:
            self._meter = batches.meter
        cap.under_way = lambda: 0 if self._meter is None else self._meter.under_way
        orders: Orders = "both" if self._both else "one"
        if batches is not None:
            first = {numbers[0]: key for key, numbers in left.items()}
            batches.buy(self._judge, models[0], workers, partial(self._inputs_of, first), first, orders)
        options: dict[str, Any] = {"workers": workers, "meter": self._meter, "orders": orders, "answered": answered}
        judge = partial(label_each, self._judge, models, **options)
        while not self._stopped and (wanted := {numbers.pop(0): key for key, numbers in left.items() if numbers}):
            self._judge_rows(judge, wanted, left)

    def left(self) -> dict[str, list[int]]:
        """Returns by content without a verdict its rows."""
        known, left = self.job.done | self._unusable.keys(), dict[str, list[int]]()
        for number, key in enumerate(self._keys):
            if key not in known:
                left.setdefault(key, []).append(number)
        return left

    def subset(self, rows: Mapping[str, Sequence[int]]) -> tuple[Inputs, tuple[str, ...]]:
        """Returns rows of some contents, and the content of each: a few equal ones, should the first have changed."""
        some = [(number, key) for key, numbers in rows.items() for number in numbers[:_EQUAL]]
        return self._inputs.subset([number for number, _ in some]), tuple(key for _, key in some)

    def take(self, rows: Mapping[str, dict[str, Any]], ledger: Ledger) -> None:
        """Notes the verdicts of another process, and its LM calls."""
        self._elsewhere += ledger
        for key, row in rows.items():
            self._note(key, row)
        self._on_change(self)

    def _judge_rows(self, judge: Callable[..., None], wanted: Mapping[int, str], left: Mapping[str, list[int]]) -> None:
        """Judges a row of each content; one that has changed leaves it to the next row of that content."""
        waiting: deque[str] = deque()

        def calls() -> Iterator[dict[str, Any]]:
            for number, draft in self._inputs.drafts(wanted):
                if self._stopped:
                    return
                key = wanted[number]
                images = self._images_of(draft, key)
                if images is not None:
                    waiting.append(key)
                    yield {**images, **draft.context}
                elif not left[key]:
                    self._note(key, row_of(_CHANGED))

        def done(verdict: Verdict) -> None:
            key = waiting.popleft()
            self._stopped = self._stopped or verdict.stopped
            if not verdict.stopped:
                left[key].clear()
                self._note(key, row_of(verdict))

        judge(calls(), done=done)

    def _inputs_of(self, keys: Mapping[int, str], wanted: Collection[int]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Position and inputs of rows, without those whose images have changed."""
        for number, draft in self._inputs.drafts(wanted):
            images = self._images_of(draft, keys[number])
            if images is not None:
                yield number, {**images, **draft.context}

    def _images_of(self, draft: Draft, key: str) -> dict[str, Any] | None:
        """A row's images, if they are still what they were when the run began."""
        try:
            images = read_images(draft)
        except ImageError:
            return None
        same = self._unchanged(draft) or content_key(draft, list(map(print_of, images))) == key
        return draft.filled(images) if same else None

    def _result(self, key: str) -> dict[str, Any] | None:
        return self._unusable.get(key) or self.job.row(key)

    def _note(self, key: str, row: Mapping[str, Any]) -> None:
        before = self._outcome(key)
        if before is not None:
            self._counts[before] -= self._times[key]
        self._counts[self.job.put_row(key, row)] += self._times[key]
        self._judged += self._times[key]
        self._on_change(self)

    @property
    def ledger(self) -> Ledger:
        """The LM calls of this session."""
        return self._elsewhere if self._meter is None else self._elsewhere + self._meter.ledger

    def progress(self) -> Progress:
        """Returns where the session stands."""
        counts, both, escalates = Counter(self._counts), self._both, escalates_to_people(self._judge)

        def rows(wanted: Callable[[Outcome], bool]) -> int:
            return sum(times for outcome, times in counts.items() if wanted(outcome))

        return Progress(
            total=len(self._keys),
            known=counts.total(),
            judged=self._judged,
            invalid=rows(lambda outcome: outcome.kind == "invalid"),
            errors=rows(lambda outcome: outcome.kind == "error"),
            ledger=self.ledger,
            earlier=self.job.earlier,
            counts=counts,
            space=self._judge.labels,
            gone=self._gone,
            flips=Flips(rows(lambda o: o.inconsistent is not None), rows(lambda o: bool(o.inconsistent)))
            if both
            else None,
            escalated=rows(lambda outcome: outcome.escalated) if escalates else None,
            note=self._note_on_rows,
        )

    def columns(self) -> dict[str, type]:
        """The columns that are found, with their types."""
        others = any(outcome.served for outcome, times in self._counts.items() if times)
        served: dict[str, type] = {"served_by": str} if others else {}
        return {**found_columns(self._judge, both=self._both), **served}

    def write(self, target: Path) -> None:
        """Writes the table, and what is escalated into that for people."""
        found = self.columns()
        given = {name: free_name(name, found, self._inputs.columns) for name in self._inputs.columns}
        picture = picturing(self._inputs)

        def rows() -> Iterator[dict[str, Any]]:
            for row, place, key in zip(self._inputs.rows, self._places, self._keys, strict=True):
                result = self._result(key) or {}
                values = {**row.values, **picture(row, place)}
                yield {**{new: values.get(name) for name, new in given.items()}, **{n: result.get(n) for n in found}}

        types = {**{given[name]: str for name in self._inputs.image_columns}, **found}
        method = [None if stage.confidence is None else stage.confidence.to_dict() for stage in stages_of(self._judge)]
        note = {"blpo_confidence": json.dumps(method)} if any(method) else None
        write_rows(target, [*given.values(), *found], rows, types, note=note)
        if self.for_people is not None:
            write_escalated(self.for_people, list(given.values()), found, rows, types)
