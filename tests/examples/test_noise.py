"""The benchmark of false claims, with few seeds: its full figures are in the README."""

from __future__ import annotations

from types import ModuleType

import pytest
from scripts import script

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def noise() -> ModuleType:
    """The benchmark as a module."""
    return script("benchmarks/noise")


@pytest.mark.parametrize(("seed", "shuffled", "tone"), [(0, True, "none"), (2, False, "good")])
def test_a_report_claims_an_improvement_where_there_is_something_to_learn(
    noise: ModuleType, seed: int, shuffled: bool, tone: str
) -> None:
    """With the rater's labels, not with the same labels dealt out at random."""
    task = noise.Task(seed, shuffled, rater="colour", evidence="image", rounds=2, paper=False)
    assert noise.compile_and_report(task).tone == tone


def test_shuffled_labels_are_the_same_ones_elsewhere(noise: ModuleType) -> None:
    """Over all three splits, on the same photographs."""
    real, shuffled = (noise.sets_of(noise.Task(0, wanted, "colour", "image", 1, False)) for wanted in (False, True))
    before, after = ([e for part in sets.named().values() for e in part] for sets in (real, shuffled))
    assert [e.image for e in before] == [e.image for e in after]
    assert [e.label for e in before] != [e.label for e in after]
    assert sorted(e.label for e in before) == sorted(e.label for e in after)
