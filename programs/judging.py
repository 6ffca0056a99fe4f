"""One judgement: the LM calls that it takes, one after the other, and what their answers say."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import dspy
from dspy.utils.exceptions import AdapterParseError

from blpo_dspy.data.fields import InputFields
from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import ModelError
from blpo_dspy.models.credentials import fit_to_show
from blpo_dspy.models.lm import rollout_seed
from blpo_dspy.models.logprobs import tokens_of
from blpo_dspy.programs.confidence import VIEWS, Confidence, elected, label_probability, share_agreeing
from blpo_dspy.programs.predictor import JudgingPredict
from blpo_dspy.programs.signatures import judge_signature
from blpo_dspy.text import as_data

Outcome: TypeAlias = "dspy.Prediction | AdapterParseError"
Call: TypeAlias = tuple[dspy.Predict, Mapping[str, Any], dict[str, Any]]
Steps: TypeAlias = Generator[Call, Outcome, dspy.Prediction]
_Votes: TypeAlias = Generator[Call, Outcome, tuple[dspy.Prediction, float]]
_Shares: TypeAlias = Generator[Call, Outcome, float]


@dataclass(frozen=True)
class Judgement:
    """The calls of a judgement; the verbalizer is None only where no step needs a description."""

    verbalizer: dspy.Predict | None
    judge: JudgingPredict
    labels: LabelSpace
    fields: InputFields
    evidence: str
    reasoning: bool
    confidence: Confidence | None

    def steps(self, prepared: Mapping[str, Any]) -> Steps:
        """Yields the calls, one after the other, each answered by its outcome; returns the prediction."""
        description = None
        if self.evidence != "image":
            description = _described((yield self.verbalizer, prepared, {}))
        evidence = self._evidence(prepared, description, self.evidence)
        method = None if self.confidence is None else self.confidence.method
        if method == "votes":
            judged, confidence = yield from self._voted(evidence, description)
        else:
            outcome = yield self.judge, evidence, {"logprobs": True} if method == "logprobs" else {}
            judged = self._judged(outcome, description)
            confidence = None
            if method == "logprobs":
                confidence = _probability(outcome, judged.label)
            elif method == "views":
                confidence = yield from self._viewed(prepared, judged.label, description)
        if method is None:
            return judged
        return dspy.Prediction(**dict(judged.items()), confidence=confidence)

    def _voted(self, evidence: Mapping[str, Any], description: str | None) -> _Votes:
        """The answer that most of several rollouts agree with, and their share."""
        assert self.confidence is not None
        judged = []
        for rollout in range(1, self.confidence.votes + 1):
            lm = self.judge.lm or dspy.settings.lm
            sampled = {"temperature": self.confidence.temperature, "rollout_id": rollout, **rollout_seed(lm, rollout)}
            judged.append(self._judged((yield self.judge, evidence, sampled), description))
        place, share = elected(self.labels, [each.label for each in judged])
        return judged[place], share

    def _viewed(self, prepared: Mapping[str, Any], label: Label | None, description: str | None) -> _Shares:
        """The share of judgements from different evidence that agree with the label; demonstrations fit one alone."""
        if description is None:
            description = _described((yield self.verbalizer, prepared, {}))
        others = []
        for view in VIEWS:
            if view != self.evidence:
                instruction = str(self.judge.signature.instructions)
                signature = judge_signature(
                    instruction, self.labels, self.fields, evidence=view, reasoning=self.reasoning
                )
                predictor = JudgingPredict(signature, self.judge.pixel_policy)
                predictor.lm = self.judge.lm
                outcome = yield predictor, self._evidence(prepared, description, view), {}
                others.append(self.labels.parse(_field(outcome, "label")))
        return share_agreeing(self.labels, label, others)

    def _evidence(self, prepared: Mapping[str, Any], description: str | None, view: str) -> dict[str, Any]:
        evidence = dict(prepared)
        if view == "description":
            for image in self.fields.images:
                del evidence[image.name]
        if view != "image":
            evidence["description"] = description
        return evidence

    def _judged(self, outcome: Outcome, description: str | None) -> dspy.Prediction:
        """The prediction; an answer out of DSPy's form is still read for a label, never requested again."""
        answered = (outcome.parsed_result or {}) if isinstance(outcome, AdapterParseError) else outcome
        fields = {"reasoning": answered.get("reasoning") or ""} if self.reasoning else {}
        if description is not None:
            fields["description"] = description
        answer = _field(outcome, "label")
        return dspy.Prediction(label=self.labels.parse(answer), answer=answer, **fields)


def describe(verbalizer: dspy.Predict, prepared: Mapping[str, Any]) -> str:
    """Returns the verbalizer's description."""
    return _described(_outcome(verbalizer, prepared, {}))


def run(steps: Steps) -> dspy.Prediction:
    """Makes the calls of a judgement, and returns its prediction."""
    outcome: Any = None
    try:
        while True:
            outcome = _outcome(*steps.send(outcome))
    except StopIteration as done:
        prediction: dspy.Prediction = done.value
        return prediction


async def arun(steps: Steps) -> dspy.Prediction:
    """Makes the calls of a judgement without blocking the event loop."""
    outcome: Any = None
    try:
        while True:
            outcome = await _aoutcome(*steps.send(outcome))
    except StopIteration as done:
        prediction: dspy.Prediction = done.value
        return prediction


def _outcome(predictor: dspy.Predict, inputs: Mapping[str, Any], config: dict[str, Any]) -> Outcome:
    try:
        with fit_to_show(predictor.lm or dspy.settings.lm):
            return predictor(**inputs, **({"config": config} if config else {}))
    except AdapterParseError as error:
        return error


async def _aoutcome(predictor: dspy.Predict, inputs: Mapping[str, Any], config: dict[str, Any]) -> Outcome:
    try:
        with fit_to_show(predictor.lm or dspy.settings.lm):
            return await predictor.acall(**inputs, **({"config": config} if config else {}))
    except AdapterParseError as error:
        return error


def _probability(outcome: Outcome, label: Label | None) -> float | None:
    """The probability of an answer's label; None where the answer is out of form, as DSPy loses its tokens then."""
    if isinstance(outcome, AdapterParseError):
        return None
    tokens = tokens_of(outcome.get("logprobs"))
    if not tokens:
        raise ModelError(
            "the model's server returns no log probabilities, from which confidence='logprobs' is found; use 'votes' "
            "or 'views', or a model that returns them",
            option="confidence",
        )
    return label_probability(tokens, label)


def _field(outcome: Outcome, name: str) -> Any:
    """A field of the answer, or all of an answer that DSPy finds no such field in."""
    if isinstance(outcome, AdapterParseError):
        return (outcome.parsed_result or {}).get(name, outcome.lm_response)
    return outcome[name]


def _described(outcome: Outcome) -> str:
    """A description is text: an answer out of DSPy's form is taken as it stands."""
    return as_data(_field(outcome, "description")).strip()
