"""A judge as a metric of DeepEval. Needs the extra `blpo-dspy[deepeval]`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import dspy

from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.errors import BlpoError, ModelError
from blpo_dspy.integrations.scoring import Scored, Scoring
from blpo_dspy.programs.visual_judge import VisualJudge

try:
    from deepeval.metrics import BaseMetric
    from deepeval.test_case import LLMTestCase
    from deepeval.test_case.llm_test_case import _MLLM_IMAGE_REGISTRY
except ImportError as error:  # not there, or of a version without one of these
    raise BlpoError(f'{error}: pip install "blpo-dspy[deepeval]"') from error

# DeepEval's own reader of these takes any other text between the brackets, which a model may have written, for the path
# or address of an image, and keeps it under that text.
_PLACEHOLDER = re.compile(r"\[DEEPEVAL:IMAGE:([0-9a-f]{32})\]")


def judge_metric(
    judge: VisualJudge,
    *,
    threshold: float | None = 0.5,
    name: str = "Judge",
    fields: Mapping[str, str] | None = None,
    scores: Mapping[Label, float] | None = None,
) -> JudgeMetric:
    """Returns a metric for `deepeval.evaluate` and `assert_test`.

    Inputs of the judge are looked up in the test case's metadata; "input", "actual_output" and "expected_output" are
    its texts. Image inputs without such a value take the images (`MLLMImage`) in the input and in the actual output
    (see `Scoring.placed`).

    Args:
        judge: The judge.
        threshold: The score from which a test case passes; None if it neither passes nor fails.
        name: The name of the metric.
        fields: As in `Scoring`: `{"prompt": "input"}`.
        scores: As in `Scoring`.

    Raises:
        BlpoError: As `Scoring`.
    """
    return JudgeMetric(Scoring(judge, fields=fields, scores=scores), threshold, name)


class JudgeMetric(BaseMetric):
    """See `judge_metric`, which makes it; DeepEval copies it by its arguments.

    `score` is in [0, 1], `reason` the judge's evidence, `label` its label. A failed call sets `error` and is raised, so
    that DeepEval's `ErrorConfig(ignore_errors=…)` decides whether an evaluation ends there. An answer without a valid
    label sets `error`, too, and is not raised; `score` is None then.

    Args:
        scoring: Scores an item.
        threshold: The least score that passes.
        name: Its name.
    """

    score: float | None
    reason: str | None
    error: str | None
    success: bool | None
    label: Label | None = None

    def __init__(self, scoring: Scoring, threshold: float | None, name: str) -> None:
        self.scoring, self.threshold, self.name = scoring, threshold, name
        self.evaluation_model = scoring.model

    @property
    def __name__(self) -> str:
        """The name that DeepEval shows."""
        return self.name

    def measure(self, test_case: LLMTestCase, *args: Any, **kwargs: Any) -> float | None:
        """Judges a test case; DeepEval's further arguments are about its own display.

        Raises:
            ModelError: If a call failed.
            BlpoError: If an input of the judge is missing, or it isn't clear which image is meant.
        """
        return self._taken(self._judged(test_case))

    async def a_measure(self, test_case: LLMTestCase, *args: Any, **kwargs: Any) -> float | None:
        """Judges a test case without blocking the event loop; as `measure`."""
        return self._taken(await dspy.asyncify(self._judged)(test_case))

    def _judged(self, test_case: LLMTestCase) -> Scored:
        self.score = self.reason = self.error = self.success = self.label = None
        texts = {key: getattr(test_case, key) for key in ("input", "actual_output", "expected_output")}
        named: dict[str, Any] = {key: _PLACEHOLDER.sub("", text or "").strip() for key, text in texts.items()}
        named |= test_case.metadata or {}
        try:
            images = self.scoring.placed(_images(texts["input"]), _images(texts["actual_output"]), named)
            return self.scoring(named, images)
        except BlpoError as error:
            self.error = str(error)
            raise

    def _taken(self, scored: Scored) -> float | None:
        if scored.failure:
            self.error, self.success = scored.failure, False
            raise ModelError(scored.failure)
        self.score, self.label, self.reason = scored.score, scored.label, scored.explanation
        if scored.score is None:
            self.error = scored.explanation
        self.is_successful()
        return scored.score


def _images(text: str | None) -> list[Any]:
    found = [_MLLM_IMAGE_REGISTRY.get(each) for each in _PLACEHOLDER.findall(text or "")]
    return [dspy.Image(image.as_data_uri() or image.url) for image in found if image is not None]
