"""A judge as a reward function of TRL's trainers; TRL itself is not needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.errors import BlpoError, ModelError, notice
from blpo_dspy.integrations.scoring import Scored, Scoring
from blpo_dspy.programs.visual_judge import VisualJudge
from blpo_dspy.workspace.workers import Workers


def judge_reward(
    judge: VisualJudge,
    *,
    name: str = "judge_reward",
    fields: Mapping[str, str] | None = None,
    scores: Mapping[Label, float] | None = None,
    num_threads: int | None = None,
) -> Callable[..., list[float | None]]:
    """Returns `reward(prompts, completions, **columns)`, for `GRPOTrainer(reward_funcs=…)` and trainers like it.

    A reward is the score in [0, 1]. It is None, which TRL leaves out, where a call failed, a row cannot be judged, or
    the answer states no valid label; a warning counts them.

    Inputs of the judge are columns of the dataset; "prompt" and "completion" are the row's own, of messages their text.
    An image is a PIL image, as `datasets` decodes it, the only one in a list, bytes, or a data URI.

    Args:
        judge: The judge.
        name: The name under which TRL logs the reward.
        fields: As in `Scoring`: `{"image": "images", "caption": "completion"}`.
        scores: As in `Scoring`.
        num_threads: Threads that judge a batch; DSPy's setting if None.

    Raises:
        BlpoError: As `Scoring`. The function: if a column is missing, or of another length.
        ModelError: The function: if the model refuses every call.
    """
    scoring = Scoring(judge, fields=fields, scores=scores)

    def score(row: Mapping[str, Any]) -> Scored:
        try:
            return scoring(row, {})
        except ModelError:
            raise
        except BlpoError as error:
            return Scored(None, failure=str(error))

    def reward(prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float | None]:
        rows = _rows(scoring, {**columns, "prompt": prompts, "completion": completions}, len(completions))
        with Workers(num_threads) as workers:
            found = workers.map(score, rows)
        _warn(found)
        return [scored.score for scored in found]

    reward.__name__ = name
    return reward


def _rows(scoring: Scoring, columns: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    """What the judge reads of each row; TRL passes its own state beside the columns."""
    needed = list(scoring.holders.values())
    if missing := [name for name in needed if name not in columns]:
        raise BlpoError(f"the batch has no column {', '.join(missing)}; name the one that is meant with fields=…")
    listed = {name: columns[name] for name in needed}
    if wrong := [name for name, column in listed.items() if not _is_column(column, count)]:
        raise BlpoError(f"{', '.join(wrong)} is not a column of {count} values, one for each completion")
    return [
        {name: column[i] if name in scoring.images else _text(column[i]) for name, column in listed.items()}
        for i in range(count)
    ]


def _is_column(column: Any, count: int) -> bool:
    return isinstance(column, Sequence) and not isinstance(column, (str, bytes)) and len(column) == count


def _text(value: Any) -> Any:
    """The text of a conversation: that of its messages; any other value as it is."""
    if not isinstance(value, list) or not all(isinstance(message, Mapping) for message in value):
        return value
    contents = [message.get("content") or "" for message in value]
    parts = [[content] if isinstance(content, str) else content for content in contents]
    return "\n".join(
        part if isinstance(part, str) else str(part.get("text") or "") for several in parts for part in several
    )


def _warn(found: Sequence[Scored]) -> None:
    failures = Counter(scored.failure for scored in found if scored.failure)
    invalid = sum(scored.score is None and not scored.failure for scored in found)
    none = f"of {len(found)} completions got no reward"
    if failures:
        (cause, _), *others = failures.most_common()
        more = f" (and {len(others)} more causes)" if others else ""
        notice(f"{failures.total()} {none}, as they could not be judged: {cause}{more}")
    if invalid:
        notice(f"{invalid} {none}, as the judge's answer states no valid label")
