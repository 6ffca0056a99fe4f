"""APO (ProTeGi): textual gradients, edits and paraphrases in a beam search."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, get_args

import dspy

from blpo_dspy.optimizers.baselines.apo_expansion import APOPrompts, Expansion, distinct
from blpo_dspy.optimizers.baselines.apo_prompts import ApplyReason, FindReasons, VaryInstruction
from blpo_dspy.optimizers.baselines.bandit import UCBBandit
from blpo_dspy.optimizers.bench.records import Batch, Judgement, Round, Trial
from blpo_dspy.optimizers.bench.run import Run
from blpo_dspy.optimizers.bench.sampling import shuffled
from blpo_dspy.optimizers.proposals.exhibits import Exhibits, ShownAs
from blpo_dspy.optimizers.rounds import RoundOptimizer, Select

_SIZES = (
    "rounds",
    "beam_size",
    "minibatch_size",
    "errors_per_gradient",
    "gradients_per_error",
    "steps_per_gradient",
    "max_expansion",
    "eval_rounds",
    "eval_prompts_per_round",
    "samples_per_eval",
)


@dataclass(kw_only=True, eq=False, repr=False)
class APO(RoundOptimizer):
    """Optimizes the judge instruction by textual gradients in a beam search.

    Source: Pryzant et al., "Automatic Prompt Optimization with “Gradient Descent” and Beam Search", arXiv 2305.03495
    (ProTeGi), and its reference implementation microsoft/LMOps, `prompt_optimization`. With `errors_as="images"` it is
    the baseline that the BLPO paper calls APO-image. In every round each instruction of the beam judges a minibatch;
    four times four of its errors are shown to the optimizer LM, which names a reason for them (the gradient) and then
    writes an improved instruction for each reason. The improved instructions and their parent are paraphrased twice.
    Eight of these children join the beam, and a UCB bandit finds the best four of all on random training examples. The
    best of the last beam by the bandit's estimate is returned; no validation set takes part in the selection. The
    verbalizer instruction is left alone.

    Departures from the reference implementation:

    - Any label space, and the mean metric 1 − loss instead of 0/1. An error is a judgement with a positive loss, of
      scores one beyond the tolerance.
    - Errors hold images, shown as such or as descriptions by the verbalizer. They also say in words how the labels
      differ ("judge 2 too high"), as the errors that BLPO shows do; an ordinal loss means nothing without it.
    - An instruction without an error in the minibatch gets no gradient, only paraphrases; the reference asks for
      reasons all the same, with no example.
    - Samples of the same request carry their number, since equal requests are answered alike by caches and by
      deterministic models.
    - Answers are DSPy fields instead of text between tags; the wording is the reference's in substance. An instruction
      that states an output format, which the program owns, is longer than `max_instruction_tokens` or quotes an error
      (see `guards`) is dropped.
    - The optimizer LM samples at its own temperature unless `temperature` is given; the reference's 0.7 is refused by
      reasoning models.
    - Only the bandit of the paper is there (`ucb`), not the reference's other evaluators. Of equal estimates the older
      instruction wins; the reference sorts by text.
    - The whole instruction is edited: there is no sectioned prompt of which only the task is.
    - A round that a budget cuts short while its candidates are tried ends with the estimates so far.

    Args:
        prompt_model: The optimizer LM.
        rounds: How often the beam is expanded.
        beam_size: How many instructions survive a round.
        minibatch_size: How many training examples an instruction's errors are looked for in.
        n_gradients: How often a group of errors is drawn for each instruction of the beam.
        errors_per_gradient: The most errors in a group.
        gradients_per_error: How many reasons are asked for, for each group.
        steps_per_gradient: How many improved instructions are asked for, for each reason.
        mc_samples: How many paraphrases are asked for, of each improved instruction and of its parent.
        max_expansion: The most children of one parent that are tried.
        reject_on_errors: Whether these are the children that do best on up to 16 errors of the minibatch, rather than
            random ones.
        eval_rounds: How often the bandit chooses.
        eval_prompts_per_round: How many instructions it chooses at a time.
        samples_per_eval: How many random training examples these are tried on.
        exploration: c of the bandit.
        errors_as: How prompts show the judge's input: "images", or "descriptions" by the verbalizer.
        temperature: The optimizer LM's sampling temperature; None for its own.
        find_reasons: Meta-prompt for gradients, `apo_prompts.FindReasons` or one with its fields.
        apply_reason: Meta-prompt for edits, `apo_prompts.ApplyReason` or one with its fields.
        vary_instruction: Meta-prompt for paraphrases, `apo_prompts.VaryInstruction` or one with its fields.
        select: "last" returns what the bandit rates highest, without validation; "best" the best validated program, the
            start included.

    Raises:
        BlpoError: If an option is out of its range.
    """

    partial_rounds: ClassVar[bool] = True

    select: Select = "last"
    rounds: int = 6
    beam_size: int = 4
    minibatch_size: int = 64
    n_gradients: int = 4
    errors_per_gradient: int = 4
    gradients_per_error: int = 1
    steps_per_gradient: int = 1
    mc_samples: int = 2
    max_expansion: int = 8
    reject_on_errors: bool = False
    eval_rounds: int = 8
    eval_prompts_per_round: int = 8
    samples_per_eval: int = 32
    exploration: float = 1.0
    errors_as: ShownAs = "images"
    temperature: float | None = None
    find_reasons: type[dspy.Signature] = field(default_factory=lambda: FindReasons)
    apply_reason: type[dspy.Signature] = field(default_factory=lambda: ApplyReason)
    vary_instruction: type[dspy.Signature] = field(default_factory=lambda: VaryInstruction)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_least(**dict.fromkeys(_SIZES, 1), n_gradients=0, mc_samples=0, exploration=0.0)
        self._check_one_of(errors_as=get_args(ShownAs))

    def _rounds(self, run: Run) -> Iterator[Round]:
        """One record per round; its trials are the candidates, best first, and it ends with the best of the beam."""
        expansion = self._expansion(run)
        beam = [Trial("start", run.start.verbalizer, run.start.judge)]
        for number in range(self.rounds):
            minibatch = shuffled(run.data.train, self.seed, number)[: self.minibatch_size]
            children = [self._children(expansion, parent, minibatch, number) for parent in beam]
            candidates, refused = distinct([*beam, *itertools.chain(*children)], known=set())
            candidates = self._select(run, candidates, number)
            if candidates[0].score is None and run.allowance.stopped is not None:
                return  # no candidate was tried
            batch = Batch.of(run.bench.judge(beam[0].instructions, minibatch))
            improved = candidates[0].judge != beam[0].judge
            start, trials = beam[0].instructions, (*candidates, *refused)
            yield Round(number, start, batch, trials, chosen=0 if improved else None)
            beam = [Trial("start", run.start.verbalizer, c.judge) for c in candidates[: self.beam_size]]

    def _least_round(self, run: Run) -> int:
        """A minibatch, the gradients, an edit for each (they may be refused), paraphrases of the parent, a try."""
        train = len(run.data.train)
        edits = self.n_gradients * self.gradients_per_error
        asked = self.n_gradients + edits + self.mc_samples
        judged = min(self.minibatch_size, train) * run.per_example + min(self.samples_per_eval, train) * run.judging
        return judged + asked

    def _expansion(self, run: Run) -> Expansion:
        exhibits = Exhibits(run.bench, run.labels, self.errors_as, run.start.verbalizer)
        return Expansion(
            run.bench,
            self._asker(run, self.temperature),
            exhibits,
            APOPrompts(self.find_reasons, self.apply_reason, self.vary_instruction),
            n_gradients=self.n_gradients,
            errors_per_gradient=self.errors_per_gradient,
            gradients_per_error=self.gradients_per_error,
            steps_per_gradient=self.steps_per_gradient,
            mc_samples=self.mc_samples,
            max_expansion=self.max_expansion,
            reject_on_errors=self.reject_on_errors,
        )

    def _children(self, expansion: Expansion, parent: Trial, minibatch: Sequence[int], number: int) -> list[Trial]:
        assert parent.judge is not None
        return expansion.children(parent.judge, minibatch, random.Random(f"{self.seed}:{number}:{parent.judge}"))

    def _select(self, run: Run, candidates: Sequence[Trial], number: int) -> list[Trial]:
        """The candidates with the bandit's estimates, the best first, as far as the budget reaches."""
        if len(candidates) == 1:
            return list(candidates)
        bandit, rng = UCBBandit(len(candidates), self.exploration), random.Random(f"{self.seed}:{number}:selection")
        judged: list[list[Judgement]] = [[] for _ in candidates]
        with run.allowance.until_stopped():
            for t in range(self.eval_rounds):
                sample = rng.sample(run.data.train, min(self.samples_per_eval, len(run.data.train)))
                for arm in bandit.choose(self.eval_prompts_per_round, t, rng):
                    judgements = run.bench.judge(candidates[arm].instructions, sample)
                    bandit.update(arm, [1.0 - j.loss for j in judgements if j.loss is not None])
                    judged[arm] += judgements
        means = [None if run.bench.void(j) else mean for mean, j in zip(bandit.means, judged, strict=True)]
        tried = [c.scored(mean, j) for c, mean, j in zip(candidates, means, judged, strict=True)]
        return sorted(tried, key=lambda trial: -1.0 if trial.score is None else trial.score, reverse=True)
