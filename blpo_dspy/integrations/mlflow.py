"""A judge as a scorer of `mlflow.genai.evaluate`. Needs the extra `blpo-dspy[mlflow]`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.errors import BlpoError
from blpo_dspy.integrations.scoring import Scored, Scoring
from blpo_dspy.programs.visual_judge import VisualJudge

try:
    from mlflow.entities import AssessmentError, AssessmentSource, Feedback
    from mlflow.genai.scorers import Scorer, scorer
except ImportError as error:  # not there, or of a version without one of these
    raise BlpoError(f'{error}: pip install "blpo-dspy[mlflow]"') from error


def judge_scorer(
    judge: VisualJudge,
    *,
    name: str = "judge",
    fields: Mapping[str, str] | None = None,
    scores: Mapping[Label, float] | None = None,
) -> Scorer:
    """Returns a scorer that takes an item's `inputs` and `outputs`.

    Its feedback has the score in [0, 1] as value, the judge's evidence as rationale, and the label in its metadata. A
    failed call has the error `LM_FAILURE` instead of a value, an answer without a valid label `INVALID_ANSWER`;
    MLflow's mean leaves both out.

    Inputs of the judge are looked up in `outputs`, if that is a dictionary, then in `inputs`. Other outputs have the
    name "outputs"; an image is that of the judge's only image input, too. An image is a data URI, a `dspy.Image`, a PIL
    image or bytes.

    Args:
        judge: The judge.
        name: The name of the assessments.
        fields: As in `Scoring`.
        scores: As in `Scoring`.

    Raises:
        BlpoError: As `Scoring`.
    """
    scoring = Scoring(judge, fields=fields, scores=scores)
    source = AssessmentSource(source_type="LLM_JUDGE", source_id=scoring.model)

    def judged(inputs: Any = None, outputs: Any = None) -> Feedback:
        scored = scoring(inputs if isinstance(inputs, Mapping) else {}, _named(outputs, scoring))
        if problem := _problem(scored):
            return Feedback(name=name, error=problem, source=source)
        return Feedback(
            name=name,
            value=scored.score,
            rationale=scored.explanation,
            source=source,
            metadata={"label": str(scored.label)},
        )

    return scorer(judged, name=name)


def _problem(scored: Scored) -> AssessmentError | None:
    if scored.failure:
        return AssessmentError(error_code="LM_FAILURE", error_message=scored.failure)
    if scored.score is None:
        return AssessmentError(error_code="INVALID_ANSWER", error_message=scored.explanation)
    return None


def _named(outputs: Any, scoring: Scoring) -> Mapping[str, Any]:
    if isinstance(outputs, Mapping):
        return outputs
    is_text = isinstance(outputs, str) and outputs[:5].lower() != "data:"
    if is_text or len(scoring.images) != 1:
        return {"outputs": outputs}
    return {"outputs": outputs, **dict.fromkeys(scoring.images, outputs)}
