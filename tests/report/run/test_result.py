"""What a report says of the result: the headline, the figures, and who gained and lost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from blpo_dspy.agreement.measure import measure_agreement
from blpo_dspy.agreement.verdicts import Verdict
from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.population.shifts import holm
from blpo_dspy.report.numbers import enough_digits, figure
from blpo_dspy.report.run.figure_table import Column, figure_table
from blpo_dspy.report.run.folder import RunFolder
from blpo_dspy.report.run.groups import groups_of
from blpo_dspy.report.run.headline import Headline, headline_of, models_and_day
from blpo_dspy.report.run.items import Item
from blpo_dspy.report.run.measured import Measured, measured_of

NOMINAL, SCALE = LabelSpace("Safe", "Unsafe"), LabelSpace.ordinal(1, 5)
FAILED = "failed"
Said = tuple[Label, Label | None, Label | None]


def run_of(labels: LabelSpace, said: Sequence[Said], *, folds: bool = False, groups: Sequence[str] = ()) -> RunFolder:
    """A run whose test images have these human labels, and labels before and after; FAILED for a failed call."""
    items = tuple(
        Item(str(i), true, _verdict(before), _verdict(after), groups[i] if groups else "")
        for i, (true, before, after) in enumerate(said)
    )
    measured: dict[str, Any] = {}
    for place, when in ((1, "before"), (2, "after")):
        answered = [row for row in said if row[place] != FAILED]
        truth, predicted = [row[0] for row in answered], [row[place] for row in answered]
        measured[when] = measure_agreement(labels, truth, predicted, failed=len(said) - len(answered)).to_dict()
    test = {when: {"test": None if folds else found, "val": found} for when, found in measured.items()}
    result = {"labels": labels.to_dict(), "seed": 0, "folds": measured if folds else None, **test}
    return RunFolder(Path("run"), result, "", items)


def _verdict(label: Label | None) -> Verdict:
    return Verdict(None, failure="the model failed") if label == FAILED else Verdict(label)


def measured(labels: LabelSpace, said: Sequence[Said], **options: Any) -> Measured:
    """What such a run measured."""
    return measured_of(run_of(labels, said, **options))


def words(headline: Headline) -> str:
    """All that a headline says."""
    return " ".join([headline.title, headline.measure, *headline.sentences])


def values(headline: Headline) -> tuple[str, ...]:
    """The figures before and after."""
    return tuple(shown.value for shown in headline.figures or ())


def test_a_run_of_folds_is_told_by_its_verdicts_out_of_fold() -> None:
    """Not as one whose test set was never judged; and no figure is the saved judge's."""
    said: list[Said] = [("Safe", "Unsafe", "Safe")] * 20 + [("Unsafe", "Unsafe", "Unsafe")] * 20
    told = headline_of(measured(NOMINAL, said, folds=True))
    assert (told.title, told.tone) == ("Agrees with people better than before", "good")
    assert values(told) == ("50%", "100%")
    assert "out of fold" in told.measure
    assert "each judged by a judge that never saw it" in told.measure
    assert "the judge that was saved saw all images" in words(told)
    assert "test" not in words(told).replace("paired test", "")


def test_models_and_day_stand_in_one_line() -> None:
    """One model alone, or each with its roles; that the offline engine is none is said."""
    split = {"judge": "openai/gpt-4o-mini", "verbalizer": "openai/gpt-4o-mini", "optimizer": "openai/gpt-4o"}
    line = "openai/gpt-4o-mini (judge, verbalizer), openai/gpt-4o (optimizer) · 2026-03-01"
    assert models_and_day(split, "2026-03-01") == line
    assert models_and_day(dict.fromkeys(split, "acme/one"), "") == "acme/one"
    offline = models_and_day({"judge": "embedded?seed=3"}, "2026-03-01")
    assert offline == "embedded?seed=3 · offline engine, not a multimodal LLM · 2026-03-01"


def test_figures_before_and_after_have_intervals() -> None:
    """Beside the two numbers of the headline, around them."""
    said: list[Said] = [("Safe", "Unsafe", "Safe")] * 10 + [("Unsafe", "Unsafe", "Unsafe")] * 30
    told = headline_of(measured(NOMINAL, said))
    assert told.figures is not None
    before, after = told.figures
    low, high = (float(end.rstrip("%")) for end in before.interval.split(" to "))
    assert before.value == "75%"
    assert low < 75 < high
    assert after.interval.endswith("to 100%")


def test_images_that_could_not_be_compared_are_counted() -> None:
    """In the headline, and beside what each column of the table rests on."""
    said: list[Said] = [("Safe", FAILED, "Safe")] * 30 + [("Unsafe", "Safe", "Unsafe")] * 70
    found = measured(NOMINAL, said)
    assert "30 of 100 images could not be compared: the model failed." in headline_of(found).sentences
    table = figure_table(found)
    assert (table.before, table.after, table.both) == (Column(70, 30), Column(100, 0), Column(70, 30))


def test_judged_but_never_twice_is_no_unjudged_test_set() -> None:
    """Where the model answered on no image both times, that is what is said."""
    told = headline_of(measured(NOMINAL, [("Safe", FAILED, "Safe"), ("Unsafe", "Safe", FAILED)]))
    assert told.title == "Nothing could be compared"
    assert told.figures is None
    assert "were judged" in words(told)
    assert "not judged" not in words(told)


def test_answers_without_a_label_are_told_where_the_mean_distance_counts_them() -> None:
    """The headline's number is that of the row "Mean distance", and says what such an answer counts as."""
    said: list[Said] = [(3, None, 3)] * 10 + [(4, 3, 4)] * 20 + [(1, 1, None)] * 2 + [(2, 2, 2)] * 8
    found = measured(SCALE, said)
    told = headline_of(found)
    rows = {row.name: row for row in figure_table(found).rows}
    distance = rows["Mean distance (levels)"]
    assert distance.remark == "an answer without a label counts as 4 levels"
    assert distance.before is not None
    assert distance.change is not None
    assert values(told) == ("10", "38")
    assert distance.before.value == pytest.approx((10 * 4 + 20) / 40)
    assert distance.change.value == pytest.approx(0.2 - 1.5)
    answered = rows["Mean distance of answers with a label (levels)"].before
    assert answered is not None
    assert answered.value == pytest.approx(20 / 30)
    assert "(mean distance 1.50 → 0.20, where an answer without a label counts as 4 levels)" in told.measure
    assert "Answers without a label: 10 before, 2 after." in told.sentences


def test_without_such_answers_there_is_one_mean_distance() -> None:
    """One row, with its change; the headline counts what is exactly right and names the distance beside it."""
    found = measured(SCALE, [(3, 1, 3)] * 10 + [(4, 4, 4)] * 10)
    rows = {row.name: row for row in figure_table(found).rows}
    assert [name for name in rows if name.startswith("Mean")] == ["Mean distance (levels)"]
    change = rows["Mean distance (levels)"].change
    assert change is not None
    assert change.value == pytest.approx(-1)
    told = headline_of(found)
    assert told.measure == (
        "judged exactly as people did: 10 → 20 of 20 (mean distance 1.00 → 0.00), on the sealed test images"
    )
    assert told.figures is not None
    assert [(shown.value, shown.of) for shown in told.figures] == [("10", "of 20"), ("20", "of 20")]
    low, high = map(int, told.figures[0].interval.split(" to "))
    assert 0 < low < 10 < high < 20


def test_nearer_to_people_but_less_often_right_is_no_plain_gain() -> None:
    """A lower mean loss isn't green while significantly fewer answers are exactly right."""
    said: list[Said] = [(3, 3, 2)] * 40 + [(1, 5, 2)] * 30 + [(5, 5, 5)] * 30
    told = headline_of(measured(SCALE, said))
    assert (told.title, told.tone) == ("Nearer to people, but exactly right less often", "none")
    assert any(sentence.startswith("Exactly right: change −40 points") for sentence in told.sentences)


@pytest.mark.slow
def test_a_small_verified_change_is_not_rounded_to_none() -> None:
    """Nine of five thousand: one digit more, for both numbers and the interval too."""
    said: list[Said] = [("Safe", "Unsafe", "Safe")] * 9 + [("Safe", "Safe", "Safe")] * 4991
    told = headline_of(measured(NOMINAL, said))
    assert told.tone == "good"
    assert values(told) == ("99.8%", "100.0%")
    assert told.sentences[0].startswith("Change +0.2 points; 95% interval +0.1 to +0.3;")


@pytest.mark.parametrize(
    ("value", "digits", "signed", "text"),
    [(-0.001, 2, True, "0.00"), (0.0, 0, True, "0"), (-1.5, 1, True, "−1.5"), (1234.5, 1, False, "1,234.5")],
)
def test_a_zero_has_no_sign(value: float, digits: int, signed: bool, text: str) -> None:
    """And a minus is the one of print."""
    assert figure(value, digits, signed=signed) == text


@pytest.mark.parametrize(
    ("values", "digits"), [((0.25, 0.1), 2), ((0.25, 0.004), 3), ((0.25, 1e-12), 2), ((1e-6,), 4), ((0.0,), 2)]
)
def test_digits_are_enough_to_tell_a_number_from_zero(values: tuple[float, ...], digits: int) -> None:
    """But for rounding errors, and never more than two beyond the least."""
    assert enough_digits(values, 2) == digits


def test_holms_adjustment_is_that_of_the_textbook() -> None:
    """Each p-value times the number of those not smaller, never below a smaller one's, at most 1."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.5]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize(("others", "verdict"), [(1, "better"), (9, "not distinguishable")])
def test_the_more_groups_the_more_one_has_to_show(others: int, verdict: str) -> None:
    """Seven of twenty fixed, p = 0.016, is a gain beside one other group and may be chance beside nine."""
    gained: list[Said] = [("Safe", "Unsafe", "Safe")] * 7 + [("Safe", "Safe", "Safe")] * 13
    said = gained + [("Safe", "Safe", "Safe")] * 20 * others
    names = [f"g{i // 20}" for i in range(len(said))]
    (table,) = groups_of(measured(NOMINAL, said, groups=names))
    assert {group.name: group.verdict for group in table.groups}["g0"] == verdict


def test_groups_of_the_same_size_are_in_the_order_of_their_numbers() -> None:
    """Batch 9 before batch 10."""
    names = ["batch 10", "batch 9", "batch 101"] * 2
    (table,) = groups_of(measured(NOMINAL, [("Safe", "Safe", "Safe")] * 6, groups=names))
    assert [group.name for group in table.groups] == ["batch 9", "batch 10", "batch 101"]


def test_a_group_that_clearly_gained_has_its_colour() -> None:
    """And one whose right answers only rose by chance has none."""
    said: list[Said] = [("Safe", "Unsafe", "Safe")] * 30 + [("Unsafe", "Unsafe", "Unsafe")] * 29
    said += [("Unsafe", "Safe", "Unsafe")]
    (table,) = groups_of(measured(NOMINAL, said))
    assert [(group.name, group.right, group.verdict, group.tone) for group in table.groups] == [
        ("Safe", (0, 30), "better", "good"),
        ("Unsafe", (29, 30), "not distinguishable", ""),
    ]
