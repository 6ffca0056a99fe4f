"""What a person is shown next, and what answers, skips, changes and a second tab do."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from label_pages import answer, labelling, photos

from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.labelling.session import labels_shown


def rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table of labels."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_label_moves_on_and_is_in_the_table(tmp_path: Path) -> None:
    """With its reason; what comes next was loaded ahead."""
    out = tmp_path / "labels.csv"
    with labelling(photos(tmp_path / "photos"), out) as page:
        first = page.state()
        second = page.label(4, "=too dark").json()
        assert second["item"]["position"] == first["ahead"][0]["position"]
        assert (second["progress"]["labelled"], second["progress"]["shares"][3]) == (1, ["4", 1])
        assert second["item"]["before"] == first["item"]["position"]
    (row,) = rows(out)
    assert (row["label"], row["reason"], row["rater"]) == ("4", "'=too dark", "ann")
    assert row["inclusion_probability"] == f"{1 / 6:.6g}"


def test_the_same_command_resumes(tmp_path: Path) -> None:
    """With what comes next, and the answers before it."""
    folder, out = photos(tmp_path / "photos"), tmp_path / "labels.csv"
    with labelling(folder, out) as page:
        expected = page.label(4).json()
    with labelling(folder, out) as page:
        assert page.state() == expected


def test_cannot_tell_is_an_answer_and_skip_is_not(tmp_path: Path) -> None:
    """What was skipped comes again at the end; what nobody can tell doesn't."""
    out = tmp_path / "labels.csv"
    with labelling(photos(tmp_path / "photos", 3), out) as page:
        skipped, unclear = page.state()["item"]["position"], page.state()["ahead"][0]["position"]
        page.label("", state="skip")
        page.label("", state="cannot tell", reason="too small")
        last = page.label(2).json()
        assert (last["item"]["position"], last["item"]["answer"]["state"]) == (skipped, "skip")
        assert (last["progress"]["cannot"], last["progress"]["skipped"]) == (1, 1)
        done = page.label(5).json()
        assert done["item"] is None
        assert "Every picture has an answer" in done["done"]
        assert done["last"] == skipped
        assert unclear != skipped
    assert sorted((row["label"], row["cannot_tell"], row["reason"]) for row in rows(out)) == [
        ("", "yes", "too small"), ("2", "", ""), ("5", "", ""),
    ]  # fmt: skip
    assert {row["inclusion_probability"] for row in rows(out)} == {"1"}


def test_back_shows_an_answer_which_can_be_changed(tmp_path: Path) -> None:
    """The table has one row for it, and undo gives the first answer back."""
    out = tmp_path / "labels.csv"
    with labelling(photos(tmp_path / "photos"), out) as page:
        page.label(1, "first")
        after = page.label(2).json()
        earlier = page.state(after["item"]["before"])
        assert earlier["item"]["answer"]["label"] == "2"
        earliest = page.state(earlier["item"]["before"])
        assert (earliest["item"]["answer"], earliest["item"]["before"]) == (
            {"state": "label", "label": "1", "reason": "first"}, None,
        )  # fmt: skip
        page.post(answer(earliest, 5))
        assert [row["label"] for row in rows(out)] == ["5", "2"]
        back = page.post({"do": "undo"}).json()
        assert back["item"]["answer"]["label"] == "1"
        assert [row["label"] for row in rows(out)] == ["1", "2"]
        page.post({"do": "undo"})
        page.post({"do": "undo"})
        assert rows(out) == []
        assert page.post({"do": "undo"}).status_code == 409


def test_a_second_tab_does_not_overwrite_an_answer(tmp_path: Path) -> None:
    """It gets 409; the same answer sent again, as its reply was lost, is confirmed once more."""
    out = tmp_path / "labels.csv"
    with labelling(photos(tmp_path / "photos"), out) as page:
        seen = page.state()
        assert page.post(answer(seen, 2)).status_code == 200
        refused = page.post(answer(seen, 5))
        assert refused.status_code == 409
        assert "another tab" in refused.json()["error"]
        assert page.post(answer(seen, 2)).status_code == 200
        assert [row["label"] for row in rows(out)] == ["2"]
        assert page.state()["progress"]["labelled"] == 1


def test_a_partly_labelled_table_continues_with_the_rest(tmp_path: Path) -> None:
    """Labels of nobody in particular and of this rater count, those of others don't; all are in the output."""
    photos(tmp_path, 4)
    lines = ["image,label,rater,group", "000.png,3,,x", "001.png,4,ann,x", "002.png,5,ben,y", "003.png,,,y"]
    (tmp_path / "table.csv").write_text("\n".join(lines))
    out = tmp_path / "labels.csv"
    with labelling(tmp_path / "table.csv", out) as page:
        first = page.state()
        assert first["progress"]["before"] == 2
        shown = [first["item"]["position"], *(one["position"] for one in first["ahead"])]
        assert 3 in shown
        page.label(1)
    assert [(row["image"], row["label"], row["rater"], row["group"]) for row in rows(out)][:3] == [
        ("000.png", "3", "earlier", "x"), ("001.png", "4", "ann", "x"), ("002.png", "5", "ben", "y"),
    ]  # fmt: skip


def test_raters_are_shown_the_same_images_and_not_each_others_labels(tmp_path: Path) -> None:
    """So that their agreement can be measured; both are in one table."""
    folder, out = photos(tmp_path / "photos"), tmp_path / "labels.csv"
    with labelling(folder, out, rater="ann") as ann, labelling(folder, out, rater="ben") as ben:
        first = ben.state()["item"]
        assert ann.state()["item"] == first
        ann.label(5, "secret reason")
        assert ben.state()["item"] == first
        assert "secret" not in ben.get("state").text
        assert ben.state()["progress"]["labelled"] == 0
        ben.label(4)
        ann.label(3)
    assert [(row["rater"], row["label"]) for row in rows(out)] == [("ann", "5"), ("ann", "3"), ("ben", "4")]


@pytest.mark.slow
def test_long_and_hostile_texts_are_data(tmp_path: Path) -> None:
    """Shown cut, as text; the table has them in full."""
    photos(tmp_path, 1)
    text = "<script>alert(1)</script>\n=1+1 \u202e" + "x" * 10_000_000
    with (tmp_path / "table.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["image", "prompt"], ["000.png", text]])
    out = tmp_path / "labels.csv"
    with labelling(tmp_path / "table.csv", out, context=["prompt"]) as page:
        (shown,) = page.state()["item"]["texts"]
        assert (len(shown["text"]), shown["length"], shown["cut"]) == (20_000, len(text), True)
        assert page.get("").text.count("<script") == 1
        page.label(3)
    before = csv.field_size_limit(2**27)
    try:
        assert rows(out)[0]["prompt"] == text
    finally:
        csv.field_size_limit(before)


@pytest.mark.parametrize(
    ("labels", "keys"),
    [
        (LabelSpace("Safe", "Unsafe"), ["1", "2"]),
        (LabelSpace.ordinal(1, 5), ["1", "2", "3", "4", "5"]),
        (LabelSpace.ordinal(0, 10), [*"0123456789", ""]),
        (LabelSpace(*(f"L{i}" for i in range(11))), [*"123456789", "", ""]),
        (LabelSpace(100, 200), ["1", "2"]),
    ],
)
def test_keys_are_the_labels_own_digits_or_their_places(labels: LabelSpace, keys: list[str]) -> None:
    """A label without a key is there to click."""
    assert [one["key"] for one in labels_shown(labels)["labels"]] == keys


def test_scores_are_typed(tmp_path: Path) -> None:
    """In their range and steps; their shares are those of bins."""
    folder, out = photos(tmp_path / "photos"), tmp_path / "labels.csv"
    with labelling(folder, out, labels=LabelSpace.scores(0, 10, 0.5)) as page:
        shown: Any = page.state()
        assert (shown["labels"], shown["scores"]) == ([], {"low": 0, "high": 10, "step": 0.5})
        assert page.label("7.3").status_code == 400
        assert page.label("11").status_code == 400
        assert page.label("7.5").json()["progress"]["labelled"] == 1
    assert rows(out)[0]["label"] == "7.5"


def test_after_twenty_labels_it_says_how_exactly_they_tell_the_agreement(tmp_path: Path) -> None:
    """And after forty again, of a judge by the images that it has a say on; undo counts."""
    folder, out = photos(tmp_path / "photos", 45), tmp_path / "labels.csv"
    with labelling(folder, out) as page:
        for number in range(40):
            shown = page.label(number % 5 + 1).json()["enough"]
            expected = None if number < 19 else 20 if number < 39 else 40
            assert (shown and shown["labels"]) == expected
        assert page.post({"do": "undo"}).json()["enough"]["labels"] == 39
    with labelling(folder, out) as page:
        page.session.verdict = {item.key: 3 for item in page.session.items.items[:30]}.get
        shown = page.state()["enough"]
        places = [int(row["image"][-7:-4]) for row in rows(out)]
        assert shown["labels"] == sum(place < 30 for place in places) < 39
        assert shown["right"] == sum(row["label"] == "3" for row, at in zip(rows(out), places, strict=True) if at < 30)
