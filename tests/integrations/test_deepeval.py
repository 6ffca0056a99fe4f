"""Tests of a judge as a metric of DeepEval, on the real package; last run with deepeval 4.3.1.

CI skips them, as deepeval and what it needs take more than a minute to install.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import dspy
import pytest
from engines import Seen
from judges import SAFETY, SCALE, answers, judge_with, picture, seen_by

from blpo_dspy.errors import BlpoError, ModelError

os.environ.update(DEEPEVAL_TELEMETRY_OPT_OUT="YES", DEEPEVAL_UPDATE_WARNING_OPT_IN="NO", DEEPEVAL_DISABLE_DOTENV="1")
pytest.importorskip("deepeval", reason="deepeval is not installed (the extra blpo-dspy[deepeval])")

from deepeval import evaluate
from deepeval.evaluate import AsyncConfig, CacheConfig, DisplayConfig, ErrorConfig
from deepeval.test_case import LLMTestCase, MLLMImage

from blpo_dspy.integrations.deepeval import judge_metric


def image(value: int) -> MLLMImage:
    """Returns a picture of one grey."""
    return MLLMImage(dataBase64=picture(value).partition(",")[2], mimeType="image/png")


def shown(seen: Seen) -> list[str]:
    """Returns the pictures of a request as data URIs."""
    return [f"data:image/png;base64,{one}" for one in seen.images]


def case(*made: MLLMImage, given: Any = "", text: str = "Here it is:", **options: Any) -> LLMTestCase:
    """Returns a test case whose output is a text with pictures."""
    return LLMTestCase(input=f"Draw a square. {given}", actual_output=f"{text} {''.join(map(str, made))}", **options)


def measured(metric: Any, test_case: LLMTestCase, how: str) -> Any:
    """Measures a test case, in one of DeepEval's two ways."""
    return metric.measure(test_case) if how == "measure" else asyncio.run(metric.a_measure(test_case))


@pytest.mark.parametrize("how", ["measure", "a_measure"])
@pytest.mark.parametrize(("answer", "score", "passes"), [("4", 0.75, True), ("2", 0.25, False)])
def test_the_image_of_the_output_is_judged(how: str, answer: str, score: float, passes: bool) -> None:
    """The score decides by the threshold; the reason is the judge's evidence."""
    judge = judge_with(answers(answer), SCALE, context=["wish"])
    metric = judge_metric(judge, threshold=0.5, name="Taste", fields={"wish": "input"})
    assert measured(metric, case(image(9), given=image(1)), how) == score
    assert (metric.score, metric.success, metric.is_successful(), metric.label) == (score, passes, passes, int(answer))
    assert metric.reason == f"The judge's label is {answer}; the best is 5. a grey square"
    assert (metric.error, metric.__name__, metric.evaluation_model) == (None, "Taste", "scripted/test")
    assert [shown(seen) for seen in seen_by(judge)] == [[picture(9)]] * 2
    assert seen_by(judge)[0].field("wish").strip() == "Draw a square."


def test_images_of_the_input_and_of_the_metadata(tmp_path: Path) -> None:
    """An only picture of the input is judged; of an edit the original goes first; metadata have names."""
    one = judge_with(answers("3"), SCALE, evidence="image")
    judge_metric(one).measure(case(given=image(1)))
    judge_metric(one, fields={"image": "render"}).measure(case(image(2), metadata={"render": picture(3)}))
    assert [shown(seen) for seen in seen_by(one)] == [[picture(1)], [picture(3)]]
    two = judge_with(answers("Safe"), SAFETY, images=("original", "edit"), evidence="image")
    judge_metric(two, scores={"Safe": 1.0, "Unsafe": 0.0}).measure(case(image(2), given=image(1)))
    assert [shown(seen) for seen in seen_by(two)] == [[picture(1), picture(2)]]


@pytest.mark.parametrize("how", ["measure", "a_measure"])
def test_a_failed_call_is_an_error_and_raised(how: str) -> None:
    """It has no score, and a later test case has no error left of it."""
    replies: list[Any] = [dspy.lm15.InvalidRequestError("refused"), {"label": "5"}]
    metric = judge_metric(judge_with(lambda seen: replies.pop(0), SCALE, evidence="image"))
    with pytest.raises(ModelError, match="refused"):
        measured(metric, case(image(1)), how)
    assert "refused" in metric.error
    assert (metric.score, metric.is_successful()) == (None, False)
    assert measured(metric, case(image(1)), how) == 1.0
    assert (metric.error, metric.is_successful()) == (None, True)


def test_an_answer_without_a_label_is_an_error_without_a_score() -> None:
    """It is not raised."""
    metric = judge_metric(judge_with(answers("no idea"), SCALE))
    assert metric.measure(case(image(1))) is None
    assert metric.error == "The judge gave no valid label (it wrote 'no idea')."
    assert (metric.score, metric.label, metric.is_successful()) == (None, None, False)


@pytest.mark.parametrize("target", ["/etc/hostname", "https://example.org/a.png", "0" * 32])
def test_a_placeholder_that_a_model_wrote_is_no_image(target: str, tmp_path: Path, monkeypatch: Any) -> None:
    """Neither a file nor an address is read for it, not even one that DeepEval read itself."""
    (tmp_path / ("0" * 32)).write_bytes(b"a file of that name")
    monkeypatch.chdir(tmp_path)
    judge = judge_with(answers("3"), SCALE)
    metric = judge_metric(judge)
    test_case = case(text=f"[DEEPEVAL:IMAGE:{target}]")
    for _ in range(2):
        with pytest.raises(BlpoError, match="0 images in the input and 0 in the output"):
            metric.measure(test_case)
        if len(target) < 32:
            MLLMImage.parse_multimodal_string(test_case.actual_output)
    assert "0 images" in metric.error
    assert seen_by(judge) == []


def by_grey(seen: Seen) -> Any:
    """Fails on one picture, is at a loss with the second, and likes the others."""
    replies = {picture(1): dspy.lm15.InvalidRequestError("refused"), picture(2): "no idea"}
    return replies.get(shown(seen)[0], {"label": "5"})


@pytest.mark.parametrize("run_async", [True, False])
def test_an_evaluation_of_deepeval_runs_it(run_async: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its copies of the metric judge at the same time; errors are those of their test case."""
    monkeypatch.chdir(tmp_path)
    judge = judge_with(by_grey, SCALE, evidence="image")
    done = evaluate(
        [case(image(i)) for i in range(4)],
        metrics=[judge_metric(judge)],
        async_config=AsyncConfig(run_async=run_async),
        display_config=DisplayConfig(show_indicator=False, print_results=False),
        cache_config=CacheConfig(write_cache=False),
        error_config=ErrorConfig(ignore_errors=True),
    )
    results = sorted(done.test_results, key=lambda result: result.index)
    data = [result.metrics_data[0] for result in results]
    assert [one.score for one in data] == [1.0, None, None, 1.0]
    assert [one.success for one in data] == [True, False, False, True]
    assert [one.name for one in data] == ["Judge"] * 4
    assert "refused" in data[1].error
    assert "no valid label" in data[2].error
    assert len(seen_by(judge)) == 4


def test_without_deepeval_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """On import of the module."""
    monkeypatch.delitem(sys.modules, "blpo_dspy.integrations.deepeval")
    monkeypatch.setitem(sys.modules, "deepeval.metrics", None)
    with pytest.raises(BlpoError, match=r": pip install \"blpo-dspy\[deepeval\]\""):
        __import__("blpo_dspy.integrations.deepeval")
