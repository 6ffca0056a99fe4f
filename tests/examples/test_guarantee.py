"""The benchmark of the guarantee, with few calibrations: its full figures are on the page of the benchmarks."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scripts import script

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def guarantee() -> ModuleType:
    """The benchmark as a module."""
    return script("benchmarks/guarantee")


def population(guarantee: ModuleType, agreement: tuple[float, float, float]) -> Any:
    """Three equally frequent confidences with their agreement, exactly."""
    confidences = np.repeat([1.0, 0.8, 0.6], 1000)
    right = np.concatenate([np.arange(1000) < 1000 * share for share in agreement]).astype(float)
    return guarantee.Population("made up", confidences, right, (1.0, 0.8, 0.6), (0,))


@pytest.mark.parametrize("agreement", [(0.85, 0.85, 0.85), (0.95, 0.85, 0.7), (0.7, 0.85, 0.95)])
@pytest.mark.parametrize("shuffle", [False, True])
def test_a_promise_is_missed_in_at_most_the_risk(
    guarantee: ModuleType, agreement: tuple[float, float, float], shuffle: bool
) -> None:
    """Just above what all labels agree, for confidences of use, of none, and that mislead."""
    world = population(guarantee, agreement)
    found = guarantee.figures(world, float(world.right.mean()) + 0.001, 0.1, 100, 400, shuffle=shuffle)
    assert found.missed <= 0.1 + 3 * 0.015
    assert found.labelled <= found.oracle + 0.1 + 3 * 0.015


def test_useless_confidences_label_next_to_nothing(guarantee: ModuleType) -> None:
    """At a level that the judge doesn't reach, where informative ones label much."""
    world = population(guarantee, (0.99, 0.9, 0.6))
    useful, useless = (guarantee.figures(world, 0.9, 0.1, 200, 200, shuffle=shuffle) for shuffle in (False, True))
    assert useful.labelled > 0.3
    assert (useless.labelled, useless.nothing) == (pytest.approx(0.0, abs=0.02), pytest.approx(1.0, abs=0.05))


def test_verdicts_are_asked_for_once(guarantee: ModuleType, tmp_path: Path) -> None:
    """The same folder again gives the same verdicts, from its journals; the table has a row for each cell."""
    first, again = (list(guarantee.populations(12, tmp_path)) for _ in range(2))
    assert [world.name for world in first] == [
        "nominal, votes", "nominal, logprobs", "ordinal, votes", "ordinal, logprobs",
    ]  # fmt: skip
    for one, other in zip(first, again, strict=True):
        assert one.confidences.tolist() == other.confidences.tolist()
        assert one.right.tolist() == other.right.tolist()
    lines = list(guarantee.report(first[:1], 2, 0.1))
    assert len(lines) == 2 + len(guarantee.LEVELS) * len(guarantee.LABELS) + 2
