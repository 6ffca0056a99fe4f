"""The table of labels: valid for compile at any moment, and complete for several raters."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest
from label_pages import labelling, photos
from stores import select

from blpo_dspy.data.columns import Columns
from blpo_dspy.data.examples import load_examples, load_rated
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import DataError

SCALE = LabelSpace.ordinal(1, 5)


def test_compile_reads_it(tmp_path: Path) -> None:
    """Images, labels and reasons; what nobody could tell is left out with a note."""
    folder, out = photos(tmp_path / "photos"), tmp_path / "labels.csv"
    (folder / "000.png").rename(folder / "=a\nb <b>.png")
    with labelling(folder, out) as page:
        for label in (1, 2, 3, 4, 5):
            page.label(label, f"reason {label}")
        page.label("", state="cannot tell")
    with pytest.warns(UserWarning, match="1 row has no label"):
        examples = load_examples(out, labels=SCALE, columns=Columns(reason="reason"))
    assert [(example.label, example.reason) for example in examples] == [(i, f"reason {i}") for i in range(1, 6)]


def test_the_labels_of_several_people_are_repeated_rows(tmp_path: Path) -> None:
    """Each with its rater."""
    folder, out = photos(tmp_path / "photos", 3), tmp_path / "labels.csv"
    for rater, labels in (("ann", (1, 2, 3)), ("ben", (1, 2, 5)), ("cem", (1, 3))):
        with labelling(folder, out, rater=rater) as page:
            for label in labels:
                page.label(label)
    rated = load_rated(out, labels=SCALE, columns=Columns(rater="rater"))
    assert sorted(example.label for example in rated.examples) == [1, 2, 3]
    assert len(rated.rows) == 8
    assert len({example.id for example in rated.examples}) == 3


def test_the_design_of_a_drawn_table_is_kept(tmp_path: Path) -> None:
    """Its probabilities count for the share of it that was shown, and what was skipped was drawn too."""
    photos(tmp_path, 4)
    lines = ["image,label,inclusion_probability,stratum", *(f"00{i}.png,,0.{i + 1},{i % 2}" for i in range(4))]
    (tmp_path / "to_label.csv").write_text("\n".join(lines))
    out = tmp_path / "labels.csv"
    with labelling(tmp_path / "to_label.csv", out) as page:
        page.label(3)
        page.label("", state="skip")
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == ["3", ""]
    for row in rows:
        number = int(row["image"][:3])
        assert float(row["inclusion_probability"]) == pytest.approx(0.5 * (number + 1) / 10)
        assert row["stratum"] == str(number % 2)
    (tmp_path / "to_label.csv").write_text("image,inclusion_probability\n000.png,2\n001.png,x\n002.png,\n")
    with pytest.raises(DataError, match="2 of 3 rows"), labelling(tmp_path / "to_label.csv", out):
        pass


def test_labels_of_images_that_are_gone_are_kept(tmp_path: Path) -> None:
    """The store knows their rows."""
    folder, out = photos(tmp_path / "photos", 3), tmp_path / "labels.csv"
    with labelling(folder, out) as page:
        page.label(1)
        page.label(2)
    before = out.read_text().splitlines()
    (folder / before[1].split(",")[0].partition("/")[2]).unlink()
    with labelling(folder, out) as page:
        assert page.state()["progress"]["total"] == 2
        page.label(3)
    assert [line.split(",")[0] for line in out.read_text().splitlines()[:3]] == [line.split(",")[0] for line in before]


def test_a_table_that_was_lost_is_written_again(tmp_path: Path) -> None:
    """From the store, with the next answer."""
    folder, out = photos(tmp_path / "photos"), tmp_path / "labels.csv"
    with labelling(folder, out) as page:
        page.label(1)
        out.unlink()
        page.label(2)
    assert [line.split(",")[1] for line in out.read_text().splitlines()[1:]] == ["1", "2"]


@pytest.mark.slow
def test_three_processes_lose_no_label_of_each_other(tmp_path: Path) -> None:
    """They write the same table at once."""
    folder, out = photos(tmp_path / "photos", 14), tmp_path / "labels.csv"
    code = (
        "import os, sys; sys.path[:0] = sys.argv[1:3]; from pathlib import Path\n"
        "from label_pages import labelling\n"
        "rater = 'ann' if os.fork() else 'ben' if os.fork() else 'cem'\n"
        "with labelling(Path(sys.argv[3]), Path(sys.argv[4]), rater=rater) as page:\n"
        "    assert all(page.label(1 + i % 5).status_code == 200 for i in range(12))\n"
        "if rater != 'cem':\n"
        "    assert os.wait()[1] == 0\n"
    )
    helpers = Path(__file__).parents[1]
    command = [sys.executable, "-c", code, str(helpers), str(helpers / "hostile"), str(folder), str(out)]
    subprocess.run(command, check=True, timeout=120)
    lines = out.read_text().splitlines()[1:]
    assert len(lines) == len({(line.split(",")[0], line.split(",")[3]) for line in lines}) == 36
    assert select(tmp_path, "SELECT COUNT(*) FROM labels GROUP BY job") == [(12,)] * 3
