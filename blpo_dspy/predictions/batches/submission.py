"""The batches of a run: requests are gathered and submitted once each, and their answers taken in."""

from __future__ import annotations

import itertools
import json
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from typing import IO, Any, TypeVar

import dspy
from dspy.utils.exceptions import LMError, LMTimeoutError

from blpo_dspy.data.images.prepare import ImageError
from blpo_dspy.data.labels.space import Orders
from blpo_dspy.errors import BlpoError, ModelError
from blpo_dspy.log import log_event
from blpo_dspy.models.batches import BatchEndpoint, BatchEndpointError, BatchState
from blpo_dspy.models.failures import FATAL_ERRORS
from blpo_dspy.models.lm import Models
from blpo_dspy.models.prices import check_priced
from blpo_dspy.predictions.batches.api import BatchApi, Offer, Waiting
from blpo_dspy.predictions.batches.costs import Cost, request_cost
from blpo_dspy.predictions.labelling import metered
from blpo_dspy.programs.pairs import asked_in, swapped
from blpo_dspy.programs.visual_judge import VisualJudge
from blpo_dspy.workspace.batch_record import BatchRecord
from blpo_dspy.workspace.batches import BatchMeter, Gathered
from blpo_dspy.workspace.exchange import Received
from blpo_dspy.workspace.failures import is_outage
from blpo_dspy.workspace.job import Job
from blpo_dspy.workspace.ledger import Ledger
from blpo_dspy.workspace.workers import Workers

R = TypeVar("R")

_LONGEST_POLL = 60.0
# Seconds between requests to an endpoint that does not answer: they double up to the longest.
_FIRST_DELAY, _LONGEST_DELAY = 1.0, 15.0
# Rows that are rendered ahead, for each thread.
_QUEUED = 4
# How far the clocks of provider and this machine may differ, in seconds, where batches are looked for by their age.
_CLOCKS = 3600.0

Rows = Callable[[Collection[int]], Iterable[tuple[int, dict[str, Any]]]]
"""Yields position and inputs of rows."""


@dataclass
class _Part:
    """The requests of the next batch of a role, in a file that leaves no trace."""

    file: IO[bytes] = field(default_factory=tempfile.TemporaryFile)
    images: dict[str, int] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    cost: Cost = field(default_factory=Cost)
    size: int = 0

    def add(self, request: Gathered, line: bytes, cost: Cost | None) -> None:
        self.file.write(line)
        self.images[request.key], self.options = request.images, request.options
        self.size += len(line)
        self.cost += cost or Cost()


class Batches:
    """Buys answers for the rows of a run; `meter` then hands them out.

    What may pass is repeated in a further batch, as often as the LM's `num_retries`; requests that expired without an
    answer are submitted again for as long as their batches answer any.

    Args:
        api: How.
        job: Where answers and batches are noted.
        max_outage: Seconds to wait for an endpoint that does not answer.
        earlier: The usage of earlier sessions.
        max_calls: The most requests that are submitted; None for no cap.
        max_usd: The most US dollars of the meter; None for no cap. A request is submitted only if the cap pays for it
            at the most that it can cost: all tokens of its limit; once there is an answer, four times the mean of the
            answers so far; from 20 answers on, a quarter more than their mean.

    Attributes:
        meter: Hands the answers out.
        submitted: How many requests were submitted.
    """

    def __init__(
        self,
        api: BatchApi,
        job: Job,
        *,
        max_outage: float,
        earlier: Ledger | None = None,
        max_calls: int | None = None,
        max_usd: float | None = None,
    ) -> None:
        self._api, self._job, self._max_outage = api, job, max_outage
        self._earlier = Ledger({}) if earlier is None else earlier
        self.max_calls, self.max_usd = max_calls, max_usd
        self.meter = BatchMeter(job=job, prices=api.prices, share=api.share)
        self._parts: dict[str, _Part] = {}
        self._under_way: set[str] = set()
        self._again: set[str] = set()
        self._attempts: Counter[str] = Counter()
        self.submitted = self._answered = 0
        self._reserved = self._offered = self._share = 0.0

    def buy(
        self, judge: VisualJudge, models: Models, workers: Workers, rows: Rows, wanted: Collection[int], orders: Orders
    ) -> None:
        """Buys the answers for the wanted rows, as far as the caps allow it.

        Raises:
            ModelError: If a model has no batch endpoint or cannot be used, its endpoint refuses the requests or stops
                answering, or a batch was cancelled; what is under way stays so, and the same call takes it up again.
            BlpoError: If a cap in dollars can't be kept.
        """
        if judge.evidence == "image":  # its verbalizer is not asked
            models = replace(models, verbalizer=models.judge)
        try:
            program = metered(judge, models, self.meter, "one")
        except LMError as error:
            raise ModelError(f"the model cannot be used: {error}") from error
        used = (getattr(models, role) for role in judge.roles)
        check_priced(self.max_usd, [*used], self._api.prices)
        for record in self._job.batches.values():
            self._recover(record)
        self._wait()
        names = [image.name for image in judge.fields.images]
        both = asked_in(judge.labels, orders) > 1

        def render(row: tuple[int, dict[str, Any]]) -> tuple[int, list[Gathered]]:
            number, inputs = row
            asked = [inputs, swapped(inputs, names)] if both else [inputs]
            return number, [request for given in asked for request in self._gathered(program, given)]

        left = set(wanted)
        while left:
            waiting, skipped = self._gather(render, left, rows, workers)
            for role in list(self._parts):
                self._submit(role)
            if not self._job.batches:
                return
            self._wait()
            left = skipped | {number for number, found in waiting.items() if any(map(self._goes_on, found))}

    def _gathered(self, program: Callable[..., object], inputs: Mapping[str, Any]) -> list[Gathered]:
        with dspy.context(trace=[]):
            try:
                return self.meter.gather(lambda: program(**inputs))
            except FATAL_ERRORS as error:
                raise ModelError(f"the model cannot be used: {error}") from error
            except (LMError, ImageError):  # that row's failure, which is raised again where rows are judged
                return []

    def _gather(
        self,
        render: Callable[[tuple[int, dict[str, Any]]], tuple[int, list[Gathered]]],
        left: Collection[int],
        rows: Rows,
        workers: Workers,
    ) -> tuple[dict[int, list[tuple[str, str]]], set[int]]:
        """The requests by row that wait for a batch, and the rows for which a cap does not pay (yet)."""
        waiting: dict[int, list[tuple[str, str]]] = {}
        skipped, self._offered = set(left), 0.0
        with dspy.context(disable_history=True):
            for number, found in _in_order(workers, render, rows(left)):
                waiting[number] = [(request.key, request.role) for request in found]
                if not all(map(self._take_up, found)):
                    return waiting, skipped
                skipped.discard(number)
                self._share = len(waiting) / len(left)
        return waiting, set()

    def _goes_on(self, request: tuple[str, str]) -> bool:
        """Whether a row is to be rendered again: for a request that failed, or the one after a description."""
        key, role = request
        return key in self._again or (role == "verbalizer" and self._job.knows(key))

    def _take_up(self, request: Gathered) -> bool:
        """Puts a request into the next batch; returns whether it is in one."""
        if request.key in self._under_way:
            return True
        price = self.meter.prices[request.role]
        endpoint = self.meter.endpoints[request.role]
        cost = None
        if price is not None:
            known = self.meter.ledger[request.role] + self._earlier[request.role]
            cost = request_cost(endpoint.model, request.role, request.body, price, known)
        if not self._pays_for(cost):
            return False
        body = request.body.replace(b"\n", b" ").replace(b"\r", b" ")  # none of them lies in a text of JSON
        line = b'{"custom_id":"%s","method":"POST","url":"%s","body":%s}\n' % (
            request.key.encode(),
            endpoint.path.encode(),
            body,
        )
        part = self._parts.setdefault(request.role, _Part())
        if part.images and (
            len(part.images) >= self._api.most_requests or part.size + len(line) > self._api.largest_file
        ):
            self._submit(request.role)
            part = self._parts.setdefault(request.role, _Part())
        part.add(request, line, cost)
        self._under_way.add(request.key)
        self._again.discard(request.key)
        self.submitted += 1
        self._reserved += 0.0 if cost is None else cost.most
        return True

    def _pays_for(self, cost: Cost | None) -> bool:
        if self.max_calls is not None and self.submitted >= self.max_calls:
            return False
        if self.max_usd is None:
            return True
        assert cost is not None, "checked before"
        return self.meter.ledger.total.usd + self._reserved + cost.most <= self.max_usd

    def _submit(self, role: str) -> None:
        part, endpoint = self._parts.pop(role), self.meter.endpoints[role]
        cost = None if self.meter.prices[role] is None else part.cost
        self._offered += part.cost.usual
        whole = None if cost is None else self._offered / (self._share or 1.0)
        self._api.on_submit(Offer(endpoint.model, role, len(part.images), cost, whole))
        repeated = tuple(key for key in part.images if self._attempts[key])
        record = BatchRecord.new(role, part.images, repeated, part.options)
        self._job.put_batch(record)

        def upload() -> str:
            part.file.seek(0)
            return endpoint.upload(f"{_name(record)}.jsonl", part.file)

        try:
            record = record.step(file=self._patiently(upload))
        except BatchEndpointError:
            self._job.put_batch(record.step(closed=True))
            raise
        finally:
            part.file.close()
        self._job.put_batch(record)
        self._create(record, endpoint)

    def _create(self, record: BatchRecord, endpoint: BatchEndpoint) -> None:
        """Submits an uploaded file, unless there is a batch of it already."""
        assert record.file is not None
        file = record.file

        def create() -> BatchState:
            try:
                return endpoint.create(file, _name(record))
            except BatchEndpointError as error:
                if not error.refused and (found := self._found(record, endpoint)) is not None:
                    return found
                raise

        try:
            state = self._patiently(create)
        except BatchEndpointError as error:
            if error.refused:
                self._job.put_batch(record.step(closed=True))
            raise
        self._job.put_batch(record.step(batch=state.id))
        log_event("batch submitted", f"batch {state.id} of {endpoint.model} was submitted", batch=state.id)

    def _found(self, record: BatchRecord, endpoint: BatchEndpoint) -> BatchState | None:
        """The batch of a file, which may take a moment to appear in the provider's list."""
        assert record.file is not None
        file = record.file
        for pause in (0.0, self._api.poll, 2 * self._api.poll):
            time.sleep(pause)
            found = self._patiently(partial(endpoint.find, file, _name(record), record.began - _CLOCKS))
            if found is not None:
                return found
        return None

    def _recover(self, record: BatchRecord) -> None:
        """Takes up a batch of an earlier session wherever that was cut short."""
        if record.file is None or self._api.abandon:  # without a file nothing can have been submitted
            self._job.put_batch(record.step(closed=True))
            return
        endpoint = self.meter.endpoints[record.role]
        if record.batch is None:
            found = self._found(record, endpoint)
            if found is None:
                self._create(record, endpoint)
            else:
                self._job.put_batch(record.step(batch=found.id))
        self._under_way.update(record.images)

    def _wait(self) -> None:
        """Waits for all batches under way and takes their answers in."""
        delay, self._answered = self._api.poll, 0
        requests, states = dict[str, int](), dict[str, BatchState]()
        while records := self._job.batches:
            requests |= {record.name: len(record.images) for record in records.values()}
            for record in records.values():
                endpoint, batch = self.meter.endpoints[record.role], record.batch
                assert batch is not None
                try:
                    states[record.name] = state = self._patiently(partial(endpoint.state, batch))
                    if state.over:
                        self._end(record, state, endpoint)
                except BatchEndpointError as error:
                    raise _lost(batch, error) from error
            self._api.on_wait(_waiting(sum(requests.values()), states.values()))
            if self._job.batches:
                time.sleep(delay)
                delay = min(2 * delay, max(_LONGEST_POLL, self._api.poll))
        self._reserved = 0.0

    def _end(self, record: BatchRecord, state: BatchState, endpoint: BatchEndpoint) -> None:
        """Takes in what came of a batch."""
        if state.status == "failed":
            self._refused(record, state)
            return
        missing, repeated, fatal, answered = set(record.images), set(record.repeated), None, 0
        for file in state.files:
            for key, received in self._patiently(partial(_lines, endpoint, file)):
                if key not in missing or received is None:
                    continue
                missing.discard(key)
                if self._job.knows(key):
                    continue
                about = {"images": record.images[key], "repeated": key in repeated}
                error = self.meter.take(record.role, key, received, record.options, **about)
                answered += error is None
                fatal = fatal or (error if isinstance(error, FATAL_ERRORS) else None)
                if error is not None:
                    self._attempts[key] += 1
                    self._failed(key, record.role, error)
        for key in missing:
            self._attempts[key] += not answered
            reason = LMTimeoutError(f"the batch {state.id} ended without its answer ({state.status})")
            self._failed(key, record.role, reason)
        self._answered += answered
        self._close(record)
        if fatal is not None:
            raise ModelError(f"the model cannot be used: {fatal}") from fatal
        if state.status == "cancelled":
            raise ModelError(
                f"the batch {state.id} was cancelled at the provider; its {answered:,} answers are kept. The same call "
                "submits the rest again; without batch_api=True it makes plain calls",
                option="batch_api",
            )

    def _failed(self, key: str, role: str, error: LMError) -> None:
        if is_outage(error) and self._attempts[key] <= self.meter.retries[role]:
            self._again.add(key)
        else:
            self.meter.failures[key] = error

    def _refused(self, record: BatchRecord, state: BatchState) -> None:
        """A batch that failed as a whole: nothing of it was answered, nor paid."""
        self._close(record)
        if "token_limit_exceeded" in state.problems and (self._job.batches or self._answered):
            self._again.update(record.images)  # there is room once the others are over
            return
        reasons = "; ".join(state.problems.values()) or "it gives no reason"
        raise ModelError(f"the provider refused the batch {state.id}: {reasons}")

    def _close(self, record: BatchRecord) -> None:
        self._job.put_batch(record.step(closed=True))
        self._under_way.difference_update(record.images)

    def _patiently(self, ask: Callable[[], R]) -> R:
        """What a request to an endpoint returns, repeated while its failure may pass and `max_outage` is not over."""
        began, delay = time.monotonic(), _FIRST_DELAY
        while True:
            try:
                return ask()
            except BatchEndpointError as error:
                if not error.passing or time.monotonic() - began >= self._max_outage:
                    raise
            time.sleep(min(delay, self._api.poll))
            delay = min(2 * delay, _LONGEST_DELAY)


def _lost(batch: str, error: BatchEndpointError) -> BatchEndpointError:
    """The error of a batch that is under way, with what to do where the provider does not know it."""
    if error.passing:
        return error
    return BatchEndpointError(
        f"the batch {batch} cannot be looked at: {error}; use the key that it was submitted with, or, if it is gone, "
        "abandon=True, which forgets it and pays for its requests again",
        error.status,
    )


def _name(record: BatchRecord) -> str:
    """The name of a batch at the provider."""
    return f"blpo-{record.name}"


def check_no_batches(job: Job) -> None:
    """Refuses plain calls for requests that a batch may be answering.

    Raises:
        BlpoError: If there are batches under way.
    """
    if job.batches:
        ids = ", ".join(record.batch or f"one named {record.name}" for record in job.batches.values())
        raise BlpoError(
            f"{job.path}: batches are under way ({ids}); repeat the call with batch_api=True, which takes their "
            "answers in, also of batches that were cancelled at the provider",
            option="batch_api",
        )


def _in_order(workers: Workers, function: Callable[[Any], R], items: Iterable[Any]) -> Iterator[R]:
    """The results of a function in threads, in the order of the items, few of which are taken ahead."""
    left, waiting = iter(items), deque[Future[R]]()
    while True:
        room = _QUEUED * workers.num_threads - len(waiting)
        waiting.extend(workers.submit(function, itertools.islice(left, max(0, room))))
        if not waiting:
            return
        yield waiting.popleft().result()


def _waiting(total: int, states: Collection[BatchState]) -> Waiting:
    """Where the batches of a round stand, with those that are over."""
    ids = tuple(state.id for state in states if not state.over)
    return Waiting(ids, total, sum(state.completed for state in states), sum(state.failed for state in states))


def _lines(endpoint: BatchEndpoint, file: str) -> list[tuple[str, Received | None]]:
    """The answers in a file by request; None for a request that was not made."""
    found = []
    for number, line in enumerate(endpoint.content(file).splitlines(), 1):
        try:
            entry = json.loads(line)
            response = entry.get("response")
            body = None if response is None else json.dumps(response["body"]).encode()
            received = None if body is None else Received(int(response["status_code"]), body)
            found.append((str(entry["custom_id"]), received))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BatchEndpointError(f"line {number} of the file {file} cannot be read: {error}", None) from error
    return found
