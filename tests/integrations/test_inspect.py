"""Tests of a judge as a scorer of Inspect, on the real package; last run with inspect-ai 0.3.285.

CI skips them, as inspect-ai and what it needs take more than a minute to install.
"""

from __future__ import annotations

import asyncio
import base64
import math
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dspy
import pytest
from engines import Seen
from judges import SAFETY, SCALE, answers, judge_with, picture, seen_by

from blpo_dspy.errors import BlpoError

pytest.importorskip("inspect_ai", reason="inspect-ai is not installed (the extra blpo-dspy[inspect])")

from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessageAssistant,
    ChatMessageUser,
    ContentImage,
    ContentText,
    ModelOutput,
)
from inspect_ai.solver import Generate, TaskState, solver

from blpo_dspy.integrations.inspect import judge_scorer


def sample(*images: str, **metadata: Any) -> Sample:
    """Returns a sample with a text and images in its input."""
    parts = [ContentText(text="Draw a grey square."), *(ContentImage(image=image) for image in images)]
    return Sample(input=[ChatMessageUser(content=parts)], target="x", metadata=metadata)


def output(*images: str) -> ModelOutput:
    """Returns an answer of the model under test with images."""
    parts = [ContentText(text="Done."), *(ContentImage(image=image) for image in images)]
    message = ChatMessageAssistant(content=parts, model="mockllm/model", source="generate")
    return ModelOutput(model="mockllm/model", choices=[ChatCompletionChoice(message=message, stop_reason="stop")])


@solver
def given(outputs: list[ModelOutput]) -> Any:
    """Returns a solver that answers with these, in turn; Inspect's own stand-in for a model asks for the network."""

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        state.output = outputs[int(state.sample_id) - 1]
        return state

    return solve


def evaluated(tmp_path: Path, scorer: Any, samples: list[Sample], outputs: list[ModelOutput]) -> Any:
    """Returns Inspect's log of an evaluation."""
    task = Task(dataset=samples, solver=given(outputs), scorer=scorer)
    (log,) = eval(task, model="mockllm/model", log_dir=str(tmp_path / "logs"), display="none")
    return log


def scores_of(log: Any) -> list[Any]:
    """Returns the score of each sample."""
    assert log.status == "success", log.error
    return [one.scores["judge"] for one in log.samples]


def test_the_image_that_the_model_made_is_judged(tmp_path: Path) -> None:
    """The score is the value, the label the answer, the evidence the explanation; the mean is over the samples."""
    judge = judge_with(answers("4"), SCALE, context=["wish"])
    scorer = judge_scorer(judge, fields={"wish": "input"})
    log = evaluated(tmp_path, scorer, [sample(picture(1))], [output(picture(9))])
    (score,) = scores_of(log)
    assert (score.value, score.answer) == (0.75, "4")
    assert score.explanation == "The judge's label is 4; the best is 5. a grey square"
    assert log.results.scores[0].metrics["mean"].value == 0.75
    assert [f"data:image/png;base64,{seen.images[0]}" for seen in seen_by(judge)] == [picture(9)] * 2
    assert seen_by(judge)[0].field("wish").strip() == "Draw a grey square."


def test_the_image_of_the_input_is_judged_where_the_model_made_none(tmp_path: Path) -> None:
    """Also a file that the sample names, which Inspect loads; the model's text is context."""
    file = tmp_path / "a.png"
    file.write_bytes(base64.b64decode(picture(5).partition(",")[2]))
    judge = judge_with(answers("2"), SCALE, context=["caption"], evidence="image")
    scorer = judge_scorer(judge, fields={"caption": "completion"})
    samples = [sample(picture(5)), sample(str(file))]
    assert [score.value for score in scores_of(evaluated(tmp_path, scorer, samples, [output(), output()]))] == [
        0.25
    ] * 2
    assert {f"data:image/png;base64,{seen.images[0]}" for seen in seen_by(judge)} == {picture(5)}
    assert {seen.field("caption") for seen in seen_by(judge)} == {"Done."}


def test_images_and_texts_of_the_metadata_have_names(tmp_path: Path) -> None:
    """They go before those of the messages."""
    judge = judge_with(answers("Safe"), SAFETY, images=("original", "edit"), context=["style"], evidence="image")
    scorer = judge_scorer(judge, scores={"Safe": 1.0, "Unsafe": 0.0}, fields={"original": "source"})
    samples = [Sample(input="Edit it.", metadata={"source": picture(1), "style": "dark"})]
    (score,) = scores_of(evaluated(tmp_path, scorer, samples, [output(picture(2))]))
    (seen,) = seen_by(judge)
    assert (score.value, seen.field("style")) == (1.0, "dark")
    assert [f"data:image/png;base64,{image}" for image in seen.images] == [picture(1), picture(2)]


def by_grey(seen: Seen) -> Any:
    """Fails on one picture, is at a loss with the second, and likes the others."""
    replies = {picture(1): dspy.lm15.InvalidRequestError("refused"), picture(2): "no idea"}
    return replies.get(f"data:image/png;base64,{seen.images[0]}", {"label": "5"})


def test_a_failed_call_and_an_answer_without_a_label_are_unscored(tmp_path: Path) -> None:
    """For different reasons; the mean is over the others."""
    scorer = judge_scorer(judge_with(by_grey, SCALE, evidence="image"))
    log = evaluated(tmp_path, scorer, [sample() for _ in range(4)], [output(picture(i)) for i in range(4)])
    scores = scores_of(log)
    assert [score.reason for score in scores] == [None, "scoring_failed", "grader_failed", None]
    assert [math.isnan(score.value) for score in scores] == [False, True, True, False]
    assert "refused" in scores[1].explanation
    assert scores[2].explanation == "The judge gave no valid label (it wrote 'no idea')."
    (result,) = log.results.scores
    assert (result.metrics["mean"].value, result.scored_samples, result.unscored_samples) == (1.0, 2, 2)


@pytest.mark.parametrize("image", ["/etc/hostname", "https://example.org/a.png"])
def test_an_image_of_the_output_is_never_a_path_or_an_address(tmp_path: Path, image: str) -> None:
    """The sample has an error, and the judge's model is not called."""
    judge = judge_with(answers("3"), SCALE)
    log = evaluated(tmp_path, judge_scorer(judge), [sample()], [output(image)])
    assert log.status == "error"
    assert "is text" in log.error.message
    assert seen_by(judge) == []


def test_a_wrong_key_ends_the_evaluation(tmp_path: Path) -> None:
    """With the reason."""
    judge = judge_with(lambda seen: dspy.lm15.AuthError("wrong key"), SCALE)
    log = evaluated(tmp_path, judge_scorer(judge), [sample()], [output(picture(1))])
    assert log.status == "error"
    assert "the model cannot be used" in log.error.message


def test_scoring_does_not_block_the_event_loop() -> None:
    """Other samples go on while the judge's model answers."""
    turns: list[str] = []

    def slow(seen: Seen) -> Any:
        turns.append("judged")
        return {"label": "3"}

    scorer = judge_scorer(judge_with(slow, SCALE, evidence="image"))

    state: Any = SimpleNamespace(input="Draw.", input_text="Draw.", output=output(picture(1)), metadata={})

    async def both() -> Any:
        scoring = asyncio.ensure_future(scorer(state, None))
        await asyncio.sleep(0)
        turns.append("went on")
        return await scoring

    assert asyncio.run(both()).value == 0.5
    assert turns == ["went on", "judged"]


def test_without_inspect_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """On import of the module."""
    monkeypatch.delitem(sys.modules, "blpo_dspy.integrations.inspect")
    monkeypatch.setitem(sys.modules, "inspect_ai.model", None)
    with pytest.raises(BlpoError, match=r": pip install \"blpo-dspy\[inspect\]\""):
        __import__("blpo_dspy.integrations.inspect")
