"""OPRO: an LM as the optimizer, led by the scores of earlier instructions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args

import dspy

from blpo_dspy.optimizers.baselines.opro_prompts import InstructionScore, WriteInstruction
from blpo_dspy.optimizers.bench.records import Batch, Instructions, Judgement, Rejection, Round, Trial
from blpo_dspy.optimizers.bench.run import Run
from blpo_dspy.optimizers.bench.sampling import drawn, shuffled
from blpo_dspy.optimizers.proposals.exhibits import Exhibits, ShownAs, label_names
from blpo_dspy.optimizers.proposals.proposals import Proposal
from blpo_dspy.optimizers.rounds import RoundOptimizer, Select
from blpo_dspy.text import as_data

Scored = tuple[str, float]


@dataclass(kw_only=True, eq=False, repr=False)
class OPRO(RoundOptimizer):
    """Optimizes the judge instruction by showing the optimizer LM the best instructions so far with their scores.

    Source: Yang et al., "Large Language Models as Optimizers", arXiv 2309.03409, and its reference implementation
    google-deepmind/opro (`optimize_instructions.py`, in the form for GPT models). In every step the optimizer LM reads
    the 20 best instructions in ascending order of their scores, rounded to whole numbers from 0 to 100, and three
    random problems with their labels, and writes eight new instructions; each is scored on the whole training set. The
    one with the best training score is returned; no validation set takes part in the selection. The verbalizer
    instruction is left alone.

    Departures from the reference implementation:

    - The score is the mean metric, 1 − loss, which for ordinal labels is finer than accuracy.
    - `score_size` can bound the training set, for budgets; the reference scores on all of it.
    - Problems hold images. They can be shown as images, as descriptions by the verbalizer, or left out.
    - Each proposal is asked for by its number, since equal requests are answered alike by caches and by deterministic
      models; the reference asks eight times the same at temperature 1.
    - The answer is a DSPy field instead of text between tags; the prompt's wording is our own, in the same parts.
    - Instructions may be as long as `max_instruction_tokens` says rather than 500 characters, too few for a judge, and
      one that states an output format is dropped, since the program owns that, as is one that quotes a problem (see
      `guards`). They are used as written: nothing is capitalised or stripped of asterisks.
    - An instruction below `score_threshold` is hidden from the prompt as in the reference, but never the best one.
    - A step that a budget cuts short counts as far as its instructions were scored.

    Cost: about `steps` · `samples_per_step` · (1 + training examples) calls. With the published 200 steps of eight
    samples that is many; give a `budget`.

    Args:
        prompt_model: The optimizer LM.
        steps: How often new instructions are asked for.
        samples_per_step: How many are asked for in a step.
        max_shown: The most earlier instructions in the prompt.
        exemplars: How many training examples the prompt shows.
        exemplars_as: How it shows them: "images", "descriptions" by the verbalizer, or "none".
        score_size: How many training examples are used at all, drawn once; None for all.
        score_threshold: The lowest score, in [0, 1], with which an instruction is shown.
        temperature: The optimizer LM's sampling temperature; None for its own.
        write_instruction: The meta-prompt, `opro_prompts.WriteInstruction` or one with its fields.
        select: "last" returns what scored best on the training examples, without validation; "best" the best validated
            program, the start included.

    Raises:
        BlpoError: If an option is out of its range.
    """

    partial_rounds: ClassVar[bool] = True

    select: Select = "last"
    steps: int = 200
    samples_per_step: int = 8
    max_shown: int = 20
    exemplars: int = 3
    exemplars_as: ShownAs | Literal["none"] = "images"
    score_size: int | None = None
    score_threshold: float = 0.3
    temperature: float | None = 1.0
    write_instruction: type[dspy.Signature] = field(default_factory=lambda: WriteInstruction)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_least(steps=1, samples_per_step=1, max_shown=1, exemplars=0)
        if self.score_size is not None:
            self._check_least(score_size=1)
        self._check_one_of(exemplars_as=(*get_args(ShownAs), "none"))

    @property
    def reads_reasons(self) -> bool:
        """Whether the prompt shows exemplars, which come with their reasons."""
        return self.exemplars_as != "none" and self.exemplars > 0

    def _rounds(self, run: Run) -> Iterator[Round]:
        """One record per step; it ends with the best instruction so far."""
        train, best = self._train(run), run.start
        initial = run.bench.judge(best, train)
        run.bench.check(initial)
        history: list[Scored] = [(best.judge, 1.0 - run.bench.mean_loss(initial))]  # score the initial one
        for step in range(self.steps):
            shown = run.bench.judge(best, sorted(shuffled(train, self.seed, step)[: self.exemplars]))
            proposals = self._proposals(run, self._meta_prompt(run, history, shown), step)
            trials = self._scored(run, _new(proposals, history), train)
            if not trials:
                return  # the budget is spent: none was scored
            completed = Round(step, best, Batch.of(shown), tuple(trials), _argmax(trials, history))
            yield completed
            history += [(trial.judge, trial.score) for trial in trials if trial.judge and trial.score is not None]
            best = completed.end

    def _least_round(self, run: Run) -> int:
        """The start and one of a step's proposals, which are asked for together; descriptions serve both."""
        scored = len(self._train(run))
        return scored * (run.per_example + run.judging) + self.samples_per_step

    def _train(self, run: Run) -> list[int]:
        """The examples that instructions are scored on, the same in every step."""
        return sorted(drawn(run.data.train, self.seed)[: self.score_size])

    def _meta_prompt(self, run: Run, history: Sequence[Scored], shown: Sequence[Judgement]) -> dict[str, Any]:
        """The best of the history in ascending order, scores in a hundred buckets, and the exemplars."""
        ascending = sorted(history, key=lambda scored: scored[1])[-self.max_shown :]
        earlier = [scored for scored in ascending if scored[1] >= self.score_threshold] or ascending[-1:]
        prompt: dict[str, Any] = {
            "labels": label_names(run.labels),
            "previous_instructions": [InstructionScore(instruction=text, score=round(100 * s)) for text, s in earlier],
        }
        if self.exemplars_as != "none":
            exhibits = Exhibits(run.bench, run.labels, self.exemplars_as, run.start.verbalizer)
            inputs = exhibits.inputs([exemplar.example for exemplar in shown])
            prompt["exemplars"] = [
                {**inputs[exemplar.example], "label": as_data(exemplar.label), **exhibits.reason(exemplar.example)}
                for exemplar in shown
                if exemplar.example in inputs
            ]
        return prompt

    def _proposals(self, run: Run, prompt: dict[str, Any], step: int) -> list[Proposal]:
        """The answers to the meta-prompt, sampled `samples_per_step` times."""
        signature = self.write_instruction if "exemplars" in prompt else self.write_instruction.delete("exemplars")
        count = self.samples_per_step
        requests = [{**prompt, "sample": f"step {step + 1}, proposal {n + 1} of {count}"} for n in range(count)]
        asker = self._asker(run, self.temperature)
        replies = asker.ask(signature, requests)
        return [proposal for reply in replies for proposal in asker.instructions(reply, run.start.judge)]

    def _scored(self, run: Run, proposals: Sequence[Proposal], train: Sequence[int]) -> list[Trial]:
        """The proposals with their scores on the training set, as far as the budget reaches."""
        trials: list[Trial] = []
        with run.allowance.until_stopped():
            for proposal in proposals:
                trial = Trial("proposal", run.start.verbalizer, proposal.text, rejections=proposal.rejections)
                if proposal.text is not None:
                    judgements = run.bench.judge(Instructions(proposal.text, run.start.verbalizer), train)
                    trial = trial.scored(run.bench.mean_score(judgements), judgements)
                trials.append(trial)
        return trials


def _new(proposals: Sequence[Proposal], history: Sequence[Scored]) -> list[Proposal]:
    """The proposals; one that was made before is rejected."""
    seen: set[str | None] = {text for text, _ in history}
    new = []
    for proposal in proposals:
        if proposal.text is not None and proposal.text in seen:
            new.append(Proposal(None, (Rejection("the instruction was proposed before", proposal.text),)))
        else:
            new.append(proposal)
        seen.add(proposal.text)
    return new


def _argmax(trials: Sequence[Trial], history: Sequence[Scored]) -> int | None:
    """The first trial with the highest score; None where that isn't higher than all of the history."""
    score, position = max(((t.score, -i) for i, t in enumerate(trials) if t.score is not None), default=(-1.0, 0))
    return -position if score > max(score for _, score in history) else None
