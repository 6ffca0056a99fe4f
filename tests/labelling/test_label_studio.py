"""Exports of Label Studio become tables that compile reads; verdicts become tasks that Label Studio imports."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from image_files import write_photos
from typer.testing import CliRunner

from blpo_dspy.cli.app import app
from blpo_dspy.data.examples import load_examples
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import DataError
from blpo_dspy.labelling.label_studio import from_label_studio, interface, to_label_studio


def said(name: str, kind: str, **value: Any) -> dict[str, Any]:
    """One result of an annotation."""
    return {"id": "x1", "from_name": name, "to_name": "image", "type": kind, "value": value}


def stars(rating: int) -> dict[str, Any]:
    """A rating."""
    return said("q", "rating", rating=rating)


def task(number: int, image: str, *results: Any, by: Any = 7, **more: Any) -> dict[str, Any]:
    """A task with one annotation, as an export holds it."""
    annotation = {"id": number, "completed_by": by, "was_cancelled": False, "result": list(results), **more}
    return {"id": number, "data": {"image": image, "site": "a"}, "annotations": [annotation], "predictions": []}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three photographs, one in a folder."""
    photos = tmp_path / "photos"
    (photos / "deep").mkdir(parents=True)
    write_photos(photos, 3)
    (photos / "002.png").rename(photos / "deep" / "a b.png")
    return photos


def exported(folder: Path, tasks: Any) -> Path:
    """Writes an export."""
    path = folder.parent / "export.json"
    path.write_text(json.dumps(tasks))
    return path


def test_an_export_as_json_becomes_a_table(folder: Path) -> None:
    """Images are found by name, whatever stands before it; reasons and raters come along."""
    tasks = [
        task(
            1, "/data/upload/3/0f3a9b2c-000.png", said("q", "rating", rating=4), said("why", "textarea", text=["dark"])
        ),
        task(
            2, "/data/local-files/?d=deep/a%20b.png", said("q", "rating", rating=2), by={"id": 3, "email": "eve@x.org"}
        ),
        task(3, "https://example.org/x/001.png", said("q", "rating", rating=5)),
        task(4, "/data/upload/3/000.png", was_cancelled=True),
    ]
    out = folder.parent / "labels.csv"
    found = from_label_studio(exported(folder, tasks), folder, out)
    assert found.columns == ("image", "site", "label", "reason", "rater")
    assert found.notes == ("1 annotation skipped or without a label left out",)
    assert [tuple(row.values()) for row in found.rows] == [
        ("photos/000.png", "a", "4", "dark", "annotator 7"),
        ("photos/deep/a b.png", "a", "2", "", "eve@x.org"),
        ("photos/001.png", "a", "5", "", "annotator 7"),
    ]  # fmt: skip


def test_annotations_without_a_label_are_left_out_with_a_note(folder: Path) -> None:
    """Those of choices, of a number and of a pair are read."""
    for results, label in (
        ([said("c", "choices", choices=["Safe"])], "Safe"),
        ([said("n", "number", number=7.0)], "7"),
        ([said("p", "pairwise", selected="left")], "left"),
    ):
        export = exported(folder, [task(1, "000.png", *results), task(2, "001.png")])
        found = from_label_studio(export, folder, folder.parent / "labels.csv")
        assert [row["label"] for row in found.rows] == [label]
        assert found.notes == ("1 annotation skipped or without a label left out",)


def test_csv_and_json_min_are_read_alike(folder: Path) -> None:
    """The label is the column with a usual name; that of several people is a row each."""
    rows = [
        {"image": "/data/upload/1/aaaaaaaa-000.png", "id": 1, "choice": "Safe", "reason": "", "annotator": 1},
        {"image": "/data/upload/1/aaaaaaaa-000.png", "id": 1, "choice": "Unsafe", "reason": "blood", "annotator": 2},
        {"image": "/data/upload/1/aaaaaaaa-001.png", "id": 2, "choice": '{"choices":["Safe"]}', "annotator": 1},
    ]
    out = folder.parent / "labels.csv"
    minimal = from_label_studio(exported(folder, rows), folder, out)
    path = folder.parent / "export.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["image", "id", "choice", "reason", "annotator"])
        writer.writeheader()
        writer.writerows(rows)
    assert from_label_studio(path, folder, out) == minimal
    assert [(row["label"], row["reason"], row["rater"]) for row in minimal.rows] == [
        ("Safe", "", "annotator 1"), ("Unsafe", "blood", "annotator 2"), ("Safe", "", "annotator 1"),
    ]  # fmt: skip


def test_what_cannot_be_used_is_named_all_at_once(folder: Path) -> None:
    """An image that is elsewhere, two labels, an image that could be two files; no path of the export is opened."""
    write_photos(folder / "deep", 1)
    (folder / "other").mkdir()
    write_photos(folder / "other", 1)
    (folder / "000.png").unlink()
    tasks = [
        task(1, "../../etc/passwd", said("c", "choices", choices=["a"])),
        task(2, "001.png", said("c", "choices", choices=["a", "b"])),
        task(3, "/data/upload/9/000.png", said("c", "choices", choices=["b"])),
    ]
    with pytest.raises(DataError, match="3 of 3 annotations cannot be used") as caught:
        from_label_studio(exported(folder, tasks), folder, folder.parent / "labels.csv")
    first, second, third = caught.value.problems
    assert "passwd is not in" in first
    assert "task 2: 2 labels (a, b)" in second
    assert "could be deep/000.png or other/000.png" in third


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1", "cannot be read"),
        ("{}", "not a list of tasks"),
        ('[{"image": "000.png", "stars": 3}]', "which column is the label: there are image, stars"),
        (json.dumps([task(1, "000.png", said("a", "rating", rating=1), said("b", "rating", rating=1))]), "are a, b"),
        (json.dumps([task(1, "000.png", said("b", "rectanglelabels"))]), "there is none that is read"),
        ('[{"annotations": 3}]', "task 1 has no data or annotations"),
    ],
)
def test_what_is_no_export_is_refused(folder: Path, text: str, message: str) -> None:
    """In one message that says what to name."""
    path = folder.parent / "export.json"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        from_label_studio(path, folder, folder.parent / "labels.csv")


VERDICTS = [
    {"image": "photos/a b&c.png", "site": "<x>", "label": "4", "confidence": "0.8", "description": "a cat"},
    {"image": "https://example.org/2.png", "site": "", "label": "2", "confidence": "", "description": ""},
    {"image": "photos/3.png", "site": "", "label": "", "confidence": "", "error": "gone"},
]


def test_verdicts_become_tasks_with_predictions() -> None:
    """With the confidence as their score; what the judge failed on has none, and what it described stays here."""
    (first, second, third), config = to_label_studio(VERDICTS)
    assert first["data"] == {"image": "/data/local-files/?d=photos/a%20b%26c.png", "site": "<x>"}
    (prediction,) = first["predictions"]
    assert prediction["score"] == 0.8
    assert prediction["result"] == [
        {"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": ["4"]}}
    ]
    assert second["data"]["image"] == "https://example.org/2.png"
    assert "score" not in second["predictions"][0]
    assert third["predictions"] == []
    tree = ElementTree.fromstring(config)
    assert [choice.get("value") for choice in tree.iter("Choice")] == ["2", "3", "4"]
    assert {one.get("toName") for one in tree if one.get("toName")} == {"image"}
    odd = ElementTree.fromstring(interface(['a"<b', "c'&"]))
    assert [choice.get("value") for choice in odd.iter("Choice")] == ['a"<b', "c'&"]


def test_the_command_goes_both_ways(folder: Path) -> None:
    """What it wrote is never overwritten, and compile reads the labels."""
    root = folder.parent
    tasks = [
        task(1, "000.png", said("c", "choices", choices=["a"])),
        task(2, "001.png", said("c", "choices", choices=["b"])),
    ]
    words = [exported(folder, tasks), "--folder", folder, "--out", root / "labels.csv"]

    def blpo(*words: Any) -> Any:
        return CliRunner().invoke(app, ["label-studio", *map(str, words)], catch_exceptions=False)

    done = blpo(*words)
    assert (done.exit_code, "2 labels of 1 person" in done.stdout, done.stderr) == (0, True, "")
    elsewhere = blpo(*words[:3], "--out", root / "deep" / "labels.csv")
    assert "reads them with --allow-outside" in elsewhere.stderr
    labels = LabelSpace("a", "b")
    assert [example.label for example in load_examples(root / "labels.csv", labels=labels)] == ["a", "b"]
    again = blpo(*words)
    assert (again.exit_code, "there is such a file already" in again.stderr) == (2, True)
    (root / "said.csv").write_text("image,label\n1.png,a\n2.png,b\n")
    out = blpo(root / "said.csv", "--out", root / "tasks.json")
    assert (out.exit_code, "<Choices" in out.stdout) == (0, True)
    assert len(json.loads((root / "tasks.json").read_text())) == 2
    wrong = blpo(root / "export.json", "--out", root / "new.csv")
    assert (wrong.exit_code, "--folder DIR" in wrong.stderr) == (2, True)
