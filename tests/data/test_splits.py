"""Splits: disjoint, balanced, seeded, groups whole, the same image never in two of them."""

from __future__ import annotations

from collections import Counter
from itertools import chain, combinations
from typing import Any

import dspy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import encoded, photo

from blpo_dspy.data.images.prepare import PixelPolicy, fingerprint
from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.splits import Splits, check_disjoint, check_labels, cut_folds, histogram, split_examples, thinned
from blpo_dspy.errors import BlpoError, DataError

LABELS = LabelSpace("Safe", "Unsafe")
SCALE = LabelSpace.ordinal(1, 3)
IMAGES = [PixelPolicy().prepare(encoded(photo(6, 5, seed=i))) for i in range(60)]


def example(number: int, label: Label, *, picture: int | None = None, group: str | None = None) -> dspy.Example:
    """An example with an image of its own, or with a given one."""
    fields: dict[str, Any] = {} if group is None else {"group": group}
    image = dspy.Image(f"https://example.org/{number}.png") if picture is None else IMAGES[picture]
    return dspy.Example(image=image, label=label, id=str(number), **fields).with_inputs("image")


def table(counts: dict[Label, int]) -> list[dspy.Example]:
    """Examples of each label, all of a label in a row."""
    labels = [label for label, n in counts.items() for _ in range(n)]
    return [example(i, label) for i, label in enumerate(labels)]


def parts(splits: Splits[dspy.Example]) -> list[list[dspy.Example]]:
    """The three splits."""
    return [splits.train, splits.val, splits.test]


def ids(splits: Splits[dspy.Example]) -> list[list[str]]:
    """The ids in the three splits, in order."""
    return [[e.id for e in part] for part in parts(splits)]


def counts(part: list[dspy.Example]) -> Counter[Label]:
    """How often each label occurs."""
    return Counter(e.label for e in part)


def assert_apart(splits: Splits[dspy.Example]) -> None:
    """No example, image or group is in two splits."""
    for one, other in combinations(parts(splits), 2):
        assert not {e.id for e in one} & {e.id for e in other}
        assert not {fingerprint(e.image) for e in one} & {fingerprint(e.image) for e in other}
        assert not {e.group for e in one if "group" in e} & {e.group for e in other if "group" in e}


@st.composite
def grouped(draw: st.DrawFn) -> list[dspy.Example]:
    """Examples in random groups, some with the same images."""
    n = draw(st.integers(8, 50))
    return [
        example(
            i,
            draw(st.sampled_from(SCALE.labels)),
            picture=draw(st.none() | st.integers(0, len(IMAGES) - 1)),
            group=draw(st.none() | st.sampled_from([f"g{k}" for k in range(n // 2)])),
        )
        for i in range(n)
    ]


# By size


def test_sizes_are_exact_and_balanced() -> None:
    """Every label equally often in each split; what is over is left out and said."""
    splits = split_examples(table({"Safe": 40, "Unsafe": 20}), labels=LABELS, sizes=(20, 10, 10))
    assert [counts(part) for part in parts(splits)] == [{"Safe": n, "Unsafe": n} for n in (10, 5, 5)]
    assert splits.describe() == (
        "train 20 (10 per label), val 10 (5 per label), test 10 (5 per label); "
        "balanced by label, seed 0, 20 of 60 examples left out"
    )


def test_a_size_that_labels_do_not_divide_is_as_balanced_as_it_can_be() -> None:
    """The more frequent labels get one more."""
    splits = split_examples(table({1: 10, 2: 30, 3: 20}), labels=SCALE, sizes=(10, 4, 3))
    assert [counts(part) for part in parts(splits)] == [{1: 3, 2: 4, 3: 3}, {1: 1, 2: 2, 3: 1}, {1: 1, 2: 1, 3: 1}]


def test_unbalanced_sizes_keep_the_proportions_of_the_whole() -> None:
    """Where the user says so."""
    splits = split_examples(table({"Safe": 60, "Unsafe": 20}), labels=LABELS, sizes=(40, 8, 20), balanced=False)
    assert [counts(part) for part in parts(splits)] == [{"Safe": 3 * n, "Unsafe": n} for n in (10, 2, 5)]


def test_a_split_may_be_empty() -> None:
    """Validation and test are not always wanted."""
    splits = split_examples(table({"Safe": 5, "Unsafe": 5}), labels=LABELS, sizes=(10, 0, 0))
    assert splits.describe() == "train 10 (5 per label), val 0, test 0; balanced by label, seed 0"


def test_a_shortfall_prints_the_histogram_and_what_to_do() -> None:
    """One sentence."""
    with pytest.raises(DataError) as caught:
        split_examples(table({"Safe": 50, "Unsafe": 7}), labels=LABELS, sizes=(10, 5, 10))
    assert str(caught.value) == (
        "too few examples: splits of 10/5/10 need Safe: 13, Unsafe: 12, but there are Safe: 50, Unsafe: 7 "
        "(Unsafe lacks 5); ask for smaller splits or unbalanced ones, or label more images"
    )


def test_a_label_that_never_occurs_is_a_shortfall() -> None:
    """It is part of the space that the judge chooses from."""
    with pytest.raises(DataError, match="3 lacks 4"):
        split_examples(table({1: 9, 2: 9}), labels=SCALE, sizes=(6, 3, 3))


def test_groups_that_do_not_fit_are_a_shortfall() -> None:
    """Enough examples, but in two halves that must stay whole."""
    examples = [example(i, LABELS.labels[i % 2], group=f"g{i // 10}") for i in range(20)]
    with pytest.raises(DataError, match="groups that stay whole do not fit") as caught:
        split_examples(examples, labels=LABELS, sizes=(8, 4, 8))
    assert "Safe: 10, Unsafe: 10" in str(caught.value)


def test_groups_fill_exact_sizes_where_they_can() -> None:
    """Ten pairs and two large groups into sizes that fit only one way round."""
    large = [example(i, LABELS.labels[i % 2], group=f"large {i // 6}") for i in range(12)]
    small = [example(100 + i, LABELS.labels[i % 2], group=f"small {i // 2}") for i in range(20)]
    splits = split_examples(small + large, labels=LABELS, sizes=(16, 8, 8))
    assert [counts(part) for part in parts(splits)] == [{"Safe": n, "Unsafe": n} for n in (8, 4, 4)]
    assert_apart(splits)


@pytest.mark.slow
@settings(max_examples=30, derandomize=True, deadline=None)
@given(grouped(), st.tuples(st.integers(1, 4), st.integers(0, 3), st.integers(0, 4)), st.integers(0, 5))
def test_splits_by_size_are_exact_or_refused(
    examples: list[dspy.Example], per_label: tuple[int, int, int], seed: int
) -> None:
    """Never a split that is nearly balanced, overlaps, or tears a group apart."""
    train, val, test = (n * len(SCALE) for n in per_label)
    try:
        splits = split_examples(examples, labels=SCALE, sizes=(train, val, test), seed=seed)
    except DataError:
        return
    assert_apart(splits)
    for part, n in zip(parts(splits), per_label, strict=True):
        assert counts(part) == Counter({label: n for label in SCALE.labels if n})


@pytest.mark.slow
@settings(max_examples=100, derandomize=True, deadline=None)
@given(
    st.lists(st.integers(0, 12), min_size=3, max_size=3),
    st.tuples(st.integers(1, 5), st.integers(0, 5), st.integers(0, 5)),
)
def test_without_groups_a_split_by_size_fails_only_for_want_of_a_label(
    have: list[int], per_label: tuple[int, int, int]
) -> None:
    """Whatever is there in number is found."""
    train, val, test = (n * len(SCALE) for n in per_label)
    examples = table(dict(zip(SCALE.labels, have, strict=True)))
    if min(have) >= sum(per_label):
        splits = split_examples(examples, labels=SCALE, sizes=(train, val, test))
        assert [len(part) for part in parts(splits)] == [train, val, test]
    else:
        with pytest.raises(DataError, match="too few examples"):
            split_examples(examples, labels=SCALE, sizes=(train, val, test))


# By fraction


def test_fractions_split_each_label_and_use_every_example() -> None:
    """40/20/40 unless said otherwise, said in the description."""
    splits = split_examples(table({"Safe": 50, "Unsafe": 20}), labels=LABELS)
    assert [counts(part) for part in parts(splits)] == [
        {"Safe": 20, "Unsafe": 8},
        {"Safe": 10, "Unsafe": 4},
        {"Safe": 20, "Unsafe": 8},
    ]
    assert splits.describe() == (
        "train 28 (Safe: 20, Unsafe: 8), val 14 (Safe: 10, Unsafe: 4), test 28 (Safe: 20, Unsafe: 8); "
        "split 40/20/40 within each label, seed 0"
    )


def test_a_balanced_table_gives_balanced_fractions() -> None:
    """The usual case of a table made for the purpose."""
    splits = split_examples(table({1: 50, 2: 50, 3: 50}), labels=SCALE, fractions=(0.5, 0.2, 0.3))
    assert [counts(part) for part in parts(splits)] == [dict.fromkeys(SCALE.labels, n) for n in (25, 10, 15)]


@pytest.mark.slow
@settings(max_examples=30, derandomize=True, deadline=None)
@given(grouped(), st.sampled_from([(0.4, 0.2, 0.4), (0.8, 0.0, 0.2), (0.5, 0.5, 0.0)]), st.integers(0, 5))
def test_splits_by_fraction_keep_groups_whole_and_lose_nothing(
    examples: list[dspy.Example], fractions: tuple[float, float, float], seed: int
) -> None:
    """Every example is in exactly one split, and none in one that was not wanted."""
    try:
        splits = split_examples(examples, labels=SCALE, fractions=fractions, seed=seed)
    except DataError as error:
        assert "a split would be empty" in str(error)  # noqa: PT017 - groups can leave too few pieces
        return
    assert_apart(splits)
    assert sorted(chain.from_iterable(ids(splits))) == sorted(e.id for e in examples)
    assert [bool(part) for part in parts(splits)] == [share > 0 for share in fractions]


@pytest.mark.slow
@settings(max_examples=30, derandomize=True, deadline=None)
@given(st.lists(st.integers(3, 60), min_size=3, max_size=3), st.integers(0, 9))
def test_without_groups_each_label_is_within_one_of_its_share(have: list[int], seed: int) -> None:
    """Largest remainders."""
    splits = split_examples(table(dict(zip(SCALE.labels, have, strict=True))), labels=SCALE, seed=seed)
    for part, share in zip(parts(splits), (0.4, 0.2, 0.4), strict=True):
        for label, n in zip(SCALE.labels, have, strict=True):
            assert abs(counts(part)[label] - share * n) < 1


def test_small_groups_stay_near_the_shares() -> None:
    """Sixty prompts with one to three images each."""
    sizes = [1 + i % 3 for i in range(60)]
    labels = [LABELS.labels[(i * 7) % 5 < 2] for i in range(sum(sizes))]
    groups = [f"g{g}" for g, size in enumerate(sizes) for _ in range(size)]
    examples = [example(i, label, group=group) for i, (label, group) in enumerate(zip(labels, groups, strict=True))]
    for seed in range(5):
        splits = split_examples(examples, labels=LABELS, seed=seed)
        whole = counts(examples)
        for part, share in zip(parts(splits), (0.4, 0.2, 0.4), strict=True):
            for label in LABELS.labels:
                assert abs(counts(part)[label] - share * whole[label]) <= 2
        assert splits.describe().endswith("40 groups kept whole")


def test_too_few_examples_for_three_splits_are_refused() -> None:
    """With the histogram."""
    with pytest.raises(DataError, match=r"2 \(Safe: 1, Unsafe: 1\); a split would be empty"):
        split_examples(table({"Safe": 1, "Unsafe": 1}), labels=LABELS)
    one_group = [example(i, LABELS.labels[i % 2], group="all") for i in range(40)]
    with pytest.raises(DataError, match="in 1 group kept whole"):
        split_examples(one_group, labels=LABELS)


# Seeds, images, options


@pytest.mark.parametrize("options", [{}, {"sizes": (20, 10, 10)}])
def test_the_seed_decides(options: dict[str, Any]) -> None:
    """The same seed, the same splits in the same order; another seed, others; labels are mixed within a split."""
    examples = table({"Safe": 40, "Unsafe": 40})
    first = split_examples(examples, labels=LABELS, seed=1, **options)
    assert ids(first) == ids(split_examples(examples, labels=LABELS, seed=1, **options))
    assert ids(first) != ids(split_examples(examples, labels=LABELS, seed=2, **options))
    assert len({e.label for e in first.train[:8]}) == 2


def test_identical_images_stay_together_through_groups() -> None:
    """Two groups that share an image are one."""
    chained = [example(i, "Safe", picture=i // 2, group=f"g{(i + 1) // 2}") for i in range(10)]
    others = [example(100 + i, LABELS.labels[i % 2]) for i in range(30)]
    for seed in range(5):
        splits = split_examples(chained + others, labels=LABELS, seed=seed)
        assert sum(any(int(e.id) < 100 for e in part) for part in parts(splits)) == 1


def test_the_given_examples_are_passed_on_unchanged() -> None:
    """The same objects."""
    examples = table({"Safe": 10, "Unsafe": 10})
    splits = split_examples(examples, labels=LABELS)
    assert {id(e) for part in parts(splits) for e in part} == {id(e) for e in examples}


@pytest.mark.parametrize(
    "options",
    [
        {"sizes": (10, 5, 5), "fractions": (0.5, 0.25, 0.25)},
        {"sizes": (0, 5, 5)},
        {"sizes": (10, -1, 5)},
        {"sizes": (10, 5)},
        {"sizes": (10.0, 5, 5)},
        {"fractions": (0.5, 0.5, 0.5)},
        {"fractions": (1.2, -0.2, 0.0)},
        {"fractions": (0.0, 0.5, 0.5)},
    ],
)
def test_options_that_contradict_themselves_are_refused(options: dict[str, Any]) -> None:
    """Before anything is split."""
    with pytest.raises(BlpoError, match=r"sizes|fractions|train"):
        split_examples(table({"Safe": 20, "Unsafe": 20}), labels=LABELS, **options)


def test_the_histogram_counts_every_label_of_the_space() -> None:
    """Those that never occur too."""
    assert histogram(table({1: 2, 3: 1}), SCALE) == "1: 2, 2: 0, 3: 1"


# Separate tables


def test_an_image_in_two_tables_is_found() -> None:
    """Whatever it is called there; all of them at once."""
    train = [example(1, "Safe", picture=1), example(2, "Safe", picture=2), example(3, "Safe", picture=3)]
    val = [example(4, "Unsafe", picture=2)]
    test = [example(5, "Safe", picture=3), example(6, "Safe", picture=2), example(7, "Safe", picture=7)]
    with pytest.raises(DataError, match="2 images are in more than one of train, val, test") as caught:
        check_disjoint(train=train, val=val, test=test)
    assert list(caught.value.problems) == [
        "the same image is 2 in train and 4 in val and 6 in test",
        "the same image is 3 in train and 5 in test",
    ]


def test_disjoint_tables_pass_and_repeats_within_one_are_fine() -> None:
    """Two people may have labelled an image."""
    check_disjoint(train=[example(1, "Safe", picture=1), example(2, "Unsafe", picture=1)], test=[example(3, "Safe")])


def test_few_groups_that_are_larger_than_a_share_are_split_as_groups() -> None:
    """Of three pairs of each label one goes to every split, where a fifth of six examples would be no pair."""
    pairs = [example(number, SCALE.labels[number // 2 % 3], group=f"g{number // 2}") for number in range(18)]
    splits = split_examples(pairs, labels=SCALE)
    assert [counts(part) for part in parts(splits)] == [{1: 2, 2: 2, 3: 2}] * 3
    assert_apart(splits)


def test_remainders_of_several_splits_go_to_different_labels() -> None:
    """Three splits of four among three labels need four of each, not six of one of them."""
    splits = split_examples(table({1: 4, 2: 4, 3: 4}), labels=SCALE, sizes=(4, 4, 4))
    assert sorted(chain.from_iterable(counts(part).values() for part in parts(splits))) == [1] * 6 + [2] * 3


def test_rows_that_share_any_image_stay_together() -> None:
    """Whichever input it is in: a chain of pairs is one unit."""
    chain_of_pairs = [
        dspy.Example(left=IMAGES[i], right=IMAGES[i + 1], label="Safe" if i % 2 else "Unsafe", id=i) for i in range(4)
    ]
    alone = [
        dspy.Example(left=IMAGES[10 + 2 * i], right=IMAGES[11 + 2 * i], label="Safe" if i % 2 else "Unsafe", id=i)
        for i in range(4, 20)
    ]
    examples = [example.with_inputs("left", "right") for example in (*chain_of_pairs, *alone)]
    splits = split_examples(examples, labels=LabelSpace("Safe", "Unsafe"), seed=3)
    homes = [{e.id for e in part if e.id < 4} for part in parts(splits)]
    assert sorted(map(len, homes)) == [0, 0, 4]
    with pytest.raises(DataError, match="the same image is 0 in train and 1 in test"):
        check_disjoint(train=examples[:1], test=examples[1:2])


@settings(max_examples=50, derandomize=True, deadline=None)
@given(st.lists(st.sampled_from(LABELS.labels), min_size=1, max_size=40), st.integers(1, 40))
def test_thinning_keeps_order_and_label_proportions(labels: list[Label], most: int) -> None:
    """Of each label its share of what is kept, to within one example."""
    examples = [example(i, label) for i, label in enumerate(labels)]
    kept = thinned(examples, most, LABELS)
    assert len(kept) == min(most, len(examples))
    assert [e.id for e in kept] == sorted((e.id for e in kept), key=int)
    for label in LABELS.labels:
        expected = labels.count(label) * len(kept) / len(labels)
        assert abs(sum(e.label == label for e in kept) - expected) <= 1


# --- scores ----------------------------------------------------------------------------------------------------------

SCORES = LabelSpace.scores(0, 100)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 1000).map(lambda n: n / 10), min_size=20, max_size=80), st.integers(0, 5))
def test_splits_of_scores_are_balanced_by_bins(scores: list[float], seed: int) -> None:
    """Exact sizes whatever scores are equal; each split has scores of all parts of the range."""
    rows = [example(i, score) for i, score in enumerate(scores)]
    train, val, test = len(rows) // 2, len(rows) // 5, len(rows) // 5
    splits = split_examples(rows, labels=SCORES, sizes=(train, val, test), seed=seed)
    assert [len(part) for part in parts(splits)] == [train, val, test]
    assert_apart(splits)
    _, bins = SCORES.strata(scores)
    of_train = Counter(bins[int(e.id)] for e in splits.train)
    for name, n in Counter(bins).items():
        assert abs(of_train[name] - n * train / len(rows)) < 2
    again = split_examples(rows, labels=SCORES, sizes=(train, val, test), seed=seed)
    assert ids(again) == ids(splits)


def test_scores_are_split_and_cut_without_sizes_too() -> None:
    """In words the bins stand for labels."""
    rows = [example(i, i + 0.5) for i in range(50)]
    splits = split_examples(rows, labels=SCORES)
    assert [len(part) for part in parts(splits)] == [20, 10, 20]
    assert "split 40/20/40 within each bin of scores" in splits.describe()
    assert "0.5–9.5" in histogram(rows, SCORES)
    folds = cut_folds(rows[:12], labels=SCORES, folds=5)
    assert sorted(e.id for fold in folds for e in fold) == sorted(e.id for e in rows[:12])
    assert {len(fold) for fold in folds} == {2, 3}


def test_scores_without_an_example_are_no_gap(recwarn: pytest.WarningsRecorder) -> None:
    """On a fine scale of levels one warning says what is better; equal scores alone teach nothing."""
    check_labels([1.5, 20, 30], SCORES)
    assert not [found for found in recwarn.list if issubclass(found.category, UserWarning)]
    with pytest.raises(DataError, match=r"same label \(50: 3\)"):
        check_labels([50, 50, 50], SCORES)
    with pytest.warns(UserWarning, match=r"98 of 101 levels have no training example.*LabelSpace\.scores"):
        check_labels([1, 20, 30], LabelSpace.ordinal(0, 100))


def test_unbalanced_splits_ask_for_no_more_of_a_label_than_there_is() -> None:
    """Rounded up in each split, two examples would have to be three."""
    splits = split_examples(table({1: 12, 2: 2, 3: 6}), labels=SCALE, sizes=(10, 4, 4), balanced=False)
    assert [len(part) for part in parts(splits)] == [10, 4, 4]
