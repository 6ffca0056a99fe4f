"""Judging instructions on the validation set, beside the search rather than in its way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import wait

from blpo_dspy.agreement import Agreement, measure_agreement
from blpo_dspy.labels import LabelSpace
from blpo_dspy.metering import RunStoppedError
from blpo_dspy.optimizers.bench import PendingJudgements
from blpo_dspy.optimizers.guards import mean_losses
from blpo_dspy.optimizers.records import Instructions, Judgement, Validation
from blpo_dspy.optimizers.run import Run


class Validator:
    """Validates instructions in the background, beside the next round.

    Args:
        run: The run, whose validation examples are judged.
        each_round: Whether every round is to be validated, or only the start and the last.
    """

    def __init__(self, run: Run, *, each_round: bool = True) -> None:
        self._run, self._bench, self.each_round = run, run.bench, each_round
        self._examples: Sequence[int] = run.data.validation
        self._pending: dict[int, PendingJudgements] = {}

    def start(self, after_round: int, instructions: Instructions) -> None:
        """Starts judging the validation examples under these instructions, unless that was done."""
        if after_round in self._pending:
            return
        pending = next((known for known in self._pending.values() if known.instructions == instructions), None)
        if pending is None:
            pending = self._bench.start(instructions, self._examples, background=True)
            self._run.allowance.promise(len(pending.futures) * self._run.per_example)
        self._pending[after_round] = pending

    @property
    def calls(self) -> int:
        """About how many LM calls a validation makes."""
        return len(self._examples) * self._run.per_example

    def wait(self) -> None:
        """Waits for everything that was started."""
        wait([future for pending in self._pending.values() for future in pending.futures])
        self._run.allowance.settle()

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
        agreement = agreement_of(judgements, self._run.labels)
        return Validation(number, pending.instructions, score, agreement, parts=self._parts(judgements))

    def _parts(self, judgements: Sequence[Judgement]) -> Mapping[str, tuple[int, float]]:
        answered = [(j, self._bench.examples[j.example], j.loss) for j in judgements if j.loss is not None]
        labels = [(f"label {judgement.label}", loss) for judgement, _, loss in answered]
        groups = [(f"group {example.group}", loss) for _, example, loss in answered if example.get("group")]
        return mean_losses(labels + groups)


def agreement_of(judgements: Sequence[Judgement], labels: LabelSpace | None) -> Agreement | None:
    """Returns the agreement of judgements with the human labels; LM failures are counted apart."""
    if labels is None:
        return None
    answered = [judgement for judgement in judgements if not judgement.failure]
    truth = [judgement.label for judgement in answered]
    predicted = [judgement.predicted for judgement in answered]
    return measure_agreement(labels, truth, predicted, failed=len(judgements) - len(answered))


def best(validations: Sequence[Validation]) -> int:
    """Returns the position of the highest score that no guard refused; the earliest (the start first) of equal ones."""
    return max(range(len(validations)), key=lambda i: (not validations[i].refused, validations[i].score, -i))
