"""The measures of the datasets' authors in the paper's tables, against their definitions."""

from __future__ import annotations

import sys
import warnings
from itertools import combinations
from pathlib import Path

import dspy
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))

from paper.measures import AuthorMetric, auc_of_answers, pairwise_accuracy, plcc, srcc, unsafe_f1

ANSWERS = st.lists(st.tuples(st.integers(1, 7), st.sampled_from([1, 2, 3, 4, 5, 6, 7, None])), min_size=2, max_size=30)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.booleans(), st.sampled_from(["Safe", "Unsafe", None])), min_size=1, max_size=30))
def test_f1_of_unsafe_counts_an_invalid_answer_as_wrong(pairs: list[tuple[bool, str | None]]) -> None:
    """By the definition: twice the hits over hits, misses and false alarms."""
    truth = ["Unsafe" if unsafe else "Safe" for unsafe, _ in pairs]
    answers = [answer for _, answer in pairs]
    hits = sum(t == a == "Unsafe" for t, a in zip(truth, answers, strict=True))
    misses = sum(t == "Unsafe" != a for t, a in zip(truth, answers, strict=True))
    alarms = sum(t == "Safe" != a for t, a in zip(truth, answers, strict=True))
    expected = 2 * hits / (2 * hits + misses + alarms) if "Unsafe" in truth else None
    assert unsafe_f1(truth, answers) == (None if expected is None else pytest.approx(expected))


def test_the_area_of_answers_is_the_mean_recall_in_each_group() -> None:
    """A group with one label alone has none; an invalid answer is a wrong one; without groups all count together."""
    truth = [1, 1, 0, 0, 1, 0, 1, 1]
    answers = [1, 0, 0, None, 1, 0, 1, 0]
    groups = ["x", "x", "x", "x", "y", "y", "z", "z"]
    assert auc_of_answers(truth, answers, groups) == pytest.approx((0.5 + 1) / 2)
    assert auc_of_answers(truth, answers) == pytest.approx((3 / 5 + 2 / 3) / 2)
    assert auc_of_answers([1, 1], [1, 0], ["z", "z"]) is None


@given(ANSWERS, st.integers(1, 4))
def test_pairs_are_counted_as_the_authors_count_them(pairs: list[tuple[int, int | None]], size: int) -> None:
    """Human ties are left out; ties of the judge, and invalid answers, are wrong."""
    truth, answers = [t for t, _ in pairs], [a for _, a in pairs]
    groups = [f"g{i // size}" for i in range(len(pairs))]
    right = [
        answers[i] is not None and answers[j] is not None and (truth[i] - truth[j]) * (answers[i] - answers[j]) > 0  # type: ignore[operator]
        for i, j in combinations(range(len(pairs)), 2)
        if groups[i] == groups[j] and truth[i] != truth[j]
    ]
    expected = sum(right) / len(right) if right else None
    assert pairwise_accuracy(truth, answers, groups) == expected


@settings(max_examples=40)
@given(ANSWERS)
def test_rank_correlation_is_scipys_over_valid_answers(pairs: list[tuple[int, int | None]]) -> None:
    """It is undefined where either side doesn't vary."""
    valid = [(t, a) for t, a in pairs if a is not None]
    found = srcc([t for t, _ in pairs], [a for _, a in pairs])
    if len({t for t, _ in valid}) < 2 or len({a for _, a in valid}) < 2:
        assert found is None
    else:
        assert found == pytest.approx(spearmanr(*zip(*valid, strict=True)).statistic)


def test_linear_correlation_comes_after_a_logistic_fit() -> None:
    """A judge whose answers bend against the scores is not punished for the bend."""
    answers = [1, 2, 3, 4, 5] * 8
    truth = [1 + 4 / (1 + np.exp(-3 * (a - 3))) for a in answers]
    assert pearsonr(truth, answers).statistic < 0.97
    assert plcc(truth, answers) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("truth", [[1, 2], [1, 2, 3], [1, 5, 1, 5]])
def test_linear_correlation_of_few_points_is_plain(truth: list[float]) -> None:
    """Where four parameters cannot be fitted; without a warning to whoever reads the output."""
    answers = list(range(1, len(truth) + 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = plcc(truth, answers)
    assert found is not None
    assert -1 <= found <= 1


@settings(max_examples=40)
@given(ANSWERS)
def test_linear_correlation_is_always_in_range_or_undefined(pairs: list[tuple[int, int | None]]) -> None:
    """Whatever the fit does."""
    found = plcc([t for t, _ in pairs], [a for _, a in pairs])
    assert found is None or -1.000001 <= found <= 1.000001


def test_a_metric_reads_its_fields_from_examples() -> None:
    """Truth and groups are fields of the examples."""
    examples = [dspy.Example(preference=-rank, group="p") for rank in (1, 2, 2)]
    metric = AuthorMetric("pairs", pairwise_accuracy, truth="preference", groups="group")
    assert metric.measure(examples, [5, 4, 5]) == 0.5
