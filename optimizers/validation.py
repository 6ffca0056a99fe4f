"""Judging instructions on the validation set, beside the search rather than in its way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import wait

import dspy

from blpo_dspy.agreement.measure import Agreement, measure_agreement
from blpo_dspy.calls.failures import RunStoppedError
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import notice
from blpo_dspy.optimizers.bench.bench import PendingJudgements
from blpo_dspy.optimizers.bench.records import Instructions, Judgement, Validation
from blpo_dspy.optimizers.bench.run import Run
from blpo_dspy.optimizers.proposals.guards import Guards, mean_losses


class Validator:
    """Validates instructions in the background, beside the next round.

    Args:
        run: The run, whose validation examples are judged.
        each_round: Whether every round is to be validated, or only the start and the last.
    """

    def __init__(self, run: Run, *, each_round: bool = True) -> None:
        self._run, self._bench, self.each_round = run, run.bench, each_round
        self._examples: Sequence[int] = run.data.validation
        self._wanted: dict[int, Instructions] = {}
        self._pending: dict[Instructions, PendingJudgements] = {}
        self._judged: dict[Instructions, list[Judgement] | None] = {}
        self._asked: dict[int, int] = {}

    def start(self, after_round: int, instructions: Instructions) -> None:
        """Starts judging the validation examples under these instructions, unless that was done."""
        wanted = self._wanted.setdefault(after_round, instructions)
        if wanted in self._pending or wanted in self._judged:
            return
        pending = self._pending[wanted] = self._bench.start(wanted, self._examples, background=True)
        self._asked[after_round] = len(pending.futures) * self._run.per_example
        self._run.allowance.promise(self._asked[after_round])

    def check(self, guards: Guards, label_field: str) -> None:
        """Tells what a guard can't guard in this validation set.

        Raises:
            BlpoError: If that is all of it.
        """
        examples = [self._bench.examples[position] for position in self._examples]
        told = guards.unguarded(part for example in examples for part in _parts_of(example, example[label_field]))
        if told is not None:
            notice(told)

    @property
    def calls(self) -> int:
        """About how many LM calls a validation makes."""
        return len(self._examples) * self._run.per_example

    def asked(self, after_round: int) -> int:
        """Returns about how many LM calls this validation made itself; none where an earlier one tells it."""
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
            self._judged[instructions] = self._collected(pending)
            del self._pending[instructions]

    def finish(self) -> tuple[Validation, ...]:
        """Waits for everything that was started and returns it in the order of the rounds.

        Raises:
            ModelError: As `wait`.
        """
        self.wait()
        judged = {number: self._judged[self._wanted[number]] for number in sorted(self._wanted)}
        start = judged.get(0)
        return tuple(self._validation(number, found, start) for number, found in judged.items() if found is not None)

    def _collected(self, pending: PendingJudgements) -> list[Judgement] | None:
        """The judgements; none where the budget cut them short, as half a validation set would not be comparable."""
        try:
            judgements = self._bench.collect(pending)
        except RunStoppedError:
            return None
        if pending.instructions == self._wanted[0]:
            self._bench.check(judgements)
        return judgements

    def _validation(
        self, number: int, judgements: Sequence[Judgement], start: Sequence[Judgement] | None
    ) -> Validation:
        gain = self._bench.gain(start or judgements, judgements)
        failed = sum(bool(judgement.failure) for judgement in judgements)
        return Validation(
            number,
            self._wanted[number],
            1.0 - self._bench.mean_loss(judgements),
            agreement_of(judgements, self._run.labels),
            parts=self._parts(judgements),
            gain=gain or 0.0,
            refused="" if gain is not None else f"the model failed for {failed} of {len(judgements)} examples",
        )

    def _parts(self, judgements: Sequence[Judgement]) -> Mapping[str, tuple[int, float]]:
        return mean_losses(
            (part, judgement.loss)
            for judgement in judgements
            if judgement.loss is not None
            for part in _parts_of(self._bench.examples[judgement.example], judgement.label)
        )


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
    """Returns the position of the highest gain that nothing refused; the earliest (the start first) of equal ones."""
    return max(range(len(validations)), key=lambda i: (not validations[i].refused, validations[i].gain, -i))
