"""What happened in a run, as frozen records; everything else is derived from them."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from blpo_dspy.agreement.measure import Agreement
from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.errors import brief
from blpo_dspy.notebook import html_table, one_line, share
from blpo_dspy.workspace.ledger import Ledger

UNCHANGED = "the instruction is unchanged"


@dataclass(frozen=True)
class Instructions:
    """The two texts that are optimized: the judge instruction p and the verbalizer instruction q."""

    judge: str
    verbalizer: str


@dataclass(frozen=True)
class Judgement:
    """One example judged under some instructions.

    Attributes:
        example: Position in the dataset (training examples first, then validation examples).
        label: The human label y.
        predicted: The judge's label, None where its answer states none.
        loss: ℓ in [0, 1]; None where the LM failed, which is not a wrong answer.
        answer: What the judge wrote for its label.
        description: What the verbalizer reported, where the program called it.
        failure: Why the LM gave no answer at all; "" if it did.
        outage: Whether it failed for a reason that may pass (a time-out, a rate limit), rather than refusing the
            example.
        tolerated: The largest loss of an answer that counts as right (`LabelSpace.tolerated`).
        reasoning: What the judge wrote before its label, where the program has it do so.
    """

    example: int
    label: Any
    predicted: Label | None
    loss: float | None
    answer: str = ""
    description: str | None = None
    failure: str = ""
    outage: bool = False
    tolerated: float = 0.0
    reasoning: str = ""

    @property
    def mistake(self) -> bool:
        """Whether the judge answered, and not rightly."""
        return self.loss is not None and self.loss > self.tolerated

    @property
    def right(self) -> bool:
        """Whether the judge answered rightly."""
        return self.loss is not None and not self.mistake

    @property
    def valid(self) -> bool:
        """Whether the judge answered with a label."""
        return self.loss is not None and self.predicted is not None


@dataclass(frozen=True)
class Batch:
    """The training examples that a round works on: I_B, the mistakes shown to the optimizer LM, and the others.

    Attributes:
        errors: The judge's mistakes that the optimizer LM is shown.
        right: Examples that the judge gets right and that it isn't shown.
        kept_back: Mistakes that it isn't shown.
        shown_right: Examples that the judge gets right and that it is shown as such.
        searched: How many training examples were judged to find them.
        held_out: Whether an update is scored only on what the optimizer LM was not shown.
    """

    errors: tuple[Judgement, ...]
    right: tuple[Judgement, ...] = ()
    kept_back: tuple[Judgement, ...] = ()
    shown_right: tuple[Judgement, ...] = ()
    searched: int = 0
    held_out: bool = False

    @classmethod
    def of(cls, judgements: Sequence[Judgement]) -> Batch:
        """Returns all of some judgements as a batch; those that the LM failed on are in no part."""
        errors = tuple(judgement for judgement in judgements if judgement.mistake)
        right = tuple(judgement for judgement in judgements if judgement.right)
        return cls(errors, right, searched=len(judgements))

    @property
    def judgements(self) -> tuple[Judgement, ...]:
        """Every judgement of the batch."""
        return (*self.errors, *self.kept_back, *self.right, *self.shown_right)

    @property
    def scored(self) -> tuple[tuple[Judgement, ...], tuple[Judgement, ...]]:
        """The mistakes and the right examples that an update is scored on."""
        if self.held_out:
            return self.kept_back, self.right
        return (*self.errors, *self.kept_back), (*self.right, *self.shown_right)

    @property
    def mistakes(self) -> int:
        """How many mistakes it holds."""
        return len(self.errors) + len(self.kept_back)


@dataclass(frozen=True)
class Rejection:
    """A proposal of the optimizer LM that was not used, and why."""

    reason: str
    text: str

    @property
    def kind(self) -> str:
        """The reason without its particulars, which stand after a colon or in brackets."""
        return re.split(r": | \(", self.reason, maxsplit=1)[0]


@dataclass(frozen=True)
class Trial:
    """Instructions that were tried: in BLPO a verbalizer instruction q_k with the update J(q_k, p) that it led to.

    Attributes:
        origin: "start" (instructions the round began with) or "proposal" (in BLPO from Update_q).
        verbalizer: q_k, None if no proposal could be used.
        judge: J(q_k, p); p itself where the optimizer LM found nothing to change, None if no update could be used.
        score: What the algorithm compares: in BLPO the mean reduction of the loss over the batch, in [-1, 1] (eq. 9);
            where mistakes were kept back, as estimated from what the optimizer LM was not shown; where it can't be
            positive any more, the most it could be. In the others the mean score, 1 − loss, on the examples it was
            tried on, in [0, 1]. None where nothing was tried.
        shown_gain: The mean reduction of the loss over the mistakes that the optimizer LM was shown, in [-1, 1]; None
            where they were not judged again.
        kept_back_gain: The same over the mistakes that it was not shown. How much lower it is than `shown_gain` is
            what the update learned by heart.
        mistakes: How many examples of the batch the judge gets wrong with it; None where not all were judged again.
        descriptions: What the verbalizer reported about the errors under q_k, in the order of the batch.
        criticism: What the optimizer LM found wrong, where the algorithm asks for that before a proposal.
        rejections: Proposals that were not used.
        invalid: How many of the scored answers stated no label.
        failed: How many examples were left out of the score because the LM failed.
    """

    origin: Literal["start", "proposal"]
    verbalizer: str | None
    judge: str | None = None
    score: float | None = None
    shown_gain: float | None = None
    kept_back_gain: float | None = None
    mistakes: int | None = None
    descriptions: tuple[str, ...] = ()
    criticism: tuple[str, ...] = ()
    rejections: tuple[Rejection, ...] = ()
    invalid: int = 0
    failed: int = 0

    @property
    def instructions(self) -> Instructions:
        """Both texts, of a trial that has them."""
        assert self.judge is not None
        assert self.verbalizer is not None
        return Instructions(self.judge, self.verbalizer)

    def scored(self, score: float | None, judgements: Sequence[Judgement]) -> Trial:
        """Returns the trial with its score and the counts of the judgements behind it."""
        invalid = sum(not judgement.valid and not judgement.failure for judgement in judgements)
        return replace(self, score=score, invalid=invalid, failed=sum(bool(j.failure) for j in judgements))


@dataclass(frozen=True)
class Round:
    """One outer round (a pass of Algorithm 1's outer loop).

    Attributes:
        number: t, counted from 0.
        start: p_t and the verbalizer instruction that the round began with.
        batch: The examples that it worked on.
        trials: The inner history H_K, in order.
        chosen: Position in `trials` of q*; None where no update was taken.
        ends_pass: Whether the round was the last of a pass through the training examples.
        spent: LM calls of the run when the round was completed.
    """

    number: int
    start: Instructions
    batch: Batch
    trials: tuple[Trial, ...]
    chosen: int | None
    ends_pass: bool = True
    spent: int = field(default=0, compare=False)

    @property
    def end(self) -> Instructions:
        """p_{t+1} and the verbalizer instruction it was found with."""
        return self.start if self.chosen is None else self.trials[self.chosen].instructions

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Validation:
    """Instructions judged on the validation set, or on the part of it that a cap on calls pays for.

    Attributes:
        after_round: How many rounds led to these instructions; 0 for the start.
        instructions: What was validated.
        score: 1 − mean loss (the mean metric), in [0, 1].
        examples: How many validation examples were judged.
        agreement: Agreement with the human labels, None where labels are not from a closed set.
        spent: LM calls of the run when this was measured.
        parts: Examples and mean loss of each part of the validation set: of each human label and each group.
        gain: How much lower the mean loss is than the start's, on the examples that the LM answered both times.
        refused: What kept these instructions from being returned, a guard or too many failed calls; "" if nothing.
        judgements: What was judged, for those who look at the examples again; not part of the record.
    """

    after_round: int
    instructions: Instructions
    score: float
    examples: int
    agreement: Agreement | None = None
    spent: int = field(default=0, compare=False)
    parts: Mapping[str, tuple[int, float]] = field(default_factory=dict)
    gain: float = 0.0
    refused: str = ""
    judgements: tuple[Judgement, ...] = field(default=(), compare=False, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON."""
        plain = asdict(replace(self, judgements=()))
        del plain["judgements"]
        return {**plain, "agreement": None if self.agreement is None else self.agreement.to_dict()}


@dataclass(frozen=True, repr=False)
class BLPOResult:
    """Everything a run recorded.

    Attributes:
        start: p_0 and q_0.
        rounds: The rounds that were completed, in order.
        validations: The validated instructions, the start first.
        returned: The instructions of the returned program.
        ledger: The LM calls by role.
        stop_reason: Why the run ended, in words.
        options: The optimizer's options, as JSON-ready data.
        demos: Demonstrations of the returned program by predictor name, where the optimizer gave it any.
        warnings: What a user should have changed before the run.
        unused: What earlier sessions under another budget paid for that this one had no use for.
        capped: Whether a cap ended the run, rather than the algorithm itself.
        validated_on: What validations were made on: a validation set ("val"), or without one the training images
            ("train"), whose figures are too good.
    """

    start: Instructions
    rounds: tuple[Round, ...]
    validations: tuple[Validation, ...]
    returned: Instructions
    ledger: Ledger
    stop_reason: str
    options: Mapping[str, Any] = field(default_factory=dict)
    demos: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    unused: Ledger = Ledger({})  # noqa: RUF009 - frozen
    capped: bool = False
    validated_on: Literal["val", "train"] = "val"

    def __repr__(self) -> str:
        counts = f"{len(self.rounds)} rounds, {len(self.validations)} validations, {self.ledger.total.calls:,} calls"
        return one_line(self, f"{counts}: {self.stop_reason}")

    def _repr_html_(self) -> str:
        rows: list[list[object]] = [["after round", "score", f"{self.validated_on} examples", ""]]
        for each in self.validations:
            end = "returned" if each is self.after else brief(each.refused, 80)
            rows.append([each.after_round, share(each.score), f"{each.examples:,}", end])
        return f"{html_table(rows)}<p>{html.escape(self.stop_reason)}</p>"

    @property
    def before(self) -> Validation | None:
        """The start on the validation set, None if nothing was validated."""
        return next((v for v in self.validations if v.after_round == 0), None)

    @property
    def after(self) -> Validation | None:
        """The returned program on the validation set, None if nothing was validated."""
        return next((v for v in self.validations if v.instructions == self.returned), None)

    @property
    def rejections(self) -> tuple[Rejection, ...]:
        """Every rejected proposal of the run, in order."""
        return tuple(rejection for r in self.rounds for trial in r.trials for rejection in trial.rejections)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON."""
        return {
            "start": asdict(self.start),
            "rounds": [r.to_dict() for r in self.rounds],
            "validations": [v.to_dict() for v in self.validations],
            "validated_on": self.validated_on,
            "returned": asdict(self.returned),
            "ledger": self.ledger.to_dict(),
            "unused": self.unused.to_dict(),
            "stop_reason": self.stop_reason,
            "options": dict(self.options),
            "warnings": list(self.warnings),
        }
