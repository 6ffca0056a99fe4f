"""Several raters: published examples of Krippendorff's alpha, combination rules, and bad input."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import asdict
from itertools import combinations, permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from blpo_dspy.agreement.raters import human_agreement, rater_intervals
from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.ratings import Ratings, combine_raters, ratings_from_columns, ratings_from_rows
from blpo_dspy.errors import BlpoError, DataError

NOMINAL = LabelSpace(1, 2, 3, 4, 5)
ORDINAL = LabelSpace.ordinal(1, 5)
SAFETY = LabelSpace("Safe", "Unsafe")


def ratings(space: LabelSpace, *columns: str) -> Ratings:
    """One string of blank-separated cells per rater, "." for a missing rating."""
    cells = {f"rater {i}": ["" if x == "." else x for x in column.split()] for i, column in enumerate(columns)}
    items = [f"item {i}" for i in range(len(columns[0].split()))]
    return ratings_from_columns(space, items, cells)


FOUR_OBSERVERS = (
    "1 2 3 3 2 1 4 1 2 . . .",
    "1 2 3 3 2 2 4 1 2 5 . 3",
    ". 3 3 3 2 3 4 2 2 5 1 .",
    "1 2 3 3 2 4 4 1 2 5 1 .",
)


@pytest.mark.parametrize(
    ("space", "columns", "alpha"),
    [
        (NOMINAL, FOUR_OBSERVERS, 0.743),  # Krippendorff 2011, example C
        (ORDINAL, FOUR_OBSERVERS, 0.815),  # the same data, ordinal
        (LabelSpace(0, 1), ("0 1 0 0 0 0 0 0 1 0", "1 1 1 0 0 1 0 0 0 0"), 0.095),  # example A
        (LabelSpace(*"abcde"), ("a a b b d c c c e d d a", "b a b b b c c c e d d d"), 0.692),  # example B
    ],
)
def test_alpha_equals_published_examples(space: LabelSpace, columns: tuple[str, ...], alpha: float) -> None:
    """K. Krippendorff, "Computing Krippendorff's Alpha-Reliability", 2011."""
    assert human_agreement(ratings(space, *columns)).alpha == pytest.approx(alpha, abs=0.0005)


def brute_alpha(space: LabelSpace, table: list[list[Label | None]]) -> float | None:
    """Alpha from its definition: 1 − mean disagreement within items / mean disagreement of all pairable ratings."""
    units = [[space.index(x) for x in row if x is not None] for row in table]
    units = [unit for unit in units if len(unit) > 1]
    pooled = [x for unit in units for x in unit]

    def distance(a: int, b: int) -> float:
        if not space.ordered:
            return float(a != b)
        low, high = min(a, b), max(a, b)
        return (sum(low <= x <= high for x in pooled) - (pooled.count(low) + pooled.count(high)) / 2) ** 2

    n = len(pooled)
    observed = sum(sum(distance(a, b) for a, b in permutations(unit, 2)) / (len(unit) - 1) for unit in units)
    expected = sum(distance(a, b) for a, b in permutations(pooled, 2))
    return 1 - observed / n / (expected / n / (n - 1)) if expected else None


@pytest.mark.slow
@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.sampled_from([NOMINAL, ORDINAL]),
    st.lists(st.lists(st.sampled_from([1, 2, 3, 5, None]), min_size=3, max_size=3), max_size=8),
)
def test_alpha_equals_its_definition(space: LabelSpace, table: list[list[Label | None]]) -> None:
    """Any table, missing ratings included, against plain Python; the order of raters doesn't matter."""
    items = tuple(str(i) for i in range(len(table)))
    found = human_agreement(Ratings(space, items, tuple(map(tuple, table)))).alpha
    assert found == pytest.approx(brute_alpha(space, table))
    assert found == pytest.approx(human_agreement(Ratings(space, items, tuple(tuple(r[::-1]) for r in table))).alpha)


def test_human_agreement_is_the_mean_over_pairs_and_lists_disagreements_widest_first() -> None:
    """Pairs count only the items both rated; the middle item is rated once and tells nothing."""
    found = human_agreement(ratings(ORDINAL, "1 5 2 4 3", "1 4 . 4 5", "1 5 . 5 ."))
    assert (found.items, found.ratings, found.pairs) == (4, 11, 3)
    assert [(d.item, d.ratings) for d in found.disagreements] == [
        ("item 4", (3, 5)),
        ("item 1", (5, 4, 5)),
        ("item 3", (4, 4, 5)),
    ]
    assert found.disagreements[0].degree == 0.5
    pairs = [("1 5 4 3", "1 4 4 5"), ("1 5 4", "1 5 5"), ("1 4 4", "1 5 5")]
    kappas = [human_agreement(ratings(ORDINAL, *pair)).kappa for pair in pairs]
    assert found.kappa == pytest.approx(sum(k for k in kappas if k is not None) / 3)
    json.dumps(asdict(found), allow_nan=False)


def test_perfect_and_undefined_agreement() -> None:
    """1 where all agree on several labels; None where only one label or no second rating exists."""
    perfect = human_agreement(ratings(SAFETY, "Safe Unsafe", "Safe Unsafe"))
    assert (perfect.kappa, perfect.alpha, perfect.disagreements) == (1.0, 1.0, ())
    for undefined in (
        human_agreement(ratings(SAFETY, *c)) for c in [("Safe Safe", "Safe Safe"), ("Safe . ", ". Safe")]
    ):
        assert (undefined.kappa, undefined.alpha) == (None, None)


def test_a_rater_who_says_the_same_of_all_defines_no_kappa() -> None:
    """Whoever is named first; the other pairs still count."""
    one, other, flat = "1 5 2 4", "1 5 2 5", "3 3 3 3"
    pair = human_agreement(ratings(ORDINAL, one, other))
    for columns in ((flat, one, other), (one, other, flat)):
        found = human_agreement(ratings(ORDINAL, *columns))
        assert (found.kappa, found.pairs) == (pytest.approx(pair.kappa), 1)
    assert human_agreement(ratings(ORDINAL, "1", "5")).kappa is None


def test_intervals_of_human_agreement_hold_their_estimate_and_shrink_with_more_items() -> None:
    """Unknown raters have one of alpha alone, and what is undefined has none."""
    few = ratings(ORDINAL, "1 5 2 4 3", "1 4 . 4 5", "1 5 . 5 .")
    many = Ratings(few.labels, tuple(map(str, range(50))), few.table * 10, few.raters)
    for name in ("kappa", "alpha"):
        value = getattr(human_agreement(few), name)
        wide, narrow = rater_intervals(few)[name], rater_intervals(many)[name]
        assert wide is not None
        assert narrow is not None
        assert wide.low <= value <= wide.high
        assert narrow.high - narrow.low < wide.high - wide.low
    assert rater_intervals(Ratings(few.labels, few.items, few.table))["kappa"] is None
    assert rater_intervals(ratings(SAFETY, "Safe Safe", "Safe Safe")) == {"kappa": None, "alpha": None}


@pytest.mark.slow
def test_intervals_of_kappa_and_alpha_cover_the_truth_as_often_as_they_say() -> None:
    """Two raters who are right 9 times of 10, 60 items, nominal 0.95, over 200 draws."""
    rng = random.Random(1)
    # Both statistics come to the same for equal raters of two equally frequent labels: 1 − 0.18 / 0.5.
    truth, covered = 0.64, Counter[str]()
    for seed in range(200):
        labels = [rng.choice(("Safe", "Unsafe")) for _ in range(60)]
        columns = [
            " ".join(x if rng.random() < 0.9 else ("Safe" if x == "Unsafe" else "Unsafe") for x in labels)
            for _ in range(2)
        ]
        for name, interval in rater_intervals(ratings(SAFETY, *columns), seed=seed).items():
            assert interval is not None
            covered[name] += interval.low <= truth <= interval.high
    assert all(0.90 <= count / 200 <= 0.98 for count in covered.values()), covered


@pytest.mark.parametrize(
    ("columns", "rule", "label"),
    [
        (("4", "4", "1"), "majority", 4),
        (("1", "2", "5"), "majority", 2),
        (("1", "4"), "majority", 1),
        (("1", "1", "5", "5", "3"), "majority", 3),
        (("4", "4", "1"), "mean", 3),
        (("1", "2"), "mean", 1),
        (("4", "5"), "mean", 4),
        (("4", "5", "5"), "mean", 5),
        (("4", "."), "mean", 4),
    ],
)
def test_ordinal_ratings_are_combined_by_the_stated_rule(columns: tuple[str, ...], rule: str, label: int) -> None:
    """Mode, then lower median; or the mean rounded to the nearest level, the lower of two."""
    assert combine_raters(ratings(ORDINAL, *columns), rule).labels == {"item 0": label}


@pytest.mark.slow
@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=7))
def test_the_mean_label_is_the_nearest_level(given_labels: list[int]) -> None:
    """No other level is nearer to the mean, on a scale that spans zero too."""
    space = LabelSpace.ordinal(-3, 3)
    combined = combine_raters(Ratings(space, ("x",), (tuple(given_labels),)), "mean").labels["x"]
    mean = sum(given_labels) / len(given_labels)
    assert combined == min(space.labels, key=lambda level: (abs(int(level) - mean) > 0.5, int(level)))


def test_nominal_ties_and_unrated_items_are_left_out_and_listed() -> None:
    """Nothing is decided by the order of raters."""
    combined = combine_raters(ratings(SAFETY, "Safe Safe . Unsafe", "Safe Unsafe . ."))
    assert combined.labels == {"item 0": "Safe", "item 3": "Unsafe"}
    assert (combined.tied, combined.unrated) == (("item 1",), ("item 2",))


def test_rules_that_do_not_apply_are_refused() -> None:
    """An unknown rule, and the mean of labels without order."""
    with pytest.raises(BlpoError, match="unknown rule 'mode'"):
        combine_raters(ratings(SAFETY, "Safe"), "mode")
    with pytest.raises(BlpoError, match="no order"):
        combine_raters(ratings(SAFETY, "Safe"), "mean")


def test_repeated_rows_and_columns_give_the_same_ratings() -> None:
    """One row per rating, in any order."""
    rows = [
        ("item 1", "rater 1", 5),
        ("item 0", "rater 0", "1"),
        ("item 1", "rater 0", 2.0),
        ("item 0", "rater 1", None),
    ]
    read = ratings_from_rows(ORDINAL, rows)
    by_item = dict(zip(read.items, read.table, strict=True))
    assert {item: set(given) for item, given in by_item.items()} == {"item 0": {1, None}, "item 1": {5, 2}}
    columns = ratings(ORDINAL, "1 2", ". 5")
    assert human_agreement(read).alpha == human_agreement(columns).alpha


def test_unknown_raters_have_an_alpha_but_no_kappa() -> None:
    """Repeated rows without a rater's name are interchangeable ratings."""
    rows: list[tuple[str, str | None, object]] = [
        ("a", None, 1),
        ("a", None, 1),
        ("b", None, 4),
        ("b", None, 5),
        ("b", None, 4),
    ]
    found = ratings_from_rows(ORDINAL, rows)
    assert found.table == ((1, 1, None), (4, 5, 4))
    assert human_agreement(found).kappa is None
    assert human_agreement(found).alpha == pytest.approx(brute_alpha(ORDINAL, [list(row) for row in found.table]))


def test_no_ratings_at_all_are_undefined_not_an_error() -> None:
    """An empty table has no agreement and no labels."""
    empty = ratings_from_rows(ORDINAL, [])
    assert human_agreement(empty).alpha is None
    assert combine_raters(empty).labels == {}


def test_all_bad_ratings_are_named_at_once() -> None:
    """Unknown labels, double ratings and double items are listed together."""
    with pytest.raises(DataError) as caught:
        ratings_from_columns(SAFETY, ["a", "b", "a"], {"r": ["safe", "Danger", "Safe"], "s": ["?", "Safe", ""]})
    assert len(caught.value.problems) == 4
    assert "item 'a' occurs 2 times" in caught.value.problems[0]
    assert "'b', r: unknown label 'Danger'" in str(caught.value)
    with pytest.raises(DataError, match="r rated 'a' more than once"):
        ratings_from_rows(SAFETY, [("a", "r", "Safe"), ("a", "r", "Safe")])
    with pytest.raises(DataError, match="name all raters or none"):
        ratings_from_rows(SAFETY, [("a", "r", "Safe"), ("a", None, "Safe")])
    with pytest.raises(DataError, match="got r: 1"):
        ratings_from_columns(SAFETY, ["a", "b"], {"r": ["Safe"]})


def test_nan_is_a_missing_rating() -> None:
    """As a table with gaps reads."""
    assert ratings_from_columns(ORDINAL, ["a"], {"r": [float("nan")], "s": [3.0]}).table == ((None, 3),)


def test_people_agree_on_scores_by_correlation_and_interval_alpha() -> None:
    """Spearman over pairs of raters as SciPy has it; alpha from its definition with squared distances; no kappa."""
    scores = LabelSpace.scores(0, 100)
    rng = random.Random(3)
    truth = [rng.uniform(0, 100) for _ in range(30)]
    columns = {
        who: [round(min(100, max(0, x + rng.gauss(0, sd))), 1) for x in truth] for who, sd in (("a", 5), ("b", 20))
    }
    found = human_agreement(ratings_from_columns(scores, [str(i) for i in range(30)], columns))
    assert found.kappa is None
    assert found.pairs == 1
    assert found.spearman == pytest.approx(spearmanr(columns["a"], columns["b"]).statistic)
    pooled = [*columns["a"], *columns["b"]]
    observed = sum((x - y) ** 2 for x, y in zip(*columns.values(), strict=True)) / 30
    expected = sum((x - y) ** 2 for x, y in combinations(pooled, 2)) / (60 * 59 / 2)
    assert found.alpha == pytest.approx(1 - observed / expected)
    intervals = rater_intervals(ratings_from_columns(scores, [str(i) for i in range(30)], columns))
    for name, value in (("spearman", found.spearman), ("alpha", found.alpha)):
        assert intervals[name].low < value < intervals[name].high
    assert found.disagreements[0].degree == pytest.approx(
        max(abs(x - y) for x, y in zip(*columns.values(), strict=True)) / 100
    )


def test_scores_of_several_people_are_combined() -> None:
    """By the median or the mean; with steps by the step that is nearest to it."""
    given = {"a": [10, 10, 0.5], "b": [20, 90, 1], "c": [60.5, 10, 1.5]}
    percent = ratings_from_columns(LabelSpace.scores(0, 100), ["x", "y", "z"], given)
    assert dict(combine_raters(percent).labels) == {"x": 20, "y": 10, "z": 1}
    assert combine_raters(percent, "mean").labels["x"] == pytest.approx(30.166666667)
    halves = ratings_from_columns(LabelSpace.scores(0, 100, 0.5), ["x", "y", "z"], given)
    assert dict(combine_raters(halves, "mean").labels) == {"x": 30, "y": 36.5, "z": 1}
