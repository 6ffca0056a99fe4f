"""DSPy's own optimizers, set up for a judge with images and held to the same cap, data and LMs as ours."""

from __future__ import annotations

import contextlib
import io
import logging
import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import dspy

from blpo_dspy.errors import BlpoError, ModelError
from blpo_dspy.optimizers.base import JudgeOptimizer
from blpo_dspy.optimizers.baselines.tracking import ProgramState, Tracker
from blpo_dspy.optimizers.bench.records import BLPOResult, Instructions, Validation
from blpo_dspy.optimizers.bench.run import Run
from blpo_dspy.optimizers.bench.sampling import drawn
from blpo_dspy.optimizers.validation import balanced
from blpo_dspy.workspace.meter import GRACE

# What DSPy's MIPROv2 asks: about so many training examples at a time, at most so often, then for a summary; for each
# instruction about program and predictor, then for the instruction; it shows so many answered examples.
_VIEWED, _VIEWS, _PROPOSAL, _ANSWERED = 10, 10, 3, 3
# The start, and so many others with which a search still is one.
_FEWEST_CANDIDATES = 3
# So many trials are followed by one on the whole validation set.
_TRIALS = 5
# Signatures of a predictor that COPRO may nest: pydantic keeps the field that a field was made from, and a copy of the
# last one goes down through all of them, 14 calls deep each, where Python allows a thousand.
_MOST_NESTED = 55


class OptimizerHalted(BaseException):
    """Ends an optimizer from outside when the budget is spent.

    DSPy's optimizers score every `Exception` of a program as a failed example and continue; this one passes them all.
    """


@dataclass(kw_only=True, eq=False, repr=False)
class DSPyAdapter(JudgeOptimizer):
    """One of DSPy's optimizers behind our calling convention.

    The LMs are metered and the budget holds from outside: when it is spent the optimizer is halted and the best
    candidate so far is returned, by those of its own evaluations that ended: which examples the others reached depends
    on the timing of threads. Training examples are handed over in an order drawn with the seed, as some optimizers
    take the first ones. What it prints on stdout is swallowed and its INFO log is off while it runs. Where the judge
    reads the image alone, the verbalizer has no part in its answers and is kept out of the optimizer's sight.

    DSPy evaluates an example a second time, concurrently with the first, when that takes longer than 120 s and few are
    left. The metered LM answers equal requests once: the second time waits for the first one's answer, and nothing is
    paid twice.

    Args:
        prompt_model: The LM that writes proposals.
        max_instruction_tokens: No effect; what is accepted is up to DSPy's optimizer.
        max_failed_share: No effect; DSPy's optimizers score a failed example with 0.
    """

    refusal: ClassVar[type[BaseException]] = OptimizerHalted

    @property
    def reads_reasons(self) -> bool:
        """No: these optimizers may show all that they are given of an example in any prompt."""
        return False

    @abstractmethod
    def _optimize(self, run: Run, program: dspy.Module, train: list[Any], validation: list[Any], metric: Any) -> Any:
        """Runs DSPy's optimizer and returns its program."""

    def _search(self, run: Run) -> BLPOResult:
        program = self._working_copy(run)
        train = [run.data.examples[i] for i in drawn(run.data.train, self.seed)]
        validation = [run.data.examples[i] for i in self._validated(run)]
        tracker = Tracker(ProgramState.of(program), run.bench.score, validation, lambda: run.meter.ledger.total.calls)
        capped, stop_reason = False, "finished"
        try:
            with _quietly(), self._context(run, tracker):
                found = self._optimize(
                    run, tracker.track(program), self._training(train, tracker), validation, self._metric(run, tracker)
                )
                final = ProgramState.of(found)
        except OptimizerHalted as halted:
            run.meter.settle(GRACE)  # DSPy leaves what is under way in its threads to itself
            final, capped, stop_reason = tracker.best(), True, str(halted)
        finally:
            if run.meter.fatal is not None:
                # DSPy's optimizers score a refused key as a wrong answer, or fail in ways of their own.
                raise ModelError(f"a model cannot be used: {run.meter.fatal}") from run.meter.fatal
        validations = tuple(
            Validation(number, self._instructions(run, v.state), v.score, len(validation), spent=v.spent)
            for number, v in enumerate(tracker.validated)
        )
        result = BLPOResult(
            run.start, (), validations, self._instructions(run, final), run.meter.ledger, stop_reason, self.options
        )
        return replace(result, demos=dict(final.demos), capped=capped)

    def _validated(self, run: Run) -> Sequence[int]:
        """The validation examples that DSPy's optimizer is given."""
        return run.data.validation

    @staticmethod
    def _context(run: Run, tracker: Tracker) -> contextlib.AbstractContextManager[None]:
        lm, callbacks = run.lms[run.predictors.judge], [*dspy.settings.callbacks, tracker]
        context: contextlib.AbstractContextManager[None] = dspy.context(
            lm=lm, callbacks=callbacks, disable_history=True, trace=[]
        )
        return context

    def _training(self, examples: list[Any], tracker: Tracker) -> list[Any]:
        return examples

    def _metric(self, run: Run, tracker: Tracker) -> Any:
        return tracker.metric

    def _working_copy(self, run: Run) -> dspy.Module:
        program = run.bench.program(run.start)
        if getattr(program, "evidence", None) == "image" and run.predictors.verbalizer == "verbalizer":
            del program.verbalizer
        for name, predictor in program.named_predictors():
            predictor.lm = run.lms[name]
        return program

    @staticmethod
    def _instructions(run: Run, state: ProgramState) -> Instructions:
        texts = dict(state.instructions)
        return Instructions(texts[run.predictors.judge], texts.get(run.predictors.verbalizer, run.start.verbalizer))


class _MIPROSizes(NamedTuple):
    candidates: int
    trials: int
    validated: int
    minibatch: int


@dataclass(kw_only=True, eq=False, repr=False)
class MIPROv2(DSPyAdapter):
    """`dspy.MIPROv2`: instructions (and demonstrations) from data summaries, searched by Bayesian optimization.

    Handled for the caller: without `auto` it needs both counts; its minibatch must not exceed the validation set; its
    seed 0 means "none", so the seed is shifted by one; demonstrations put further images into every prompt of the
    judge, so they are off unless asked for (and a judge.json cannot hold them).

    Args:
        prompt_model: The LM that writes proposals.
        num_candidates: Instructions (and sets of demonstrations) to choose from; by default 6, or as many as go with
            the trials that the cap on calls pays for; as few as 3 where it pays for no first choice among more.
        num_trials: Combinations that are tried; by default 20, or more than the cap pays for.
        demos: The most demonstrations for each predictor, 0 for instructions only.
        minibatch_size: Validation examples that a trial is scored on; the whole set is used if it is no larger. Where
            the cap does not pay for five trials and for validating the start and the best of them, it is smaller, and a
            part of the validation examples, balanced by label, stands for all.
    """

    packages: ClassVar[Sequence[str]] = ("optuna",)

    num_candidates: int | None = None
    num_trials: int | None = None
    demos: int = 0
    minibatch_size: int = 25

    def _optimize(self, run: Run, program: dspy.Module, train: list[Any], validation: list[Any], metric: Any) -> Any:
        sizes = self._sizes(run)
        optimizer = dspy.MIPROv2(
            metric=metric,
            prompt_model=run.optimizer_lm,
            task_model=run.lms[run.predictors.judge],
            max_bootstrapped_demos=self.demos,
            max_labeled_demos=self.demos,
            auto=None,
            num_candidates=sizes.candidates,
            num_threads=run.workers.num_threads,
            seed=self.seed + 1,
        )
        return optimizer.compile(
            program,
            trainset=train,
            valset=validation,
            num_trials=sizes.trials,
            minibatch=len(validation) > sizes.minibatch,
            minibatch_size=sizes.minibatch,
            minibatch_full_eval_steps=_TRIALS,
        )

    def _validated(self, run: Run) -> Sequence[int]:
        return balanced(run, self._sizes(run).validated)

    def least_calls(self, run: Run) -> int:
        """Returns the calls of the fewest candidates, of trials on one example, and of validations on one."""
        return self._before_trials(run, self.num_candidates or _FEWEST_CANDIDATES) + (_TRIALS + 2) * run.per_example

    def _sizes(self, run: Run) -> _MIPROSizes:
        """The sizes that were asked for, or those that go with the cap. DSPy has 1.5 trials for each candidate.

        A cap that ends the search before a candidate was tried on the validation set would leave nothing but the start
        to return. Where it doesn't pay for that, half of what the proposals leave is for the two validations.
        """
        validated, each = len(run.data.validation), run.per_example
        minibatch = min(self.minibatch_size, validated)
        paid = 0 if run.max_calls is None else int(run.max_calls / (each * (minibatch + validated / _TRIALS)))
        # A combination that is tried again is remembered and costs nothing.
        trials = self.num_trials or max(20, 2 * paid)
        most = self.num_candidates or max(6, paid * 2 // 3)
        if run.max_calls is None:
            return _MIPROSizes(most, trials, validated, minibatch)
        least = self.num_candidates or _FEWEST_CANDIDATES
        left = run.max_calls - (2 * validated + _TRIALS * minibatch) * each
        candidates = next((n for n in range(most, least - 1, -1) if self._before_trials(run, n) <= left), 0)
        if not candidates:
            candidates = least
            left = (run.max_calls - self._before_trials(run, candidates)) // each
            validated = max(1, min(validated, left // 4))
            minibatch = max(1, min(minibatch, validated, (left - 2 * validated) // _TRIALS))
        return _MIPROSizes(candidates, trials, validated, minibatch)

    def _before_trials(self, run: Run, candidates: int) -> int:
        """The calls by which DSPy proposes so many candidates: views of the data, proposals, and examples answered."""
        views = min(_VIEWS, math.ceil(len(run.data.train) / _VIEWED)) + 1
        predictors = 1 if run.evidence == "image" else len(run.lms)
        # The first two sets of demonstrations are none and labels alone; all others answer the same without labels.
        answered = max(0, candidates - 2) * (self.demos or _ANSWERED)
        answered = answered if self.demos else min(answered, len(run.data.train))
        return views + _PROPOSAL * candidates * predictors + answered * run.per_example


@dataclass(kw_only=True, eq=False, repr=False)
class GEPA(DSPyAdapter):
    """`dspy.GEPA`: reflective evolution with a Pareto front; feedback names both labels, the miss and the reason.

    Handled for the caller: programs with label sets made at run time cannot be pickled, so cloudpickle is used; the
    images of a reflection minibatch are sent to the optimizer LM, so the minibatch is small.

    Args:
        prompt_model: The reflecting LM.
        max_metric_calls: GEPA's own budget of evaluations; by default more than the cap on calls pays for, or
            `auto="light"` where there is none.
        reflection_minibatch_size: Examples (and images) in a reflection.
    """

    packages: ClassVar[Sequence[str]] = ("gepa",)

    max_metric_calls: int | None = None
    reflection_minibatch_size: int = 3

    @property
    def reads_reasons(self) -> bool:
        """Yes, in the feedback on training examples, which only the reflecting LM reads."""
        return True

    def least_calls(self, run: Run) -> int:
        """Returns the calls by which the start is validated, a reflection tried on its minibatch, and validated too."""
        return 2 * (len(run.data.validation) + self.reflection_minibatch_size) * run.per_example + 1

    def _metric(self, run: Run, tracker: Tracker) -> Any:
        def metric(
            gold: dspy.Example, pred: Any, trace: Any = None, pred_name: Any = None, pred_trace: Any = None
        ) -> dspy.Prediction:
            return dspy.Prediction(score=tracker.metric(gold, pred), feedback=run.bench.feedback(gold, pred))

        return metric

    def _optimize(self, run: Run, program: dspy.Module, train: list[Any], validation: list[Any], metric: Any) -> Any:
        # Some evaluations cost nothing, as their answers are known.
        evaluations = self.max_metric_calls or (None if run.max_calls is None else 4 * run.max_calls)
        size: dict[str, Any] = {"auto": "light"} if evaluations is None else {"max_metric_calls": evaluations}
        optimizer = dspy.GEPA(
            metric=metric,
            reflection_lm=run.optimizer_lm,
            reflection_minibatch_size=self.reflection_minibatch_size,
            num_threads=run.workers.num_threads,
            seed=self.seed,
            warn_on_score_mismatch=False,
            gepa_kwargs={"use_cloudpickle": True},
            **size,
        )
        return optimizer.compile(program, trainset=train, valset=validation)


class _Steps(list[Any]):
    """The trainset as SIMBA reads it: a batch at the start of each step, all of it for the last evaluation.

    Whatever it evaluated before has ended by then.
    """

    def __init__(self, examples: list[Any], tracker: Tracker) -> None:
        super().__init__(examples)
        self._tracker = tracker

    def __getitem__(self, index: Any) -> Any:
        self._tracker.settle()
        return super().__getitem__(index)

    def __iter__(self) -> Iterator[Any]:
        self._tracker.settle()
        return super().__iter__()


@dataclass(kw_only=True, eq=False, repr=False)
class SIMBA(DSPyAdapter):
    """`dspy.SIMBA`: rules drawn from contrasting trajectories of sampled programs.

    Handled for the caller: its batch must not exceed the trainset; with demonstrations it writes images as base64
    text into prompts, so they are off; it gives one LM to all predictors, so judge and verbalizer must share theirs,
    and all calls are counted as the judge's.

    Args:
        prompt_model: The LM that writes rules.
        bsize: The most examples in a batch; fewer where the cap on calls would not pay for the steps.
        num_candidates: New programs per step.
        max_steps: Steps; by default 4, or as many as the cap pays for together with the evaluation at the end.
    """

    bsize: int = 32
    num_candidates: int = 4
    max_steps: int | None = None

    def _working_copy(self, run: Run) -> dspy.Module:
        program = super()._working_copy(run)
        if problem := self._several_lms(run):
            raise BlpoError(problem)
        program.set_lm(run.lms[run.predictors.judge])
        return program

    def _unmet(self, run: Run) -> list[str]:
        return [*super()._unmet(run), *filter(None, [self._several_lms(run)])]

    def least_calls(self, run: Run) -> int:
        """Returns the calls of a step with a batch of one example and one rule."""
        return 2 * self.num_candidates * run.per_example + 1

    @staticmethod
    def _several_lms(run: Run) -> str | None:
        kinds = {(lm.model, repr(sorted(lm.kwargs.items(), key=str))) for lm in run.lms.values()}
        if len(kinds) == 1:
            return None
        return "SIMBA gives one LM to the whole program: use the same model for judge and verbalizer"

    def _optimize(self, run: Run, program: dspy.Module, train: list[Any], validation: list[Any], metric: Any) -> Any:
        bsize, steps = self._sizes(run, len(train))
        optimizer = dspy.SIMBA(
            metric=metric,
            bsize=bsize,
            num_candidates=self.num_candidates,
            max_steps=steps,
            max_demos=0,
            prompt_model=run.optimizer_lm,
            num_threads=run.workers.num_threads,
        )
        return optimizer.compile(program, trainset=train, seed=self.seed)

    def _training(self, examples: list[Any], tracker: Tracker) -> list[Any]:
        return _Steps(examples, tracker)

    def _sizes(self, run: Run, trained: int) -> tuple[int, int]:
        """The size of a batch and the steps that were asked for, or those that go with the cap."""
        bsize, steps = min(self.bsize, trained), self.max_steps or 4
        if run.max_calls is None:
            return bsize, steps
        # A step samples bsize × num_candidates trajectories and scores as many new programs on the batch.
        step = 2 * self.num_candidates * run.per_example
        bsize = max(1, min(bsize, run.max_calls // (step * steps)))
        end = (self.num_candidates + 1) * trained * run.per_example
        return bsize, self.max_steps or max(steps, (run.max_calls - end) // (step * bsize))


@dataclass(kw_only=True, eq=False, repr=False)
class COPRO(DSPyAdapter):
    """`dspy.COPRO`: coordinate ascent over instructions proposed without seeing any example.

    Handled for the caller: its `n` samples are equal requests, which a cache or a deterministic model answers alike;
    the metered LM asks for each apart. It evaluates every candidate on the whole trainset, so a subset can be drawn.

    Args:
        prompt_model: The LM that writes proposals.
        breadth: Proposals per step.
        depth: Steps; by default 3, or as many as the cap on calls may pay for. DSPy nests a predictor's signature once
            more with each proposal that it tries, and can't continue that for long, which bounds them too.
        score_size: Training examples that candidates are scored on; all of them if None.
    """

    breadth: int = 5
    depth: int | None = None
    score_size: int | None = 40

    def _optimize(self, run: Run, program: dspy.Module, train: list[Any], validation: list[Any], metric: Any) -> Any:
        scored = train[: self.score_size]
        depth = self.depth or self._depth(run, len(scored), several=len(program.predictors()) > 1)
        optimizer = dspy.COPRO(
            prompt_model=run.optimizer_lm, metric=metric, breadth=self.breadth, depth=depth, track_stats=False
        )
        kwargs = {"num_threads": run.workers.num_threads, "display_progress": False, "display_table": 0}
        return optimizer.compile(program, trainset=scored, eval_kwargs=kwargs)

    def least_calls(self, run: Run) -> int:
        """Returns the calls of the first proposals, all at once for each predictor, and of one that is tried."""
        predictors = 1 if run.evidence == "image" else len(run.lms)
        scored = len(run.data.train[: self.score_size])
        return predictors * (self.breadth - 1) + scored * run.per_example

    def _depth(self, run: Run, scored: int, *, several: bool) -> int:
        """The steps that go with the cap; with several predictors a step tries all earlier proposals again."""
        depth, tried = 3, self.breadth * (6 if several else 3)
        while run.max_calls is not None and self.breadth * scored * run.per_example * depth < run.max_calls:
            depth, tried = depth + 1, tried + self.breadth * (depth + 1 if several else 1)
            if tried + depth > _MOST_NESTED:
                return depth - 1
        return depth


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keeps DSPy's prints, hard-wired progress bars and INFO lines off the terminal."""
    logger = logging.getLogger("dspy")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
