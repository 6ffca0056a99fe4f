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

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from blpo_dspy.optimizers.bench.records import Batch, Instructions, Judgement, Round, Trial
from blpo_dspy.optimizers.bench.run import Run
from blpo_dspy.optimizers.bench.sampling import full_search, lazy_search, shuffled
from blpo_dspy.optimizers.blpo.options import BLPOOptions, ErrorSearch
from blpo_dspy.optimizers.blpo.plan import plan_blpo
from blpo_dspy.optimizers.blpo.steps import MetaPrompts, Steps
from blpo_dspy.optimizers.estimates.plan import Plan, Sizes
from blpo_dspy.optimizers.proposals.exhibits import Exhibits
from blpo_dspy.optimizers.proposals.guards import Guards
from blpo_dspy.optimizers.proposals.proposals import Proposal
from blpo_dspy.optimizers.rounds import Select

# How many rounds a cap on calls should pay for before a round gets more inner steps.
_PLANNED_ROUNDS = 4


@dataclass(kw_only=True, eq=False, repr=False)
class BLPO(BLPOOptions):
    """Optimizes the judge and the verbalizer instruction of a program so that its labels agree with people's.

    Every round draws a batch of the judge's mistakes. The inner loop looks for the verbalizer instruction whose
    descriptions of these images lead the optimizer LM to the most useful edit of the judge instruction; the outer
    loop makes that edit. No image is ever sent to the optimizer LM, and no validation example ever enters a prompt
    but the judge's own.

    The defaults differ from the paper's letter (`BLPO.paper`) where that pays: mistakes are searched for only until
    the batch is full; a guard of right examples joins the score; the best updates of a round are merged; the search
    goes on from q* and keeps p where every update made things worse; there are more rounds of fewer inner steps; and
    the returned program is the best one on the validation set, the start included.
    """

    partial_rounds: ClassVar[bool] = True
    # The same with the paper's defaults: `BLPO.paper(prompt_model=…)`.
    paper: ClassVar[type[PaperBLPO]]

    def _rounds(self, run: Run) -> Iterator[Round]:
        """Algorithm 1, one record per outer round; the inner loop ends early where a cap doesn't pay for a step."""
        steps, current = self._steps(run), run.start  # p_0, q_0
        inner_steps = self._planned_steps(run)
        for t in range(self.rounds):  # for t = 0 … T−1
            batch = self._sample_errors(run, current, t)  # sample I_B from D under p_t
            if not batch.errors:
                run.bench.check(run.bench.judge(current, run.data.train))  # known by now: was it refused all mistakes?
                return
            history: list[Trial] = []
            with run.allowance.until_stopped():
                q = self._first_verbalizer(run.start, current)
                history.append(steps.try_verbalizer(batch, current, q, 0))  # H_0 ← {(q_0, score(q_0; p_t))}  (6, 9)
                for k in range(inner_steps):  # for k = 0 … K−1
                    q = steps.update_verbalizer(current, history)  # q_{k+1} ← Update_q(p_t, H_k)  (10)
                    trial = steps.try_verbalizer(batch, current, q, k + 1)  # p' ← J(q_{k+1}, p_t); score  (6, 9)
                    history.append(trial)  # H_{k+1} ← H_k ∪ {(q_{k+1}, score)}
                if self.merge:
                    history += steps.merge(batch, current, history)
            chosen = self._argmax(current, history)  # q* ← argmax score  (11)
            completed = Round(t, current, batch, tuple(history), chosen)
            current = completed.end  # p_{t+1} ← J(q*, p_t)  (6)
            yield completed

    def _planned_steps(self, run: Run) -> int:
        """K, or as many inner steps as leave room for some rounds under a cap on calls; more rounds pay better."""
        if run.max_calls is None:
            return self.inner_steps
        room, rounds = run.max_calls - run.allowance.reserve, min(_PLANNED_ROUNDS, self.rounds)
        for steps in range(self.inner_steps, 1, -1):
            if rounds * self._calls(steps, run.per_example) <= room:
                return steps
        return min(1, self.inner_steps)

    def _steps(self, run: Run) -> Steps:
        prompts = MetaPrompts(self.update_judge, self.update_verbalizer, self.merge_updates)
        exhibits = Exhibits(run.bench, run.labels, "descriptions", run.start.verbalizer)
        return Steps(run.bench, self._asker(run), exhibits, prompts, self.verbalizer_search)

    def _first_verbalizer(self, start: Instructions, current: Instructions) -> Proposal:
        """q_0 of a round."""
        if self.verbalizer_search == "judge":
            return Proposal(current.judge)
        return Proposal(current.verbalizer if self.warm_start else start.verbalizer)

    def _sample_errors(self, run: Run, current: Instructions, number: int) -> Batch:
        order = shuffled(run.data.train, self.seed, number)

        def judge(examples: Sequence[int]) -> list[Judgement]:
            return run.bench.judge(current, examples)

        if self.error_search == "full" or self.stratified:
            return full_search(judge, order, errors=self.batch_size, guard=self.guard_size, stratified=self.stratified)
        chunk = self.batch_size + self.guard_size
        return lazy_search(judge, order, errors=self.batch_size, guard=self.guard_size, chunk=chunk)

    def _argmax(self, current: Instructions, history: Sequence[Trial]) -> int | None:
        """The best score; of equal ones an update that changes p, a merge, the earliest; none where it changes nothing.

        Unless `keep_if_worse`, none where all updates raised the loss either.
        """
        scored = [
            (trial.score, trial.judge != current.judge, trial.origin == "merge", -i)
            for i, trial in enumerate(history)
            if trial.score is not None
        ]
        if not scored:
            return None
        score, changed, _, position = max(scored)
        if (score == 0 and not changed) or (score < 0 and not self.keep_if_worse):
            return None
        return -position

    def _end(self, rounds: Sequence[Round]) -> str:
        if len(rounds) < self.rounds:
            return "the judge makes no mistakes on the trainset"
        return super()._end(rounds)

    def plan(self, sizes: Sizes, threads: int) -> Plan:
        """Returns bounds on the LM calls of a run; see `JudgeOptimizer.plan`."""
        return plan_blpo(self, sizes, threads)

    def _round_calls(self, per_example: int) -> int:
        return self._calls(self.inner_steps, per_example)

    def _calls(self, inner_steps: int, per_example: int) -> int:
        """About what a round costs: the search, and for each trial two instructions, descriptions and judgements."""
        scored = self.batch_size + self.guard_size
        trial = 2 + self.batch_size + scored + (per_example - 1) * self.guard_size
        return scored * per_example + (inner_steps + 1) * trial


@dataclass(kw_only=True, eq=False, repr=False)
class PaperBLPO(BLPO):
    """The paper's algorithm to the letter; any option can still be given.

    T = K = 5; at most ten mistakes, drawn after judging the whole trainset every round; scored on mistakes only; q_0
    starts every round; the best update is taken whatever its score; the last p is returned. What the paper leaves open
    is settled so: q_0 takes part in the argmax; of equal scores an update that changes p wins, and then the earliest.
    """

    algorithm: ClassVar[str] = "BLPO"

    rounds: int = 5
    inner_steps: int = 5
    batch_size: int = 10
    guard_size: int = 0
    error_search: ErrorSearch = "full"
    warm_start: bool = False
    merge: bool = False
    keep_if_worse: bool = True
    guards: Guards = Guards(copied_words=None)  # noqa: RUF009 - frozen
    select: Select = "last"


BLPO.paper = PaperBLPO
