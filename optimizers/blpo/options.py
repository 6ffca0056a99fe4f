"""The options of BLPO."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

import dspy

from blpo_dspy.optimizers.blpo import prompts as updates
from blpo_dspy.optimizers.blpo.steps import VerbalizerSearch
from blpo_dspy.optimizers.rounds import RoundOptimizer

InnerLoop = Literal["first_gain", "all_steps"]


KeepBack = Literal["auto", "always", "never"]

# T without a budget.
USUAL_ROUNDS = 24
# T with a budget, which ends the search before.
_MANY_ROUNDS = 1000


@dataclass(kw_only=True, eq=False, repr=False)
class BLPOOptions(RoundOptimizer):
    """The options of BLPO.

    Args:
        prompt_model: The optimizer LM, for the two meta-prompts.
        rounds: T, the most outer rounds; by default as many as the budget pays for, 24 without one. Without a budget
            the search also ends after three minibatches of the largest size that led to no update.
        inner_steps: K, the most proposals for the verbalizer instruction in a round.
        inner_loop: "first_gain" tries q* of the round before, where the judge reads descriptions, else q_0; it proposes
            others as long as no update lowered the loss, and takes the first that does. "all_steps" (the paper) starts
            from the student's q_0 every round, makes all K steps and takes the best update, even if it raised the loss.
        batch_size: The most mistakes that the optimizer LM is shown.
        shown_right: The most examples that it is shown next to them as right; half as many where the judge reads no
            descriptions, since they have to be described for this alone.
        minibatch_size: How many training examples a round judges to find mistakes and to score updates on; None for
            the paper's search: all of them are judged every round, and updates are scored on the mistakes alone.
        minibatch_growth: How many times as large the next minibatch is after one that led to no update, and after each
            pass through the training examples, up to 60.
        minibatch_updates: The most updates from one minibatch.
        keep_back: Whether half of the mistakes are kept back from the optimizer LM and updates are scored on what it
            did not see: "always", "never", or "auto", from when it corrects what it is shown, and from the start with
            fewer than 50 training examples.
        instruction_words: How many words longer than the student's a judge instruction may be; None for no limit.
        verbalizer_search: "learned" proposes verbalizer instructions (eq. 10). The paper's ablations: "fixed" keeps the
            student's and takes the best of K + 1 updates from it, "judge" takes the judge instruction itself.
        update_judge: Meta-prompt for eq. 6, `updates.UpdateJudge` or one with its fields.
        update_verbalizer: Meta-prompt for eq. 10, `updates.UpdateVerbalizer` or one with its fields; without `errors`
            and `right` it is not shown the mistakes that the reports are for.

    Raises:
        BlpoError: If an option is out of its range.
    """

    rounds: int | None = None
    inner_steps: int = 1
    inner_loop: InnerLoop = "first_gain"
    batch_size: int = 10
    shown_right: int = 4
    minibatch_size: int | None = 20
    minibatch_growth: float = 1.5
    minibatch_updates: int = 4
    keep_back: KeepBack = "auto"
    instruction_words: int | None = 150
    verbalizer_search: VerbalizerSearch = "learned"
    update_judge: type[dspy.Signature] = field(default_factory=lambda: updates.UpdateJudge)
    update_verbalizer: type[dspy.Signature] = field(default_factory=lambda: updates.UpdateVerbalizer)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_least(inner_steps=0, batch_size=1, shown_right=0, minibatch_updates=1)
        self._check_least(minibatch_growth=1.0)
        for name in ("rounds", "minibatch_size", "instruction_words"):
            if getattr(self, name) is not None:
                self._check_least(**{name: 1})
        self._check_one_of(
            inner_loop=get_args(InnerLoop),
            keep_back=get_args(KeepBack),
            verbalizer_search=get_args(VerbalizerSearch),
        )

    @property
    def most_rounds(self) -> int:
        """T, given or by default."""
        return self.rounds or (USUAL_ROUNDS if self.budget is None else _MANY_ROUNDS)
