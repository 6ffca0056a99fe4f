"""Optimizers that work in rounds: one consumer of the records that they yield."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, ClassVar, Literal, get_args

from blpo_dspy.errors import BlpoError, ModelError, check_kind
from blpo_dspy.log import log_event
from blpo_dspy.optimizers.base import JudgeOptimizer
from blpo_dspy.optimizers.bench.records import UNCHANGED, BLPOResult, Round, Validation
from blpo_dspy.optimizers.bench.run import Run
from blpo_dspy.optimizers.bench.setup import meta_prompt_digest
from blpo_dspy.optimizers.proposals.asking import Asker
from blpo_dspy.optimizers.proposals.guards import Guards
from blpo_dspy.optimizers.proposals.proposals import tokens_in
from blpo_dspy.optimizers.validation import Validator, best, validation_size

Select = Literal["best", "last"]

_SILENT_ROUNDS = 2
# With fewer validation examples a judge is picked by chance.
_FEW_VALIDATED = 5
_SHOWN_ANSWER = 200


@dataclass(kw_only=True, eq=False, repr=False)
class RoundOptimizer(JudgeOptimizer):
    """An optimizer that yields a record of every round.

    Args:
        select: "best" returns the best validated program, the start included; "last" what the algorithm itself ends
            with, without validation.
        guards: What is refused whatever its score; see `Guards`.
        on_round: Called with each completed `Round`.
        on_validation: Called with each `Validation` once it is measured, before the guards check it.
    """

    # Whether the algorithm yields what it has of a round that a cap cuts short (`Allowance.until_stopped`): then it
    # begins one that may be.
    partial_rounds: ClassVar[bool] = False

    select: Select = "best"
    guards: Guards = Guards()  # noqa: RUF009 - frozen
    on_round: Callable[[Round], None] | None = None
    on_validation: Callable[[Validation], None] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.guards = self.guards or type(self).guards  # None leaves them, like other options, to the optimizer
        check_kind("guards", self.guards, Guards, "set of guards", "guards=Guards(copied_words=8)")
        self._check_one_of(select=get_args(Select))
        if self.guards.validating and self.select != "best":
            raise BlpoError(
                "the guards label_shift and part_loss look at validations, which select='last' has none of; give "
                "select='best', or leave them out"
            )

    @property
    def validates(self) -> bool:
        """Whether instructions are measured on the validation set, or without one on the training set."""
        return self.select == "best"

    def _untested(self, run: Run) -> str | None:
        """Also where a cap pays for next to no validation."""
        available, budget, untested = len(run.data.validation), self.budget, super()._untested(run)
        size = validation_size(available, run.max_calls, run.per_example, len(run.data.train))
        if untested or budget is None or not self.validates or size >= min(available, _FEW_VALIDATED):
            return untested
        return (
            f"max_calls={budget.max_calls} pays for judging {size} of {available} validation images before and after "
            "the search, too few to pick a judge by; raise it"
        )

    @abstractmethod
    def _rounds(self, run: Run) -> Iterator[Round]:
        """The algorithm: yields one record per round, each ending with the instructions that the next starts from."""

    def least_calls(self, run: Run) -> int:
        """Returns the calls of the least first round, and of the validations before and after it."""
        size = validation_size(len(run.data.validation), run.max_calls, run.per_example, len(run.data.train))
        return self._least_round(run) + 2 * size * run.per_example * self.validates

    def _least_round(self, run: Run) -> int:
        """How many LM calls it takes at least until a first proposal was scored."""
        return super().least_calls(run)

    def _unmet(self, run: Run) -> list[str]:
        try:
            self._check_length(run.start.judge)
        except BlpoError as error:
            return [*super()._unmet(run), str(error)]
        return super()._unmet(run)

    def _asker(self, run: Run, temperature: float | None = None) -> Asker:
        """The optimizer LM as the algorithm asks it."""
        return Asker(run.optimizer_lm, run.workers, self.max_instruction_tokens, temperature, self.guards)

    @property
    def options(self) -> dict[str, Any]:
        """The algorithm's options and those that decide every algorithm's result, as JSON-ready data."""
        own = self._own_options(fields(RoundOptimizer))
        prompts = {name: value for name, value in own.items() if isinstance(value, type)}
        shared = ("select", "max_instruction_tokens", "max_failed_share", "seed")
        return {
            "optimizer": self.algorithm,
            **{name: value for name, value in own.items() if name not in prompts},
            **{name: getattr(self, name) for name in shared},
            "guards": asdict(self.guards),
            "meta_prompts": {name: meta_prompt_digest(prompt) for name, prompt in prompts.items()},
        }

    def _search(self, run: Run) -> BLPOResult:
        """Consumes the rounds: records each, and validates the start, what each pass led to, and the end.

        Raises:
            BlpoError: If a cap was reached before anything was measured: the start would be returned as if it were a
                result. If no instruction as long as the start's would be accepted.
        """
        self._check_length(run.start.judge)
        validator = Validator(run, self.on_validation)
        validator.check(self.guards, self.label_field)
        rounds: list[Round] = []
        if self.validates:
            validator.validate(0, run.start)
        with run.allowance.keeping(validator.calls if self.validates else 0):
            stop_reason = self._follow(run, validator, rounds)
            if not stop_reason:
                _check_written(run, rounds)
            run.workers.drain()  # or what is under way of a step that was cut short would take what is kept
        if self.validates and rounds:
            validator.validate(len(rounds), rounds[-1].end)
        result = self._result(run, rounds, validator, stop_reason or self._end(run, rounds))
        return replace(result, capped=bool(stop_reason))

    def _check_length(self, start: str) -> None:
        """A revision keeps most of what it revises: a cap below that would refuse each, once it is paid for."""
        tokens, most = tokens_in(start), self.max_instruction_tokens
        if tokens > most:
            raise BlpoError(
                f"the judge instruction at the start has about {tokens:,} tokens, and max_instruction_tokens={most} "
                "refuses a revision as long as that; raise it, or shorten the instruction",
                option="max_instruction_tokens",
            )

    def _follow(self, run: Run, validator: Validator, rounds: list[Round]) -> str:
        """Adds the rounds to the list as they end; returns what cut the search short, "" if nothing did."""
        with run.allowance.until_stopped():
            for found in self._rounds(run):
                completed = replace(found, spent=run.meter.ledger.total.calls)
                rounds.append(completed)
                run.write("round", completed.number, completed.to_dict())
                _log_round(completed)
                if self.on_round is not None:
                    self.on_round(completed)
                if len(rounds) == _SILENT_ROUNDS:
                    _check_written(run, rounds)
                if run.allowance.stopped is not None:
                    break
                if not self.partial_rounds and not run.allowance.pays_for_round(len(rounds)):
                    return "the budget doesn't pay for another round"
                if self.validates and validator.each_pass and completed.ends_pass:
                    validator.validate(len(rounds), completed.end)
        return "" if run.allowance.stopped is None else str(run.allowance.stopped)

    def _result(self, run: Run, rounds: list[Round], validator: Validator, stop_reason: str) -> BLPOResult:
        validations = self.guards.checked(tuple(validator.found))
        for validation in validations:
            run.write("validation", validation.after_round, validation.to_dict())
        returned = rounds[-1].end if rounds else run.start
        if self.validates:
            returned = validations[best(validations)].instructions
        result = BLPOResult(
            run.start, tuple(rounds), validations, returned, run.meter.ledger, stop_reason, self.options
        )
        run.write("end", 0, {"stop_reason": stop_reason, "ledger": result.ledger.to_dict()})
        return result

    def _end(self, run: Run, rounds: Sequence[Round]) -> str:
        """Why the algorithm ended by itself."""
        if run.ended:
            return run.ended
        return "the only round is done" if len(rounds) == 1 else f"all {len(rounds)} rounds done"


def _log_round(completed: Round) -> None:
    batch, chosen = completed.batch, completed.chosen
    score = None if chosen is None else completed.trials[chosen].score
    log_event(
        "round",
        f"round {completed.number + 1}: {batch.mistakes} mistakes among {batch.searched} judged, "
        f"{'no update' if chosen is None else f'update taken, gain {score or 0.0:.3f}'}, {completed.spent} calls",
        round=completed.number + 1,
        mistakes=batch.mistakes,
        judged=batch.searched,
        gain=score,
        calls=completed.spent,
    )


def _check_written(run: Run, rounds: Sequence[Round]) -> None:
    """An optimizer LM that never writes an instruction leaves nothing to try: that is said, and no start returned.

    One that leaves the instruction as it is has at least read it. The bench reports a judge that never answers.
    """
    trials = [trial for completed in rounds for trial in completed.trials]
    rejections = [rejection for trial in trials for rejection in trial.rejections]
    written = any(trial.judge not in (None, rounds[0].start.judge) for trial in trials)
    read = any(rejection.reason == UNCHANGED for rejection in rejections)
    if written or read or not rejections or not run.bench.answered:
        return
    last = rejections[-1]
    wrote = f"; it wrote {last.text[:_SHOWN_ANSWER]!r}" if last.text else ""
    raise ModelError(
        f"the optimizer model wrote no usable instruction in {len(rejections)} answers, so there is nothing to try; "
        f"the last reason: {last.reason}{wrote}"
    )
