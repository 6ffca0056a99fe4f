"""The parts of a TextGrad step: forward, the two gradients, the update."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import dspy

from blpo_dspy.optimizers.bench.bench import Bench
from blpo_dspy.optimizers.bench.records import Instructions, Judgement
from blpo_dspy.optimizers.proposals.asking import Asker, Reply
from blpo_dspy.optimizers.proposals.exhibits import Exhibits, label_names
from blpo_dspy.optimizers.proposals.proposals import Proposal


@dataclass(frozen=True)
class Conversation:
    """One example of a step.

    Attributes:
        judgement: The judge's output on it.
        shown: What the judge was given, as prompts show it.
        on_output: Criticism of the output.
        on_instruction: Criticism of the instruction.
    """

    judgement: Judgement
    shown: dict[str, Any]
    on_output: str = ""
    on_instruction: str = ""


@dataclass(frozen=True)
class TextGradPrompts:
    """The signatures that the optimizer LM answers; see `textgrad_prompts`."""

    criticize_output: type[dspy.Signature]
    criticize_instruction: type[dspy.Signature]
    improve_instruction: type[dspy.Signature]


@dataclass(frozen=True)
class TextGradSteps:
    """What a step is made of; each part leaves out the examples on which a call failed.

    Attributes:
        bench: Judges examples.
        asker: The optimizer LM.
        exhibits: How examples are shown to it.
        prompts: What it is asked.
    """

    bench: Bench
    asker: Asker
    exhibits: Exhibits
    prompts: TextGradPrompts

    def forward(self, current: Instructions, batch: Sequence[int]) -> list[Conversation]:
        """Response = LM(instruction, x) for each example of the batch."""
        judged = [judgement for judgement in self.bench.judge(current, batch) if not judgement.failure]
        shown = self.exhibits.inputs([judgement.example for judgement in judged])
        return [Conversation(j, shown[j.example]) for j in judged if j.example in shown]

    def output_gradients(self, conversations: Sequence[Conversation]) -> list[Conversation]:
        """∂ loss / ∂ response: criticism of each output, given its evaluation."""
        requests = [{**self._labels, "evaluation": self._evaluation(c)} for c in conversations]
        replies = self.asker.ask(self.prompts.criticize_output, requests)
        return [replace(c, on_output=reply.text) for c, reply in _answered(conversations, replies)]

    def instruction_gradients(self, current: Instructions, conversations: Sequence[Conversation]) -> list[Conversation]:
        """∂ loss / ∂ instruction: criticism of the instruction, given the criticism of each output."""
        requests = [
            {
                **self._labels,
                "instruction": current.judge,
                "conversation": [{**c.shown, **self._evaluation(c), "criticism_of_output": c.on_output}],
            }
            for c in conversations
        ]
        replies = self.asker.ask(self.prompts.criticize_instruction, requests)
        return [replace(c, on_instruction=reply.text) for c, reply in _answered(conversations, replies)]

    def update(
        self,
        current: Instructions,
        conversations: Sequence[Conversation],
        past_iterations: Sequence[str],
        past_feedback: Sequence[str],
    ) -> Proposal:
        """Instruction ← step(instruction, gradients), in one call; none where every example failed."""
        if not conversations:
            return Proposal(None)
        outputs = [self.exhibits.verdict(c.judgement)["judge_label"] for c in conversations]
        inputs = {
            **self._labels,
            "instruction": current.judge,
            "conversations": [
                {
                    **c.shown,
                    "judge_label": output,
                    **self.exhibits.reason(c.judgement.example),
                    "feedback": c.on_instruction,
                }
                for c, output in zip(conversations, outputs, strict=True)
            ],
            "past_iterations": list(past_iterations),
            "past_feedback": list(past_feedback),
        }
        return self.asker.revise(self.prompts.improve_instruction, inputs, current.judge, may_stay=True)

    @property
    def _labels(self) -> dict[str, Any]:
        return {"labels": label_names(self.exhibits.labels)}

    def _evaluation(self, conversation: Conversation) -> dict[str, Any]:
        judgement = conversation.judgement
        assert judgement.loss is not None
        return {**self.exhibits.verdict(judgement), "score": round(1.0 - judgement.loss, 4)}


def _answered(conversations: Sequence[Conversation], replies: Sequence[Reply]) -> list[tuple[Conversation, Reply]]:
    """The conversations with the replies to them; an empty reply is one, a failed call isn't."""
    return [(c, reply) for c, reply in zip(conversations, replies, strict=True) if not reply.rejections]
