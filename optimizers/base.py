"""What the optimizers of this package share apart from their options: one way of calling them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import TypeVar

import dspy
from dspy.teleprompt import Teleprompter

from blpo_dspy.data.reasons import reason_of
from blpo_dspy.errors import BlpoError, notice
from blpo_dspy.log import log_event
from blpo_dspy.optimizers.bench.cards import card, described
from blpo_dspy.optimizers.bench.records import BLPOResult, Instructions, Validation
from blpo_dspy.optimizers.bench.run import Run
from blpo_dspy.optimizers.bench.setup import Dataset
from blpo_dspy.optimizers.estimates.costs import call_costs, shortfall
from blpo_dspy.optimizers.estimates.plan import Plan
from blpo_dspy.optimizers.options import OptimizerOptions
from blpo_dspy.optimizers.validation import lost_labels
from blpo_dspy.programs.costs import USUAL
from blpo_dspy.programs.pairs import mirrored
from blpo_dspy.programs.visual_judge import VisualJudge, single
from blpo_dspy.workspace.workers import Workers

Program = TypeVar("Program", bound=dspy.Module)


@dataclass(kw_only=True, eq=False, repr=False)
class JudgeOptimizer(OptimizerOptions, Teleprompter):
    """A teleprompter that optimizes the instructions of a program with a verbalizing and a judging predictor.

    An optimizer is a dataclass whose fields are its options. A subclass adds its own, with defaults, and explains them
    in its docstring; the signature and the docstring of every class include the inherited ones.
    """

    def plan(self, student: dspy.Module, data: Dataset, verbalizer: str) -> Plan | None:
        """Returns how many LM calls a run makes, None where that is unknown beforehand."""
        return None

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
            student: A program with a verbalizing and a judging predictor, such as `VisualJudge`; one with a confidence
                is compiled without, as its calibration ends with its instructions.
            trainset: Labelled examples that the search works on.
            teacher: Not used; part of DSPy's calling convention.
            valset: Labelled examples that the returned program is picked on. If None it is picked on the trainset: a
                warning is issued, and card and record name the figures "train" rather than "val".

        Raises:
            BlpoError: If the data, the program or the options don't fit together, or a cap was reached before anything
                was measured.
            ModelError: If a model cannot be used, the judge never states a label, or no call was answered before a cap
                was reached.
            StoreError: If the log folder holds another run.
        """
        if missing := self._not_installed():
            raise BlpoError("; ".join(missing))
        if teacher is not None:
            notice(f"{self.algorithm} takes no teacher; it is ignored")
        student = single(student)
        with (
            dspy.context(disable_history=True, trace=[]),
            Workers(self.num_threads) as workers,
            Run(self, student, trainset, valset, workers) as run,
        ):
            if run.keeps:
                run.job.spend_under(run.budget)
            optimizer = copy(self)
            optimizer.budget = run.budget
            warnings = tuple(filter(None, (optimizer._shortfall(run, student), optimizer._untested(run))))
            for text in warnings:
                notice(text, option=tuple(run.budget.caps()) if run.budget else ())
            result = replace(optimizer._search(run), unused=run.meter.unused, validated_on=run.data.validated_on)
            run.check_answered(result.stop_reason)
            if (lost := lost_labels(result.before, result.after)) is not None:
                notice(lost)
                warnings = (*warnings, lost)
            result = replace(result, warnings=warnings)
        log_event(
            "stop",
            f"{self.algorithm} ended: {result.stop_reason.partition(chr(10))[0]}",
            optimizer=self.algorithm,
            rounds=len(result.rounds),
            calls=result.ledger.total.calls,
        )
        finished: Program = _finished(run, result)
        return finished

    def unmet(
        self, student: dspy.Module, *, trainset: Sequence[dspy.Example], valset: Sequence[dspy.Example] | None = None
    ) -> list[str]:
        """Returns what a run with these arguments lacks, in words, without an LM call: all that is known beforehand.

        Args:
            student: As for `compile`.
            trainset: Likewise.
            valset: Likewise.
        """
        found = self._not_installed()
        try:
            with Workers(1) as workers, Run(self, single(student), trainset, valset, workers) as run:
                return found + self._unmet(run)
        except BlpoError as error:
            return [*found, str(error)]

    def _not_installed(self) -> list[str]:
        return [
            f"{self.algorithm} needs {name}, which is not installed: pip install {name}"
            for name in self.packages
            if find_spec(name) is None
        ]

    def _unmet(self, run: Run) -> list[str]:
        """What a run lacks whose arguments fit together."""
        found, least = [], self.least_calls(run)
        kind = None if run.labels is None else run.labels.to_dict()["kind"]
        if kind is not None and kind not in self.label_kinds:
            found.append(f"it takes {' and '.join(self.label_kinds)} labels, not {kind} ones")
        if run.max_calls is not None and run.max_calls < least:
            found.append(f"a first candidate takes {least} LM calls at least: give max_calls={least} or, better, more")
        return found

    def least_calls(self, run: Run) -> int:
        """Returns how many LM calls a run takes at least until it can return anything but the start.

        As far as nothing more is known, that is an image to learn from and an update.
        """
        return run.per_example + 1

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
            StoreError: If the log folder holds another run.
        """
        with Workers(1) as workers, Run(self, single(student), trainset, valset, workers):
            return

    def _untested(self, run: Run) -> str | None:
        """What figures are worth that are measured on the training images, None where none are."""
        if run.data.validated_on == "val" or not self.validates:
            return None
        return (
            f"{self.algorithm} has no valset: the judge is picked by its agreement on the training images themselves, "
            'and the figures (named "train") are too good; give valset=… for figures to rely on'
        )

    def _shortfall(self, run: Run, student: dspy.Module) -> str | None:
        """Which cap hardly pays for two rounds, as far as that is known beforehand."""
        budget, verbalizer = self.budget, run.predictors.verbalizer
        plan = None if budget is None else self.plan(student, run.data, verbalizer)
        if budget is None or plan is None:
            return None
        if budget.max_tokens is None and budget.max_usd is None:
            return shortfall(budget, plan, {})
        return shortfall(budget, plan, call_costs(self, plan, student, verbalizer, run.lms, run.data.examples, USUAL))

    @abstractmethod
    def _search(self, run: Run) -> BLPOResult:
        """The optimizer at work; the result holds the instructions that are returned."""


def _as_given(run: Run, position: int) -> dspy.Example:
    """An example as it was given: of a pair that is shown in the other order, in its own."""
    example = run.data.examples[position]
    if position not in run.data.swapped:
        return example
    assert run.labels is not None
    return mirrored(example, run.labels, run.label_field)


def _finished(run: Run, result: BLPOResult) -> dspy.Module:
    sets: dict[str, tuple[int, ...]] = {"train": run.data.train, run.data.validated_on: run.data.validation}
    given = [_as_given(run, i) for i in range(len(run.data.examples))]
    data = {name: described([given[i] for i in positions]) for name, positions in sets.items()}
    if run.data.swapped:
        data = {name: {**data[name], "swapped": len(run.data.swapped & {*sets[name]})} for name in data}
    reasons = sum(bool(reason_of(run.data.examples[i])) for i in run.data.train)

    def made(instructions: Instructions, validated: Validation | None) -> dspy.Module:
        program = run.bench.program(instructions)
        if isinstance(program, VisualJudge):
            program.card = card(result, data, validated, program.card, reasons)
        return program

    program = made(result.returned, result.after)
    for name, predictor in program.named_predictors():
        predictor.demos = list(result.demos.get(name, predictor.demos))
    ranked = sorted(
        result.validations, key=lambda v: (v.instructions != result.returned, bool(v.refused), -v.gain, -v.score)
    )
    program.candidate_programs = [{"score": v.score, "program": made(v.instructions, v)} for v in ranked]
    program.detailed_results = result
    return program
