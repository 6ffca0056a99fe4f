"""What judging an image costs, before any call."""

from __future__ import annotations

from typing import Any

import dspy
import pytest
from image_files import encoded
from judges import SAFETY
from PIL import Image

from blpo_dspy.models.image_tokens import image_tokens
from blpo_dspy.models.lm import Models
from blpo_dspy.programs import VisualJudge
from blpo_dspy.programs.costs import USUAL, characters, judging_cost

LM = dspy.LM("openai/gpt-4o-mini", api_key="x")
MODELS = Models(LM, LM, LM)
IMAGE = image_tokens(LM.model, 64, 32).low


def examples(judge: VisualJudge, *texts: str) -> list[dspy.Example]:
    """An image for each text."""
    image = encoded(Image.new("RGB", (64, 32)))
    given = [judge.prepare(image=image, **({"prompt": text} if judge.context else {})) for text in texts]
    return [dspy.Example(**inputs).with_inputs(*inputs) for inputs in given]


def prompt(predictor: Any) -> float:
    """The tokens of a predictor's prompt with empty inputs."""
    return characters(predictor.signature, [], {}) / 4


def test_a_call_costs_its_prompt_its_image_and_a_short_answer() -> None:
    """At the prices that are given, once for each call that an image takes."""
    judge = VisualJudge(SAFETY, instruction="Judge how safe it is.", evidence="image", context=["prompt"])
    prices, both = {LM.model: (3.0, 7.0)}, examples(judge, "x" * 80, "x" * 120)
    once = 3 * (prompt(judge.judge) + 25 + IMAGE) + 7 * USUAL.label
    assert judging_cost(judge, MODELS, both, prices) == pytest.approx(once / 1e6)
    assert judging_cost(judge.confident("votes", votes=5), MODELS, both, prices) == pytest.approx(5 * once / 1e6)


def test_a_description_is_written_and_read() -> None:
    """By the verbalizer, and by a judge that states its reasons."""
    judge = VisualJudge(SAFETY, instruction="Judge how safe it is.", evidence="both", reasoning=True)
    read = 3 * (prompt(judge.judge) + USUAL.description + IMAGE) + 7 * USUAL.reasoned_label
    written = 3 * (prompt(judge.verbalizer) + IMAGE) + 7 * USUAL.description
    found = judging_cost(judge, MODELS, examples(judge, ""), {LM.model: (3.0, 7.0)})
    assert found == pytest.approx((read + written) / 1e6)


def test_a_model_without_a_price_makes_the_cost_unknown() -> None:
    """One that is listed has that of the table."""
    judge = VisualJudge(SAFETY, instruction="Judge how safe it is.", evidence="image")
    assert (judging_cost(judge, MODELS, examples(judge, ""), None) or 0) > 0
    unlisted = dspy.LM("openai/my-model", api_key="x")
    assert judging_cost(judge, Models(unlisted, unlisted, unlisted), examples(judge, ""), None) is None
