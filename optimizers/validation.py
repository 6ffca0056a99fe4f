"""Judging instructions on the validation set, beside the search rather than in its way."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import wait

from blpo_dspy.agreement import Agreement, measure_agreement
from blpo_dspy.labels import LabelSpace
from blpo_dspy.metering import RunStoppedError
from blpo_dspy.optimizers.bench import Bench, PendingJudgements
from blpo_dspy.optimizers.records import Instructions, Judgement, Validation


class Validator:
    """Validates instructions in the background, beside the next round.

    Args:
        bench: Judges the examples.
        examples: Positions of the validation examples.
        labels: The label space, None if only a metric says what is right.
        each_round: Whether every round is to be validated, or only the last.
    """

    def __init__(
        self, bench: Bench, examples: Sequence[int], labels: LabelSpace | None, *, each_round: bool = True
    ) -> None:
        self._bench, self._examples, self._labels, self.each_round = bench, examples, labels, each_round
        self._pending: dict[int, PendingJudgements] = {}

    def start(self, after_round: int, instructions: Instructions) -> None:
        """Starts judging the validation examples under these instructions."""
        self._pending[after_round] = self._bench.start(instructions, self._examples, background=True)

    @property
    def calls(self) -> int:
        """About how many LM calls a validation makes."""
        return len(self._examples) * self._bench.calls_per_judgement

    def wait(self) -> None:
        """Waits for everything that was started."""
        wait([future for pending in self._pending.values() for future in pending.futures])

    def finish(self) -> tuple[Validation, ...]:
        """Waits for everything that was started and returns it in the order of the rounds.

        What a spent budget cut short is left out: half a validation set would not be comparable.
        """
        finished = [self._validation(number, self._pending[number]) for number in sorted(self._pending)]
        return tuple(validation for validation in finished if validation is not None)

    def _validation(self, number: int, pending: PendingJudgements) -> Validation | None:
        try:
            judgements = self._bench.collect(pending)
        except RunStoppedError:
            return None
        score = 1.0 - self._bench.mean_loss(judgements)
        return Validation(number, pending.instructions, score, agreement_of(judgements, self._labels))


def agreement_of(judgements: Sequence[Judgement], labels: LabelSpace | None) -> Agreement | None:
    """Returns the agreement of judgements with the human labels; LM failures are counted apart."""
    if labels is None:
        return None
    answered = [judgement for judgement in judgements if not judgement.failure]
    truth = [judgement.label for judgement in answered]
    predicted = [judgement.predicted for judgement in answered]
    return measure_agreement(labels, truth, predicted, failed=len(judgements) - len(answered))


def best(validations: Sequence[Validation]) -> int:
    """Returns the position of the highest score; the earliest (the start first) of equal ones."""
    return max(range(len(validations)), key=lambda i: (validations[i].score, -i))
