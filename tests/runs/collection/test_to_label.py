"""Images drawn for people to label, in a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from blpo_dspy.data.tables import read_table
from blpo_dspy.errors import BlpoError, DataError
from blpo_dspy.predictions.files import write_rows
from blpo_dspy.runs.collection.to_label import draw_to_label

ROWS: list[dict[str, Any]] = [
    {"image": f"{i}.png", "prompt": f"p{i}", "label": ("Safe", "Unsafe", None)[i % 3], "description": "d",
     "invalid": i % 3 == 2, "confidence": i % 4 / 4, "escalate": False, "error": None}
    for i in range(90)
]  # fmt: skip


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_the_table_shows_people_nothing_of_the_judge(suffix: str, tmp_path: Path) -> None:
    """Any format: the images and their texts, an empty label, how likely each was, and a number for the stratum."""
    predictions, out = tmp_path / f"p{suffix}", tmp_path / f"l{suffix}"
    write_rows(predictions, list(ROWS[0]), lambda: iter(ROWS))
    drawn = draw_to_label(predictions, n=12, out=out)
    table = read_table(out, ["image", "prompt", "label", "inclusion_probability", "stratum"])
    assert table.columns == ("image", "prompt", "label", "inclusion_probability", "stratum")
    assert len(table.rows) == len(drawn.chosen) == 12
    assert not any(row.values["label"] for row in table.rows)
    assert {each.label for each in drawn.strata} == {"Safe", "Unsafe", ""}
    for (position, at), row in zip(drawn.chosen, table.rows, strict=True):
        assert row.values["image"] == ROWS[position]["image"]
        assert float(row.values["inclusion_probability"]) == drawn.strata[at].chance
        assert row.values["stratum"] == str(at + 1)


def test_scores_are_drawn_by_bins_and_a_single_label_uniformly(tmp_path: Path) -> None:
    """Every image of the collection can be drawn."""
    scores = [{"image": str(i), "label": i / 7} for i in range(100)]
    assert len(draw_to_label(scores, n=50, out=tmp_path / "a.csv").strata) == 5
    alike = [{"image": str(i), "label": "Safe"} for i in range(100)]
    (stratum,) = draw_to_label(alike, n=50, out=tmp_path / "b.csv").strata
    assert (stratum.label, stratum.size, stratum.drawn) == ("Safe", 100, 50)


def test_nothing_is_written_over_or_from_bad_rows(tmp_path: Path) -> None:
    """A file that is there may hold labels; all bad rows are named at once."""
    out = tmp_path / "l.csv"
    with pytest.raises(DataError) as caught:
        draw_to_label(
            [*ROWS, {"image": "x", "label": "Safe", "confidence": 2}, {"image": "y", "confidence": "?"}], n=9, out=out
        )
    assert len(caught.value.problems) == 2
    with pytest.raises(DataError, match="2 rows cannot be used") as caught:
        draw_to_label([*ROWS, {**ROWS[0], "label": "Unsafe"}], n=9, out=out)
    assert all("0.png" in problem and "2 times" in problem for problem in caught.value.problems)
    with pytest.raises(BlpoError, match="no label in the tables"):
        draw_to_label([{"image": "x"}], n=1, out=out)
    with pytest.raises(BlpoError, match="no column says which image"):
        draw_to_label([{"label": "a"}, {"label": "b"}], n=2, out=out)
    with pytest.raises(BlpoError, match="should end in"):
        draw_to_label(ROWS, n=9, out=tmp_path / "l.txt")
    assert not out.exists()
    out.write_text("mine")
    with pytest.raises(BlpoError, match="may hold labels; name another one"):
        draw_to_label(ROWS, n=9, out=out)
    assert out.read_text() == "mine"
