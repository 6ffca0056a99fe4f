"""Asking the optimizer LM for texts, several requests at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import dspy
import pydantic
from dspy.utils.exceptions import AdapterParseError, ContextWindowExceededError, LMError

from blpo_dspy.errors import ModelError
from blpo_dspy.models.adapter import one_call_adapter
from blpo_dspy.models.failures import FATAL_ERRORS
from blpo_dspy.models.whole_answers import is_followed
from blpo_dspy.optimizers.bench.records import Rejection
from blpo_dspy.optimizers.proposals.guards import Guards
from blpo_dspy.optimizers.proposals.proposals import Proposal, refusal
from blpo_dspy.optimizers.proposals.wrapping import unwrapped
from blpo_dspy.text import as_data
from blpo_dspy.workspace.failures import is_outage, once_more
from blpo_dspy.workspace.meter import observe_answers
from blpo_dspy.workspace.workers import Workers

Inputs = Mapping[str, Any]

ATTEMPTS = 2


@dataclass(frozen=True)
class Reply:
    """What came of one request.

    Attributes:
        texts: The texts that the answer holds, safe to put into another prompt.
        rejections: The reason where the answer cannot be parsed.
        shown: What the request said of each example: description, reasons and context.
        asked: What the request asked for, in its words.
        error: Why the call failed, None if it didn't.
    """

    texts: tuple[str, ...] = ()
    rejections: tuple[Rejection, ...] = ()
    shown: tuple[tuple[str, ...], ...] = ()
    asked: str = ""
    error: LMError | None = None

    @property
    def text(self) -> str:
        """All of the texts as one."""
        return "\n".join(self.texts)


@dataclass(frozen=True)
class Asker:
    """The optimizer LM as an algorithm asks it.

    Attributes:
        lm: The metered optimizer LM.
        workers: Where the calls run.
        max_tokens: The longest instruction that is accepted.
        temperature: The sampling temperature, None for the LM's own.
        guards: What is refused whatever its score.
    """

    lm: dspy.BaseLM
    workers: Workers
    max_tokens: int
    temperature: float | None = None
    guards: Guards = field(default_factory=Guards)

    def ask(self, signature: type[dspy.Signature], requests: Sequence[Inputs]) -> list[Reply]:
        """Returns what the LM wrote into the signature's output field (text, or a list of texts) for each request.

        Raises:
            ModelError: If the LM cannot be used, or is out of reach.
        """
        return self.workers.map(partial(self._reply, signature), requests)

    def instructions(
        self, reply: Reply, current: str, tried: Sequence[str] = (), max_words: int | None = None
    ) -> list[Proposal]:
        """Returns the texts of a reply as revisions of an instruction; one that cannot be used carries the reason."""
        if not reply.texts:
            return [Proposal(None, reply.rejections or (Rejection("the instruction is empty", ""),))]
        problems = [
            refusal(text, current=current, max_tokens=self.max_tokens, max_words=max_words, tried=tried)
            or self.guards.copied(text, reply.shown, current=current)
            or self.guards.repeated(text, reply.asked, current=current)
            for text in reply.texts
        ]
        return [
            Proposal(text) if problem is None else Proposal(None, (Rejection(problem, text),))
            for text, problem in zip(reply.texts, problems, strict=True)
        ]

    def revise(
        self,
        signature: type[dspy.Signature],
        inputs: Inputs,
        current: str,
        *,
        tried: Sequence[str] = (),
        max_words: int | None = None,
        earlier: Sequence[str] = (),
        may_stay: bool = False,
    ) -> Proposal:
        """Returns one revision of an instruction, asked for once more with the reason if the first cannot be used.

        Args:
            signature: A meta-prompt with one output field, the instruction, and an input field `feedback`.
            inputs: Its other inputs.
            current: The instruction that is revised.
            tried: Instructions that it must not repeat.
            max_words: The longest instruction in words, None for no limit.
            earlier: Why earlier answers to the same inputs could not be used, so that no request is made twice.
            may_stay: Whether the instruction may be left as it is.

        Raises:
            ModelError: If the LM cannot be used, or is out of reach.
        """
        rejections: tuple[Rejection, ...] = ()
        reasons = list(earlier)
        for _ in range(ATTEMPTS):
            (reply,) = self.ask(signature, [{**inputs, "feedback": _feedback(reasons)}])
            if may_stay and reply.text == current:
                return Proposal(current, rejections)
            proposal = self.instructions(reply, current, tried, max_words)[0]
            rejections += proposal.rejections
            if proposal.text is not None or reply.error is not None:
                return Proposal(proposal.text, rejections, isinstance(reply.error, ContextWindowExceededError))
            reasons.append(rejections[-1].reason)
        return Proposal(None, rejections)

    def _reply(self, signature: type[dspy.Signature], inputs: Inputs) -> Reply:
        field = next(iter(signature.output_fields))
        config = {} if self.temperature is None else {"temperature": self.temperature}
        with observe_answers() as answers, dspy.context(lm=self.lm, adapter=one_call_adapter(), trace=[]):
            try:
                value, problem = getattr(once_more(lambda: dspy.Predict(signature)(**inputs, config=config)), field), ""
            except AdapterParseError as error:
                twice = field in (error.parsed_result or {})
                problem = f"the answer states {field} twice" if twice else f"the answer has no readable field {field}"
                value = error.lm_response
            except LMError as error:
                return Reply(rejections=(_refused(error),), error=error)
        if any(answer.truncated and not is_followed(answer.text, field) for answer in answers):
            problem = "the answer was cut off by the token limit"
        if problem:
            return Reply(rejections=(Rejection(problem, as_data(value)),))
        values = value if isinstance(value, list) else [value]
        texts = [unwrapped(as_data(text)) for text in values]
        return Reply(tuple(text for text in texts if text), shown=tuple(_shown(inputs)), asked=signature.instructions)


def _feedback(reasons: Sequence[str]) -> str:
    """The feedback for the LM on answers that could not be used, the last first."""
    return f"{'; before that: '.join(reversed(reasons))}. Write the complete instruction anew." if reasons else "none"


def _shown(value: Any) -> Iterator[tuple[str, ...]]:
    """The description, reasons and context texts of each example in a prompt's inputs."""
    if isinstance(value, pydantic.BaseModel):
        yield from _shown(value.model_dump())
    elif isinstance(value, Mapping):
        texts = [value[name] for name in ("description", "judge_reason", "human_reason") if value.get(name)]
        if isinstance(value.get("context"), Mapping):
            texts += value["context"].values()
        if texts:
            yield tuple(map(str, texts))
        yield from (example for part in value.values() for example in _shown(part))
    elif isinstance(value, (list, tuple)):
        yield from (example for part in value for example in _shown(part))


def _refused(error: LMError) -> Rejection:
    """What stands for a request that the LM refuses; an outage or an error that nothing mends ends the run instead."""
    if isinstance(error, FATAL_ERRORS):
        raise ModelError(f"the optimizer model cannot be used: {error}") from error
    if is_outage(error):
        raise ModelError(f"the optimizer model failed, twice: {error}") from error
    return Rejection(f"the optimizer model failed: {error}", "")
