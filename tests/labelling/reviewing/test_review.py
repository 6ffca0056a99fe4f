"""A review: what is hidden until a person has answered, what decisions do, and which test images count as used."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from label_pages import CASES, SCALE, SECRET, Page, photos, reviewing, run_folder

from blpo_dspy.data.columns import Columns
from blpo_dspy.data.examples import item_prints, load_examples
from blpo_dspy.errors import BlpoError, DataError
from blpo_dspy.report.run.to_review import ReviewCase, load_review_data
from blpo_dspy.runs.data.seal import seal
from blpo_dspy.workspace.store import StoreError


def rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def decide(page: Page, decision: str, label: object = None) -> Any:
    """Decides about what is shown, by the position of the item that was answered last."""
    item = page.state(page.server._session._view(None)["item"]["position"])["item"]
    action = {"do": "decide", "position": item["position"], "version": item["version"], "decision": decision}
    reply = page.post({**action, "label": None if label is None else str(label)})
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_nothing_leads_the_answer(tmp_path: Path) -> None:
    """Neither label, nor judge, nor description is in any reply before; all are after."""
    with reviewing(run_folder(tmp_path)) as page:
        before = page.get("state").text + page.get("").text + page.get("state?at=2").text
        assert SECRET not in before
        assert "reveal" not in page.state()["item"]
        after = page.label(4).json()
    assert after["item"]["reveal"]["facts"] == [
        ["You", "4"], ["The table", "1"], ["The judge", "5"], ["It described", SECRET],
    ]  # fmt: skip
    assert [choice["text"] for choice in after["item"]["reveal"]["choices"]] == [
        "Relabel to 4, as you say", "Keep 1", "Relabel to 5, as the judge says", "Drop the picture",
    ]  # fmt: skip


def test_decisions_make_tables_to_compile_with_again(tmp_path: Path) -> None:
    """Splits stay as they were; a dropped row is gone, a new label and its reason are there."""
    run = run_folder(tmp_path)
    with reviewing(run) as page:
        page.label(4, "sharp")
        decide(page, "relabel", 4)
        page.label("", state="cannot tell")
        decide(page, "drop")
        page.label(3)
        decide(page, "keep")
        page.label(2)
        assert decide(page, "keep")["item"] is None
    names = ("id", "split", "label", "answer", "decision", "new_label")
    assert [[row[name] for name in names] for row in rows(run / "relabelled.csv")] == [
        ["000.png", "train", "1", "4", "relabel", "4"],
        ["004.png", "val", "5", "can't tell", "drop", ""],
        ["006.png", "test", "2", "3", "keep", "2"],
        ["001.png", "train", "2", "2", "keep", "2"],
    ]
    columns = Columns(reason="reason", group="group")
    how: Any = {"labels": SCALE, "columns": columns, "allow_outside": True}
    again = {split: load_examples(run / f"{split}.again.csv", **how) for split in ("train", "val", "test")}
    assert {split: [(e.id[8:], e.label, e.reason, e.group) for e in found] for split, found in again.items()} == {
        "train": [("000.png", 4, "sharp", "g0"), ("001.png", 2, "reason 1", "g1"), ("002.png", 3, "reason 2", "g2")],
        "val": [("005.png", 1, "reason 5", "g5")],
        "test": [("006.png", 2, "reason 6", "g6"), ("007.png", 3, "reason 7", "g7")],
    }
    assert [row["relabelled"] for row in rows(run / "train.again.csv")] == ["yes", "", ""]
    assert not (run / "reviewed.json").exists()


def test_a_test_image_counts_as_used_once_its_label_changes(tmp_path: Path) -> None:
    """A later run on it is warned; undo takes that back."""
    test = load_examples(
        [{"image": str(photos(tmp_path / "data", 8) / "006.png"), "label": 3}], labels=SCALE, allow_outside=True
    )
    case = ReviewCase("test", "006.png", "wrong", 3, 4, print=item_prints(test))
    run = run_folder(tmp_path, [case])
    with reviewing(run) as page:
        warning = page.label(5).json()["item"]["reveal"]["warning"]
        assert "recorded as used" in warning
        decide(page, "relabel", 5)
        used = seal(test, "new", run_dir=tmp_path / "next")
        assert used.warning is not None
        assert "by run/reviewed.json on " in used.warning
        page.post({"do": "undo"})
        assert seal(test, "new", run_dir=tmp_path / "next").warning is None
        assert json.loads((run / "reviewed.json").read_text())["reviewed"]["prints"] == []


def test_an_answer_and_a_decision_are_undone_one_by_one_and_found_again(tmp_path: Path) -> None:
    """Also by a later process."""
    run = run_folder(tmp_path)
    with reviewing(run) as page:
        page.label(4)
    with reviewing(run) as page:
        shown = page.state()
        assert (shown["item"]["position"], shown["item"]["answer"]["label"]) == (0, "4")
        assert decide(page, "relabel", 4)["item"]["position"] == 1
    with reviewing(run) as page:
        assert page.state()["progress"]["labelled"] == 1
        back = page.post({"do": "undo"}).json()["item"]
        assert (back["position"], back["decided"]) == (0, False)
        assert rows(run / "relabelled.csv") == []
        assert "reveal" not in page.post({"do": "undo"}).json()["item"]


def test_a_decision_needs_an_answer_first(tmp_path: Path) -> None:
    """And a label of the space, and a label to keep."""
    run = run_folder(tmp_path, [ReviewCase("", "003.png", "disagreement", None, people=(3, 4)), *CASES])
    action: dict[str, Any] = {"do": "decide", "position": 0, "version": 0, "decision": "drop", "label": None}
    with reviewing(run) as page:
        assert page.post(action).status_code == 400
        page.label("", state="skip")
        assert page.post({**action, "version": 1}).status_code == 400
        view = page.state(0)
        assert view["item"]["answer"]["state"] == "skip"
        page.post({"do": "answer", "position": 0, "version": 1, "state": "label", "label": "4"})
        assert page.post({**action, "version": 1}).status_code == 409
        for wrong in ({"decision": "keep"}, {"decision": "burn"}, {"decision": "relabel", "label": "9"}):
            assert page.post({**action, "version": 2, **wrong}).status_code == 400
        assert page.post({**action, "version": 2, "decision": "relabel", "label": "4"}).status_code == 200
    assert [row["label"] for row in rows(run / "train.again.csv")] == ["1", "2", "3", "4"]


def test_several_peoples_labels_are_settled(tmp_path: Path) -> None:
    """The row of an image that people labelled twice is one, with the label that the run made of them."""
    run = run_folder(tmp_path, CASES[3:], repeated=True, rater_column="rater")
    table = tmp_path / "data" / "table.csv"
    lines = ["image,why,group,label,rater"]
    lines += [f"00{i}.png,,g,{2 if i else 1},{who}" for i in range(8) for who in ("ann", "ben")]
    table.write_text("\n".join(lines))
    with reviewing(run) as page:
        facts = page.label(5).json()["item"]["reveal"]["facts"]
        assert facts == [["You", "5"], ["The table", "2"], ["People", "1 | 2 | 2"]]
        decide(page, "relabel", 5)
    assert [row["label"] for row in rows(run / "train.again.csv")] == ["1", "5", "2"]


def test_what_cannot_be_reviewed_is_refused(tmp_path: Path) -> None:
    """No run, a damaged one, one of examples in memory, tables that have changed."""
    with pytest.raises(BlpoError, match=r"review\.json: cannot be read"):
        load_review_data(tmp_path)
    run = run_folder(tmp_path)
    data = json.loads((run / "review.json").read_text())
    for change in ({"cases": [{}]}, {"tables": 5}, {"format": "other"}):
        (run / "review.json").write_text(json.dumps({**data, **change}))
        with pytest.raises(BlpoError, match=r"review\.json: "):
            load_review_data(run)
    (run / "review.json").write_text(json.dumps({**data, "tables": None}))
    with pytest.raises(BlpoError, match="whose pictures it doesn't keep"), reviewing(run):
        pass
    (run / "review.json").write_text(json.dumps(data))
    (tmp_path / "data" / "table.csv").write_text("image,why,group,label\n000.png,,,1\n")
    with pytest.raises(DataError, match="no longer in its tables") as caught, reviewing(run):
        pass
    assert len(caught.value.problems) == 6
    (tmp_path / "data" / "table.csv").unlink()
    with pytest.raises(DataError, match="no such table"), reviewing(run):
        pass


def test_the_review_of_another_run_is_not_continued(tmp_path: Path) -> None:
    """Its decisions were about other labels; the message says what to do instead."""
    run = run_folder(tmp_path)
    with reviewing(run) as page:
        page.label(4)
    data = json.loads((run / "review.json").read_text())
    (run / "review.json").write_text(json.dumps({**data, "run": "another"}))
    with pytest.raises(StoreError, match=r"differs in run: .* compile into another folder"), reviewing(run):
        pass
