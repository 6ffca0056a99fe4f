"""Verdicts of a judge on one item, and how far they agree with the labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import dspy

from blpo_dspy.agreement.intervals import PairedComparison, compare_paired
from blpo_dspy.agreement.measure import Agreement, Flips, measure_agreement
from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import LabelSpace


@dataclass(frozen=True)
class Verdict:
    """What a judge said about one image.

    Attributes:
        label: Its label, None where the answer states none.
        answer: What the model wrote for the label.
        description: What the verbalizer reported, where the judge has one.
        reasoning: What the judge named as deciding, if it was asked.
        failure: Why there is no answer; "" if there is one.
        outage: Whether that was the model's server rather than the image.
        stopped: Whether it was a cap of the run: nothing was wrong.
        refused: Whether the model refused the request.
        inconsistent: Of a pair that was judged in both orders whether its label changes with the order, so that it is
            the tie or None; None where that was not found out.
        confidence: How sure the judge is, in [0, 1]; None where that is not known.
        escalate: Of a calibrated judge whether the next judge, or people, have to label it; None of any other.
        served_by: The versions of the models that servers report, "" where those are the names that were asked for.
    """

    label: Label | None
    answer: str = ""
    description: str | None = None
    reasoning: str = ""
    failure: str = ""
    outage: bool = False
    stopped: bool = False
    refused: bool = False
    inconsistent: bool | None = None
    confidence: float | None = None
    escalate: bool | None = None
    served_by: str = ""

    @property
    def invalid(self) -> bool:
        """Whether an answer states no label."""
        return self.label is None and not self.failure and not self.inconsistent


def agreement_of(labels: LabelSpace, examples: Sequence[dspy.Example], verdicts: Sequence[Verdict]) -> Agreement:
    """Returns how far verdicts agree with the labels of their examples; failed calls are counted, not judged."""
    answered = [(example.label, v.label) for example, v in zip(examples, verdicts, strict=True) if not v.failure]
    truth, predicted = [true for true, _ in answered], [label for _, label in answered]
    agreement = measure_agreement(labels, truth, predicted, failed=len(verdicts) - len(answered))
    return with_orders(agreement, verdicts)


def with_orders(agreement: Agreement, verdicts: Sequence[Verdict]) -> Agreement:
    """Returns the agreement with how often the order of the images decided, where pairs were judged in both orders.

    A pair without a label for that reason is not an invalid answer.
    """
    found = [verdict.inconsistent for verdict in verdicts if verdict.inconsistent is not None]
    if not found:
        return agreement
    invalid = sum(verdict.invalid for verdict in verdicts)
    rate = invalid / agreement.n if agreement.n else None
    return replace(agreement, invalid=invalid, invalid_rate=rate, flips=Flips(len(found), sum(found)))


def compare_verdicts(
    labels: LabelSpace,
    examples: Sequence[dspy.Example],
    before: Sequence[Verdict],
    after: Sequence[Verdict],
    *,
    seed: int,
) -> PairedComparison | None:
    """Returns two judges' verdicts compared on the examples that both answered; None if there are none."""
    both = [
        (example.label, first.label, second.label)
        for example, first, second in zip(examples, before, after, strict=True)
        if not first.failure and not second.failure
    ]
    if not both:
        return None
    truth, firsts, seconds = (list(column) for column in zip(*both, strict=True))
    return compare_paired(labels, truth, firsts, seconds, seed=seed)
