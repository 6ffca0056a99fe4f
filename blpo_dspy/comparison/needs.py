"""What the chosen methods need, checked before anything is paid for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import dspy

from blpo_dspy.comparison.methods import METHODS, Method
from blpo_dspy.errors import BlpoError
from blpo_dspy.models.lm import Models
from blpo_dspy.optimizers.base import JudgeOptimizer
from blpo_dspy.programs.visual_judge import VisualJudge
from blpo_dspy.workspace.budget import Budget
from blpo_dspy.workspace.job import Job


@dataclass(frozen=True)
class Terms:
    """What every method of a comparison is run with.

    Attributes:
        models: The models by role.
        budget: The caps of each method.
    """

    models: Models
    budget: Budget

    def optimizer(self, method: Method, seed: int, answers: Job) -> JudgeOptimizer | None:
        """Returns a method's optimizer, None for no optimization.

        Raises:
            BlpoError: If the method's own options are out of their range.
        """
        if method.make is None:
            return None
        return method.make(
            prompt_model=_apart(self.models.optimizer, seed),
            task_model=self.models.judge,
            verbalizer_model=self.models.verbalizer,
            budget=self.budget,
            seed=seed,
            answers=answers,
            **method.options,
        )


def check_methods(
    methods: Mapping[str, Method],
    terms: Terms,
    student: VisualJudge,
    trainset: Sequence[dspy.Example],
    valset: Sequence[dspy.Example],
) -> None:
    """Checks that every method can run, without an LM call.

    Raises:
        BlpoError: Naming every one that cannot, why, and what to leave out.
    """
    unmet = {name: _unmet(method, terms, student, trainset, valset) for name, method in methods.items()}
    lines = [f"  - {name}: {'; '.join(found)}" for name, found in unmet.items() if found]
    if not lines:
        return
    left = [name for name, method in methods.items() if method.make is not None and not unmet[name]]
    advice = "put that right"
    if left:
        written = f"optimizers={','.join(left)!r}" if METHODS.keys() >= set(left) else f"keep {', '.join(left)}"
        advice = f"leave them out ({written}), or put that right"
    those = "optimizer" if len(lines) == 1 else "optimizers"
    summary = f"{len(lines)} of the chosen {those} cannot run, and nothing was spent; {advice}:"
    raise BlpoError("\n".join([summary, *lines]), option=("optimizers", "max_calls", "max_instruction_tokens"))


def _unmet(
    method: Method,
    terms: Terms,
    student: VisualJudge,
    trainset: Sequence[dspy.Example],
    valset: Sequence[dspy.Example],
) -> list[str]:
    try:
        optimizer = terms.optimizer(method, 0, Job.in_memory())
    except BlpoError as error:
        return [str(error)]
    return [] if optimizer is None else optimizer.unmet(method.student(student), trainset=trainset, valset=valset)


def _apart(lm: dspy.LM, seed: int) -> dspy.LM:
    """The LM with samples of its own for each seed, as the answers are shared; one without sampling has but one."""
    copy = lm.copy(rollout_id=seed) if seed and lm.kwargs.get("temperature") != 0 else lm
    assert isinstance(copy, dspy.LM)
    return copy
