"""Judging instructions on the validation set, in the background of the search."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import wait
from dataclasses import replace

import dspy

from blpo_dspy.agreement.measure import Agreement, measure_agreement
from blpo_dspy.calls.failures import RunStoppedError
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import notice
from blpo_dspy.optimizers.bench.bench import PendingJudgements
from blpo_dspy.optimizers.bench.records import Instructions, Judgement, Validation
from blpo_dspy.optimizers.bench.run import Run
from blpo_dspy.optimizers.bench.sampling import drawn
from blpo_dspy.optimizers.proposals.guards import Guards, mean_losses

# The most of a cap on calls that validating the start and the end may take.
_SHARE = 0.1


class Validator:
    """Validates the start in the background of the first round, and what the search ends with after the last.

    Args:
        run: The run, whose validation examples are judged; under a cap on calls a part of them, in which each label is
            as frequent as any other as far as possible.
        on_validation: Called with each validation once it is measured.
    """

    def __init__(self, run: Run, on_validation: Callable[[Validation], None] | None = None) -> None:
        self._on_validation = on_validation
        self._run, self._bench = run, run.bench
        self._examples: Sequence[int] = run.data.validation
        size = validation_size(len(self._examples), run.max_calls, run.per_example)
        if size < len(self._examples):
            self._examples = _balanced(run, size)
        self._wanted: dict[int, Instructions] = {}
        self._pending: dict[Instructions, PendingJudgements] = {}
        self._measured: dict[Instructions, Validation | None] = {}
        self._start: list[Judgement] | None = None
        self._asked: dict[int, int] = {}

    def start(self, after_round: int, instructions: Instructions) -> None:
        """Starts judging the validation examples under these instructions, unless that was done."""
        wanted = self._wanted.setdefault(after_round, instructions)
        if wanted in self._pending or wanted in self._measured:
            return
        pending = self._pending[wanted] = self._bench.start(wanted, self._examples, background=True)
        self._asked[after_round] = len(pending.futures) * self._run.per_example
        self._run.allowance.promise(self._asked[after_round])

    def check(self, guards: Guards, label_field: str) -> None:
        """Warns of what a guard can't guard in this validation set.

        Raises:
            BlpoError: If that is all of it.
        """
        examples = [self._bench.examples[position] for position in self._examples]
        unguarded = guards.unguarded(part for example in examples for part in _parts_of(example, example[label_field]))
        if unguarded is not None:
            notice(unguarded)

    @property
    def calls(self) -> int:
        """About how many LM calls a validation makes."""
        return len(self._examples) * self._run.per_example

    def asked(self, after_round: int) -> int:
        """Returns about how many LM calls this validation made itself; none where an earlier one judged the same."""
        return self._asked.get(after_round, 0)

    def wait(self) -> None:
        """Waits for everything that was started; what an outage took of it is judged again while there is budget.

        Raises:
            ModelError: If the LM failed on too many examples, of the start or for a reason that may pass.
        """
        wait([future for pending in self._pending.values() for future in pending.futures])
        self._run.allowance.settle()
        while self._pending:
            instructions, pending = next(iter(self._pending.items()))
            self._measured[instructions] = found = self._collected(pending)
            del self._pending[instructions]
            if found is not None and self._on_validation is not None:
                self._on_validation(found)

    def finish(self) -> tuple[Validation, ...]:
        """Waits for everything that was started and returns it in the order of the rounds.

        Raises:
            ModelError: As `wait`.
        """
        self.wait()
        measured = ((number, self._measured[self._wanted[number]]) for number in sorted(self._wanted))
        return tuple(replace(found, after_round=number) for number, found in measured if found is not None)

    def _collected(self, pending: PendingJudgements) -> Validation | None:
        """The validation; None where the budget cut them short, as half a validation set would not be comparable."""
        try:
            judgements = self._bench.collect(pending)
        except RunStoppedError:
            return None
        if pending.instructions == self._wanted[0]:
            self._bench.check(judgements)
            self._start = judgements
        return self._validation(pending.instructions, judgements)

    def _validation(self, instructions: Instructions, judgements: Sequence[Judgement]) -> Validation:
        gain = self._bench.gain(self._start or judgements, judgements)
        failed = sum(bool(judgement.failure) for judgement in judgements)
        return Validation(
            next(number for number, wanted in self._wanted.items() if wanted == instructions),
            instructions,
            1.0 - self._bench.mean_loss(judgements),
            len(judgements),
            agreement_of(judgements, self._run.labels),
            parts=parts_of(judgements, self._bench.examples),
            gain=gain or 0.0,
            refused="" if gain is not None else f"the model failed for {failed} of {len(judgements)} examples",
        )


def parts_of(judgements: Sequence[Judgement], examples: Sequence[dspy.Example]) -> Mapping[str, tuple[int, float]]:
    """Returns how many judgements there are of each human label and each group, and their mean loss."""
    return mean_losses(
        (part, judgement.loss)
        for judgement in judgements
        if judgement.loss is not None
        for part in _parts_of(examples[judgement.example], judgement.label)
    )


def validation_size(available: int, max_calls: int | None, per_example: int) -> int:
    """Returns how many validation examples are judged, all of them without a cap on calls.

    Args:
        available: How many there are.
        max_calls: The cap on calls.
        per_example: LM calls that judging an example takes.
    """
    return available if max_calls is None else min(available, max(1, int(_SHARE * max_calls) // (2 * per_example)))


def _balanced(run: Run, size: int) -> Sequence[int]:
    """So many validation examples, drawn with the run's seed from the labels in turn."""
    by_label: dict[str, list[int]] = {}
    for position in drawn(run.data.validation, run.seed):
        by_label.setdefault(str(run.data.examples[position][run.label_field]), []).append(position)
    in_turn = [p for found in itertools.zip_longest(*by_label.values()) for p in found if p is not None]
    return sorted(in_turn[:size])


def _parts_of(example: dspy.Example, label: object) -> list[str]:
    """The parts of the validation set that an example belongs to."""
    return [f"label {label}", *([f"group {example.group}"] if example.get("group") else [])]


def agreement_of(judgements: Sequence[Judgement], labels: LabelSpace | None) -> Agreement | None:
    """Returns the agreement of judgements with the human labels; LM failures are counted apart."""
    if labels is None:
        return None
    answered = [judgement for judgement in judgements if not judgement.failure]
    truth = [judgement.label for judgement in answered]
    predicted = [judgement.predicted for judgement in answered]
    return measure_agreement(labels, truth, predicted, failed=len(judgements) - len(answered))


def best(validations: Sequence[Validation]) -> int:
    """Returns the position of the highest gain that nothing refused.

    Of equal ones it is the latest that changes the judge instruction: the search took it for its gains on training
    examples, which a small validation set may not show. If none changes it, it is the earliest.
    """

    def rank(i: int) -> tuple[bool, float, bool, int]:
        changed = validations[i].instructions.judge != validations[0].instructions.judge
        return not validations[i].refused, validations[i].gain, changed, i if changed else -i

    return max(range(len(validations)), key=rank)
