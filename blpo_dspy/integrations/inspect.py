"""A judge as a scorer of Inspect tasks. Needs the extra `blpo-dspy[inspect]`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dspy

from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.errors import BlpoError
from blpo_dspy.integrations.scoring import Scored, Scoring
from blpo_dspy.programs.visual_judge import VisualJudge

try:
    from inspect_ai.model import ContentImage
    from inspect_ai.scorer import Score, Scorer, Target, mean, scorer, stderr
    from inspect_ai.solver import TaskState
except ImportError as error:  # not there, or of a version without one of these
    raise BlpoError(f'{error}: pip install "blpo-dspy[inspect]"') from error


def judge_scorer(
    judge: VisualJudge,
    *,
    name: str = "judge",
    fields: Mapping[str, str] | None = None,
    scores: Mapping[Label, float] | None = None,
) -> Scorer:
    """Returns a scorer whose value is the score in [0, 1], its answer the label, its explanation the judge's evidence.

    Where the judge's answer states no valid label the sample is unscored, for the reason "grader_failed"; where a call
    failed, for the reason "scoring_failed". Inspect counts both and leaves them out of its metrics.

    Inputs of the judge are looked up in the sample's metadata; "input" and "completion" are the texts of the sample and
    of the model's output. Image inputs without such a value take the images in the messages of the sample's input
    and in the model's output (see `Scoring.placed`). Inspect loads the files of a sample's input before it is scored;
    text of the output is never taken for a path.

    Args:
        judge: The judge.
        name: The name of the scorer.
        fields: As in `Scoring`: `{"prompt": "input"}`.
        scores: As in `Scoring`.

    Raises:
        BlpoError: As `Scoring`.
    """
    scoring = Scoring(judge, fields=fields, scores=scores)
    # In a thread: an image is prepared in it, too, and Inspect may run on another event loop than asyncio's.
    judged = dspy.asyncify(scoring)

    async def score(state: TaskState, target: Target) -> Score:
        texts = {"input": state.input_text, "completion": state.output.completion}
        named = {**texts, **(state.metadata or {})}
        messages = [] if isinstance(state.input, str) else state.input
        given = [image for message in messages for image in _images(message.content)]
        made = _images(state.output.message.content) if state.output.choices else []
        images = scoring.placed(given, made, named)
        return _score(await judged(named, images))

    return scorer(metrics=[mean(), stderr()], name=name)(lambda: score)()


def _score(scored: Scored) -> Score:
    if scored.failure:
        return Score.unscored(reason="scoring_failed", explanation=scored.failure)
    if scored.score is None:
        return Score.unscored(reason="grader_failed", explanation=scored.explanation)
    return Score(value=scored.score, answer=str(scored.label), explanation=scored.explanation)


def _images(content: Any) -> list[str]:
    return [] if isinstance(content, str) else [part.image for part in content if isinstance(part, ContentImage)]
