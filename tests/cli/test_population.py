"""`blpo sample` and `blpo population`, as a user meets them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from label_pages import labelling, photos
from typer.testing import CliRunner

from blpo_dspy.cli.app import app
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.predictions.files import write_rows

pytestmark = pytest.mark.slow


def blpo(*arguments: object) -> Any:
    """Runs a command in this process; an unexpected exception is raised."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture
def predictions(tmp_path: Path) -> Path:
    """Verdicts on a thousand images."""
    path = tmp_path / "predictions.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "site", "label", "confidence"])
        writer.writerows(
            [f"{i}.png", "ab"[i % 2], "Unsafe" if i % 10 == 0 else "Safe", 0.5 + i % 3 / 4] for i in range(1000)
        )
    return path


def labelled(table: Path) -> Path:
    """Fills in the labels: every fifth image is unsafe."""
    rows = list(csv.DictReader(table.open(newline="")))
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({**row, "label": "Unsafe" if int(row["image"][:-4]) % 5 == 0 else "Safe"} for row in rows)
    return table


def test_images_are_drawn_labelled_and_the_shares_estimated(predictions: Path, tmp_path: Path) -> None:
    """The judge sees half of the unsafe images; the interval holds the truth, 20 %."""
    out = tmp_path / "to_label.csv"
    done = blpo("sample", predictions, "--n", 120, "--out", out)
    assert done.exit_code == 0
    assert "judge's label" in done.stdout
    assert f"blpo population {predictions} --labels {out}" in done.stdout
    shown = blpo("population", predictions, "--labels", labelled(out), "--by", "site")
    assert shown.exit_code == 0
    assert "1,000 judged images, 120 labels" in shown.stdout
    assert "not valid" in shown.stdout
    assert "a: Safe" in shown.stdout
    found = json.loads(blpo("population", predictions, "--labels", out, "--json").stdout)
    unsafe = {each["what"]: each for each in found["estimates"]}["Unsafe"]
    assert unsafe["interval"]["low"] < 0.2 < unsafe["interval"]["high"]
    assert unsafe["judged"] == 0.1
    drawn = json.loads(blpo("sample", predictions, "--n", 9, "--out", tmp_path / "b.csv", "--json").stdout)
    assert (drawn["n"], sum(each["drawn"] for each in drawn["strata"])) == (9, 9)


def test_what_two_people_label_is_estimated(tmp_path: Path) -> None:
    """The table of `blpo label` as it is; an image on which they are tied, or that neither could tell, is counted."""
    folder, out, verdicts = photos(tmp_path / "photos", 30), tmp_path / "labels.csv", tmp_path / "judged.csv"
    labels = LabelSpace("Safe", "Unsafe")
    for rater in ("ann", "bob"):
        with labelling(folder, out, rater=rater, labels=labels) as page:
            for number in range(20):
                if number == 7:
                    page.label("", state="cannot tell")
                page.label("Unsafe" if number % 5 == 0 or (number == 3 and rater == "bob") else "Safe")
    rows = [{"image": f"photos/{path.name}", "label": "Safe", "confidence": 1} for path in sorted(folder.iterdir())]
    rows[0]["label"] = "Unsafe"
    write_rows(verdicts, list(rows[0]), lambda: iter(rows))
    done = blpo("population", verdicts, "--labels", out)
    assert done.exit_code == 0
    assert "30 judged images, 19 labels" in done.stdout
    notes = " ".join(done.stderr.split())
    assert "20 images labelled by several people; the label is that of the majority" in notes
    assert "1 image of these left without a label, as people are tied" in notes
    assert "1 image of the draw not labelled" in notes


def test_what_cannot_be_estimated_is_one_error(predictions: Path, tmp_path: Path) -> None:
    """Nothing is written, and nothing printed on standard output."""
    out = tmp_path / "to_label.csv"
    for words, said in (
        (("population", predictions, "--labels", predictions), "no column 'inclusion_probability'"),
        (("population", predictions, "--labels", predictions, "--pairs", "A"), "is not FIRST,SECOND"),
        (("sample", predictions, "--n", 2000, "--out", out), "cannot be drawn from 1,000"),
        (("sample", predictions, "--out", tmp_path), "should end in"),
        (("sample", predictions, "--out", predictions), "may hold labels"),
    ):
        done = blpo(*words)
        assert (done.exit_code, done.stdout) == (2, "")
        assert said in done.stderr
    assert not out.exists()
