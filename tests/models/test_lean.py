"""Calls that leave no pixels behind."""

from __future__ import annotations

import base64
import io
from typing import Any

import dspy
import pytest
from dspy.clients import base_lm
from judges import answers, judge_with
from PIL import Image

from blpo_dspy.programs import VisualJudge


@pytest.fixture
def image() -> str:
    """An image of some thousand characters, with DSPy's history of the process empty."""
    base_lm.GLOBAL_HISTORY.clear()
    buffer = io.BytesIO()
    Image.frombytes("RGB", (64, 64), bytes(range(256)) * 48).save(buffer, "PNG", compress_level=0)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def histories(judge: VisualJudge) -> list[list[dict[str, Any]]]:
    """Every list that DSPy keeps a call of the judge in."""
    return [base_lm.GLOBAL_HISTORY, judge.judge.lm.history, judge.history]


def test_the_history_has_every_call_without_its_pixels(image: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Texts, answers and usage stay, and DSPy can show them."""
    judge = judge_with(answers(), context=["prompt"])
    judge(image=image, prompt="a grey thing")
    for history in histories(judge):
        assert len(history) == 2
        assert image[30:200] not in repr(history)
        assert "a grey thing" in repr(history[1]["messages"])
        assert history[1]["usage"]["prompt_tokens"] == 10
    dspy.inspect_history(2)
    shown = capsys.readouterr().out
    assert f"<{len(image.partition(',')[2])} characters left out>" in shown
    assert "a grey square" in shown


@pytest.mark.parametrize(
    ("options", "kept"),
    [({}, 2), ({"disable_history": True}, 0), ({"max_history_size": 0}, 0), ({"max_history_size": 1}, 1)],
)
def test_the_settings_of_the_history_are_kept(image: str, options: dict[str, Any], kept: int) -> None:
    """DSPy's history of the process knows on and off only."""
    judge = judge_with(answers())
    with dspy.context(**options):
        judge(image=image)
    everywhere, lm, own = map(len, histories(judge))
    assert (everywhere, lm, own) == (2 if kept else 0, kept, kept)


def test_a_trace_is_kept_where_one_was_asked_for(image: str) -> None:
    """With the images, as optimizers make demonstrations of them; the one of the process stays as it was."""
    judge = judge_with(answers())
    before = len(dspy.settings.trace)
    judge(image=image)
    assert len(dspy.settings.trace) == before
    with dspy.context(trace=[]):
        judge(image=image)
        assert [inputs["image"].url for _, inputs, _ in dspy.settings.trace] == [image, image]


def test_the_history_of_other_programs_is_left_alone(image: str) -> None:
    """Also of one that a judge is part of."""
    judge = judge_with(answers(), evidence="image")

    class Program(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.judge, self.caption = judge, dspy.Predict("image: dspy.Image -> label")

        def forward(self, image: str) -> Any:
            self.judge(image=image)
            return self.caption(image=dspy.Image(image))

    program = Program()
    with dspy.context(lm=judge.judge.lm):
        program(image=image)
    judged, captioned = program.history
    assert image not in repr(judged)
    assert image in repr(captioned)
