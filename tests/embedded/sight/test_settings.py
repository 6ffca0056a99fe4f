"""What a picture shows beside its flaws: measured, said in a report, and read from it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from embedded_requests import ask, photographs

from blpo_dspy.embedded import EmbeddedEngine
from blpo_dspy.embedded.reading import vocabulary as v
from blpo_dspy.embedded.sight.perception import decode
from blpo_dspy.embedded.sight.settings import VALUES, measured, read_setting, write_setting


def test_a_setting_is_measured_from_the_pixels() -> None:
    """Each trait follows what is changed in a picture."""
    pixels = np.full((64, 64, 3), 120.0)
    pixels[:, :32] += np.random.default_rng(0).normal(0, 40, (64, 32, 3))
    pixels[..., 2] += 20
    found = measured(np.clip(pixels, 0, 255))
    assert found == {"detail": "fine structures", "side": "left side", "tone": "medium tone", "hue": "blues"}
    assert measured(np.clip(pixels, 0, 255)[:, ::-1])["side"] == "right side"
    assert measured(np.clip(pixels * 0.5, 0, 255))["tone"] == "dark tone"


@pytest.mark.slow
def test_every_value_occurs_and_no_two_pictures_in_three_share_a_setting() -> None:
    """Otherwise a rule could not be for one picture only."""
    settings = [measured(decode(row.image)) for row in photographs(count=100)]
    for trait, values in VALUES.items():
        assert {setting[trait] for setting in settings} == set(values)
    counts = Counter(tuple(sorted(setting.items())) for setting in settings)
    assert max(counts.values()) < len(settings) / 10


def test_a_report_has_the_setting_and_gives_it_back() -> None:
    """Whatever is asked for; it names no flaw."""
    engine = EmbeddedEngine()
    for row in photographs()[:6]:
        setting = measured(decode(row.image))
        for instruction in ("Describe this image.", "Look for blur and noise in this image."):
            assert read_setting(ask(engine, instruction, row.image)) == setting
        assert v.mentioned(write_setting(setting, decode(row.image))) == ()
