"""What the optimizers of this package share: their options and one way of calling them."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import Field, dataclass, fields, replace
from typing import Any, ClassVar, TypeVar

import dspy
from dspy.teleprompt import Teleprompter

from blpo_dspy.budget import Budget
from blpo_dspy.errors import BlpoError, check_kind, check_least
from blpo_dspy.labels import LabelSpace, check_space
from blpo_dspy.metering import AnswerStore, RunStoppedError
from blpo_dspy.notices import notice
from blpo_dspy.optimizers.cards import card, described
from blpo_dspy.optimizers.costs import call_costs, shortfall
from blpo_dspy.optimizers.docstrings import with_inherited_options
from blpo_dspy.optimizers.plan import Plan, Sizes
from blpo_dspy.optimizers.records import BLPOResult, Instructions, Validation
from blpo_dspy.optimizers.run import Run
from blpo_dspy.optimizers.scoring import Metric, check_metric
from blpo_dspy.optimizers.workers import Workers
from blpo_dspy.prices import Prices, checked_prices
from blpo_dspy.programs.visual_judge import VisualJudge

Program = TypeVar("Program", bound=dspy.Module)


@dataclass(kw_only=True, eq=False, repr=False)
class JudgeOptimizer(Teleprompter):
    """A teleprompter that optimizes the instructions of a program with a verbalizing and a judging predictor.

    An optimizer is a dataclass whose fields are its options. A subclass adds its own, with defaults, and explains them
    in its docstring; the signature and the docstring of every class tell of the inherited ones too.

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
        prices: US dollars per million prompt and per million completion tokens by model name, where DSPy's tables
            don't have them or have others.
        seed: Seeds every draw; round t uses `random.Random(f"{seed}:{t}")`.
        num_threads: LM calls under way at once; DSPy's setting if None. Results don't depend on it.
        log_dir: Folder for the journal. The same call with the same folder continues a run that was cut short and pays
            for no answer twice.
        answers: Where LM answers are remembered instead of in the run or its journal, to share them between runs.

    Raises:
        BlpoError: If an option is out of its range.
    """

    # Its name in records and messages: that of the class, unless the class only changes another's defaults.
    algorithm: ClassVar[str]
    # What a call raises that the budget doesn't pay for.
    refusal: ClassVar[type[BaseException]] = RunStoppedError

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
    prices: Prices | None = None
    seed: int = 0
    num_threads: int | None = None
    log_dir: str | os.PathLike[str] | None = None
    answers: AnswerStore | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.__doc__ = with_inherited_options(cls)
        cls.algorithm = vars(cls).get("algorithm", cls.__name__)

    def __post_init__(self) -> None:
        self._check_kinds()
        self.prices = checked_prices(self.prices)
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

    def plan(self, sizes: Sizes, threads: int) -> Plan | None:
        """Returns how many LM calls a run makes, None where that can't be said beforehand.

        Args:
            sizes: Of the data and the program.
            threads: LM calls under way at once.
        """
        return None

    @property
    def options(self) -> dict[str, Any]:
        """The optimizer's name, the seed and its own options, as JSON-ready data."""
        return {"optimizer": self.algorithm, "seed": self.seed, **self._own_options(fields(JudgeOptimizer))}

    def _own_options(self, inherited: Iterable[Field[Any]]) -> dict[str, Any]:
        """The options beside those of a base class."""
        shared = {option.name for option in inherited}
        return {option.name: getattr(self, option.name) for option in fields(self) if option.name not in shared}

    def compile(
        self,
        student: Program,
        *,
        trainset: Sequence[dspy.Example],
        teacher: dspy.Module | None = None,
        valset: Sequence[dspy.Example] | None = None,
    ) -> Program:
        """Returns an optimized copy of the student, with `candidate_programs` and `detailed_results`.

        Args:
            student: A program with a verbalizing and a judging predictor, such as `VisualJudge`.
            trainset: Labelled examples that the search works on.
            teacher: Not used; part of DSPy's calling convention.
            valset: Labelled examples that the returned program is picked on; the trainset if None.

        Raises:
            BlpoError: If the data, the program or the options don't fit together.
            ModelError: If a model cannot be used, or the judge never states a label.
            JournalError: If the log folder holds another run.
        """
        if teacher is not None:
            notice(f"{self.algorithm} takes no teacher; it is ignored")
        with (
            dspy.context(disable_history=True, trace=[]),
            Workers(self.num_threads) as workers,
            Run(self, student, trainset, valset, workers) as run,
        ):
            if run.journal is not None:
                run.journal.spend_under(self.budget)
            short = self._shortfall(run, student)
            if short is not None:
                notice(short)
            warnings = () if short is None else (short,)
            result = replace(self._search(run), warnings=warnings, unused=run.meter.unused)
        finished: Program = _finished(run, result)
        return finished

    def claim_folder(
        self, student: dspy.Module, *, trainset: Sequence[dspy.Example], valset: Sequence[dspy.Example] | None = None
    ) -> None:
        """Takes the log folder for a run with these arguments, without an LM call: one of another run is refused.

        Args:
            student: As for `compile`.
            trainset: Likewise.
            valset: Likewise.

        Raises:
            BlpoError: As `compile`, if the arguments don't fit together.
            JournalError: If the log folder holds another run.
        """
        with Workers(1) as workers, Run(self, student, trainset, valset, workers):
            return

    def _shortfall(self, run: Run, student: dspy.Module) -> str | None:
        """Which cap hardly pays for two rounds, as far as that can be said beforehand."""
        if self.budget is None:
            return None
        verbalizer, examples = run.predictors.verbalizer, run.data.examples
        plan = self.plan(Sizes.of(student, run.data, verbalizer), run.workers.num_threads)
        if plan is None:
            return None
        return shortfall(self.budget, plan, lambda: call_costs(self, plan, student, verbalizer, run.lms, examples))

    @abstractmethod
    def _search(self, run: Run) -> BLPOResult:
        """The optimizer at work; the result holds the instructions that are returned."""


def _finished(run: Run, result: BLPOResult) -> dspy.Module:
    sets = {"train": run.data.train, "val": run.data.validation}
    data = {name: described([run.data.examples[i] for i in positions]) for name, positions in sets.items()}

    def made(instructions: Instructions, validated: Validation | None) -> dspy.Module:
        program = run.bench.program(instructions)
        if isinstance(program, VisualJudge):
            program.card = card(result, data, validated)
        return program

    program = made(result.returned, result.after)
    for name, predictor in program.named_predictors():
        predictor.demos = list(result.demos.get(name, predictor.demos))
    ranked = sorted(result.validations, key=lambda v: (bool(v.refused), -v.gain, -v.score, -v.after_round))
    program.candidate_programs = [{"score": v.score, "program": made(v.instructions, v)} for v in ranked]
    program.detailed_results = result
    return program
