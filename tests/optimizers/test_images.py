"""Every optimizer works on judges of several images: all of them reach the models, and none as text."""

from __future__ import annotations

import re
from typing import Any

import dspy
import pytest
from photographs import FIVE, TASK, Recording, photographs, recorded_models

from blpo_dspy.optimizers import APO, BLPO, COPRO, GEPA, OPRO, SIMBA, MIPROv2, TextGrad
from blpo_dspy.programs import VisualJudge
from blpo_dspy.workspace.budget import Budget

pytestmark = pytest.mark.slow

NAMES = ("candidate", "views: list[dspy.Image]")
SHOW_IMAGES = ("APO", "OPRO", "TextGrad", "GEPA", "MIPROv2")


def rows(examples: list[dspy.Example]) -> list[dspy.Example]:
    """Each photograph as the candidate, with two others as views."""
    return [
        dspy.Example(
            candidate=example.image,
            views=[examples[(i + 1) % len(examples)].image, examples[(i + 2) % len(examples)].image],
            label=example.label,
        ).with_inputs("candidate", "views")
        for i, example in enumerate(examples)
    ]


@pytest.mark.filterwarnings("ignore:.*hardly pays")
@pytest.mark.parametrize("method", [BLPO, OPRO, APO, TextGrad, GEPA, MIPROv2, SIMBA, COPRO])
def test_all_images_of_a_row_reach_the_models_and_none_as_text(method: Any) -> None:
    """Three with every request of the judge; what the optimizer LM is shown depends on the method."""
    recording = Recording()
    models = recorded_models(recording)
    start = VisualJudge(FIVE, instruction=TASK, images=NAMES, evidence="image")
    optimizer = method(
        prompt_model=models.optimizer,
        task_model=models.judge,
        verbalizer_model=models.verbalizer,
        budget=Budget(max_calls=80),
        num_threads=2,
    )
    sets = {name: rows(examples) for name, examples in photographs().items()}
    compiled = optimizer.compile(start, trainset=sets["trainset"], valset=sets["valset"])
    assert compiled.images == NAMES
    assert recording.of("judge")
    assert {len(seen.images) % 3 for seen in recording.of("judge")} == {0}
    assert min(len(seen.images) for seen in recording.of("judge")) == 3
    for _, seen in recording.seen:
        assert not re.search(r"base64,[A-Za-z0-9+/]{60}", seen.text)
        assert "CUSTOM-TYPE" not in seen.text
    if method is BLPO:
        assert {len(seen.images) for seen in recording.of("verbalizer")} == {3}
    shown = {len(seen.images) for seen in recording.of("optimizer")}
    if method.__name__ in SHOW_IMAGES:
        assert max(shown) >= 3, shown
        assert all(count % 3 == 0 for count in shown)
    else:
        assert shown <= {0}
