"""Agreement statistics: the rules for invalid answers, undefined figures, and equality with the textbook formulas."""

from __future__ import annotations

import json
import math
import warnings
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr, rankdata, spearmanr

from blpo_dspy.agreement.measure import Agreement, Flips, measure_agreement
from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import BlpoError

SAFETY = LabelSpace("Safe", "Unsafe")
STARS = LabelSpace.ordinal(1, 5)
TOPICS = LabelSpace("cat", "dog", "fox")


@st.composite
def judged(draw: st.DrawFn) -> tuple[LabelSpace, list[Label], list[Label | None]]:
    """Draws a label space with true and predicted labels, degenerate ones included."""
    space = draw(st.sampled_from([SAFETY, TOPICS, STARS, LabelSpace.ordinal(-1, 1)]))
    some = draw(st.lists(st.sampled_from(space.labels), min_size=1, unique=True))
    n = draw(st.integers(1, 30))
    truth = draw(st.lists(st.sampled_from(some), min_size=n, max_size=n))
    predicted = draw(st.lists(st.sampled_from([*space.labels, None]), min_size=n, max_size=n))
    return space, truth, predicted


def brute_kappa(space: LabelSpace, truth: list[Label], predicted: list[Label | None]) -> float | None:
    """Cohen's kappa from its definition: 1 − observed / expected disagreement over all pairs; none with a constant."""
    true = [space.index(x) for x in truth]
    top = len(space) - 1
    ends = [max((0, top), key=lambda end: (abs(i - end), -end)) for i in true]
    if space.ordered:
        guess = [ends[k] if x is None else space.index(x) for k, x in enumerate(predicted)]
    else:
        guess = [-1 if x is None else space.index(x) for x in predicted]

    def weight(i: int, j: int) -> int:
        return (i - j) ** 2 if space.ordered else int(i != j)

    observed = sum(weight(i, j) for i, j in zip(true, guess, strict=True)) / len(true)
    expected = sum(weight(i, j) for i, j in product(true, guess)) / len(true) ** 2
    return 1 - observed / expected if len(set(true)) > 1 else None


@pytest.mark.slow
@settings(max_examples=60, deadline=None, derandomize=True)
@given(judged())
def test_every_figure_equals_its_definition(case: tuple[LabelSpace, list[Label], list[Label | None]]) -> None:
    """Accuracy, macro-F1, kappa, invalid rate, Spearman and MAE against plain Python, without a warning."""
    space, truth, predicted = case
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = measure_agreement(space, truth, predicted)
    pairs = list(zip(truth, predicted, strict=True))
    scores = []
    for label in {*truth, *predicted} - {None}:
        hits = sum(a == b == label for a, b in pairs)
        scores.append(2 * hits / (sum(a == label for a in truth) + sum(b == label for b in predicted)))
    assert result.n == len(truth)
    assert result.accuracy == pytest.approx(sum(a == b for a, b in pairs) / len(pairs))
    assert result.macro_f1 == pytest.approx(sum(scores) / len(scores))
    assert result.kappa == pytest.approx(brute_kappa(space, truth, predicted))
    assert result.invalid == predicted.count(None)
    assert result.invalid_rate == pytest.approx(predicted.count(None) / len(predicted))
    assert_ordinal_figures(result, [(space.index(a), space.index(b)) for a, b in pairs if b is not None])


def assert_ordinal_figures(result: Agreement, valid: list[tuple[int, int]]) -> None:
    """Spearman is Pearson's correlation of midranks; both figures need valid answers on an ordinal scale."""
    if not result.labels.ordered:
        assert result.spearman is result.mae is None
        return
    assert result.mae == (pytest.approx(sum(abs(i - j) for i, j in valid) / len(valid)) if valid else None)
    ranks = [rankdata([pair[k] for pair in valid]) - (len(valid) + 1) / 2 for k in (0, 1)]
    spread = math.sqrt((ranks[0] ** 2).sum() * (ranks[1] ** 2).sum()) if valid else 0.0
    assert result.spearman == (pytest.approx((ranks[0] * ranks[1]).sum() / spread) if spread else None)


@pytest.mark.slow
@settings(max_examples=50, deadline=None, derandomize=True)
@given(judged(), st.integers(0, 3))
def test_agreement_survives_json_without_nan(
    case: tuple[LabelSpace, list[Label], list[Label | None]], failed: int
) -> None:
    """to_dict is strict JSON and from_dict reads it back; the confusion matrix counts every example once."""
    result = measure_agreement(*case, failed=failed)
    assert Agreement.from_dict(json.loads(json.dumps(result.to_dict(), allow_nan=False))) == result
    assert sum(map(sum, result.confusion)) == result.n
    assert result.failed == failed


def test_an_invalid_answer_is_never_right_and_has_its_own_column() -> None:
    """It lowers accuracy and recall and is counted apart."""
    result = measure_agreement(SAFETY, ["Safe", "Safe", "Unsafe"], ["Safe", None, "Unsafe"])
    assert (result.accuracy, result.invalid, result.invalid_rate) == (2 / 3, 1, 1 / 3)
    assert result.confusion == ((1, 0, 1), (0, 1, 0))
    assert result.macro_f1 == pytest.approx((2 / 3 + 1) / 2)


def test_the_mean_loss_counts_an_answer_without_a_label_as_the_whole_scale() -> None:
    """On a scale of five a miss by one level is a quarter; without answers it is undefined."""
    scale = LabelSpace.ordinal(1, 5)
    assert measure_agreement(scale, [3, 3, 3, 3], [3, 2, None, 3]).mean_loss == (0.25 + 1) / 4
    assert measure_agreement(scale, [], []).mean_loss is None


def test_macro_f1_is_over_labels_that_occur_in_truth_or_predictions() -> None:
    """A label nobody used doesn't count; one that is only predicted counts as 0."""
    assert measure_agreement(TOPICS, ["cat", "dog"], ["cat", "dog"]).macro_f1 == 1.0
    assert measure_agreement(TOPICS, ["cat", "dog"], ["cat", "fox"]).macro_f1 == pytest.approx(1 / 3)


def test_kappa_of_an_ordinal_scale_takes_an_invalid_answer_for_the_farthest_level() -> None:
    """Top for low labels, bottom for high ones, bottom for the middle."""
    truth: list[Label] = [1, 2, 3, 4, 5, 5]
    invalid = measure_agreement(STARS, truth, [None, None, None, None, None, 5]).kappa
    assert invalid == pytest.approx(measure_agreement(STARS, truth, [5, 5, 1, 1, 1, 5]).kappa)


def test_kappa_of_nominal_labels_takes_invalid_for_a_category() -> None:
    """It equals kappa with a third label in its place."""
    truth: list[Label] = ["cat", "cat", "dog", "dog"]
    with_invalid = measure_agreement(LabelSpace("cat", "dog"), truth, ["cat", None, "dog", "dog"])
    assert with_invalid.kappa == pytest.approx(measure_agreement(TOPICS, truth, ["cat", "fox", "dog", "dog"]).kappa)


@pytest.mark.parametrize(
    ("space", "truth", "predicted", "undefined"),
    [
        (STARS, [], [], {"accuracy", "macro_f1", "kappa", "invalid_rate", "spearman", "mae"}),
        (STARS, [3, 3], [3, 3], {"kappa", "spearman"}),
        (STARS, [3, 3], [3, 4], {"kappa", "spearman"}),
        (STARS, [3, 4], [3, 3], {"spearman"}),
        (STARS, [1, 5], [None, None], {"spearman", "mae"}),
        (STARS, [1], [1], {"kappa", "spearman"}),
        (SAFETY, ["Safe"], ["Safe"], {"kappa", "spearman", "mae"}),
        (SAFETY, ["Safe"], ["Unsafe"], {"kappa", "spearman", "mae"}),
        (SAFETY, ["Safe"], [None], {"kappa", "spearman", "mae"}),
    ],
)
def test_undefined_figures_are_none(
    space: LabelSpace, truth: list[Label], predicted: list[Label | None], undefined: set[str]
) -> None:
    """Exactly the figures that are 0/0 or have nothing to rank are None."""
    result = measure_agreement(space, truth, predicted).to_dict()
    assert {name for name, value in result.items() if value is None} == undefined


def test_what_does_not_fit_together_is_refused() -> None:
    """Lengths and labels are checked, and no human label may be missing."""
    with pytest.raises(BlpoError, match="2 human labels but 1 predictions"):
        measure_agreement(SAFETY, ["Safe", "Safe"], ["Safe"])
    with pytest.raises(BlpoError, match="'safe' is not one of the labels"):
        measure_agreement(SAFETY, ["Safe"], ["safe"])
    with pytest.raises(BlpoError, match="None is not one of the labels"):
        measure_agreement(SAFETY, [None], ["Safe"])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("truth", "predicted", "told"),
    [
        ({"Safe", "Unsafe"}, ["Safe", "Unsafe"], "truth is a set, which has no order"),
        (["Safe"], frozenset({"Safe"}), "predicted is a frozenset, which has no order"),
        ({"Safe": 0}.keys(), {"Safe": 0}, "truth is a dict_keys and predicted is a dict, which has no order"),
    ],
)
def test_what_has_no_order_is_refused_by_name(truth: Any, predicted: Any, told: str) -> None:
    """Labels and predictions belong together by their places."""
    with pytest.raises(BlpoError, match=f"{told} .*give lists of labels"):
        measure_agreement(SAFETY, truth, predicted)


@pytest.mark.parametrize("data", [{}, {"labels": None, "confusion": []}, {"labels": SAFETY.to_dict(), "confusion": 3}])
def test_other_data_is_not_an_agreement(data: dict[str, object]) -> None:
    """What `to_dict` did not write is refused."""
    with pytest.raises(BlpoError, match=r"not an agreement|labels=None is not a dictionary"):
        Agreement.from_dict(data)


# --- scores ----------------------------------------------------------------------------------------------------------

SCORES = LabelSpace.scores(0, 100)
numbers = st.integers(0, 1000).map(lambda n: n / 10)


@pytest.mark.slow
@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.tuples(numbers, st.none() | numbers), min_size=1, max_size=40))
def test_every_figure_of_scores_equals_its_definition(pairs: list[tuple[float, float | None]]) -> None:
    """Spearman and Pearson as SciPy has them, the others by hand; neither macro-F1 nor kappa."""
    truth, predicted = [true for true, _ in pairs], [said for _, said in pairs]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = measure_agreement(SCORES, truth, predicted, failed=2)
    valid = [(true, said) for true, said in pairs if said is not None]
    assert found.n == len(pairs)
    assert found.invalid == len(pairs) - len(valid)
    within = sum(abs(true - said) <= 10 + 1e-6 for true, said in valid)
    assert found.accuracy == pytest.approx(within / len(pairs))
    lost = sum(abs(true - said) / 100 for true, said in valid) + found.invalid
    assert found.mean_loss == pytest.approx(lost / len(pairs))
    assert found.macro_f1 is found.kappa is None
    assert found.confusion == ()
    x, y = [true for true, _ in valid], [said for _, said in valid]
    if len(set(x)) < 2 or len(set(y)) < 2:
        assert found.spearman is found.pearson is None
    else:
        assert found.spearman == pytest.approx(spearmanr(x, y).statistic)
        assert found.pearson == pytest.approx(pearsonr(x, y).statistic)
    if valid:
        assert found.mae == pytest.approx(sum(abs(true - said) for true, said in valid) / len(valid))
    assert Agreement.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_scores_off_the_range_are_refused() -> None:
    """Of people and of the judge."""
    for truth, predicted in (([101], [50]), ([50], [-1]), (["50"], [50])):
        with pytest.raises(BlpoError, match="is not a number from 0 to 100"):
            measure_agreement(SCORES, truth, predicted)


def test_no_scores_have_no_figures() -> None:
    """As of any labels."""
    found = measure_agreement(SCORES, [], [])
    assert (found.n, found.accuracy, found.spearman, found.mean_loss) == (0, None, None, None)
    assert Agreement.from_dict(found.to_dict()) == found


def test_how_often_the_order_decided_survives_plain_data() -> None:
    """It is there only where pairs were judged in both orders."""
    found = measure_agreement(LabelSpace.pairwise("A", "B"), ["A", "B"], ["A", None])
    assert Agreement.from_dict(found.to_dict()) == found
    both = replace(found, invalid=0, flips=Flips(4, 1))
    assert (both.flip_rate, both.unlabelled) == (0.25, 1)
    assert Agreement.from_dict(json.loads(json.dumps(both.to_dict()))) == both
    assert replace(found, flips=Flips(0, 0)).flip_rate is None
