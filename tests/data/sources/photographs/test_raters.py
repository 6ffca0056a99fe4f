"""Raters: the formula, their files, and what they cannot rate."""

from __future__ import annotations

import copy
import json
import pickle
import random
from pathlib import Path
from statistics import stdev

import pytest

from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.sources.photographs import RATERS, Rater, rated_photographs
from blpo_dspy.errors import BlpoError

FIVE = LabelSpace.ordinal(1, 5)


@pytest.mark.parametrize(
    ("levels", "label"),
    [({}, 5), ({"blur": 1}, 4), ({"blur": 2}, 3), ({"blur": 3}, 1), ({"blur": 3, "noise": 3}, 1), ({"noise": 3}, 4)],
)
def test_the_rating_is_the_top_less_the_weighted_severity(levels: dict[str, int], label: int) -> None:
    """Without noise the formula alone decides."""
    assert Rater({"blur": 0.9, "noise": 0.25}, noise=0).rate(levels, FIVE, random.Random(0)) == label


@pytest.mark.parametrize("names", [("keep", "reject"), ("reject", "keep")])
def test_keep_and_reject_are_a_threshold_in_either_order(names: tuple[str, str]) -> None:
    """What the words mean decides, not where they stand."""
    rater, labels = Rater({"blur": 0.9}, noise=0), LabelSpace(*names)
    assert [rater.rate({"blur": n}, labels, random.Random(0)) for n in range(4)] == ["keep", "keep", "reject", "reject"]


def test_nominal_labels_without_a_meaning_end_with_the_best() -> None:
    """The last label stands for flawless pictures."""
    rater, labels = Rater({"blur": 0.9}, noise=0), LabelSpace("a", "b")
    assert [rater.rate({"blur": n}, labels, random.Random(0)) for n in (0, 3)] == ["b", "a"]


def test_noise_is_seeded() -> None:
    """The same draw gives the same label."""
    rater = Rater({"blur": 0.8}, noise=1.0)
    labels = [[rater.rate({"blur": 2}, FIVE, random.Random(s)) for s in range(20)] for _ in range(2)]
    assert labels[0] == labels[1]
    assert len(set(labels[0])) > 1


def test_label_noise_is_the_share_of_labels_that_end_a_level_off() -> None:
    """Up as often as down, inwards at the ends; of two labels it is the other one."""
    rater, rng = Rater({"blur": 0.8}, label_noise=0.25), random.Random(0)
    given = [int(rater.given(3, FIVE, rng)) for _ in range(2000)]
    counts = [given.count(label) for label in range(1, 6)]
    assert counts == [0, pytest.approx(250, abs=50), pytest.approx(1500, abs=60), pytest.approx(250, abs=50), 0]
    always = Rater({"blur": 0.8}, label_noise=1.0)
    assert [always.given(label, FIVE, rng) for label in (1, 5)] == [2, 4]
    assert always.given("keep", LabelSpace("keep", "reject"), rng) == "reject"
    assert Rater({"blur": 0.8}).given(3, FIVE, rng) == 3


def test_a_file_gives_a_rater(tmp_path: Path) -> None:
    """Both forms are read, with any noise."""
    short, long = tmp_path / "short.json", tmp_path / "long.json"
    short.write_text('{"blur": 0.9, "low contrast": 1}')
    long.write_text('{"weights": {"blur": 0.9, "low contrast": 1}, "noise": 0.15}')
    assert Rater.from_file(short) == Rater.from_file(long) == Rater({"blur": 0.9, "low contrast": 1.0})
    long.write_text('{"weights": {"blur": 0.9}, "label_noise": 0.2}')
    assert Rater.from_file(long) == Rater({"blur": 0.9}, label_noise=0.2)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ('{"blurr": 0.9, "noise": 1.5, "blur": "much"}', ["'blurr'", "1.5", "'much'"]),
        ('{"weights": {"blur": 1}, "noise": -1}', ["noise is -1"]),
        ('{"weights": {"blur": 1}, "label_noise": 20}', ["label noise is 20, not a share from 0 to 1"]),
        ('{"weights": {"blur": 1}, "colour": 1}', ["not a rater"]),
        ("[1, 2]", ["not a rater"]),
        ('{"weights": 3}', ["not a rater"]),
        ("{", ["cannot read"]),
        ('{"blur": true}', ["True"]),
    ],
)
def test_a_bad_file_is_refused_with_every_reason(tmp_path: Path, text: str, parts: list[str]) -> None:
    """One error names the file and all that is wrong."""
    path = tmp_path / "rater.json"
    path.write_text(text)
    with pytest.raises(BlpoError) as error:
        Rater.from_file(path)
    assert all(part in str(error.value) for part in ["rater.json", *parts])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """Not a traceback."""
    with pytest.raises(BlpoError, match=r"nowhere\.json"):
        Rater.from_file(tmp_path / "nowhere.json")


@pytest.mark.parametrize("weights", [{}, {"blur": 0.2}, {"noise": 0.3, "blocking": 0.3}])
def test_a_rater_who_cannot_fill_every_label_is_refused_with_the_histogram(weights: dict[str, float]) -> None:
    """Nobody can balance labels that a lenient rater never gives."""
    with pytest.raises(BlpoError, match=r"cannot fill every label: of \d+ photographs it gave {1: \d+, 2: "):
        rated_photographs(Rater(weights), train=10, val=5, test=10)


@pytest.mark.parametrize(
    ("rater", "parts"),
    [
        (Rater({"blur": 0.6, "noise": 0.6}), ["too few have 1;", "weigh 0.60 together (none has both blur and noise,"]),
        (Rater({"blur": 1.0}, noise=0.0), ["too few have 3;", "give another flaw a weight"]),
        (Rater({"blur": 0.3, "blocking": 0.2}), ["too few have 1, 2;", "weigh 0.50 together: give heavier weights"]),
    ],
)
def test_a_refusal_names_the_empty_labels_and_what_stands_in_the_way(rater: Rater, parts: list[str]) -> None:
    """It asks for nothing that the rater has already."""
    with pytest.raises(BlpoError) as error:
        rated_photographs(rater)
    assert all(part in str(error.value) for part in parts)


def test_named_raters_weigh_at_least_two_flaws_heavily() -> None:
    """Otherwise there is too little to discover."""
    assert set(RATERS) == {"sharp", "colour", "exposure", "harsh", "grain-hater"}
    for rater in RATERS.values():
        assert sum(weight >= 0.6 for weight in rater.weights.values()) >= 2


def test_a_rater_is_a_value() -> None:
    """It can be copied and pickled, and not changed."""
    rater = RATERS["sharp"]
    assert pickle.loads(pickle.dumps(rater)) == copy.deepcopy(rater) == rater
    assert json.loads(json.dumps(dict(rater.weights))) == rater.weights
    with pytest.raises(TypeError):
        rater.weights["blur"] = 0.0  # type: ignore[index]


def test_a_score_is_the_rating_before_it_is_rounded_to_a_level() -> None:
    """A quarter of the range is a level, of noise and slips too; steps are kept to."""
    percent, halves = LabelSpace.scores(0, 100), LabelSpace.scores(0, 10, 0.5)
    rater = Rater({"blur": 0.9, "noise": 0.25}, noise=0)
    for levels in ({}, {"blur": 1}, {"noise": 2}, {"blur": 2, "noise": 1}, {"blur": 3, "noise": 3}):
        score = rater.rate(levels, percent, random.Random(0))
        assert rater.rate(levels, FIVE, random.Random(0)) == 1 + round(score / 25)
        assert rater.rate(levels, halves, random.Random(0)) in halves
    noisy = [Rater({"blur": 0.5}, noise=0.4).rate({"blur": 3}, percent, random.Random(i)) for i in range(400)]
    assert stdev(noisy) == pytest.approx(10, rel=0.15)
    slips = {Rater({}, label_noise=1).given(50, percent, random.Random(i)) for i in range(20)}
    assert slips == {25, 75}
    assert Rater({}, label_noise=1).given(97.5, percent, random.Random(0)) == 72.5
