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
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

import dspy

from blpo_dspy.optimizers.bench.records import Instructions, Round, Trial
from blpo_dspy.optimizers.bench.run import Run
from blpo_dspy.optimizers.bench.sampling import FEW_EXAMPLES, Batches, FullSearch, Minibatches, Sampling
from blpo_dspy.optimizers.bench.setup import Dataset
from blpo_dspy.optimizers.blpo import prompts as updates
from blpo_dspy.optimizers.blpo.options import BLPOOptions, InnerLoop, KeepBack
from blpo_dspy.optimizers.blpo.plan import plan_blpo
from blpo_dspy.optimizers.blpo.steps import REMEMBERED, SMALLEST_GAIN, MetaPrompts, Steps
from blpo_dspy.optimizers.estimates.plan import Plan
from blpo_dspy.optimizers.proposals.exhibits import Exhibits
from blpo_dspy.optimizers.proposals.guards import Guards, words_in
from blpo_dspy.optimizers.proposals.proposals import Proposal
from blpo_dspy.optimizers.rounds import Select
from blpo_dspy.programs.signatures import is_default_verbalizer_instruction, is_for_several


@dataclass(kw_only=True, eq=False, repr=False)
class BLPO(BLPOOptions):
    """Optimizes the judge and the verbalizer instruction of a program so that its labels agree with people's.

    Every round works on the judge's mistakes in a minibatch of training examples. The inner loop looks for the
    verbalizer instruction whose descriptions of these images lead the optimizer LM to a useful edit of the judge
    instruction; the outer loop makes that edit. No image is ever sent to the optimizer LM, and no validation example
    ever enters a prompt but the judge's own.

    The defaults differ from the paper's letter (`BLPO.paper`) where that pays. An update is scored on the whole
    minibatch, so that one that breaks what was right is found out; scoring it judges the minibatch under the new
    instruction, so that the same minibatch can serve again at no cost. The first update with a gain is taken, and a new
    verbalizer instruction is paid for only where the present one led to none; it is proposed from the mistakes and
    what was reported of them, not from scores alone. Once the optimizer LM corrects nine tenths of what it is shown,
    half of the mistakes are kept back from it and updates are scored on these; one that stands alone is not shown. It
    also sees examples that the judge gets right. The first verbalizer instruction names the judge's task, unless the
    student has one of its own. The returned program is the best one on the validation set, the start included: without
    a budget what each pass through the training examples led to is validated, under one the start and the end.
    """

    partial_rounds: ClassVar[bool] = True
    # The same with the paper's defaults: `BLPO.paper(prompt_model=…)`.
    paper: ClassVar[type[PaperBLPO]]

    def _rounds(self, run: Run) -> Iterator[Round]:
        """Algorithm 1, one record per outer round; the inner loop ends early where a cap doesn't pay for a step."""
        steps, batches, current = self._steps(run), self._batches(run), self._begin(run, run.start)  # p_0, q_0
        tried: list[Trial] = []  # what earlier batches gave for p_t
        for t in range(self.most_rounds):  # for t = 0 … T−1
            batch = batches.sample(partial(run.bench.judge, current))  # sample I_B from D under p_t
            if batch is None:
                run.ended = self._why_ended(run, batches, current)
                return
            history: list[Trial] = []
            with run.allowance.until_stopped():
                q = Proposal(current.verbalizer)
                history.append(steps.try_verbalizer(batch, current, q, 0))  # H_0 ← {(q_0, score(q_0; p_t))}  (6, 9)
                for k in range(self.inner_steps):  # for k = 0 … K−1
                    if self._settled(history):
                        break
                    q = steps.update_verbalizer(batch, current, tried + history)  # q_{k+1} ← Update_q(p_t, H_k)  (10)
                    trial = steps.try_verbalizer(batch, current, q, k + 1)  # p' ← J(q_{k+1}, p_t); score  (6, 9)
                    history.append(trial)  # H_{k+1} ← H_k ∪ {(q_{k+1}, score)}
            chosen = self._argmax(current, history)  # q* ← argmax score  (11)
            ends = batches.end_round(batch, history, chosen)
            completed = Round(t, current, batch, tuple(history), chosen, ends)
            current = self._begin(run, completed.end)  # p_{t+1} ← J(q*, p_t)  (6)
            tried = [] if chosen is not None else [*tried, *history][-REMEMBERED:]
            yield completed

    def _steps(self, run: Run) -> Steps:
        prompts = MetaPrompts(self.update_judge, self.update_verbalizer)
        exhibits = Exhibits(run.bench, run.labels, "descriptions", run.start.verbalizer)
        words = None if self.instruction_words is None else words_in(run.start.judge) + self.instruction_words
        to_the_end = self.inner_loop == "all_steps"
        search, asker = self.verbalizer_search, self._asker(run)
        return Steps(run.bench, asker, exhibits, prompts, search, words, to_the_end, run.evidence)

    def _batches(self, run: Run) -> Batches:
        train, held_out = run.data.train, {"always": True, "never": False, "auto": None}[self.keep_back]
        if self.keep_back == "auto" and len(train) < FEW_EXAMPLES:
            held_out = True
        right = self.shown_right if run.describes else self.shown_right // 2
        endless = run.budget is not None
        return Batches(self._sampling(train), errors=self.batch_size, right=right, held_out=held_out, endless=endless)

    def _sampling(self, train: Sequence[int]) -> Sampling:
        if self.minibatch_size is None:
            return FullSearch(train, self.seed, errors=self.batch_size)
        size, growth, updates = self.minibatch_size, self.minibatch_growth, self.minibatch_updates
        return Minibatches(train, self.seed, size=size, growth=growth, updates=updates)

    def _begin(self, run: Run, end: Instructions) -> Instructions:
        """p_t and the verbalizer instruction that a round begins with: q* of the one before, or q_0."""
        if self.verbalizer_search == "judge":
            return Instructions(end.judge, end.judge)
        if self.verbalizer_search == "fixed" or self.inner_loop == "all_steps":
            return Instructions(end.judge, run.start.verbalizer)
        if end is not run.start and run.describes:
            return end
        q = run.start.verbalizer
        if is_default_verbalizer_instruction(q):
            q = updates.report_instruction(run.start.judge, several=is_for_several(q))
        return Instructions(end.judge, q)

    def _why_ended(self, run: Run, batches: Batches, current: Instructions) -> str:
        if batches.exhausted:
            return "minibatches of the largest size led to no update"
        judged = run.bench.judge(current, run.data.train)  # known by now
        run.bench.check(judged)  # was it refused all mistakes?
        mistakes = sum(judgement.mistake for judgement in judged)
        if not mistakes:
            return "the judge makes no mistakes on the trainset to learn from"
        return f"the judge makes too few mistakes on the trainset to learn from ({mistakes} in {len(judged)} examples)"

    def _settled(self, history: Sequence[Trial]) -> bool:
        """Whether the inner loop has what it looks for."""
        return self.inner_loop == "first_gain" and any((trial.score or 0) > SMALLEST_GAIN for trial in history)

    def _argmax(self, current: Instructions, history: Sequence[Trial]) -> int | None:
        """The best score; of equal ones an update that changes p, the shorter instruction, the earliest.

        None where it changes nothing, and, unless all steps are made, where none lowered the loss.
        """
        scored = [
            (trial.score, trial.judge != current.judge, -len(str(trial.judge)), -i)
            for i, trial in enumerate(history)
            if trial.score is not None
        ]
        if not scored:
            return None
        score, changed, _, position = max(scored)
        if score <= SMALLEST_GAIN and (self.inner_loop == "first_gain" or (score == 0 and not changed)):
            return None
        return -position

    def _least_round(self, run: Run) -> int:
        """A minibatch, an update, and its score there, or in the paper's search on the mistakes shown."""
        train = len(run.data.train)
        searched = train if self.minibatch_size is None else min(self.minibatch_size, train)
        scored = self.batch_size if self.minibatch_size is None else searched
        return searched * run.per_example + 1 + min(scored, train) * run.judging

    def plan(self, student: dspy.Module, data: Dataset, verbalizer: str) -> Plan:
        """Returns usual numbers and bounds of the LM calls of a run."""
        return plan_blpo(self, student, data, verbalizer)


@dataclass(kw_only=True, eq=False, repr=False)
class PaperBLPO(BLPO):
    """The paper's algorithm to the letter; any option can still be given.

    T = K = 5; at most ten mistakes, drawn after judging the whole trainset every round; scored on mistakes only; q_0
    starts every round; each further q is proposed from the scores alone; the best update is taken whatever its score;
    the last p is returned. What the paper leaves open is settled so: q_0 takes part in the argmax; of equal scores an
    update that changes p wins, and then the earliest.
    """

    algorithm: ClassVar[str] = "BLPO"

    rounds: int | None = 5
    inner_steps: int = 5
    inner_loop: InnerLoop = "all_steps"
    shown_right: int = 0
    minibatch_size: int | None = None
    keep_back: KeepBack = "never"
    instruction_words: int | None = None
    guards: Guards = Guards(copied_words=None)  # noqa: RUF009 - frozen
    select: Select = "last"
    update_verbalizer: type[dspy.Signature] = field(default_factory=lambda: updates.UpdateVerbalizerByScores)


BLPO.paper = PaperBLPO
