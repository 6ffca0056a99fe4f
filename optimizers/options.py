"""The options that all optimizers share."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import Field, dataclass, fields
from numbers import Integral
from typing import Any, ClassVar

import dspy

from blpo_dspy.data.labels.space import LabelSpace, check_space
from blpo_dspy.errors import BlpoError, check_kind, check_least
from blpo_dspy.optimizers.bench.scoring import Metric, check_metric
from blpo_dspy.optimizers.docstrings import with_inherited_options
from blpo_dspy.workspace.budget import Budget
from blpo_dspy.workspace.failures import RunStoppedError
from blpo_dspy.workspace.job import Job


@dataclass(kw_only=True, eq=False, repr=False)
class OptimizerOptions:
    """The options that all optimizers share.

    Args:
        prompt_model: The optimizer LM.
        metric: `metric(example, prediction)`, a score in [0, 1] with 1 for agreement. By default 1 − loss of the
            label space.
        task_model: The LM that the program runs on; by default its own or the configured one.
        verbalizer_model: The LM of the verbalizing predictor; by default as the program's other predictors.
        labels: The label space; by default the student's (`VisualJudge.labels`) or the labels in the data.
        label_field: Name of the label in examples and predictions.
        verbalizer: Name of the verbalizing predictor in the student.
        judge: Name of the judging predictor in the student.
        max_instruction_tokens: The longest instruction accepted from the optimizer LM.
        max_failed_share: The largest share of a step's examples that the LM may fail on before the step is void: what
            an outage took is asked for again, what instructions led it to refuse counts against them.
        budget: One cap over all LM calls. The run ends in time for its last validation and returns the best so far.
        seed: Seeds every draw; round t uses `random.Random(f"{seed}:{t}")`.
        num_threads: LM calls under way at once; the workspace's or DSPy's setting if None. Results don't depend on it.
        log_dir: Folder for the store, where no `Workspace` has one. The same call with the same folder continues a run
            that was cut short and pays for no answer twice.
        answers: The job in whose store LM answers are kept instead, to share them between runs.

    Raises:
        BlpoError: If an option is out of its range.
    """

    # Its name in records and messages: that of the class, unless the class only changes another's defaults.
    algorithm: ClassVar[str]
    # What a call raises that the budget doesn't pay for.
    refusal: ClassVar[type[BaseException]] = RunStoppedError
    # The packages that it imports and this library does not.
    packages: ClassVar[Sequence[str]] = ()
    # The kinds of labels that it can handle, by the names in `LabelSpace.to_dict`.
    label_kinds: ClassVar[Sequence[str]] = ("nominal", "ordinal", "pairwise", "scores")

    prompt_model: dspy.BaseLM
    metric: Metric | None = None
    task_model: dspy.BaseLM | None = None
    verbalizer_model: dspy.BaseLM | None = None
    labels: LabelSpace | None = None
    label_field: str = "label"
    verbalizer: str = "verbalizer"
    judge: str = "judge"
    max_instruction_tokens: int = 1500
    max_failed_share: float = 0.2
    budget: Budget | None = None
    seed: int = 0
    num_threads: int | None = None
    log_dir: str | os.PathLike[str] | None = None
    answers: Job | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.__doc__ = with_inherited_options(cls)
        cls.algorithm = vars(cls).get("algorithm", cls.__name__)

    def __post_init__(self) -> None:
        self._check_kinds()
        check_kind("seed", self.seed, Integral, "whole number", "seed=0")
        self.seed = int(self.seed)  # NumPy's are not JSON
        self._check_least(max_instruction_tokens=1, max_failed_share=0.0)
        if self.num_threads is not None:
            self._check_least(num_threads=1)
        if self.max_failed_share >= 1:
            raise BlpoError(f"max_failed_share={self.max_failed_share} must be in [0, 1)")

    def _check_kinds(self) -> None:
        """Refuses models by name, a metric that can't be called, labels as a list and a cap as a number."""
        models = {"prompt_model": "optimizer", "task_model": "judge", "verbalizer_model": "verbalizer"}
        for option, role in models.items():
            lm = getattr(self, option)
            if lm is not None or option == "prompt_model":
                name = lm if isinstance(lm, str) else "openai/gpt-4o"
                check_kind(option, lm, dspy.BaseLM, "language model", f"{option}=make_lm({name!r}, role={role!r})")
        if self.metric is not None:
            check_metric(self.metric)
        if self.labels is not None:
            check_space(self.labels)
        if self.budget is not None:
            calls = self.budget if isinstance(self.budget, int) else 100
            check_kind("budget", self.budget, Budget, "budget", f"budget=Budget(max_calls={calls})")

    def _check_least(self, **least: float) -> None:
        """Refuses options below their least value; see `check_least`."""
        for name, minimum in least.items():
            check_least(name, getattr(self, name), minimum)

    def _check_one_of(self, **choices: Sequence[str]) -> None:
        """Refuses options that are none of these."""
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise BlpoError(f"{name}={getattr(self, name)!r} is not one of {', '.join(map(repr, known))}")

    @property
    def options(self) -> dict[str, Any]:
        """The optimizer's name, the seed and its own options, as JSON-ready data."""
        return {"optimizer": self.algorithm, "seed": self.seed, **self._own_options(fields(OptimizerOptions))}

    def _own_options(self, inherited: Iterable[Field[Any]]) -> dict[str, Any]:
        """The options that a base class doesn't have."""
        shared = {option.name for option in inherited}
        return {option.name: getattr(self, option.name) for option in fields(self) if option.name not in shared}

    @property
    def reads_reasons(self) -> bool:
        """Whether the optimizer LM is shown what people wrote beside the labels of training examples."""
        return True

    @property
    def validates(self) -> bool:
        """Whether instructions are measured on the validation set, or without one on the training set."""
        return True
