"""Drift: verdicts then and now."""

from __future__ import annotations

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
from blpo_dspy.programs import VisualJudge
from blpo_dspy.runs.collection.drift import LOOK, NO_SIGN, REALIGN, measure_drift

Rows = list[dict[str, Any]]


def judge(**card: Any) -> VisualJudge:
    """A judge of two labels."""
    made = VisualJudge(LabelSpace("Safe", "Unsafe"), instruction="Is it safe?")
    made.card = card
    return made


def verdicts(n: int = 200, *, seed: int = 0, unsafe: float = 0.3, start: int = 0, **more: Any) -> Rows:
    """Verdicts on so many images of which a share is unsafe."""
    rng = random.Random(f"{seed}:verdicts")
    return [
        {"image": f"{start + i}.png", "label": "Unsafe" if rng.random() < unsafe else "Safe",
         "confidence": round(rng.betavariate(8, 2), 2), **more}
        for i in range(n)
    ]  # fmt: skip


def people(rows: Rows, wrong: int = 0) -> Rows:
    """People's labels: the judge's, but for the first so many."""
    other = {"Safe": "Unsafe", "Unsafe": "Safe"}
    return [
        {"image": row["image"], "label": other[row["label"]] if i < wrong else row["label"]}
        for i, row in enumerate(rows)
    ]


@pytest.mark.slow
def test_without_a_change_at_most_two_of_twenty_seeds_raise_an_alarm() -> None:
    """On other images, with labels and confidence compared."""
    found = [measure_drift(judge(), verdicts(seed=seed), verdicts(seed=100 + seed, start=900)) for seed in range(20)]
    assert sum(each.verdict != NO_SIGN for each in found) <= 2
    assert found[0].code == 0
    assert found[0].wording == "no sign: nothing differs by more than chance"


def test_a_collection_that_changes_is_worth_a_look() -> None:
    """More is unsafe; the confidence is as before."""
    found = measure_drift(judge(), verdicts(), verdicts(seed=1, unsafe=0.6))
    assert (found.verdict, found.code) == (LOOK, 3)
    assert "labels are given in other shares (chi-square, p = " in found.why[0]
    assert [shift.what for shift in found.shifts if shift.corrected < 0.05] == ["labels"]
    assert found.labels["Unsafe"][1] > found.labels["Unsafe"][0]
    assert "judge some of the current images yourself" in found.wording
    assert json.loads(json.dumps(found.to_dict()))["code"] == 3
    assert "<table>" in found._repr_html_()


def test_another_confidence_is_a_sign_of_its_own() -> None:
    """The labels are as before."""
    now = [{**row, "confidence": row["confidence"] / 2} for row in verdicts(seed=1)]
    found = measure_drift(judge(), verdicts(), now)
    assert found.why[0].startswith("the confidence differs (Kolmogorov-Smirnov")
    assert found.confidence[1] < found.confidence[0]  # type: ignore[operator]


def test_a_model_version_that_changes_is_worth_a_look() -> None:
    """Whatever the verdicts; a server that reports none serves the model asked for."""
    then, now = verdicts(served_by="engine-1"), verdicts(served_by="engine-2")
    found = measure_drift(judge(), then, now)
    assert (found.verdict, found.models) == (LOOK, (("engine-1",), ("engine-2",)))
    assert found.why == ("the server reports another model: engine-1 before, engine-2 now",)
    assert "engine-1 before" not in measure_drift(judge(), then, then).wording
    assert "the name asked for before, engine-2 now" in measure_drift(judge(), verdicts(), now).wording


def test_agreement_that_fell_on_the_same_images_asks_for_a_re_alignment() -> None:
    """Paired: people's labels of images that were judged then and now."""
    then = verdicts(50)
    flipped = [{**row, "label": "Safe" if i < 9 else row["label"]} for i, row in enumerate(then)]
    truth = people([{**row, "label": "Unsafe"} if i < 9 else row for i, row in enumerate(then)])
    same = [{**row, "label": "Unsafe"} if i < 9 else row for i, row in enumerate(then)]
    found = measure_drift(judge(), same, flipped, labelled=truth)
    assert (found.verdict, found.code) == (REALIGN, 4)
    assert found.shifts[-1].test == "exact paired"
    assert found.agreement is not None
    assert (found.agreement[0].right, found.agreement[1].right) == (50, 41)  # type: ignore[union-attr]
    assert "compile from this judge on" in found.wording
    assert measure_drift(judge(), same, same, labelled=truth).verdict == NO_SIGN


def test_agreement_on_new_images_is_compared_with_earlier_labels_or_the_card() -> None:
    """Without either there is a note, and no test."""
    then, now = verdicts(100), verdicts(100, seed=1, start=500)
    fell = people(now[:40], wrong=20)
    sealed = {"agreement": {"after": {"test": {"n": 100, "accuracy": 0.95}}}}
    found = measure_drift(judge(**sealed), then, now, labelled=fell)
    assert found.verdict == REALIGN
    assert found.agreement is not None
    assert found.agreement[0].on == "of its test set"  # type: ignore[union-attr]
    assert measure_drift(judge(), then, now, labelled=[*people(then[:60]), *fell]).verdict == REALIGN
    alone = measure_drift(judge(agreement=None), then, now, labelled=fell)
    assert alone.agreement is not None
    assert alone.agreement[0] is None
    assert "the card states none" in alone.notes[0]


def test_an_image_that_several_people_labelled_counts_once() -> None:
    """With the label of the majority; one on which they are tied is left out, and counted."""
    rows = verdicts(20)
    once = people(rows, wrong=3)
    ann, bob = ([{**row, "rater": name} for row in once] for name in ("ann", "bob"))
    bob[5]["label"] = {"Safe": "Unsafe", "Unsafe": "Safe"}[bob[5]["label"]]
    found = measure_drift(judge(), rows, rows, labelled=[*ann, *bob])
    assert found.agreement is not None
    assert (found.agreement[1].right, found.agreement[1].n) == (16, 19)
    assert found.notes[-2:] == (
        "20 images labelled by several people; the label is that of the majority",
        "1 image of these left without a label, as people are tied",
    )


def test_labels_of_images_that_the_judge_was_compiled_with_are_set_aside(tmp_path: Path) -> None:
    """As its agreement with them is no news."""
    rows = verdicts(6)
    for i in range(6):
        Image.new("RGB", (16, 16), (i * 30, 0, 0)).save(tmp_path / f"{i}.png")
    table = tmp_path / "labels.csv"
    write_rows(table, ["image", "label"], lambda: iter(people(rows)))
    card = {"data": {"train": {"prints": item_prints(load_images(table)[:2])}}}
    found = measure_drift(judge(**card), rows, rows, labelled=table)
    assert found.agreement is not None
    assert found.agreement[1].n == 4
    assert found.notes == ("2 labels set aside: the judge or an ancestor of it was compiled with the image",)


def test_scores_and_rows_without_an_answer() -> None:
    """Scores are compared as numbers; rows with an error are left out, those without a label count as such."""
    scorer = VisualJudge(LabelSpace.scores(0, 100), instruction="Rate it.")
    then = [{"image": str(i), "label": i} for i in range(100)]
    now = [{"image": str(i), "label": i / 2} for i in range(100)]
    assert measure_drift(scorer, then, now).shifts[0].test == "Kolmogorov-Smirnov"
    failed = [*verdicts(), {"image": "x", "label": None, "error": "gone"}, {"image": "y", "label": None}]
    found = measure_drift(judge(), verdicts(), failed)
    assert found.labels["no label"] == (0, 1)
    assert found.notes == ("0 rows of the reference and 1 of the current ones had an error; left out",)


def test_a_judge_that_gives_one_label_or_none_is_no_sign() -> None:
    """A sentence, never NaN."""
    for label in ("Safe", None):
        rows = [{"image": str(i), "label": label} for i in range(3)]
        found = measure_drift(judge(), rows, rows[:1])
        assert (found.verdict, found.shifts[0].test) == (NO_SIGN, "one label only")
        assert "neither table states a confidence" in found.notes[-1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"current": [{"image": "1", "label": "Safe"}]}, "no confidence, but the other table has one"),
        ({"alpha": 0}, "alpha=0 is not between 0 and 1"),
        ({"labelled": [{"image": "1.png", "label": None}]}, "no label that counts is of a current image"),
        ({"labelled": [{"image": "x", "label": "Safe"}]}, "row 1: x is not among the predictions"),
        ({"labelled": [{"image": "x", "label": "Safe"}]}, "(the predictions name an image as in '0.png'); repair"),
        ({"labelled": [{"image": "1.png", "label": "c"}]}, "row 1: unknown label 'c'"),
        ({"labelled": [{"image": "1.png", "label": "Safe", "rater": "ann"}] * 2}, "row 2: ann labelled 1.png in"),
        ({"current": [{"image": "1", "label": "no", "confidence": 2}]}, "2 rows cannot be used"),
        ({"judge": "judge.json"}, "is not a judge"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_one_error(options: dict[str, Any], said: str) -> None:
    """All bad rows at once."""
    given = {"judge": judge(), "reference": verdicts(), "current": verdicts(), **options}
    with pytest.raises(BlpoError) as caught:
        measure_drift(given.pop("judge"), given.pop("reference"), given.pop("current"), **given)
    assert said in str(caught.value)
    assert not isinstance(caught.value, DataError) or caught.value.problems
