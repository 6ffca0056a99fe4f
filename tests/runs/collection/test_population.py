"""What a judged collection is like: tables in, estimates or one error out."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from blpo_dspy.data.examples import item_prints, load_images
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import BlpoError, DataError
from blpo_dspy.predictions.files import write_rows
from blpo_dspy.programs import Cascade, VisualJudge
from blpo_dspy.runs.collection.population import estimate_population
from blpo_dspy.runs.collection.to_label import draw_to_label

Rows = list[dict[str, Any]]


def collection(n: int = 1000, *, seed: int = 0) -> tuple[Rows, dict[str, str]]:
    """Verdicts of a judge that errs, and the truth by image."""
    rng = random.Random(f"{seed}:collection")
    rows, truth = [], {}
    for i in range(n):
        unsafe = rng.random() < 0.2
        says = rng.random() < (0.9 if unsafe else 0.1)
        name = f"{i}.png"
        truth[name] = "Unsafe" if unsafe else "Safe"
        rows.append({"image": name, "site": f"s{i % 2}", "label": "Unsafe" if says else "Safe", "confidence": 0.9})
    return rows, truth


def drawn(rows: Rows, truth: dict[str, str], folder: Path, n: int = 100, seed: int = 0) -> Rows:
    """A draw from the collection, labelled by the truth."""
    out = folder / f"to_label{seed}.csv"
    draw_to_label(rows, n=n, out=out, seed=seed)
    with out.open(newline="") as file:
        return [{**row, "label": truth[row["image"]]} for row in csv.DictReader(file)]


def test_the_share_and_its_interval_hold_the_truth_and_the_naive_one_does_not(tmp_path: Path) -> None:
    """From a drawn table, as rows in memory; a summary and plain data come with it."""
    rows, truth = collection(4000)
    found = estimate_population(rows, drawn(rows, truth, tmp_path, 300))
    unsafe = {each.what: each for each in found.whole.estimates}["Unsafe"]
    true = sum(label == "Unsafe" for label in truth.values()) / len(truth)
    assert unsafe.interval.low <= true <= unsafe.interval.high
    assert unsafe.judged_interval is not None
    assert unsafe.judged_interval.low > true
    assert unsafe.worth is not None
    assert unsafe.worth > 330
    assert (found.whole.images, found.whole.labelled, found.notes) == (4000, 300, ())
    assert found.summary().startswith("Safe 7")
    assert "<table>" in found._repr_html_()
    assert json.loads(json.dumps(found.to_dict()))["labelled"] == 300


def test_groups_get_estimates_of_their_own_and_one_without_labels_a_reason(tmp_path: Path) -> None:
    """The groups' images add up to the collection."""
    rows, truth = collection()
    labelled = drawn(rows, truth, tmp_path)
    rows[0]["site"] = "new"
    labelled = [row for row in labelled if row["image"] != "0.png"]
    found = estimate_population(rows, labelled, by="site", key=["image"])
    assert [group.name for group in found.groups] == ["new", "s0", "s1"]
    assert sum(group.images for group in found.groups) == 1000
    assert (found.groups[0].missing, found.groups[0].estimates) == ("no image of it is labelled", ())
    assert any("new" in row[0] for row in found.rows())


def test_levels_scores_and_pairs_have_a_mean_or_a_win_rate() -> None:
    """Levels their shares too; an undecided pair counts half."""
    base = [{"image": f"{i}.png", "inclusion_probability": 0.5} for i in range(40)]
    people = base[::2]

    def found(said: Any, *, labels: LabelSpace | None = None, **more: Any) -> list[Any]:
        rows = [{"image": row["image"], "label": said(i), **more} for i, row in enumerate(base)]
        given = [{**row, "label": said(2 * i) or "tie"} for i, row in enumerate(people)]
        return list(estimate_population(rows, given, labels=labels).whole.estimates)

    levels = found(lambda i: 1 + i % 5)
    assert [each.what for each in levels] == ["1", "2", "3", "4", "5", "mean"]
    assert levels[-1].value == pytest.approx(3)
    (scores,) = found(lambda i: i % 7 + 0.5)
    assert scores.what == "mean"
    assert 0.5 <= scores.interval.low <= scores.interval.high <= 6.5
    pairs = found(lambda i: "AB"[i // 2 % 2], labels=LabelSpace.pairwise(tie="tie"))
    assert [each.what for each in pairs] == ["A", "B", "tie", "win rate of A"]
    assert pairs[-1].value == pytest.approx(0.5)
    (*_, undecided) = found(lambda i: None, labels=LabelSpace.pairwise(tie="tie"), inconsistent=True)
    assert undecided.judged == undecided.value == 0.5


def test_a_single_label_gives_wide_intervals_of_shares_and_a_note_in_place_of_a_mean() -> None:
    """Of scores, which have no shares, an error."""
    rows = [{"image": str(i), "label": 1 + i % 5} for i in range(20)]
    given = [{"image": "0", "label": 1, "inclusion_probability": 0.05}]
    found = estimate_population(rows, given, labels=LabelSpace.ordinal(1, 5))
    assert [each.what for each in found.whole.estimates] == ["1", "2", "3", "4", "5"]
    assert all(each.interval.high - each.interval.low > 0.5 for each in found.whole.estimates)
    assert found.notes[-1] == "there is no mean: 1 labelled image of it: a mean needs at least 3"
    with pytest.raises(BlpoError, match="a mean needs at least 3; label more of the images"):
        estimate_population(rows, given, labels=LabelSpace.scores(1, 5))


def test_named_levels_count_from_one() -> None:
    """Their mean says so."""
    rows = [{"image": str(i), "label": ("bad", "good")[i % 2]} for i in range(20)]
    given = [{**row, "inclusion_probability": 1} for row in rows]
    found = estimate_population(rows, given, labels=LabelSpace("bad", "good", ordered=True))
    assert (found.whole.estimates[-1].what, found.whole.estimates[-1].value) == ("mean (bad = 1)", 1.5)


def test_labels_that_were_not_drawn_or_not_given_are_set_aside_and_counted(tmp_path: Path) -> None:
    """Rows without a probability are not of the draw; those without a label were drawn all the same."""
    rows, truth = collection()
    labelled = drawn(rows, truth, tmp_path)
    there = {row["image"] for row in labelled}
    other = next(row["image"] for row in rows if row["image"] not in there)
    labelled[3]["label"] = ""
    found = estimate_population(rows, [*labelled, {"image": other, "label": "Safe"}], key=["image"])
    assert found.whole.labelled == 99
    assert [note.partition(":")[0].partition(" of the draw")[0] for note in found.notes] == [
        "1 label set aside",
        "1 image",
    ]


def test_an_image_counts_once_however_many_people_labelled_it(tmp_path: Path) -> None:
    """The estimates are those of the majority's labels; named or not, raters change no interval by their number."""
    rows, truth = collection()
    once = drawn(rows, truth, tmp_path)
    thrice = [{**row, "rater": rater} for row in once for rater in ("ann", "bob", "cem")]
    for row in thrice[::3]:
        row["label"] = {"Safe": "Unsafe", "Unsafe": "Safe"}[row["label"]]  # the others outvote ann
    alone, found = estimate_population(rows, once), estimate_population(rows, thrice)
    assert (found.whole, found.notes) == (
        alone.whole,
        ("100 images labelled by several people; the label is that of the majority",),
    )
    unnamed = [{name: value for name, value in row.items() if name != "rater"} for row in thrice]
    assert estimate_population(rows, unnamed).whole == alone.whole
    judged = [{**row, "rater": "ann", "reason": "", "cannot_tell": ""} for row in rows]
    given = [{**row, "reason": row["rater"], "cannot_tell": ""} for row in thrice]
    assert estimate_population(judged, given).whole == alone.whole


def test_an_image_on_which_people_are_tied_was_drawn_and_not_labelled(tmp_path: Path) -> None:
    """Names only: of levels the median is the label. One that only one of them could tell has that label."""
    rows, truth = collection()
    once = drawn(rows, truth, tmp_path)
    again = [{**row} for row in once]
    again[0]["label"] = {"Safe": "Unsafe", "Unsafe": "Safe"}[again[0]["label"]]
    again[1]["label"] = ""
    found = estimate_population(rows, [*once, *again])
    without = estimate_population(rows, [{**once[0], "label": ""}, *once[1:]])
    assert found.whole == without.whole
    assert found.notes == (
        "99 images labelled by several people; the label is that of the majority",
        "1 image of these left without a label, as people are tied",
    )
    levels = [{"image": str(i), "label": 1 + i % 5} for i in range(20)]
    people = [{**row, "inclusion_probability": 1} for row in levels] * 2
    people[20] = {**people[20], "label": 3}
    found = estimate_population(levels, people)
    assert (found.whole.labelled, found.whole.estimates[-1].value, len(found.notes)) == (20, 3, 2)


def test_images_that_the_judge_or_its_parent_was_compiled_with_are_set_aside(tmp_path: Path) -> None:
    """By the fingerprints in its card."""
    for i in range(10):
        Image.new("RGB", (16, 16), (i * 20, 0, 0)).save(tmp_path / f"{i}.png")
    rows = [{"image": f"{i}.png", "label": 1 + i % 5} for i in range(10)]
    judge = VisualJudge(LabelSpace.ordinal(1, 5), instruction="Rate it.")
    people = tmp_path / "people.csv"
    given = [{**row, "inclusion_probability": 1.0} for row in rows]
    write_rows(people, list(given[0]), lambda: iter(given))
    images = load_images(people)
    judge.card = {
        "data": {"train": {"prints": item_prints(images[:2])}},
        "ancestors": [{"val": {"prints": item_prints(images[2:3])}}],
    }
    found = estimate_population(rows, people, judge=judge)
    assert found.whole.labelled == 7
    assert found.notes[0] == "3 labels set aside: the judge or an ancestor of it was compiled with the image"
    sure = judge.confident("views").calibrated(0.5)
    behind = VisualJudge(judge.labels, instruction="Rate it.")
    behind.card = {"data": {"val": {"prints": item_prints(images[3:4])}}}
    assert estimate_population(rows, people, judge=Cascade([sure, behind])).whole.labelled == 6


def test_a_judge_that_abstains_on_all_leaves_the_labels_alone() -> None:
    """With a sentence; a few labels have one too."""
    rows = [{"image": str(i), "label": None} for i in range(20)]
    given = [{"image": str(i), "label": "ab"[i % 2], "inclusion_probability": 0.5} for i in range(10)]
    found = estimate_population(rows, given)
    assert [each.weight for each in found.whole.estimates] == [0, 0]
    assert "rest on people's alone" in found.notes[0]
    assert found.notes[1].startswith("10 labels only")


def bad(**changes: Any) -> Rows:
    """Ten labelled rows, the first changed."""
    rows = [{"image": str(i), "label": "ab"[i % 2], "inclusion_probability": 0.5, "stratum": "1"} for i in range(10)]
    rows[0].update(changes)
    return rows


@pytest.mark.parametrize(
    ("people", "said"),
    [
        (bad(image="99"), "row 1: 99 is not among the predictions"),
        (bad(image="1"), "its 9 images were drawn from 18, but there are 20 predictions"),
        (bad(image="1", inclusion_probability=0.2), "row 2: inclusion_probability or stratum differs from row 1"),
        (bad(image="1", stratum="2"), "row 2: inclusion_probability or stratum differs from row 1"),
        ([{**row, "image": "1", "rater": "ann"} for row in bad()], "9 rows: ann labelled 1 in another row already"),
        (bad(rater="ann"), "some ratings name their rater and others don't"),
        (bad(image=""), "row 1: nothing says which image it is"),
        (bad(inclusion_probability=0), "row 1: inclusion_probability 0 is not above 0 and at most 1"),
        (bad(inclusion_probability=-0.1), "row 1: inclusion_probability -0.1 is not above 0"),
        (bad(inclusion_probability=1.5), "row 1: inclusion_probability 1.5 is not above 0 and at most 1"),
        (bad(inclusion_probability="x"), "row 1: inclusion_probability 'x' is not a number"),
        (bad(inclusion_probability=0.6), "stratum 1: inclusion_probability differs within it"),
        (bad(label="c"), "row 1: unknown label 'c'"),
        (bad(inclusion_probability=0.5)[:5], "its 5 images were drawn from 10, but there are 20 predictions"),
        (bad(label="", stratum="2"), "no label counts in these strata; label an image of each:\n  - stratum 2: stands"),
        ([{**row, "label": ""} for row in bad()], "no row that was drawn has a label"),
        ([{"image": "1", "label": "a"}], "no column 'inclusion_probability'"),
        ([{"name": "1", "label": "a"}], "no column in common"),
        ([], "no rows"),
    ],
)  # fmt: skip
def test_labels_that_cannot_be_used_are_one_error(people: Rows, said: str) -> None:
    """Naming the rows."""
    rows = [{"image": str(i), "label": "ab"[i % 2]} for i in range(20)]
    with pytest.raises(BlpoError) as caught:
        estimate_population(rows, people, labels=LabelSpace("a", "b"))
    assert said in str(caught.value)


def test_all_bad_rows_are_named_at_once() -> None:
    """Of the labels, and of the predictions."""
    rows = [{"image": str(i), "label": "ab"[i % 2]} for i in range(20)]
    with pytest.raises(DataError) as caught:
        estimate_population(rows, [*bad(label="c"), {**bad()[1], "image": "77"}], labels=LabelSpace("a", "b"))
    assert len(caught.value.problems) == 2
    rows[0]["confidence"], rows[1]["label"], rows[2]["image"] = 1.5, "z", "3"
    with pytest.raises(DataError) as caught:
        estimate_population(rows, bad(), labels=LabelSpace("a", "b"))
    assert len(caught.value.problems) == 4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"level": 1}, "level=1 is not between 0 and 1"),
        ({"by": "site"}, "no column 'site'"),
        ({"by": "image"}, "by='image' has 200 values"),
        ({"key": ["name"]}, "no column 'name'"),
    ],
)
def test_options_that_cannot_be_used_are_refused(options: dict[str, Any], said: str) -> None:
    """Before anything is estimated."""
    rows = [{"image": str(i), "label": "ab"[i % 2], "inclusion_probability": 1} for i in range(200)]
    with pytest.raises(BlpoError, match=said):
        estimate_population([{**row, "inclusion_probability": None} for row in rows], rows, **options)


def test_one_label_alone_needs_the_judge() -> None:
    """Which says what other labels there are; then it is a share of 100 % with an interval."""
    rows = [{"image": str(i), "label": "a"} for i in range(20)]
    given = [{**row, "inclusion_probability": 0.5} for row in rows[:10]]
    with pytest.raises(BlpoError, match="there is only 'a' in the tables"):
        estimate_population(rows, given)
    found = estimate_population(rows, given, labels=LabelSpace("a", "b")).whole.estimates[0]
    assert found.value == 1
    assert found.interval.low < 0.9
