"""Labelled examples from every kind of table, and every bad row named at once."""

from __future__ import annotations

import base64
import contextlib
import csv
import io
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import dspy
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import content, encoded, photo, write_photos
from PIL import Image
from pyarrow import parquet

from blpo_dspy.data.columns import Columns
from blpo_dspy.data.examples import (
    contradictions,
    dataset_fingerprint,
    load_examples,
    load_images,
    load_rated,
    reasons_fingerprint,
)
from blpo_dspy.data.images.prepare import PixelPolicy, PreparedImage
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import BlpoError, BlpoWarning, DataError

LABELS = LabelSpace("Safe", "Unsafe")
Rows = list[dict[str, Any]]


def write_csv(path: Path, rows: Rows, **options: Any) -> Path:
    """The rows as a CSV file with a header."""
    with path.open("w", newline="", encoding=options.pop("encoding", "utf-8")) as file:
        writer = csv.DictWriter(file, list(rows[0]), **options)
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_jsonl(path: Path, rows: Rows) -> Path:
    """The rows as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_parquet(path: Path, rows: Rows) -> Path:
    """The rows as a Parquet file that knows nothing of datasets."""
    pd.DataFrame(rows).to_parquet(path)
    return path


WRITERS: dict[str, Callable[[Path, Rows], Path]] = {
    "table.csv": write_csv,
    "table.tsv": lambda path, rows: write_csv(path, rows, delimiter="\t"),
    "table.jsonl": write_jsonl,
    "table.parquet": write_parquet,
}


@pytest.fixture
def rows(tmp_path: Path) -> Rows:
    """Four rows with images in a folder beside the table."""
    names = write_photos(tmp_path / "images", 4)
    return [
        {
            "image": f"images/{name}",
            "label": "Safe" if i % 2 else "Unsafe",
            "prompt": f"a, “quoted”\nprompt {i}",
            "made": f"m{i % 2}",
        }
        for i, name in enumerate(names)
    ]


def problems_of(source: object, **options: Any) -> list[str]:
    """The lines of the error that loading ends with."""
    with pytest.raises(DataError) as caught:
        load_examples(source, labels=LABELS, **options)
    return list(caught.value.problems)


# What is read


@pytest.mark.parametrize("name", WRITERS)
def test_every_kind_of_table_gives_the_same_examples(tmp_path: Path, rows: Rows, name: str) -> None:
    """Images as exact bytes, context as text, labels of the space, ids from the paths, groups where asked."""
    table = WRITERS[name](tmp_path / name, rows)
    examples = load_examples(table, labels=LABELS, columns=Columns(context=["prompt"], group="made"))
    assert [e.id for e in examples] == [row["image"] for row in rows]
    assert [e.label for e in examples] == ["Unsafe", "Safe", "Unsafe", "Safe"]
    assert [e.prompt for e in examples] == [row["prompt"] for row in rows]
    assert [e.group for e in examples] == ["m0", "m1", "m0", "m1"]
    assert [content(e.image.url)[1] for e in examples] == [(tmp_path / row["image"]).read_bytes() for row in rows]
    assert all(isinstance(e.image, PreparedImage) for e in examples)
    assert set(examples[0].inputs().keys()) == {"image", "prompt"}
    assert set(examples[0].labels().keys()) == {"label", "id", "group"}


def test_columns_go_by_the_names_given(tmp_path: Path, rows: Rows) -> None:
    """And the ids by a column of their own."""
    renamed = [{"file": r["image"], "rating": r["label"].upper(), "key": i} for i, r in enumerate(rows)]
    table = write_csv(tmp_path / "t.csv", renamed)
    examples = load_examples(table, labels=LABELS, columns=Columns(image="file", label="rating", id="key"))
    assert [(e.id, e.label) for e in examples] == [("0", "Unsafe"), ("1", "Safe"), ("2", "Unsafe"), ("3", "Safe")]
    assert "group" not in examples[0]


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_a_csv_with_another_delimiter_and_a_byte_order_mark_is_read(tmp_path: Path, rows: Rows, delimiter: str) -> None:
    """As spreadsheets write them."""
    table = write_csv(tmp_path / "t.csv", rows, delimiter=delimiter, encoding="utf-8-sig")
    assert [e.prompt for e in load_examples(table, labels=LABELS, columns=Columns(context=["prompt"]))] == [
        r["prompt"] for r in rows
    ]


def test_labels_of_a_scale_may_be_text_whole_numbers_or_floats(tmp_path: Path, rows: Rows) -> None:
    """CSV has only text, and a float column is what pandas makes of whole numbers with a gap."""
    scale = LabelSpace.ordinal(1, 5)
    for name, values in {
        "a.csv": ["1", "2", " 5", "3"],
        "b.jsonl": [1, 2.0, "5", 3],
        "c.parquet": [1.0, 2.0, 5.0, 3.0],
    }.items():
        table = WRITERS[f"table.{name[2:]}"](
            tmp_path / name, [{**r, "label": v} for r, v in zip(rows, values, strict=True)]
        )
        assert [e.label for e in load_examples(table, labels=scale)] == [1, 2, 5, 3]


def test_images_are_prepared_by_the_policy(tmp_path: Path) -> None:
    """The same one that the judge will use."""
    (tmp_path / "a.png").write_bytes(encoded(photo(200, 100)))
    table = write_csv(tmp_path / "t.csv", [{"image": "a.png", "label": "Safe"}])
    policy = PixelPolicy(max_side=32)
    (example,) = load_examples(table, labels=LABELS, policy=policy)
    assert policy.prepare(example.image) is example.image


def test_urls_and_data_uris_in_a_table_are_images_too(tmp_path: Path) -> None:
    """A URL is passed on, never fetched; a data URI serves as no id."""
    uri = "data:image/png;base64," + base64.b64encode(encoded(photo())).decode()
    table = write_jsonl(
        tmp_path / "t.jsonl", [{"image": "https://example.org/a.png", "label": "Safe"}, {"image": uri, "label": "Safe"}]
    )
    first, second = load_examples(table, labels=LABELS)
    assert (first.id, first.image.url) == ("https://example.org/a.png", "https://example.org/a.png")
    assert second.id == "t.jsonl:2"
    assert content(second.image.url)[1] == encoded(photo())


def test_the_same_image_twice_gets_two_ids(tmp_path: Path, rows: Rows) -> None:
    """Two people may have labelled it."""
    table = write_csv(tmp_path / "t.csv", [rows[0], rows[0], rows[1]])
    assert [e.id for e in load_examples(table, labels=LABELS)] == [
        "images/000.png",
        "images/000.png#2",
        "images/001.png",
    ]


def test_parquet_may_hold_the_bytes(tmp_path: Path) -> None:
    """As a binary column, or as the struct of bytes and path that datasets stores."""
    files = [encoded(photo(seed=i)) for i in range(2)]
    binary = pa.table({"image": files, "label": ["Safe", "Unsafe"]})
    struct = pa.table(
        {"image": [{"bytes": f, "path": f"sub/{i}.png"} for i, f in enumerate(files)], "label": ["Safe", "Unsafe"]}
    )
    for name, table, ids in (
        ("b", binary, ["b.parquet, row 1", "b.parquet, row 2"]),
        ("s", struct, ["0.png", "1.png"]),
    ):
        pa.parquet.write_table(table, tmp_path / f"{name}.parquet")
        examples = load_examples(tmp_path / f"{name}.parquet", labels=LABELS)
        assert [content(e.image.url)[1] for e in examples] == files
        assert [e.id for e in examples] == ids


@pytest.fixture
def dataset(tmp_path: Path) -> datasets.Dataset:
    """An image by path, one by bytes, one from pixels; class labels; text."""
    (tmp_path / "a.jpg").write_bytes(encoded(photo(), "JPEG"))
    images = [str(tmp_path / "a.jpg"), {"bytes": encoded(photo(seed=1), "WEBP"), "path": "b.webp"}, photo(seed=2)]
    kinds = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=["Safe", "Unsafe"]),
            "prompt": datasets.Value("string"),
        }
    )
    return datasets.Dataset.from_dict({"image": images, "label": [1, 0, 1], "prompt": ["x", "y", "z"]}, features=kinds)


def test_a_dataset_gives_the_original_bytes_and_the_names_of_its_labels(
    tmp_path: Path, dataset: datasets.Dataset
) -> None:
    """Nothing is decoded and encoded again; a format set on the Dataset doesn't matter."""
    examples = load_examples(dataset.with_format("numpy"), labels=LABELS, columns=Columns(context=["prompt"]))
    assert [e.label for e in examples] == ["Unsafe", "Safe", "Unsafe"]
    assert [e.prompt for e in examples] == ["x", "y", "z"]
    assert content(examples[0].image.url) == ("image/jpeg", (tmp_path / "a.jpg").read_bytes())
    assert content(examples[1].image.url) == ("image/webp", encoded(photo(seed=1), "WEBP"))
    assert [e.id for e in examples] == ["a.jpg", "b.webp", "row 3"]


def test_parquet_from_datasets_keeps_the_names_of_its_labels(tmp_path: Path, dataset: datasets.Dataset) -> None:
    """They stand in the metadata of the file."""
    dataset.select([1, 2]).to_parquet(tmp_path / "d.parquet")
    assert [e.label for e in load_examples(tmp_path / "d.parquet", labels=LABELS)] == ["Safe", "Unsafe"]


def test_what_is_not_a_single_table_in_memory_is_refused_with_the_way_out(dataset: datasets.Dataset) -> None:
    """A DatasetDict, a stream, and objects that are no table."""
    for source in (datasets.DatasetDict(train=dataset), dataset.to_iterable_dataset()):
        with pytest.raises(DataError, match=r"source\['train'\]"):
            load_examples(source, labels=LABELS)
    with pytest.raises(DataError, match="dict is not a table"):
        load_examples({"image": "a.png"}, labels=LABELS)


def test_class_folders_give_labels(tmp_path: Path) -> None:
    """At any depth; hidden files are passed over, other files with a note."""
    write_photos(tmp_path / "Safe", 2)
    write_photos(tmp_path / "unsafe" / "deep", 2, first=2)
    (tmp_path / "Safe" / ".hidden.png").write_bytes(b"")
    (tmp_path / "Safe" / "notes.txt").write_text("notes")
    (tmp_path / "README.md").write_text("about")
    with pytest.warns(UserWarning, match=r"2 files that are not images were skipped: 1 \.md, 1 \.txt"):
        examples = load_examples(tmp_path, labels=LABELS)
    assert [(e.id, e.label) for e in examples] == [
        ("Safe/000.png", "Safe"),
        ("Safe/001.png", "Safe"),
        ("unsafe/deep/002.png", "Unsafe"),
        ("unsafe/deep/003.png", "Unsafe"),
    ]


def test_misnamed_images_in_class_folders_are_named_at_once(tmp_path: Path) -> None:
    """Beside the broken ones; what lies outside the folder is not looked at."""
    write_photos(tmp_path / "Safe", 1)
    write_photos(tmp_path / "Unsafe", 1)
    (tmp_path / "Safe" / "noext").write_bytes(encoded(photo(), "PNG"))
    (tmp_path / "Safe" / "photo.jpg.bak").write_bytes(encoded(photo(), "JPEG"))
    (tmp_path / "Unsafe" / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic" + b"\0" * 100)
    (tmp_path / "Unsafe" / "empty.jpg").write_bytes(b"")
    (tmp_path / "Unsafe" / "notes").write_text("no image")
    (tmp_path / "cover").write_bytes(encoded(photo(), "PNG"))
    (tmp_path / "Unsafe" / "link").symlink_to(tmp_path / "cover")
    assert problems_of(tmp_path) == [
        "Safe/noext: a PNG image by its content, not by its name; rename it, or move it elsewhere",
        "Safe/photo.jpg.bak: a JPEG image by its content, not by its name; rename it, or move it elsewhere",
        "Unsafe/phone.heic: a HEIC image, which is not read; save it as JPEG or PNG",
        "Unsafe/empty.jpg: the file is empty (0 bytes)",
    ]


def test_a_data_uri_of_any_size_is_read_from_a_csv(tmp_path: Path) -> None:
    """The process's own limit on cells stays; a damaged one is a bad row among others."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 300, 3), dtype=np.uint8))
    uri = "data:image/png;base64," + base64.b64encode(encoded(noise, "PNG")).decode()
    assert len(uri) > csv.field_size_limit()
    before = csv.field_size_limit()
    table = write_csv(tmp_path / "t.csv", [{"image": uri, "label": "Safe"}, {"image": uri, "label": "Unsafe"}])
    assert [e.label for e in load_examples(table, labels=LABELS)] == ["Safe", "Unsafe"]
    cut = [{"image": uri[:-9], "label": "Safe"}, {"image": uri, "label": "Maybe"}]
    assert len(problems_of(write_csv(tmp_path / "t.csv", cut))) == 2
    assert csv.field_size_limit() == before


def test_white_space_around_cells_and_columns_without_a_name_are_no_matter(tmp_path: Path, rows: Rows) -> None:
    """As a spreadsheet program may write them."""
    lines = [" image ,label,,", *(f" {row['image']} , {row['label']} ,," for row in rows)]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    assert [e.id for e in load_examples(tmp_path / "t.csv", labels=LABELS)] == [row["image"] for row in rows]


def test_unlabelled_images_come_from_tables_and_from_folders(tmp_path: Path, rows: Rows) -> None:
    """A judge in use has no labels to read."""
    table = write_csv(tmp_path / "t.csv", [{"image": r["image"], "prompt": r["prompt"]} for r in rows])
    from_table = load_images(table, context=["prompt"])
    assert [(e.id, e.prompt) for e in from_table] == [(r["image"], r["prompt"]) for r in rows]
    assert "label" not in from_table[0]
    assert [e.id for e in load_images(tmp_path)] == [r["image"] for r in rows]
    assert [e.id for e in load_images(tmp_path / "images")] == [Path(r["image"]).name for r in rows]


# What is refused


def test_all_bad_rows_are_named_at_once_by_line(tmp_path: Path, rows: Rows) -> None:
    """Labels, images, paths, context and ids; the sound rows not."""
    images = tmp_path / "images"
    (images / "empty.png").write_bytes(b"")
    (images / "text.png").write_bytes(b"hello")
    (images / "cut.jpg").write_bytes(encoded(photo(), "JPEG")[:500])
    sound = {"image": rows[0]["image"], "label": "Safe", "prompt": "two\nlines", "key": "a"}
    bad = [
        {**sound, "key": "b", "label": "Maybe"},
        {**sound, "key": "c", "label": " "},
        {**sound, "key": "d", "image": "images/missing.png"},
        {**sound, "key": "e", "image": "images/empty.png", "prompt": ""},
        {**sound, "key": "f", "image": "images/text.png"},
        {**sound, "key": "g", "image": "images/cut.jpg"},
        {**sound, "key": "h", "image": ""},
        {**sound, "key": "a"},
        {**sound, "key": ""},
        {**sound, "key": "i", "image": "../secret.png"},
    ]
    table = write_csv(tmp_path / "t.csv", [sound, *bad])
    with pytest.raises(
        DataError, match=r"t.csv: 10 of 11 rows cannot be used \(paths start from the folder .*\);"
    ) as caught:
        load_examples(table, labels=LABELS, columns=Columns(context=["prompt"], id="key"), require_labels=True)
    assert list(caught.value.problems) == [
        "t.csv:4: unknown label 'Maybe'; the labels are Safe, Unsafe",
        "t.csv:6: empty label in column 'label'",
        "t.csv:8: images/missing.png: no such file",
        "t.csv:10: no text in context column 'prompt'",
        "t.csv:10: images/empty.png: the file is empty (0 bytes)",
        "t.csv:11: images/text.png: not an image that can be read (it begins with b'hello')",
        "t.csv:13: images/cut.jpg: truncated image file",
        "t.csv:15: no image",
        "t.csv:17: duplicate id 'a'",
        "t.csv:19: no id in column 'key'",
        "t.csv:21: ../secret.png: leaves the folder of the table; allow_outside=True permits it",
    ]


@pytest.mark.parametrize("name", WRITERS)
def test_a_missing_column_is_one_message_with_the_columns_seen(tmp_path: Path, rows: Rows, name: str) -> None:
    """Whatever the kind of table."""
    table = WRITERS[name](tmp_path / name, rows)
    with pytest.raises(DataError) as caught:
        load_examples(table, labels=LABELS, columns=Columns(image="img", context=["caption"], group="made"))
    assert str(caught.value) == (
        f"{table}: no column 'img' or 'caption'; the columns are: 'image', 'label', 'prompt', 'made'; name yours with "
        "columns=Columns(image=…)"
    )


def test_a_missing_column_of_a_dataset_is_named(dataset: datasets.Dataset) -> None:
    """With its columns."""
    with pytest.raises(DataError, match="no column 'rating'; the columns are: 'image', 'label', 'prompt'"):
        load_examples(dataset, labels=LABELS, columns=Columns(label="rating"))


@pytest.mark.parametrize("name", ["empty.csv", "empty.jsonl", "header.csv", "header.parquet"])
def test_a_table_without_rows_is_refused(tmp_path: Path, name: str) -> None:
    """Nothing at all in it, or only a header."""
    table = tmp_path / name
    if name == "header.parquet":
        nothing = pa.array([], "string")
        pa.parquet.write_table(pa.table({"image": nothing, "label": nothing}), table)
    else:
        table.write_text("image,label\n" if name == "header.csv" else "")
    with pytest.raises(DataError, match=r"no rows|no column"):
        load_examples(table, labels=LABELS)


def test_null_cells_are_missing_values(tmp_path: Path, rows: Rows) -> None:
    """In JSON and in Parquet, not-a-number included."""
    broken = [{"image": None, "label": "Safe"}, {"image": rows[0]["image"], "label": None}]
    for table in (write_jsonl(tmp_path / "t.jsonl", broken), write_parquet(tmp_path / "t.parquet", broken)):
        assert [line.split(": ", 1)[1] for line in problems_of(table, require_labels=True)] == [
            "no image",
            "empty label in column 'label'",
        ]
    scale = [{"image": rows[0]["image"], "label": float("nan")}]
    assert "empty label" in problems_of(write_jsonl(tmp_path / "n.jsonl", scale), require_labels=True)[0]


def test_lines_that_are_no_rows_are_named_too(tmp_path: Path, rows: Rows) -> None:
    """Together with what is wrong in the others."""
    write_csv(tmp_path / "t.csv", rows[:1])
    with (tmp_path / "t.csv").open("a") as file:
        file.write("images/001.png,Safe\n\nimages/001.png,Maybe,x,y\n")
    assert problems_of(tmp_path / "t.csv") == [
        "t.csv:4: 2 cells, but the header has 4; check the quotes",
        "t.csv:6: unknown label 'Maybe'; the labels are Safe, Unsafe",
    ]
    (tmp_path / "t.jsonl").write_text(f"{json.dumps(rows[0])}\n\n{{\n[1]\n")
    first, second = problems_of(tmp_path / "t.jsonl")
    assert first.startswith("t.jsonl:3: not JSON")
    assert second == "t.jsonl:4: not a JSON object but list"


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("t.csv", "image,label\nä.png,Safe".encode("utf-16"), "not UTF-8"),
        ("t.jsonl", b"\xff\xfe", "not UTF-8"),
        ("t.csv", b"image,image\n1,2\n", "more than once"),
        ("t.csv", b'image,"label"x\n1,2\n', "t.csv:1: not readable as CSV"),
        ("t.csv", b",".join(b"column %d" % i for i in range(100_000)), "no column 'image' or 'label'.*and 99970 more"),
        ("t.csv", b"x" * 1_000_000, r"the columns are: 'xxx.*…x+'; name"),
        ("t.csv", b'image,label\n"a.png,Safe\n', "not readable as CSV"),
        ("t.parquet", b"not parquet", "not readable as Parquet"),
        ("t.xlsx", b"PK", "should end in one of .csv"),
        (None, b"", "no such table"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, name: str | None, data: bytes, reason: str) -> None:
    """With the reason in one line."""
    table = tmp_path / (name or "missing.csv")
    if name:
        table.write_bytes(data)
    with pytest.raises(DataError, match=reason) as caught:
        load_examples(table, labels=LABELS)
    assert "\n" not in str(caught.value)


def test_a_header_may_be_as_long_as_a_cell(tmp_path: Path, rows: Rows) -> None:
    """Also one that is longer than Python's own limit of 131,072 characters."""
    table = tmp_path / "t.csv"
    table.write_text(f"image,label,{'x' * 200_000}\n{rows[0]['image']},Safe,1\n")
    assert load_examples(table, labels=LABELS)[0].label == "Safe"


def test_a_column_that_is_there_twice_is_refused_in_every_format(tmp_path: Path, rows: Rows) -> None:
    """No value silently takes the place of another."""
    image, label = pa.array([rows[0]["image"]]), pa.array(["Safe"])
    parquet.write_table(
        pa.Table.from_arrays([image, label, label], ["image", "label", "label"]), tmp_path / "t.parquet"
    )
    with pytest.raises(DataError, match=r"t\.parquet: the header names 'label' more than once; rename the columns"):
        load_examples(tmp_path / "t.parquet", labels=LABELS)
    good = json.dumps(rows[0])
    (tmp_path / "t.jsonl").write_text(
        f'{good}\n{good[:-1]}, "label": "Safe"}}\n{good[:-1]}, "x": {{"y": 1, "y": 2}}}}\n'
    )
    assert problems_of(tmp_path / "t.jsonl") == [
        "t.jsonl:2: 'label' more than once in one object",
        "t.jsonl:3: 'y' more than once in one object",
    ]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('[{"image": "a.png", "label": "Safe"}]', "the file is one JSON array"),
        ('[\n{"image": "a.png", "label": "Safe"},\n]', "the file is one JSON array"),
        ('{\n"image": "a.png",\n"label": "Safe"\n}', "none of its lines is a JSON object"),
        ("image,label\na.png,Safe", "none of its lines is a JSON object"),
    ],
)
def test_a_file_that_is_not_json_lines_is_called_so(tmp_path: Path, text: str, why: str) -> None:
    """Not a table without columns."""
    (tmp_path / "t.jsonl").write_text(text)
    with pytest.raises(
        DataError, match=f"{why}, and JSON Lines have an object with the columns on each line"
    ) as caught:
        load_examples(tmp_path / "t.jsonl", labels=LABELS)
    assert "columns are" not in str(caught.value)
    assert caught.value.problems[0].startswith("t.jsonl:1: not ")


def test_a_source_that_is_neither_file_nor_folder_is_called_what_it_is(tmp_path: Path) -> None:
    """A pipe isn't waited for."""
    os.mkfifo(tmp_path / "t.csv")
    for source, reason in (
        (tmp_path / "t.csv", "t.csv: a pipe, socket or device, not a file; write the table to a file first"),
        (tmp_path / f"{'x' * 300}.csv", "cannot be read .File name too long"),
        ("t\0.csv", "cannot be read .embedded null byte"),
    ):
        with pytest.raises(DataError, match=reason) as caught:
            load_examples(source, labels=LABELS)
        assert len(str(caught.value)) < 400


def test_folders_without_classes_are_refused(tmp_path: Path) -> None:
    """With the images that lie loose, and a hint at a table that lies in the folder."""
    write_photos(tmp_path, 1)
    (tmp_path / "metadata.csv").write_text("file_name,label\n")
    with pytest.raises(DataError, match=r"no class sub-folders with images; .* name metadata.csv") as caught:
        load_examples(tmp_path, labels=LABELS)
    assert caught.value.problems == ("000.png: not in a class sub-folder",)


def test_a_folder_that_is_no_label_is_a_problem_of_each_image_in_it(tmp_path: Path) -> None:
    """The folder's name is the label."""
    write_photos(tmp_path / "Safe", 1)
    write_photos(tmp_path / "Other", 1)
    assert problems_of(tmp_path) == ["Other/000.png: unknown label 'Other'; the labels are Safe, Unsafe"]


# Paths stay in the folder of the table


def outside(tmp_path: Path) -> tuple[Path, list[str]]:
    """A table's folder, and three ways out of it to a real image."""
    write_photos(tmp_path / "other", 1)
    home = tmp_path / "home"
    home.mkdir()
    (home / "link.png").symlink_to(tmp_path / "other" / "000.png")
    (home / "folder").symlink_to(tmp_path / "other")
    return home, ["../other/000.png", str(tmp_path / "other" / "000.png"), "link.png", "folder/000.png"]


def test_paths_that_leave_the_folder_are_refused_unless_allowed(tmp_path: Path) -> None:
    """By "..", by an absolute path, by a link to a file or to a folder."""
    home, ways = outside(tmp_path)
    table = write_csv(home / "t.csv", [{"image": way, "label": "Safe"} for way in ways])
    assert problems_of(table) == [
        f"t.csv:{line}: {way}: leaves the folder of the table; allow_outside=True permits it"
        for line, way in enumerate(ways, 2)
    ]
    assert [e.id for e in load_examples(table, labels=LABELS, allow_outside=True)] == ways


def test_absolute_paths_and_detours_inside_the_folder_are_fine(tmp_path: Path, rows: Rows) -> None:
    """They don't leave it, not even if the folder is reached by a link."""
    (tmp_path / "alias").symlink_to(tmp_path)
    ways = [str(tmp_path / rows[0]["image"]), f"images/../{rows[1]['image']}"]
    table = write_csv(tmp_path / "t.csv", [{"image": way, "label": "Safe"} for way in ways])
    assert [e.id for e in load_examples(tmp_path / "alias" / table.name, labels=LABELS)] == ways


@pytest.mark.parametrize("address", ["file:///etc/passwd", "s3://bucket/a.png", "zip://a.png::/x.zip", "a\0.png"])
def test_other_addresses_in_a_table_are_not_opened(tmp_path: Path, address: str) -> None:
    """A value of a table is data, whatever it looks like."""
    (problem,) = problems_of(write_jsonl(tmp_path / "t.jsonl", [{"image": address, "label": "Safe"}]))
    assert "not an http" in problem or "not a usable path" in problem


def test_links_in_a_folder_are_followed_only_if_allowed(tmp_path: Path) -> None:
    """Files and class folders; links in a circle end."""
    write_photos(tmp_path / "other", 2)
    root = tmp_path / "root"
    write_photos(root / "Safe", 1)
    (root / "Unsafe").symlink_to(tmp_path / "other")
    (root / "Safe" / "x.png").symlink_to(tmp_path / "other" / "000.png")
    (tmp_path / "other" / "loop").symlink_to(root)
    assert problems_of(root) == [
        "Unsafe: a link to another folder; allow_outside=True follows it",
        "Safe/x.png: leaves the folder of the table; allow_outside=True permits it",
    ]
    examples = load_examples(root, labels=LABELS, allow_outside=True)
    assert [e.id for e in examples] == ["Safe/000.png", "Safe/x.png", "Unsafe/000.png", "Unsafe/001.png"]


def test_text_paths_of_a_dataset_start_from_the_current_folder(
    tmp_path: Path, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And stay in it; only an Image column holds paths that the caller made."""
    table = datasets.Dataset.from_list([{"image": r["image"], "label": r["label"]} for r in rows])
    monkeypatch.chdir(tmp_path)
    assert len(load_examples(table, labels=LABELS)) == 4
    monkeypatch.chdir(tmp_path / "images")
    assert "no such file" in problems_of(table)[0]
    absolute = table.map(lambda row: {"image": os.path.join(tmp_path, row["image"])})
    monkeypatch.chdir("/usr")
    assert "leaves the folder" in problems_of(absolute)[0]
    assert len(load_examples(absolute, labels=LABELS, allow_outside=True)) == 4
    assert len(load_examples(absolute.cast_column("image", datasets.Image()), labels=LABELS)) == 4


# Contradictions and fingerprints


def example(seed: int, label: str, **fields: str) -> dspy.Example:
    """An example without a table."""
    image = PixelPolicy().prepare(photo(8, 6, seed=seed))
    return dspy.Example(image=image, label=label, id=f"{seed}{label}", **fields).with_inputs("image", *fields)


def test_contradictions_are_listed() -> None:
    """The same image with the same context and two labels; with another context it is another question."""
    same = [example(0, "Safe"), example(0, "Unsafe"), example(1, "Safe"), example(1, "Safe")]
    assert contradictions(same) == ["the same image has different labels: 0Safe is Safe, 0Unsafe is Unsafe"]
    assert contradictions([example(0, "Safe", prompt="a"), example(0, "Unsafe", prompt="b")]) == []


def test_the_fingerprint_of_a_dataset_depends_on_its_contents_alone() -> None:
    """Not on order or ids; on image, label and context, and on how often each occurs."""
    base = [example(0, "Safe", prompt="a"), example(1, "Unsafe", prompt="b")]
    known = dataset_fingerprint(base)
    assert dataset_fingerprint(base[::-1]) == known
    assert dataset_fingerprint([e.copy(id="other") for e in base]) == known
    others = [
        [base[0], example(1, "Unsafe", prompt="c")],
        [base[0], example(1, "Safe", prompt="b")],
        [base[0], example(2, "Unsafe", prompt="b")],
        [*base, base[0]],
        base[:1],
        [],
    ]
    assert len({known, *map(dataset_fingerprint, others)}) == len(others) + 1


@pytest.mark.slow
def test_the_fingerprint_of_a_dataset_is_the_same_in_another_process(tmp_path: Path, rows: Rows) -> None:
    """Hash seeds don't enter it."""
    table = write_csv(tmp_path / "t.csv", rows)
    code = (
        "import sys; from blpo_dspy.data.columns import Columns; from blpo_dspy.data.examples import *\n"
        "from blpo_dspy.data.labels.space import LabelSpace\n"
        "labels = LabelSpace('Safe', 'Unsafe')\n"
        "print(dataset_fingerprint(load_examples(sys.argv[1], labels=labels, columns=Columns(context=['prompt']))))"
    )
    here = dataset_fingerprint(load_examples(table, labels=LABELS, columns=Columns(context=["prompt"])))
    run = subprocess.run([sys.executable, "-c", code, str(table)], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == here


@pytest.mark.slow
def test_reading_csv_imports_neither_datasets_nor_pyarrow(tmp_path: Path, rows: Rows) -> None:
    """They are slow to import."""
    table = write_csv(tmp_path / "t.csv", rows)
    code = (
        "import sys; from blpo_dspy.data.examples import *; from blpo_dspy.data.labels.space import LabelSpace\n"
        "load_examples(sys.argv[1], labels=LabelSpace('Safe', 'Unsafe'))\n"
        "print({'datasets', 'pyarrow', 'pandas'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code, str(table)], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


def test_rows_with_the_same_problem_are_reported_in_one_line() -> None:
    """With their number and places; the problems themselves stay apart."""
    problems = [*(f"t.csv:{row}: unknown label 'Unsave'" for row in range(2, 40)), "t.csv:41: no image"]
    error = DataError("39 of 50 rows cannot be used:", problems)
    first, *lines = str(error).splitlines()
    assert first == error.summary
    assert lines[0].startswith("  - 38 rows: unknown label 'Unsave' (t.csv:2, t.csv:3, ")
    assert lines[0].endswith("t.csv:21 and 18 more)")
    assert lines[1:] == ["  - t.csv:41: no image"]
    assert error.problems == tuple(problems)


def test_an_image_in_a_context_column_is_no_text(rows: Rows, tmp_path: Path) -> None:
    """Its bytes never become text of a prompt; every such row is named."""
    seen = (tmp_path / rows[0]["image"]).read_bytes()
    table = write_parquet(tmp_path / "t.parquet", [{**row, "seen": {"bytes": seen, "path": "a.png"}} for row in rows])
    problems = problems_of(table, columns=Columns(context=["prompt", "seen"]))
    assert len(problems) == len(rows)
    assert all("context input 'seen' takes text, but holds a builtins bytes" in problem for problem in problems)


def pairs(folder: Path) -> Rows:
    """Two rows of two photographs each, which lie in the folder, with a prompt."""
    names = write_photos(folder, 4)
    return [
        {"left": names[2 * i], "right": names[2 * i + 1], "prompt": f"scene {i}", "label": label}
        for i, label in enumerate(("Safe", "Unsafe"))
    ]


TWO: dict[str, Any] = {"labels": LABELS, "columns": Columns(images=["left", "right"], context=["prompt"])}


@pytest.mark.parametrize("name", list(WRITERS))
@pytest.mark.parametrize("turned", [False, True])
def test_a_row_of_two_images_is_the_same_example_in_every_table(name: str, turned: bool, tmp_path: Path) -> None:
    """Each image under its name, whatever the order of the columns."""
    rows = pairs(tmp_path)
    usual = load_examples(write_csv(tmp_path / "usual.csv", rows), **TWO)
    written = [dict(reversed(row.items())) for row in rows] if turned else rows
    examples = load_examples(WRITERS[name](tmp_path / name, written), **TWO)
    assert [dict(e) for e in examples] == [dict(e) for e in usual]
    assert dataset_fingerprint(examples) == dataset_fingerprint(usual)
    assert list(usual[0].inputs().keys()) == ["left", "right", "prompt"]
    assert usual[0].left == PixelPolicy().prepare(tmp_path / rows[0]["left"])
    assert usual[0].id == f"{rows[0]['left']} + {rows[0]['right']}"


def test_images_in_each_others_place_are_another_example(tmp_path: Path) -> None:
    """The fingerprint depends on which image has which name."""
    rows = pairs(tmp_path)
    swapped = [{**row, "left": row["right"], "right": row["left"]} for row in rows]
    first, second = (
        load_examples(write_csv(tmp_path / f"{i}.csv", each), **TWO) for i, each in enumerate((rows, swapped))
    )
    assert dataset_fingerprint(first) != dataset_fingerprint(second)


def test_one_image_has_the_same_fingerprint_by_any_name(tmp_path: Path) -> None:
    """A test set stays the same one, however its column is called."""
    rows = pairs(tmp_path)
    path = write_csv(tmp_path / "t.csv", rows)
    named = load_examples(path, labels=LABELS, columns=Columns(images=["left"]))
    usual = load_examples(path, labels=LABELS, columns=Columns(image="left"))
    assert dataset_fingerprint(named) == dataset_fingerprint(usual)


@pytest.mark.parametrize("name", list(WRITERS))
def test_a_column_may_hold_several_images_of_a_row(name: str, tmp_path: Path) -> None:
    """A list, or in text "|" between two."""
    names = write_photos(tmp_path, 3)
    views: Any = "|".join(names) if name in ("table.csv", "table.tsv") else names
    path = WRITERS[name](tmp_path / name, [{"views": views, "label": "Safe"}])
    (example,) = load_examples(path, labels=LABELS, columns=Columns(images=["views: list[dspy.Image]"]))
    assert example.views == [PixelPolicy().prepare(tmp_path / each) for each in names]


def test_every_image_that_cannot_be_used_is_named_with_its_input(tmp_path: Path) -> None:
    """A missing file, an empty cell and a folder, all at once."""
    rows = pairs(tmp_path)
    rows[0]["right"], rows[1]["left"] = "gone.png", ""
    with pytest.raises(DataError) as raised:
        load_examples(write_csv(tmp_path / "t.csv", rows), **TWO)
    text = str(raised.value)
    assert "2 of 2 rows cannot be used" in text
    assert "t.csv:2: right: gone.png: no such file" in text
    assert "t.csv:3: left: no image" in text


def test_a_folder_and_another_column_are_for_one_image_alone(tmp_path: Path) -> None:
    """With what to do instead."""
    rows = pairs(tmp_path)
    with pytest.raises(DataError, match="name a table with a column for each"):
        load_examples(tmp_path, **TWO)
    with pytest.raises(BlpoError, match="give the columns the names of the inputs"):
        load_examples(write_csv(tmp_path / "t.csv", rows), labels=LABELS, columns=replace(TWO["columns"], image="left"))


def memory_tables(rows: Rows) -> dict[str, Any]:
    """The same rows as every table in memory."""
    return {
        "frame": pd.DataFrame(rows),
        "list": rows,
        "dataset": datasets.Dataset.from_list(rows),
    }


@contextlib.contextmanager
def current_folder(path: str) -> Iterator[None]:
    """Makes a folder the current one while the block runs."""
    before = Path.cwd()
    os.chdir(path)
    try:
        yield
    finally:
        os.chdir(before)


KINDS = (*WRITERS, "frame", "list", "dataset")


@pytest.mark.slow
@settings(max_examples=40, derandomize=True, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.sets(st.sampled_from(["left", "right", "views: list[dspy.Image]"]), min_size=1),
    st.sets(st.sampled_from(["prompt", "title"])),
    st.permutations(["left", "right", "views", "prompt", "title", "label", "note"]),
)
def test_any_table_gives_the_same_inputs_in_any_order(
    kind: str, images: set[str], context: set[str], order: list[str]
) -> None:
    """Any subset of the columns, in any order and from any kind of table: the same request, the same fingerprint."""
    with tempfile.TemporaryDirectory() as name, current_folder(name):
        folder = Path(name)
        files = write_photos(folder, 12)
        rows = [
            {
                "left": files[4 * i], "right": files[4 * i + 1], "views": files[4 * i + 2 : 4 * i + 4],
                "prompt": f"a scene, {i}", "title": f"“{i}”", "label": "Safe" if i else "Unsafe", "note": "x",
            }
            for i in range(3)
        ]  # fmt: skip
        options: Any = {"labels": LABELS, "columns": Columns(images=sorted(images), context=sorted(context))}
        usual = load_examples(write_jsonl(folder / "usual.jsonl", rows), **options)
        shuffled = [{column: row[column] for column in order} for row in rows]
        if kind in ("table.csv", "table.tsv"):
            shuffled = [{**row, "views": "|".join(row["views"])} for row in shuffled]
        source = WRITERS[kind](folder / kind, shuffled) if kind in WRITERS else memory_tables(shuffled)[kind]
        found = load_examples(source, **options)
        assert [dict(example) for example in found] == [dict(example) for example in usual]
        assert [list(e.inputs().keys()) for e in found] == [list(e.inputs().keys()) for e in usual]
        assert dataset_fingerprint(found) == dataset_fingerprint(usual)


def test_images_in_memory_are_images_of_a_row() -> None:
    """PIL images and NumPy arrays of the same pixels give the same example; bytes keep what they are."""
    pixels = np.asarray(photo(12, 9))
    cells = {"array": pixels, "picture": Image.fromarray(pixels)}
    found = {
        name: load_examples([{"image": cell, "label": "Safe"}], labels=LABELS)[0].image for name, cell in cells.items()
    }
    assert found["array"] == found["picture"]
    decoded = Image.open(io.BytesIO(base64.b64decode(found["array"].url.partition(",")[2])))
    assert (np.asarray(decoded) == pixels).all()
    frame = pd.DataFrame({"image": [pixels, encoded(photo(12, 9))], "label": ["Safe", "Unsafe"]})
    assert [example.id for example in load_examples(frame, labels=LABELS)] == ["row 1", "row 2"]


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([{"image": np.zeros((3, 8, 8), np.uint8), "label": "Safe"}], r"row 1: an array of shape \(3, 8, 8\) and type"),
        ([{"image": np.zeros((8, 8, 3)), "label": "Safe"}], "type float64 is not an image; give uint8"),
        ([{"image": 5, "label": "Safe"}], "row 1: a int is not an image"),
        ([{"image": "x.png", "label": "Safe"}, "b.png"], "row 2: a str, not a dictionary of columns"),
        ([{"image": "x.png"}], "no column 'label'; the columns are: 'image'"),
        (pd.DataFrame({0: ["x.png"], "label": ["Safe"]}), "columns that are not named by text"),
        (pd.DataFrame([["x", "y"]], columns=["label", "label"]), "the header names 'label' more than once"),
        (5, "int is not a table: give the path of one, a pandas.DataFrame, a list of dictionaries"),
        ([], "no rows below the header|no column 'image'"),
    ],
)  # fmt: skip
def test_tables_in_memory_that_cannot_be_used_are_refused(rows: Any, problem: str) -> None:
    """Each with what is wrong, by the number of the row."""
    with pytest.raises(DataError, match=problem):
        load_examples(rows, labels=LABELS)


def test_paths_of_a_table_in_memory_start_from_the_current_folder(
    tmp_path: Path, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A text stays inside it, as it may come from anywhere; a pathlib.Path is the caller's own."""
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")
    outside = [{**row, "image": f"../{row['image']}"} for row in rows]
    with pytest.raises(DataError, match="leaves the folder of the table"):
        load_examples(outside, labels=LABELS)
    own = [{**row, "image": tmp_path / row["image"]} for row in rows]
    assert len(load_examples(own, labels=LABELS)) == len(rows)


def test_rows_without_a_label_are_left_out_and_counted(tmp_path: Path, rows: Rows) -> None:
    """Their images need not even be there; they are refused where labels are required, or all are missing."""
    partly = [*rows, {"image": "gone.png", "label": ""}, {"image": "gone.png", "label": " "}]
    path = write_csv(tmp_path / "t.csv", partly)
    with pytest.warns(BlpoWarning, match=rf"t\.csv: 2 rows have no label and are left out \({len(rows)} remain\)"):
        assert len(load_examples(path, labels=LABELS)) == len(rows)
    with pytest.raises(DataError, match="empty label in column 'label'"):
        load_examples(path, labels=LABELS, require_labels=True)
    with pytest.raises(DataError, match="no row has a label in column 'label'"):
        load_examples(write_csv(tmp_path / "none.csv", partly[-2:]), labels=LABELS)


# Reasons


@pytest.mark.parametrize("name", WRITERS)
def test_reasons_are_a_field_that_is_no_input(tmp_path: Path, rows: Rows, name: str) -> None:
    """From any kind of table; an empty or blank cell is no reason."""
    said = ["too blurry, “really”", "", "  ", "grainy "]
    table = WRITERS[name](tmp_path / name, [{**row, "why": why} for row, why in zip(rows, said, strict=True)])
    examples = load_examples(table, labels=LABELS, columns=Columns(reason="why"))
    assert [e.get("reason") for e in examples] == ["too blurry, “really”", None, None, "grainy"]
    assert set(examples[0].inputs().keys()) == {"image"}
    assert "reason" not in load_examples(table, labels=LABELS)[0]
    plain = load_examples(table, labels=LABELS)
    assert dataset_fingerprint(examples) == dataset_fingerprint(plain)
    assert reasons_fingerprint(plain) == ""
    assert reasons_fingerprint(examples) == reasons_fingerprint(examples[::-1]) != reasons_fingerprint(examples[:2])


def test_bad_reasons_are_named_with_their_rows(tmp_path: Path, rows: Rows) -> None:
    """A list, a number and an image are not what a person wrote; None and NaN are nothing."""
    image = Image.new("RGB", (8, 8))
    cells = [["too dark"], 7, image, float("nan")]
    table = [{**row, "image": str(tmp_path / row["image"]), "why": why} for row, why in zip(rows, cells, strict=True)]
    problems = problems_of(table, columns=Columns(reason="why"), allow_outside=True)
    kinds = [re.match(r"row (\d): reason column 'why' holds an? (\w+), and a reason is text", p) for p in problems]
    assert [m and (m[1], m[2]) for m in kinds] == [("1", "list"), ("2", "int"), ("3", "Image")]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (Columns(reason="reasons"), "no column 'reasons'"),
        (
            Columns(reason="prompt", context=["prompt"]),
            "reason column 'prompt' holds an input or a label; reasons are for the optimizer",
        ),
        (Columns(reason="label"), "reason column 'label' holds an input or a label"),
        (Columns(reason="made", context=["reason"]), "reason column 'made': an input is named 'reason'"),
    ],
)
def test_a_reason_column_that_cannot_be_one_is_refused(tmp_path: Path, rows: Rows, columns: Columns, said: str) -> None:
    """The judge reads inputs, and must not read reasons."""
    table = write_csv(tmp_path / "t.csv", rows)
    with pytest.raises(BlpoError, match=said):
        load_examples(table, labels=LABELS, columns=columns)


def test_reasons_of_several_people_are_joined_by_image(tmp_path: Path, rows: Rows) -> None:
    """Each named by rater and label; with a column for each rater the row has one reason."""
    given = [
        {"image": rows[0]["image"], "label": "Safe", "who": "ann", "why": "all fine"},
        {"image": rows[1]["image"], "label": "Safe", "who": "ann", "why": ""},
        {"image": rows[0]["image"], "label": "Safe", "who": "bob", "why": ""},
        {"image": rows[0]["image"], "label": "Unsafe", "who": "cem", "why": "a knife"},
    ]
    table = write_csv(tmp_path / "t.csv", given)
    first, second = load_rated(table, labels=LABELS, columns=Columns(rater="who", reason="why")).examples
    assert first.reason == "ann (Safe): all fine; cem (Unsafe): a knife"
    assert "reason" not in second
    assert set(first.inputs().keys()) == {"image"}
    wide = [{"image": rows[0]["image"], "ann": "Safe", "bob": "Safe", "why": "all fine"}]
    (only,) = load_rated(
        write_csv(tmp_path / "w.csv", wide), labels=LABELS, columns=Columns(raters=["ann", "bob"], reason="why")
    ).examples
    assert only.reason == "all fine"
