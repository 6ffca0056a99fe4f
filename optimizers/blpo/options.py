"""The options of BLPO."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

import dspy

from blpo_dspy.optimizers.blpo import prompts as updates
from blpo_dspy.optimizers.blpo.steps import VerbalizerSearch
from blpo_dspy.optimizers.rounds import RoundOptimizer

ErrorSearch = Literal["lazy", "full"]


@dataclass(kw_only=True, eq=False, repr=False)
class BLPOOptions(RoundOptimizer):
    """The options of BLPO.

    Args:
        prompt_model: The optimizer LM, for the three meta-prompts.
        rounds: T, the outer rounds.
        inner_steps: K, the most proposals for the verbalizer instruction in a round; fewer where a cap on calls would
            not pay for four rounds, or for all if they are fewer.
        batch_size: The most mistakes in a batch.
        guard_size: The most right examples that join a batch to score an update on; 0 for the paper's errors only.
        error_search: "lazy" judges random training examples until batch and guard are full, "full" all of them every
            round.
        stratified: Draw the mistakes evenly from the cells of the confusion matrix (with a full search).
        verbalizer_search: "learned" proposes verbalizer instructions (eq. 10). The paper's ablations: "fixed" keeps the
            student's and takes the best of K + 1 updates from it, "judge" takes the judge instruction itself.
        warm_start: Whether q* is the first verbalizer instruction of the next round; q_0 if not.
        merge: Whether the best updates of a round are joined by one more call and tried too.
        keep_if_worse: Whether the best update is taken even if it raised the loss on its batch.
        update_judge: Meta-prompt for eq. 6, `updates.UpdateJudge` or one with its fields.
        update_verbalizer: Meta-prompt for eq. 10, `updates.UpdateVerbalizer` or one with its fields.
        merge_updates: Meta-prompt that joins updates, `updates.MergeUpdates` or one with its fields.

    Raises:
        BlpoError: If an option is out of its range.
    """

    rounds: int = 8
    inner_steps: int = 3
    batch_size: int = 10
    guard_size: int = 10
    error_search: ErrorSearch = "lazy"
    stratified: bool = False
    verbalizer_search: VerbalizerSearch = "learned"
    warm_start: bool = True
    merge: bool = True
    keep_if_worse: bool = False
    update_judge: type[dspy.Signature] = field(default_factory=lambda: updates.UpdateJudge)
    update_verbalizer: type[dspy.Signature] = field(default_factory=lambda: updates.UpdateVerbalizer)
    merge_updates: type[dspy.Signature] = field(default_factory=lambda: updates.MergeUpdates)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_least(rounds=1, inner_steps=0, batch_size=1, guard_size=0)
        self._check_one_of(error_search=get_args(ErrorSearch), verbalizer_search=get_args(VerbalizerSearch))
