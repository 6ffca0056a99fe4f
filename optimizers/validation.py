"""Judging instructions on the validation set."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import dspy

from blpo_dspy.agreement.measure import Agreement, measure_agreement
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import notice
from blpo_dspy.log import log_event
from blpo_dspy.optimizers.bench.records import Instructions, Judgement, Validation
from blpo_dspy.optimizers.bench.run import Run, unmeasured
from blpo_dspy.optimizers.bench.sampling import drawn
from blpo_dspy.optimizers.proposals.guards import Guards, mean_losses
from blpo_dspy.workspace.failures import RunStoppedError

# The share of a cap on calls that validating the start and the end may take, and how often a search goes through the
# training examples before it learns more of them by heart than from them: what a cap pays for beyond that is better
# spent on validation.
_SHARE, _PASSES = 0.1, 6
# Fewer examples with the same label may be chance.
_ENOUGH = 10


class Validator:
    """Validates instructions.

    Args:
        run: The run, whose validation examples are judged; under a cap on calls a part of them, in which each label is
            as frequent as any other as far as possible.
        on_validation: Called with each validation once it is measured.

    Attributes:
        each_pass: Whether what each pass through the training examples led to is to be validated, or, under any budget,
            only the start and the end: most of it is to be spent on the search.
        found: What was measured, in the order of the rounds.
    """

    def __init__(self, run: Run, on_validation: Callable[[Validation], None] | None = None) -> None:
        self._on_validation = on_validation
        self._run, self._bench, self.each_pass = run, run.bench, run.budget is None
        size = validation_size(len(run.data.validation), run.max_calls, run.per_example, len(run.data.train))
        self._examples = balanced(run, size)
        self._start: list[Judgement] = []
        self.found: list[Validation] = []

    def validate(self, after_round: int, instructions: Instructions) -> None:
        """Judges the validation examples under these instructions, unless that was done.

        What the budget cuts short is not measured: half a validation set would not be comparable.

        Raises:
            BlpoError: If that is the start, without which nothing is.
            ModelError: If the LM failed on too many examples, of the start or for a reason that may pass.
        """
        if self.found and self.found[-1].after_round == after_round:
            return
        known = next((found for found in self.found if found.instructions == instructions), None)
        if known is not None:
            self.found.append(replace(known, after_round=after_round, spent=self._spent))
            return
        try:
            judgements = self._bench.judge(instructions, self._examples)
        except RunStoppedError as stopped:
            if not after_round:
                start = "the start was not judged on the validation images"
                raise unmeasured(self._run.meter, start, str(stopped)) from stopped
            return
        if not after_round:
            self._bench.check(judgements)
            self._start = judgements
        found = self._validation(after_round, instructions, judgements)
        self.found.append(found)
        _log_validation(found)
        if self._on_validation is not None:
            self._on_validation(found)

    @property
    def _spent(self) -> int:
        return self._run.meter.ledger.total.calls

    def check(self, guards: Guards, label_field: str) -> None:
        """Warns of what a guard can't guard in this validation set.

        Raises:
            BlpoError: If that is all of it.
        """
        examples = [self._bench.examples[position] for position in self._examples]
        groups = _groups([example[label_field] for example in examples], self._run.labels)
        parts = (part for example, group in zip(examples, groups, strict=True) for part in _parts_of(example, group))
        unguarded = guards.unguarded(parts)
        if unguarded is not None:
            notice(unguarded)

    @property
    def calls(self) -> int:
        """About how many LM calls a validation makes."""
        return len(self._examples) * self._run.per_example

    def _validation(self, after_round: int, instructions: Instructions, judgements: Sequence[Judgement]) -> Validation:
        gain = self._bench.gain(self._start, judgements)
        failed = sum(bool(judgement.failure) for judgement in judgements)
        return Validation(
            after_round,
            instructions,
            1.0 - self._bench.mean_loss(judgements),
            len(judgements),
            agreement_of(judgements, self._run.labels),
            spent=self._spent,
            parts=parts_of(judgements, self._bench.examples, self._run.labels),
            gain=gain or 0.0,
            refused="" if gain is not None else f"the model failed for {failed} of {len(judgements)} examples",
            judgements=tuple(judgements),
        )


def _log_validation(found: Validation) -> None:
    log_event(
        "validation",
        f"validation after round {found.after_round}: score {found.score:.3f} on {found.examples} examples"
        + (f", refused: {found.refused}" if found.refused else ""),
        round=found.after_round,
        score=found.score,
        examples=found.examples,
        refused=found.refused,
    )


def parts_of(
    judgements: Sequence[Judgement], examples: Sequence[dspy.Example], labels: LabelSpace | None
) -> Mapping[str, tuple[int, float]]:
    """Returns how many judgements there are of each human label and each group, and their mean loss.

    Scores are put into bins (`LabelSpace.strata`), the same ones for all judgements of the same examples.
    """
    groups = _groups([judgement.label for judgement in judgements], labels)
    return mean_losses(
        (part, judgement.loss)
        for judgement, group in zip(judgements, groups, strict=True)
        if judgement.loss is not None
        for part in _parts_of(examples[judgement.example], group)
    )


def validation_size(available: int, max_calls: int | None, per_example: int, train: int) -> int:
    """Returns how many validation examples are judged, all of them without a cap on calls.

    Args:
        available: How many there are.
        max_calls: The cap on calls.
        per_example: LM calls that judging an example takes.
        train: How many training examples there are.
    """
    if max_calls is None:
        return available
    calls = max(int(_SHARE * max_calls), max_calls - _PASSES * train * per_example)
    return min(available, max(1, calls // (2 * per_example)))


def balanced(run: Run, size: int) -> Sequence[int]:
    """Returns so many validation examples, drawn with the run's seed from the labels in turn."""
    by_label: dict[str, list[int]] = {}
    order = drawn(run.data.validation, run.seed)
    groups = _groups([run.data.examples[position][run.label_field] for position in order], run.labels)
    for position, group in zip(order, groups, strict=True):
        by_label.setdefault(group, []).append(position)
    in_turn = [p for found in itertools.zip_longest(*by_label.values()) for p in found if p is not None]
    return sorted(in_turn[:size])


def _groups(given: Sequence[Any], labels: LabelSpace | None) -> list[str]:
    """The group that each human label belongs to, as text."""
    return [str(group) for group in (given if labels is None else labels.strata(given)[1])]


def _parts_of(example: dspy.Example, label: str) -> list[str]:
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


def lost_labels(before: Validation | None, after: Validation | None) -> str | None:
    """Returns in words that a judge now gives all examples one label, None if it does not, or always did.

    Where nearly all examples have the same label, that lowers the mean loss, and makes the judge useless.
    """
    if before is None or after is None or before.agreement is None or after.agreement is None:
        return None
    given, people = _given(after.agreement), [sum(row) for row in after.agreement.confusion]
    if len(given) != 1 or len(_given(before.agreement)) < 2 or sum(map(bool, people)) < 2 or sum(people) < _ENOUGH:
        return None
    (label,) = given
    return (
        f"the returned judge gives every one of {sum(people)} {after.agreement.labels.names[label]!r}, which people "
        f"gave {people[label]} of them; use training and validation images with about equally many of each label, or "
        "refuse such judges with the guard part_loss"
    )


def _given(agreement: Agreement) -> set[int]:
    """The positions of the labels that a judge gave; none of scores."""
    return {i for row in agreement.confusion for i, count in enumerate(row[:-1]) if count}


def best(validations: Sequence[Validation]) -> int:
    """Returns the position of the highest gain that nothing refused.

    Of equal ones it is the latest that changes the judge instruction: the search took it for its gains on training
    examples, which a small validation set may not show. If none changes it, it is the earliest.
    """

    def rank(i: int) -> tuple[bool, float, bool, int]:
        changed = validations[i].instructions.judge != validations[0].instructions.judge
        return not validations[i].refused, validations[i].gain, changed, i if changed else -i

    return max(range(len(validations)), key=rank)
