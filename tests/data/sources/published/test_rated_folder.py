"""Tests of sources.rated_folder with AGIN and AGIQA-3K: a table and a folder, fetched by hand."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from source_copies import picture, write_rated_folder

from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.sources import open_source
from blpo_dspy.errors import BlpoError, DataError


def agin_rows(count: int) -> list[dict[str, Any]]:
    """Sound rows, with scores that fill the scale from 1 to 5."""
    scores = [1 + 4 * i / (count - 1) for i in range(count)]
    names = [f"CoCosNet_{i}.png" if i % 2 else f"Dreaml coco=é_{i}.png" for i in range(count)]
    return [
        {"filename": name, "MOS_nat": f"{score:.4f}", "MOS_tech": 3, "MOS_rat": 3}
        for name, score in zip(names, scores, strict=True)
    ]


def write_agin(folder: Path, rows: list[dict[str, Any]]) -> None:
    """The table beside the folder that the authors' code reads."""
    members = {r["filename"]: picture(i, "PNG", "RGBA") for i, r in enumerate(rows) if r["filename"]}
    write_rated_folder(folder, "MOS_AGIN.csv", rows, members, "AGIN_512x512")


def agiqa_rows(count: int) -> list[dict[str, Any]]:
    """Sound rows with scores from 0 to 5; five images share a prompt."""
    return [
        {
            "name": f"sd1.5_normal_{i:03}.jpg",
            "prompt": f"prompt {i // 5}",
            "adj1": "",
            "adj2": "",
            "style": "",
            "mos_quality": f"{5 * (i % 10) / 9:.3f}",
            "std_quality": 0.1,
            "mos_align": f"{5 * (9 - i % 10) / 9:.3f}",
            "std_align": 0.1,
        }
        for i in range(count)
    ]


def write_agiqa(folder: Path, rows: list[dict[str, Any]]) -> None:
    """The table and the images side by side."""
    members = {r["name"]: picture(i, "JPEG") for i, r in enumerate(rows)}
    write_rated_folder(folder, "data.csv", rows, members, ".")


def test_scores_become_five_levels_by_a_stated_rule(tmp_path: Path) -> None:
    """The scale is inferred, the score is kept, and the report says how levels came about."""
    write_agin(tmp_path, agin_rows(100))
    drawn = open_source("agin", local_dir=tmp_path).draw(50)
    assert Counter(e.label for e in drawn.examples) == dict.fromkeys(range(1, 6), 10)
    assert all(abs(e.score - e.label) <= 0.5 for e in drawn.examples)
    told = drawn.report.describe()
    assert "MOS_nat, scores on a scale from 1 to 5 (inferred), rounded to the nearest of 5 levels" in told
    assert "1 10 of 13, 2 10 of 25, 3 10 of 24" in told
    assert drawn.task.instruction.endswith("from 1 (not natural at all) to 5 (completely natural).")
    assert drawn.manifest.revision is None


def test_quantiles_fill_what_rounding_leaves_empty(tmp_path: Path) -> None:
    """Scores near the middle leave the outer levels empty under one rule and not under the other."""
    rows = agin_rows(100)
    for r in rows:
        r["MOS_nat"] = f"{2.6 + (float(r['MOS_nat']) - 1) / 5:.4f}"
    write_agin(tmp_path, rows)
    with pytest.raises(DataError, match="usable labels: 1 0, 2 0, 3 "):
        open_source("agin", local_dir=tmp_path).draw(50)
    drawn = open_source("agin", local_dir=tmp_path, binning="quantile").draw(50)
    assert set(Counter(e.label for e in drawn.examples).values()) == {10}
    assert "cut into 5 levels of equal number at" in drawn.report.describe()


def test_the_number_of_levels_reaches_task_and_instruction(tmp_path: Path) -> None:
    """A judge is asked on the scale that the labels have."""
    write_agin(tmp_path, agin_rows(70))
    drawn = open_source("agin", local_dir=tmp_path, levels=7, binning="equal_width").draw(70)
    assert drawn.task.labels.labels == (1, 2, 3, 4, 5, 6, 7)
    assert "to 7 (completely natural)" in drawn.task.instruction


def test_table_and_images_may_lie_anywhere(tmp_path: Path) -> None:
    """Images are found by name in any sub-folder, and both places can be given."""
    rows = agin_rows(20)
    write_agin(tmp_path / "download" / "AGIN", rows)
    nested = open_source("agin", local_dir=tmp_path / "download").draw(5)
    apart = open_source(
        "agin",
        image_dir=tmp_path / "download" / "AGIN" / "AGIN_512x512",
        csv=tmp_path / "download" / "AGIN" / "MOS_AGIN.csv",
    ).draw(5)
    assert nested.ids == apart.ids
    assert any("é" in id_ for id_ in nested.ids)


def test_bad_rows_are_skipped_and_counted(tmp_path: Path) -> None:
    """No name, no score, a score that is no number, missing and broken files, one image with two scores."""
    rows = agin_rows(30)
    write_agin(tmp_path, rows)
    bad = [("", 3), ("a.png", ""), ("b.png", "good"), ("c.png", "nan"), ("lost.png", 3.0), ("broken.png", 3.1)]
    bad += [("twice.png", 2), ("twice.png", 4), (rows[0]["filename"], rows[0]["MOS_nat"])]
    with (tmp_path / "MOS_AGIN.csv").open("a", encoding="utf-8") as file:
        file.writelines(f"{name},{score},1,1\n" for name, score in bad)
    (tmp_path / "AGIN_512x512" / "broken.png").write_bytes(picture(1)[:60])
    drawn = open_source("agin", local_dir=tmp_path).draw(60, allow_fewer=True)
    assert drawn.report.skipped.counts == {
        "no score": 3,
        "contradictory labels": 2,
        "no image name": 1,
        "repeated row": 1,
        "image missing": 1,
        "image unusable": 1,
    }


def test_a_name_in_the_table_reads_no_file_outside(tmp_path: Path) -> None:
    """A table from elsewhere cannot name files of this machine."""
    (tmp_path / "secret.png").write_bytes(picture(1))
    rows = agin_rows(10)
    rows[0]["filename"], rows[1]["filename"] = "../secret.png", str(tmp_path / "secret.png")
    members = {r["filename"]: picture(i) for i, r in enumerate(rows[2:])}
    write_rated_folder(tmp_path / "copy", "MOS_AGIN.csv", rows, members, "images")
    drawn = open_source("agin", local_dir=tmp_path / "copy").draw(10, allow_fewer=True)
    assert drawn.report.skipped.counts == {"image missing": 2}


def test_quality_and_alignment_are_tasks_of_their_own(tmp_path: Path) -> None:
    """Alignment needs the prompt as an input, quality the image alone; both keep a prompt's images together."""
    write_agiqa(tmp_path, agiqa_rows(60))
    quality = open_source("agiqa3k", local_dir=tmp_path).draw(20)
    alignment = open_source("agiqa3k", local_dir=tmp_path, aspect="alignment").draw(20)
    assert set(quality.examples[0].inputs().keys()) == {"image"}
    assert set(alignment.examples[0].inputs().keys()) == {"image", "prompt"}
    assert quality.examples[0].group.startswith("prompt ")
    assert "mos_quality, scores on a scale from 0 to 5 (inferred)" in quality.report.describe()
    assert "mos_align" in alignment.report.describe()


def test_without_a_folder_the_page_to_fetch_from_is_named() -> None:
    """Neither set can be fetched by a program."""
    with pytest.raises(BlpoError, match=r"fetched by hand: see https://github\.com/zijianchen98/AGIN"):
        open_source("agin")
    with pytest.raises(BlpoError, match=r"https://github\.com/lcysyzxdxc/AGIQA-3k-Database"):
        open_source("agiqa3k", csv="data.csv")


def test_a_wrong_folder_or_table_is_reported(tmp_path: Path) -> None:
    """No table, no folder, and a table with other columns."""
    with pytest.raises(DataError, match=r"no MOS_AGIN\.csv in it or below"):
        open_source("agin", local_dir=tmp_path).draw(5)
    write_agiqa(tmp_path, agiqa_rows(10))
    with pytest.raises(DataError, match="no column 'filename' or 'MOS_nat'; the columns are: 'name', 'prompt'"):
        open_source("agin", image_dir=tmp_path, csv=tmp_path / "data.csv").draw(5)
    with pytest.raises(DataError, match="no such folder"):
        open_source("agiqa3k", image_dir=tmp_path / "none", csv=tmp_path / "data.csv").draw(5)
    with pytest.raises(BlpoError, match="aspect 'beauty' is unknown"):
        open_source("agiqa3k", local_dir=tmp_path, aspect="beauty")


def test_mean_opinion_scores_can_stay_scores(tmp_path: Path) -> None:
    """Labels as they are, drawn and split over bins; the question names both ends of the range."""
    write_agiqa(tmp_path, agiqa_rows(50))
    source = open_source("agiqa3k", local_dir=tmp_path, binning="scores", scale=(0, 5))
    assert source.task.labels == LabelSpace.scores(0, 5)
    assert "from 0 (bad) to 5 (excellent)" in source.task.instruction
    drawn = source.draw(20, seed=1)
    assert all(example.label == pytest.approx(example.score) for example in drawn.examples)
    assert len(drawn.report.pool) == 5
    assert set(drawn.report.drawn.values()) == {4}
    assert "as they are, a number from 0 to 5" in drawn.report.describe()


def test_scores_need_their_range(tmp_path: Path) -> None:
    """And all of them lie in it."""
    with pytest.raises(BlpoError, match="needs the range of the scores"):
        open_source("agiqa3k", local_dir=tmp_path, binning="scores")
    write_agiqa(tmp_path, agiqa_rows(20))
    with pytest.raises(DataError, match=r"scores such as 4\.\d+ are not a number from 0 to 4"):
        open_source("agiqa3k", local_dir=tmp_path, binning="scores", scale=(0, 4)).listing()
