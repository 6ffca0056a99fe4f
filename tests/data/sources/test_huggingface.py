"""Tests of sources.huggingface and the companion sets: any table on the Hub, by its columns."""

from __future__ import annotations

import base64
import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import pytest
from source_copies import picture, write_parquet, write_zip
from source_hub import LoopbackHub, point_at, serve

from blpo_dspy.data.columns import Columns
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.sources import open_source
from blpo_dspy.data.sources.draw import Source
from blpo_dspy.errors import BlpoError, DataError

TEXT = datasets.Value("string")


def opened(folder: Path, labels: LabelSpace, **options: Any) -> Source:
    """The generic source on a copy."""
    given = {"id": "some/one", "labels": labels, "instruction": "Judge this image.", "local_dir": folder}
    return open_source("huggingface", **{**given, **options})


def test_nominal_labels_context_and_groups_by_column_names(tmp_path: Path) -> None:
    """Columns have the names of the user's choice; class labels are read by their names."""
    features = {"photo": datasets.Image(), "verdict": datasets.ClassLabel(names=["keep", "drop"])}
    features |= {"caption": TEXT, "author": TEXT}
    rows = [
        {"photo": {"bytes": picture(i), "path": None}, "verdict": i % 2, "caption": f"a {i}", "author": f"by {i // 4}"}
        for i in range(24)
    ]
    (tmp_path / "data").mkdir()
    table = datasets.Dataset.from_list(rows, features=datasets.Features(features))
    table.to_parquet(tmp_path / "data" / "train-00000-of-00001.parquet")
    source = opened(
        tmp_path,
        LabelSpace("keep", "drop"),
        columns=Columns(image="photo", label="verdict", context=["caption"], group="author"),
    )
    drawn = source.draw(12)
    assert Counter(e.label for e in drawn.examples) == {"keep": 6, "drop": 6}
    assert set(drawn.examples[0].inputs().keys()) == {"image", "caption"}
    assert drawn.examples[0].group.startswith("by ")
    assert drawn.task.instruction == "Judge this image."


def test_ordinal_labels_stored_as_decimals_are_read(tmp_path: Path) -> None:
    """Levels off the scale, missing texts and missing labels are counted; 4.0 is 4."""
    features = {"image": datasets.Image(), "score": datasets.Value("float64"), "prompt": TEXT}
    rows = [{"image": picture(i), "score": float(i % 5 + 1), "prompt": f"p{i}"} for i in range(20)]
    rows += [{"image": picture(90), "score": 9.0, "prompt": "p"}, {"image": picture(91), "score": None, "prompt": "p"}]
    rows += [{"image": picture(92), "score": 2.5, "prompt": "p"}, {"image": picture(93), "score": 1.0, "prompt": None}]
    write_parquet(tmp_path, rows, features)
    source = opened(tmp_path, LabelSpace.ordinal(1, 5), columns=Columns(label="score", context=["prompt"]))
    drawn = source.draw(20)
    assert Counter(e.label for e in drawn.examples) == dict.fromkeys(range(1, 6), 4)
    assert drawn.report.skipped.counts == {"odd label": 2, "no label": 1, "no prompt": 1}


def test_images_in_base64_text_are_read(tmp_path: Path) -> None:
    """Base64 text becomes an image; numbers become the labels they stand for; references to other rows are skipped."""
    rows = [{"index": i, "image": base64.b64encode(picture(i)).decode(), "label": i % 2} for i in range(20)]
    rows += [{"index": 20, "image": "3", "label": 0}, {"index": 21, "image": "images/a.png", "label": 1}]
    features = {"index": datasets.Value("int64"), "image": TEXT, "label": datasets.Value("int64")}
    write_parquet(tmp_path, rows, features)
    source = opened(tmp_path, LabelSpace("Safe", "Unsafe"), label_names={0: "Safe", 1: "Unsafe"})
    drawn = source.draw(40, allow_fewer=True)
    assert Counter(e.label for e in drawn.examples) == {"Safe": 10, "Unsafe": 10}
    assert drawn.report.skipped.counts == {"image missing": 2}
    assert drawn.manifest.source == "some/one"


def test_paths_and_addresses_in_a_table_are_not_followed(tmp_path: Path) -> None:
    """A dataset cannot name files of this machine or have addresses fetched, in text or in an image column."""
    (tmp_path / "secret.png").write_bytes(picture(0))
    where = [str(tmp_path / "secret.png"), "http://127.0.0.1:9/a.png", "file:///etc/passwd"]
    rows = [{"image": {"bytes": None, "path": path}, "label": "a"} for path in where]
    rows += [{"image": picture(i), "label": "ab"[i % 2]} for i in range(4)]
    write_parquet(tmp_path / "images", rows, {"image": datasets.Image(), "label": TEXT})
    drawn = opened(tmp_path / "images", LabelSpace("a", "b")).draw(14, allow_fewer=True)
    assert drawn.report.skipped.counts == {"image missing": 3}
    rows = [{"image": path, "label": "ab"[i % 2]} for i, path in enumerate(where)]
    write_parquet(tmp_path / "texts", rows, {"image": TEXT, "label": TEXT})
    with pytest.raises(DataError, match="no usable image; skipped: image missing 3"):
        opened(tmp_path / "texts", LabelSpace("a", "b")).draw(4, allow_fewer=True)


def test_an_image_folder_is_read_as_datasets_reads_it(tmp_path: Path) -> None:
    """Repositories that hold files and a metadata table rather than Parquet work too, as do class folders."""
    (tmp_path / "repo" / "train").mkdir(parents=True)
    with (tmp_path / "repo" / "train" / "metadata.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "label"])
        for i in range(8):
            (tmp_path / "repo" / "train" / f"{i}.png").write_bytes(picture(i))
            writer.writerow([f"{i}.png", "ab"[i % 2]])
    drawn = opened(tmp_path / "repo", LabelSpace("a", "b")).draw(8)
    assert Counter(e.label for e in drawn.examples) == {"a": 4, "b": 4}


def test_images_in_a_zipped_folder_are_read_and_missing_ones_counted(tmp_path: Path) -> None:
    """A metadata table may list more than there is; so may that of a folder."""
    names = [f"{i}.png" for i in range(9)]
    table = "file_name,label\n" + "".join(f"{name},{'ab'[i % 2]}\n" for i, name in enumerate(names))
    files = {"metadata.csv": table.encode(), **{name: picture(i) for i, name in enumerate(names[:8])}}
    for place in ("zipped", "plain"):
        (tmp_path / place).mkdir()
    write_zip(tmp_path / "zipped" / "train.zip", files)
    for name, data in files.items():
        (tmp_path / "plain" / name).write_bytes(data)
    for place in ("zipped", "plain"):
        drawn = opened(tmp_path / place, LabelSpace("a", "b")).draw(9, allow_fewer=True)
        assert Counter(e.label for e in drawn.examples) == {"a": 4, "b": 4}
        assert drawn.report.skipped.counts == {"image missing": 1}
        assert drawn.report.skipped.lines() == ["train/8: image missing: not found"]


def test_a_table_of_json_lines_is_read(tmp_path: Path) -> None:
    """The images stand in it as base64 text."""
    lines = [json.dumps({"image": base64.b64encode(picture(i)).decode(), "label": "ab"[i % 2]}) for i in range(8)]
    (tmp_path / "train.jsonl").write_text("\n".join(lines))
    assert len(opened(tmp_path, LabelSpace("a", "b")).draw(8).examples) == 8


@pytest.mark.slow
def test_over_http_the_configuration_and_split_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The card of a dataset says which files belong to which configuration and split."""
    card = "---\nconfigs:\n- config_name: small\n  data_files:\n  - split: dev\n    path: data/train-*\n---\n"
    write_parquet(
        tmp_path / "copy",
        [{"image": picture(i), "label": "ab"[i % 2]} for i in range(8)],
        {"image": datasets.Image(), "label": TEXT},
    )
    (tmp_path / "copy" / "README.md").write_text(card)
    with serve(LoopbackHub({"some/one": tmp_path / "copy"})) as hub:
        point_at(monkeypatch, hub.address, tmp_path / "caches")
        labels = LabelSpace("a", "b")
        drawn = opened(tmp_path, labels, local_dir=None, config="small", split="dev").draw(4)
        assert len(drawn.examples) == 4
        with pytest.raises(DataError, match=r"cannot be read .*'large'.*'small'"):
            opened(tmp_path, labels, local_dir=None, config="large", split="dev").draw(4)


def test_wrong_options_are_refused_before_anything_is_read() -> None:
    """A context column that cannot be an input, and a label that is not one."""
    labels = LabelSpace("a", "b")
    with pytest.raises(BlpoError, match="description"):
        opened(Path("nowhere"), labels, columns=Columns(context=["description"]))
    with pytest.raises(BlpoError, match="'c' is not one of the labels"):
        opened(Path("nowhere"), labels, label_names={0: "c"})


def test_files_that_are_no_table_are_reported(tmp_path: Path) -> None:
    """A CSV that is none ends in one message, not in the trace of three libraries."""
    (tmp_path / "train.csv").write_bytes(b"\x89PNG\x00\xff")
    source = open_source(
        "huggingface", id="some/one", labels=LabelSpace("a", "b"), instruction="Judge.", local_dir=tmp_path
    )
    with pytest.raises(DataError, match="its files are not a readable table"):
        source.draw(2)


def test_scores_are_drawn_over_bins(tmp_path: Path) -> None:
    """As evenly as levels would be; scores off the range are counted."""
    features = {"image": datasets.Image(), "label": datasets.Value("float64")}
    rows = [{"image": {"bytes": picture(i), "path": None}, "label": 2.5 * i} for i in range(41)]
    rows.append({"image": {"bytes": picture(99), "path": None}, "label": 100.5})
    (tmp_path / "data").mkdir()
    table = datasets.Dataset.from_list(rows, features=datasets.Features(features))
    table.to_parquet(tmp_path / "data" / "train-00000-of-00001.parquet")
    drawn = opened(tmp_path, LabelSpace.scores(0, 100)).draw(10, seed=1)
    assert set(drawn.report.drawn.values()) == {2}
    assert sorted(drawn.report.pool.values()) == [8, 8, 8, 8, 9]
    assert "odd label" in drawn.report.describe()
    assert len(drawn.split(5, 2, 3).train) == 5
    assert all(isinstance(e.label, (int, float)) for e in drawn.examples)
