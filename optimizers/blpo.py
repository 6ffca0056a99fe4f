"""BLPO: bi-level prompt optimization of a judge and its verbalizer (Algorithm 1).

Source: "Bi-Level Prompt Optimization for Multimodal LLM-as-a-Judge", arXiv 2602.11340.

| paper | here |
|---|---|
| p, q | judge instruction, verbalizer instruction (`Instructions`) |
| I_B | errors of the round's `Batch` |
| J(q, p) | `Trial.judge`, the update that q induces |
| score(q; p), H_k | `Trial.score`, the list of trials |
| T, K | `rounds`, `inner_steps` |
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import dspy
from dspy.teleprompt import Teleprompter

from blpo_dspy.budget import Budget
from blpo_dspy.errors import BlpoError
from blpo_dspy.labels import LabelSpace
from blpo_dspy.ledger import Ledger
from blpo_dspy.metering import Meter, RunStoppedError
from blpo_dspy.optimizers import updates
from blpo_dspy.optimizers.bench import Bench, Metric, Predictors, find_predictors
from blpo_dspy.optimizers.proposals import Proposal
from blpo_dspy.optimizers.records import Batch, BLPOResult, Instructions, Round, Trial
from blpo_dspy.optimizers.sampling import full_search, lazy_search, shuffled
from blpo_dspy.optimizers.setup import dataset, label_space, program_lms
from blpo_dspy.optimizers.steps import MetaPrompts, Steps
from blpo_dspy.optimizers.validation import Validator, best
from blpo_dspy.optimizers.workers import Workers

_VALIDATED_ROUNDS = 4


class BLPO(Teleprompter):  # type: ignore[misc]
    """Optimizes the judge and the verbalizer instruction of a program so that its labels agree with people's.

    Every round draws a batch of the judge's mistakes. The inner loop looks for the verbalizer instruction whose
    descriptions of these images lead the optimizer LM to the most useful edit of the judge instruction; the outer
    loop makes that edit. No image is ever sent to the optimizer LM, and no validation example ever enters a prompt
    but the judge's own.

    The defaults differ from the paper's letter (`BLPO.paper`) where that pays: mistakes are searched for only until
    the batch is full; a guard of right examples joins the score; the best updates of a round are merged; the search
    goes on from q* and keeps p where every update made things worse; there are more rounds of fewer inner steps; and
    the returned program is the best one on the validation set, the start included.

    Args:
        prompt_model: The optimizer LM, for the three meta-prompts.
        metric: `metric(example, prediction)`, a score in [0, 1] with 1 for agreement. By default 1 − loss of the
            label space.
        task_model: The LM that the program runs on; by default its own or the configured one.
        verbalizer_model: The LM of the verbalizing predictor; by default as the program's other predictors.
        rounds: T, the outer rounds.
        inner_steps: K, the proposals for the verbalizer instruction in a round.
        batch_size: The most mistakes in a batch.
        guard_size: The most right examples that join a batch to score an update on; 0 for the paper's errors only.
        error_search: "lazy" judges random training examples until batch and guard are full, "full" all of them every
            round.
        stratified: Draw the mistakes evenly from the cells of the confusion matrix (with a full search).
        warm_start: Whether q* is the first verbalizer instruction of the next round; q_0 if not.
        merge: Whether the best updates of a round are joined by one more call and tried too.
        keep_if_worse: Whether the best update is taken even if it raised the loss on its batch.
        select: "best" returns the best validated program, "last" the last one, without validation.
        labels: The label space; by default the student's (`VisualJudge.labels`) or the labels in the trainset.
        label_field: Name of the label in examples and predictions.
        verbalizer: Name of the verbalizing predictor in the student.
        judge: Name of the judging predictor in the student.
        update_judge: Meta-prompt for eq. 6; the fields of `updates.UpdateJudge`.
        update_verbalizer: Meta-prompt for eq. 10; the fields of `updates.UpdateVerbalizer`.
        merge_updates: Meta-prompt that joins updates; the fields of `updates.MergeUpdates`.
        max_instruction_tokens: The longest instruction accepted from the optimizer LM.
        max_failed_share: The largest share of a step's examples that the LM may fail on before the step is void.
        budget: One cap over all LM calls. The run ends in time for its last validation and returns the best so far.
        seed: Seeds every draw; round t uses `random.Random(f"{seed}:{t}")`.
        num_threads: LM calls under way at once; DSPy's setting if None. Results don't depend on it.
        on_round: Called with each completed `Round`.

    Raises:
        BlpoError: If an option is out of its range.
    """

    def __init__(
        self,
        *,
        prompt_model: dspy.BaseLM,
        metric: Metric | None = None,
        task_model: dspy.BaseLM | None = None,
        verbalizer_model: dspy.BaseLM | None = None,
        rounds: int = 8,
        inner_steps: int = 3,
        batch_size: int = 10,
        guard_size: int = 10,
        error_search: Literal["lazy", "full"] = "lazy",
        stratified: bool = False,
        warm_start: bool = True,
        merge: bool = True,
        keep_if_worse: bool = False,
        select: Literal["best", "last"] = "best",
        labels: LabelSpace | None = None,
        label_field: str = "label",
        verbalizer: str = "verbalizer",
        judge: str = "judge",
        update_judge: type[dspy.Signature] = updates.UpdateJudge,
        update_verbalizer: type[dspy.Signature] = updates.UpdateVerbalizer,
        merge_updates: type[dspy.Signature] = updates.MergeUpdates,
        max_instruction_tokens: int = 1500,
        max_failed_share: float = 0.2,
        budget: Budget | None = None,
        seed: int = 0,
        num_threads: int | None = None,
        on_round: Callable[[Round], None] | None = None,
    ) -> None:
        super().__init__()
        _check_options(rounds, inner_steps, batch_size, guard_size, error_search, select, max_failed_share)
        self.prompt_model, self.task_model, self.verbalizer_model = prompt_model, task_model, verbalizer_model
        self.metric, self.labels, self.label_field = metric, labels, label_field
        self.rounds, self.inner_steps = rounds, inner_steps
        self.batch_size, self.guard_size = batch_size, guard_size
        self.error_search, self.stratified = error_search, stratified
        self.warm_start, self.merge, self.keep_if_worse, self.select = warm_start, merge, keep_if_worse, select
        self.verbalizer, self.judge = verbalizer, judge
        self.prompts = MetaPrompts(update_judge, update_verbalizer, merge_updates)
        self.max_instruction_tokens, self.max_failed_share = max_instruction_tokens, max_failed_share
        self.budget, self.seed, self.num_threads, self.on_round = budget, seed, num_threads, on_round

    @classmethod
    def paper(cls, *, prompt_model: dspy.BaseLM, **options: Any) -> BLPO:
        """Returns the paper's algorithm to the letter; any option can still be given.

        T = K = 5; at most ten mistakes, drawn after judging the whole trainset every round; scored on mistakes only;
        q_0 starts every round; the best update is taken whatever its score; the last p is returned. What the paper
        leaves open is settled so: q_0 takes part in the argmax, and the earliest of equal scores wins.
        """
        letter: dict[str, Any] = {
            "rounds": 5,
            "inner_steps": 5,
            "batch_size": 10,
            "guard_size": 0,
            "error_search": "full",
            "warm_start": False,
            "merge": False,
            "keep_if_worse": True,
            "select": "last",
        }
        return cls(prompt_model=prompt_model, **{**letter, **options})

    def compile(
        self,
        student: dspy.Module,
        *,
        trainset: Sequence[dspy.Example],
        teacher: dspy.Module | None = None,
        valset: Sequence[dspy.Example] | None = None,
    ) -> dspy.Module:
        """Returns an optimized copy of the student, with `candidate_programs` and `detailed_results`.

        Args:
            student: A program with a verbalizing and a judging predictor, such as `VisualJudge`.
            trainset: Labelled examples that mistakes are drawn from.
            teacher: Not used; part of DSPy's calling convention.
            valset: Labelled examples that the returned program is picked on; the trainset if None.

        Raises:
            BlpoError: If the data, the program or the options don't fit together.
            ModelError: If a model cannot be used, or the judge never states a label.
        """
        if teacher is not None:
            warnings.warn("BLPO takes no teacher; it is ignored", stacklevel=2)
        predictors = find_predictors(student, self.verbalizer, self.judge)
        data = dataset(student, trainset, valset, self.label_field)
        labels = label_space(self.labels, student, data.examples, self.label_field)
        with dspy.context(disable_history=True, trace=[]), Workers(self.num_threads) as workers:
            run = _Run(self, student, predictors, labels, data.examples, workers)
            result = self._search(run, data.train, data.validation)
        return _finished(run.bench, result, student)

    def _search(self, run: _Run, train: Sequence[int], validation: Sequence[int]) -> BLPOResult:
        """Consumes the rounds: validates each beside the next, stops when the budget cannot pay for another."""
        validator = Validator(run.bench, validation, run.labels)
        every_round = self.select == "best" and run.pays_for_validation(len(validation))
        rounds: list[Round] = []
        stop_reason = f"all {self.rounds} rounds done"
        if self.select == "best":
            validator.start(0, run.start)
        try:
            for completed in self._rounds(run, train):
                rounds.append(completed)
                if self.on_round is not None:
                    self.on_round(completed)
                if every_round:
                    validator.start(len(rounds), completed.end)
                if not run.pays_for_round(len(rounds), 0 if every_round else 2 * len(validation)):
                    stop_reason = "the budget doesn't pay for another round"
                    break
            else:
                if len(rounds) < self.rounds:
                    stop_reason = "the judge makes no mistakes on the trainset"
            if self.select == "best" and not every_round:
                for number in range(max(1, len(rounds) - 1), len(rounds) + 1):
                    validator.start(number, rounds[number - 1].end)
        except RunStoppedError as stopped:
            stop_reason = str(stopped)
        validations = validator.finish()
        returned = rounds[-1].end if rounds and self.select == "last" else run.start
        if validations and validations[0].after_round == 0:
            returned = validations[best(validations)].instructions
        return BLPOResult(
            run.start, tuple(rounds), validations, returned, run.meter.ledger, stop_reason, self._options()
        )

    def _rounds(self, run: _Run, train: Sequence[int]) -> Iterator[Round]:
        """Algorithm 1, one record per outer round."""
        steps, current = run.steps, run.start  # p_0, q_0
        for t in range(self.rounds):  # for t = 0 … T−1
            batch = self._sample_errors(run.bench, current, train, t)  # sample I_B from D under p_t
            if not batch.errors:
                return
            first = Proposal(current.verbalizer if self.warm_start else run.start.verbalizer)
            history = [steps.try_verbalizer(batch, current, first, "start")]  # H_0 ← {(q_0, score(q_0; p_t))}
            for _ in range(self.inner_steps):  # for k = 0 … K−1
                proposal = steps.update_verbalizer(current, history)  # q_{k+1} ← Update_q(p_t, H_k)  (10)
                history.append(steps.try_verbalizer(batch, current, proposal, "proposal"))  # H_{k+1}  (6, 9)
            if self.merge and (merged := steps.merge(batch, current, history)) is not None:
                history.append(merged)
            chosen = self._argmax(history)  # q* ← argmax score  (11)
            completed = Round(t, current, batch, tuple(history), chosen)
            current = completed.end  # p_{t+1} ← J(q*, p_t)  (6)
            yield completed

    def _sample_errors(self, bench: Bench, current: Instructions, train: Sequence[int], number: int) -> Batch:
        order = shuffled(train, self.seed, number)

        def judge(examples: Sequence[int]) -> list[Any]:
            return bench.judge(current, examples)

        if self.error_search == "full" or self.stratified:
            return full_search(judge, order, errors=self.batch_size, guard=self.guard_size, stratified=self.stratified)
        chunk = self.batch_size + self.guard_size
        return lazy_search(judge, order, errors=self.batch_size, guard=self.guard_size, chunk=chunk)

    def _argmax(self, history: Sequence[Trial]) -> int | None:
        """The best score; the earliest of equal ones, a merge before them; none where all updates raised the loss."""
        scored = [(t.score, t.origin == "merge", -i) for i, t in enumerate(history) if t.score is not None]
        if not scored:
            return None
        score, _, position = max(scored)
        return -position if score >= 0 or self.keep_if_worse else None

    def _options(self) -> dict[str, Any]:
        names = (
            "rounds",
            "inner_steps",
            "batch_size",
            "guard_size",
            "error_search",
            "stratified",
            "warm_start",
            "merge",
        )
        names += ("keep_if_worse", "select", "max_instruction_tokens", "max_failed_share", "seed")
        return {name: getattr(self, name) for name in names}


class _Run:
    """What one compile works with."""

    def __init__(
        self,
        options: BLPO,
        student: dspy.Module,
        predictors: Predictors,
        labels: LabelSpace | None,
        examples: Sequence[dspy.Example],
        workers: Workers,
    ) -> None:
        self._options, self.labels = options, labels
        self._began = time.monotonic()
        self.meter = Meter(num_threads=workers.num_threads, admit=self._admit)
        lms = program_lms(student, predictors, options.task_model, options.verbalizer_model)
        self.bench = Bench(
            student,
            predictors,
            {name: self.meter.wrap(lm, role) for name, (lm, role) in lms.items()},
            examples,
            metric=options.metric,
            labels=labels,
            label_field=options.label_field,
            workers=workers,
            max_failed_share=options.max_failed_share,
        )
        lm = self.meter.wrap(options.prompt_model, "optimizer")
        self.steps = Steps(self.bench, lm, options.prompts, labels, options.max_instruction_tokens)
        named = dict(student.named_predictors())
        self.start = Instructions(
            named[predictors.judge].signature.instructions, named[predictors.verbalizer].signature.instructions
        )

    def _admit(self, ledger: Ledger) -> None:
        budget = self._options.budget
        if budget is not None and (reason := budget.exhausted(ledger, time.monotonic() - self._began)):
            raise RunStoppedError(reason)

    def pays_for_validation(self, examples: int) -> bool:
        """Whether the cap on calls pays for some validated rounds; if not, only the end is validated."""
        o = self._options
        if o.budget is None or o.budget.max_calls is None:
            return True
        search, trial = o.batch_size + o.guard_size, 2 + 2 * o.batch_size + o.guard_size
        return o.budget.max_calls >= _VALIDATED_ROUNDS * (search + (o.inner_steps + 1) * trial + examples)

    def pays_for_round(self, done: int, reserve: int) -> bool:
        """Whether every cap leaves room for a round like those before and for `reserve` more calls."""
        if self._options.budget is None:
            return True
        ledger = self.meter.ledger
        spent = self._options.budget.spent(ledger, time.monotonic() - self._began)
        kept = reserve / max(1, ledger.total.calls)
        return all(share * (1 + 1 / done + kept) <= 1 for share in spent.values())


def _finished(bench: Bench, result: BLPOResult, student: dspy.Module) -> dspy.Module:
    program = bench.program(result.returned)
    ranked = sorted(result.validations, key=lambda validation: -validation.score)
    program.candidate_programs = [{"score": v.score, "program": bench.program(v.instructions)} for v in ranked]
    program.detailed_results = result
    return program


def _check_options(
    rounds: int, inner_steps: int, batch_size: int, guard_size: int, error_search: str, select: str, share: float
) -> None:
    for name, value, least in (("rounds", rounds, 1), ("inner_steps", inner_steps, 0), ("batch_size", batch_size, 1)):
        if value < least:
            raise BlpoError(f"{name}={value} is too small; it must be at least {least}")
    if guard_size < 0 or not 0 <= share < 1:
        raise BlpoError(f"guard_size={guard_size} must be 0 or more, max_failed_share={share} in [0, 1)")
    if error_search not in ("lazy", "full") or select not in ("best", "last"):
        raise BlpoError(f"error_search={error_search!r} is 'lazy' or 'full', select={select!r} is 'best' or 'last'")
