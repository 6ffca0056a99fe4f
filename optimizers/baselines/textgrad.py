"""TextGrad: criticism of the judge's outputs, carried back to its instruction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import get_args

import dspy

from blpo_dspy.optimizers.baselines.textgrad_prompts import CriticizeInstruction, CriticizeOutput, ImproveInstruction
from blpo_dspy.optimizers.baselines.textgrad_steps import TextGradPrompts, TextGradSteps
from blpo_dspy.optimizers.bench.records import Batch, Instructions, Round, Trial
from blpo_dspy.optimizers.bench.run import Run
from blpo_dspy.optimizers.bench.sampling import shuffled
from blpo_dspy.optimizers.proposals.exhibits import Exhibits, ShownAs
from blpo_dspy.optimizers.rounds import RoundOptimizer, Select


@dataclass(kw_only=True, eq=False, repr=False)
class TextGrad(RoundOptimizer):
    """Optimizes the judge instruction by gradient descent whose gradients are criticism in words.

    Source: Yuksekgonul et al., "TextGrad: Automatic “Differentiation” via Text", arXiv 2406.07496, and its reference
    implementation zou-group/textgrad (`evaluation/prompt_optimization.py`, `TextualGradientDescent`). In every step the
    judge labels a minibatch of three training examples. For each of them, whether right or wrong, the optimizer LM
    criticizes the output given its evaluation (loss → response), then the instruction given that criticism
    (response → instruction); one more call writes the improved instruction from all of it. The last instruction is
    returned. The verbalizer instruction is left alone.

    Departures from the reference implementation:

    - The conversation of an example holds its image, or its description by the verbalizer. With images, the gradient on
      the instruction sees one and the update one per example of the batch, as in the reference's multimodal variant.
    - The evaluation names both labels, how they differ ("judge 2 too high") and the score 1 − loss, instead of a bare
      0 or 1. It also stands in the conversation that the gradient on the instruction sees, so that it isn't lost where
      the criticism of the output says little.
    - The optimizer LM sees the whole instruction; the reference shows the first and last ten words of a variable.
    - Conversations come in the order of the batch; the reference keeps gradients in a set, whose order differs from
      process to process.
    - An improved instruction that cannot be read, states an output format (which the program owns), is longer than
      `max_instruction_tokens` or quotes an example (see `guards`) is asked for once more, then the step changes
      nothing; the reference raises an error.
    - Answers are DSPy fields instead of text between tags; the wording is the reference's in substance.
    - `momentum_window` and `gradient_memory` can be used together; both are off, as in the published experiments.
    - An example on which the judge or a criticism fails is left out of the step.
    - The optimizer LM samples at its own temperature; the reference at 0.

    Args:
        prompt_model: The optimizer LM, for criticism and updates.
        epochs: How often the training examples are shuffled and gone through.
        steps_per_epoch: The most steps of an epoch; None for all of the training examples.
        batch_size: How many training examples a step works on.
        inputs_as: How prompts show the judge's input: "images", or "descriptions" by the verbalizer.
        momentum_window: How many versions of the instruction, the current one included, the update is shown.
        gradient_memory: The feedback of how many earlier steps the update is shown.
        revert: Whether an instruction that scores less on the validation set than the one before it is taken back
            (the reference's `run_validation`).
        criticize_output: Meta-prompt, loss → response, `textgrad_prompts.CriticizeOutput` or one with its fields.
        criticize_instruction: Meta-prompt, response → instruction, `textgrad_prompts.CriticizeInstruction` or one with
            its fields.
        improve_instruction: Meta-prompt of the update, `textgrad_prompts.ImproveInstruction` or one with its fields.
        select: "last" returns the last instruction, without validation; "best" the best validated program, the start
            included.

    Raises:
        BlpoError: If an option is out of its range.
    """

    select: Select = "last"
    epochs: int = 3
    steps_per_epoch: int | None = 4
    batch_size: int = 3
    inputs_as: ShownAs = "images"
    momentum_window: int = 0
    gradient_memory: int = 0
    revert: bool = False
    criticize_output: type[dspy.Signature] = field(default_factory=lambda: CriticizeOutput)
    criticize_instruction: type[dspy.Signature] = field(default_factory=lambda: CriticizeInstruction)
    improve_instruction: type[dspy.Signature] = field(default_factory=lambda: ImproveInstruction)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_least(epochs=1, batch_size=1, momentum_window=0, gradient_memory=0)
        if self.steps_per_epoch is not None:
            self._check_least(steps_per_epoch=1)
        self._check_one_of(inputs_as=get_args(ShownAs))

    def _rounds(self, run: Run) -> Iterator[Round]:
        """One record per step; it ends with the updated instruction."""
        steps, current = self._steps(run), run.start
        history: list[Round] = []
        for number, batch in enumerate(self._batches(run.data.train)):
            conversations = steps.forward(current, batch)  # response = LM(instruction, x)
            conversations = steps.output_gradients(conversations)  # ∂ loss / ∂ response
            conversations = steps.instruction_gradients(current, conversations)  # ∂ loss / ∂ instruction
            update = steps.update(current, conversations, *self._memory(history, current))
            trial = Trial(
                "proposal",
                current.verbalizer,
                update.text,
                criticism=tuple(c.on_instruction for c in conversations),
                rejections=update.rejections,
            )
            judged = Batch.of(run.bench.judge(current, batch))
            completed = Round(number, current, judged, *self._validated(run, current, trial))
            history.append(completed)
            current = completed.end
            yield completed

    def _least_round(self, run: Run) -> int:
        """A batch is judged, each answer and then the instruction for it criticized, and the instruction revised."""
        return min(self.batch_size, len(run.data.train)) * (run.per_example + 2) + 1

    def _steps(self, run: Run) -> TextGradSteps:
        exhibits = Exhibits(run.bench, run.labels, self.inputs_as, run.start.verbalizer)
        prompts = TextGradPrompts(self.criticize_output, self.criticize_instruction, self.improve_instruction)
        return TextGradSteps(run.bench, self._asker(run), exhibits, prompts)

    def _batches(self, train: Sequence[int]) -> Iterator[list[int]]:
        for epoch in range(self.epochs):
            order = shuffled(train, self.seed, epoch)
            batches = [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]
            yield from batches[: self.steps_per_epoch]

    def _memory(self, history: Sequence[Round], current: Instructions) -> tuple[list[str], list[str]]:
        """What the update is shown of earlier steps: versions of the instruction, and feedback."""
        versions = [*(completed.start.judge for completed in history), current.judge]
        feedback = ["\n".join(completed.trials[0].criticism) for completed in history]
        return _last(versions, self.momentum_window), _last(feedback, self.gradient_memory)

    def _validated(self, run: Run, current: Instructions, trial: Trial) -> tuple[tuple[Trial, ...], int | None]:
        """The trial, and whether it is taken; with `revert` not where the validation score falls."""
        if trial.judge in (None, current.judge):
            return (trial,), None
        if not self.revert:
            return (trial,), 0
        before = run.bench.judge(current, run.data.validation)
        after = run.bench.judge(Instructions(str(trial.judge), current.verbalizer), run.data.validation)
        gain = run.bench.gain(before, after)
        return (trial.scored(run.bench.mean_score(after), after),), 0 if gain is not None and gain >= 0 else None


def _last(texts: list[str], count: int) -> list[str]:
    return texts[-count:] if count else []
