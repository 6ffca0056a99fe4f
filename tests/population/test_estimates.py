"""One number of a collection, beside what labels and judge say alone."""

from __future__ import annotations

import json

import numpy as np
import pytest

from blpo_dspy.errors import BlpoError
from blpo_dspy.population.cells import Sample
from blpo_dspy.population.estimates import estimate_mean, estimate_share


def sample(n: int, known: int, errs: float, seed: int = 0, share: float = 0.3) -> Sample:
    """A uniform draw from a collection; the judge takes a share of the others for yes, too."""
    rng = np.random.default_rng(seed)
    truth = rng.random(known) < share
    judged = (truth | (rng.random(known) < errs)).astype(float)
    zeros = np.zeros(n, dtype=np.int64)
    return Sample(
        truth[:n].astype(float), judged[:n], zeros, np.full(n, n / known), judged, np.bincount(zeros, minlength=1)
    )


def test_a_share_is_near_the_truth_where_the_judge_alone_is_not() -> None:
    """And rests on fewer labels than it is worth."""
    found = estimate_share("Unsafe", sample(200, 5000, 0.1))
    assert found.interval.low < 0.3 < found.interval.high
    assert found.judged is not None
    assert found.judged_interval is not None
    assert found.judged_interval.low > 0.3
    assert "not valid" in found.judged_interval.method
    assert found.n == 200
    assert found.worth is not None
    assert found.worth > 300
    assert 0 < found.weight <= 1
    assert json.loads(json.dumps(found.to_dict()))["judged_is_valid"] is False


@pytest.mark.parametrize("n", [1, 2])
def test_one_label_gives_a_wide_interval_of_a_share_and_a_sentence_of_a_mean(n: int) -> None:
    """Never NaN."""
    drawn = sample(n, 100, 0.1)
    found = estimate_share("x", drawn)
    assert found.interval.high - found.interval.low > 0.6
    with pytest.raises(BlpoError, match=f"^{n} labelled images? of it: a mean needs at least 3"):
        estimate_mean("mean", drawn, (0, 1), 0.1)


def test_no_label_and_all_labels_are_sentences_or_certain() -> None:
    """Without a label nothing is said; with all of them nothing is left to chance."""
    with pytest.raises(BlpoError, match="no image of it is labelled"):
        estimate_share("x", sample(0, 100, 0.1))
    found = estimate_share("x", sample(100, 100, 0.1))
    assert found.interval.high - found.interval.low < 1e-6
    assert found.worth is None or found.worth >= 100


def test_an_interval_of_a_mean_stays_within_the_scale() -> None:
    """Its estimate is inside."""
    drawn = sample(4, 100, 0.0, share=0.02)
    found = estimate_mean("mean", drawn, (0, 1), 0.5)
    assert found.interval.low == 0.0 <= found.value <= found.interval.high <= 1.0


def test_without_a_verdict_the_judge_alone_says_nothing() -> None:
    """There is no naive number then."""
    found = estimate_mean("mean", sample(10, 100, 0.0), (0, 1), 0.5, judged=False)
    assert (found.judged, found.judged_interval) == (None, None)
