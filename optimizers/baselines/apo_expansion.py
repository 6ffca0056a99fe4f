"""The expansion step of APO (ProTeGi, Algorithm 2): gradients, edits along them, paraphrases."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dspy

from blpo_dspy.optimizers.bench.bench import Bench
from blpo_dspy.optimizers.bench.records import Instructions, Judgement, Trial
from blpo_dspy.optimizers.proposals.asking import Asker
from blpo_dspy.optimizers.proposals.exhibits import Exhibits, label_names

_PRESAMPLED = 2
_ERRORS_TO_REJECT_ON = 16


@dataclass(frozen=True)
class Gradient:
    """A reason why an instruction made the judge err, with the errors as the prompt showed them."""

    reason: str
    errors: list[dict[str, Any]]


@dataclass(frozen=True)
class APOPrompts:
    """The signatures that the optimizer LM answers; see `apo_prompts`."""

    find_reasons: type[dspy.Signature]
    apply_reason: type[dspy.Signature]
    vary_instruction: type[dspy.Signature]


@dataclass(frozen=True)
class Expansion:
    """Makes children of an instruction; `APO` documents how many of each.

    Attributes:
        bench: Judges examples.
        asker: The optimizer LM.
        exhibits: How errors are shown to it.
        prompts: What it is asked.
    """

    bench: Bench
    asker: Asker
    exhibits: Exhibits
    prompts: APOPrompts
    n_gradients: int
    errors_per_gradient: int
    gradients_per_error: int
    steps_per_gradient: int
    mc_samples: int
    max_expansion: int
    reject_on_errors: bool

    def children(self, parent: str, minibatch: Sequence[int], rng: random.Random) -> list[Trial]:
        """Returns the children that are to be tried, and after them what could not be used."""
        judged = self.bench.judge(self._instructions(parent), minibatch)
        errors = [judgement for judgement in judged if judgement.mistake]
        gradients, failed = self.gradients(parent, errors, rng)
        edits = self.edits(parent, gradients)
        variations = self.paraphrases([*(edit.judge for edit in edits if edit.judge), parent])
        children, refused = distinct([*edits, *variations], known={parent})
        return [*self.filtered(children, errors, rng), *refused, *failed]

    def gradients(
        self, parent: str, errors: Sequence[Judgement], rng: random.Random
    ) -> tuple[list[Gradient], list[Trial]]:
        """Reasons for random groups of errors, and what stands for the calls that gave none."""
        size, count = min(self.errors_per_gradient, len(errors)), self.n_gradients if errors else 0
        groups = [rng.sample(errors, size) for _ in range(count)]
        shown = self.exhibits.inputs([error.example for group in groups for error in group]) if groups else {}
        blocks = [
            [{**shown[error.example], **self.exhibits.verdict(error)} for error in group if error.example in shown]
            for group in groups
        ]
        requests = [
            {
                **self._about(parent),
                "errors": block,
                "number_of_reasons": self.gradients_per_error,
                "sample": f"{number} of {count}",
            }
            for number, block in enumerate(blocks, 1)
        ]
        replies = self.asker.ask(self.prompts.find_reasons, requests)
        return [
            Gradient(reason, block)
            for reply, block in zip(replies, blocks, strict=True)
            for reason in reply.texts[: self.gradients_per_error]
        ], [self._trial(None, rejections=reply.rejections) for reply in replies if reply.rejections]

    def edits(self, parent: str, gradients: Sequence[Gradient]) -> list[Trial]:
        """Improved instructions along each gradient."""
        wanted = self.steps_per_gradient
        requests = [
            {
                **self._about(parent),
                "errors": gradient.errors,
                "problem": gradient.reason,
                "number_of_instructions": wanted,
            }
            for gradient in gradients
        ]
        replies = self.asker.ask(self.prompts.apply_reason, requests)
        return [
            self._trial(edit.text, criticism=(gradient.reason,), rejections=edit.rejections)
            for gradient, reply in zip(gradients, replies, strict=True)
            for edit in self.asker.instructions(reply, parent)[:wanted]
        ]

    def paraphrases(self, instructions: Sequence[str]) -> list[Trial]:
        """Instructions with the same meaning, `mc_samples` for each of these."""
        count = self.mc_samples
        requests = [
            {"instruction": text, "sample": f"{number} of {count}"}
            for text in instructions
            for number in range(1, count + 1)
        ]
        originals = [text for text in instructions for _ in range(count)]
        replies = self.asker.ask(self.prompts.vary_instruction, requests)
        return [
            self._trial(variation.text, rejections=variation.rejections)
            for original, reply in zip(originals, replies, strict=True)
            for variation in self.asker.instructions(reply, original)
        ]

    def filtered(self, children: Sequence[Trial], errors: Sequence[Judgement], rng: random.Random) -> list[Trial]:
        """At most `max_expansion` children: random ones, or those of twice as many that do best on the errors."""
        most = self.max_expansion
        if len(children) <= most:
            return list(children)
        if not (self.reject_on_errors and errors):
            return rng.sample(list(children), most)
        examples = [error.example for error in rng.sample(list(errors), min(_ERRORS_TO_REJECT_ON, len(errors)))]
        presampled = rng.sample(list(children), min(_PRESAMPLED * most, len(children)))

        def score(child: Trial) -> float:
            found = self.bench.mean_score(self.bench.judge(self._instructions(child.judge or ""), examples))
            return -1.0 if found is None else found

        return sorted(presampled, key=score, reverse=True)[:most]

    def _about(self, parent: str) -> dict[str, Any]:
        return {"current_instruction": parent, "labels": label_names(self.exhibits.labels)}

    def _instructions(self, judge: str) -> Instructions:
        return Instructions(judge, self.exhibits.verbalizer)

    def _trial(self, judge: str | None, **found: Any) -> Trial:
        return Trial("proposal", self.exhibits.verbalizer, judge, **found)


def distinct(trials: Sequence[Trial], known: set[str]) -> tuple[list[Trial], list[Trial]]:
    """Returns the first trial of each instruction that is new, and the trials without any."""
    new: dict[str, Trial] = {}
    for trial in trials:
        if trial.judge is not None and trial.judge not in known:
            new.setdefault(trial.judge, trial)
    return list(new.values()), [trial for trial in trials if trial.judge is None]
