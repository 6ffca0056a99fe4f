"""What is to be labelled: rows of folders and tables, their keys, and what cannot be used."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from label_pages import SCALE, photos

from blpo_dspy.data.fields import InputFields
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import DataError
from blpo_dspy.labelling.items import Items, Work, find_items


def found(source: Path, out: Path | None = None, *images: str, context: tuple[str, ...] = ()) -> Items:
    """The items of a source."""
    fields = InputFields.of(images or ("image",), context)
    return find_items(Work(source, SCALE, out or source.parent / "labels.csv", fields))


def test_paths_start_from_the_folder_of_the_output(tmp_path: Path) -> None:
    """So that compile finds the images wherever the table of labels is."""
    photos(tmp_path / "data" / "photos", 2)
    inside = found(tmp_path / "data" / "photos", tmp_path / "data" / "labels.csv")
    beside = found(tmp_path / "data" / "photos", tmp_path / "out" / "labels.csv")
    assert [item.cells["image"] for item in inside.items] == ["photos/000.png", "photos/001.png"]
    assert beside.items[0].cells["image"] == "../data/photos/000.png"


def test_names_that_a_table_could_take_for_something_else_are_written_as_paths(tmp_path: Path) -> None:
    """A formula, an address, white space; a folder's files are shown whatever their names."""
    for name in ("=1+1.png", "data:x.png", " a.png", "-b.png", "a\nb.png", "<script>.png", "c|d.png"):
        photos(tmp_path / "in", 1)
        os.replace(tmp_path / "in" / "000.png", tmp_path / "in" / name)
    cells = {item.cells["image"] for item in found(tmp_path / "in", tmp_path / "in" / "labels.csv").items}
    assert cells == {"./=1+1.png", "./data:x.png", "./ a.png", "./-b.png", "a\nb.png", "<script>.png", "c|d.png"}


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """As no table in UTF-8 can hold it."""
    photos(tmp_path / "in", 1)
    os.replace(tmp_path / "in" / "000.png", os.fsencode(tmp_path / "in") + b"/\xff.png")
    with pytest.raises(DataError, match="not UTF-8 text"):
        found(tmp_path / "in")


def test_links_out_of_the_folder_are_left_out(tmp_path: Path) -> None:
    """With a note; a link within the folder is shown."""
    photos(tmp_path / "in", 1)
    photos(tmp_path / "secret", 1)
    (tmp_path / "in" / "out.png").symlink_to(tmp_path / "secret" / "000.png")
    (tmp_path / "in" / "same.png").symlink_to("000.png")
    (tmp_path / "in" / "circle.png").symlink_to("circle.png")
    items = found(tmp_path / "in")
    assert [item.row.where for item in items.items] == ["000.png", "same.png"]
    assert items.notes == ("2 links to files outside the folder left out; --allow-outside takes them",)


def test_all_bad_rows_of_a_table_are_named_at_once(tmp_path: Path) -> None:
    """Missing files, paths that leave the folder, addresses, unknown labels and missing texts."""
    photos(tmp_path / "in", 2)
    photos(tmp_path / "secret", 1)
    (tmp_path / "in" / "link.png").symlink_to(tmp_path / "secret" / "000.png")
    lines = [
        "image,prompt,label,rater", "000.png,a,3,", "001.png,,,", "none.png,a,,", "../secret/000.png,a,,",
        "link.png,a,,", "https://example.org/a.png,a,,", "001.png,a,9,", "000.png,a,2,", "/etc/passwd,a,,",
    ]  # fmt: skip
    (tmp_path / "in" / "table.csv").write_text("\n".join(lines))
    with pytest.raises(DataError) as caught:
        found(tmp_path / "in" / "table.csv", tmp_path / "labels.csv", context=("prompt",))
    text = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 8
    for what in (
        "no text in context",
        "none.png: no such file",
        "leaves the folder",
        "image by URL",
        "unknown label",
        "earlier labelled",
    ):
        assert what in text, what


def test_labels_that_are_there_already_are_kept_with_their_raters(tmp_path: Path) -> None:
    """Without a column for them they are of somebody earlier."""
    photos(tmp_path, 3)
    (tmp_path / "table.csv").write_text("image,label,reason\n000.png,3,blurry\n001.png,,\n002.png,5,\n")
    items = found(tmp_path / "table.csv")
    given = [items.given.get(item.key) for item in items.items]
    assert [g and (g[0].rater, g[0].label, g[0].reason) for g in given] == [
        ("earlier", 3, "blurry"), None, ("earlier", 5, ""),
    ]  # fmt: skip
    assert items.columns == ("image",)


def test_rows_with_the_same_images_and_texts_are_one_item(tmp_path: Path) -> None:
    """As are those of a list of images; other columns don't matter."""
    photos(tmp_path, 3)
    (tmp_path / "table.csv").write_text("views,note\n000.png|001.png,x\n000.png | 001.png,y\n001.png|000.png,z\n")
    items = found(tmp_path / "table.csv", None, "views: list[dspy.Image]")
    assert [item.cells["views"] for item in items.items] == ["000.png|001.png", "001.png|000.png"]
    assert "1 row repeats" in items.notes[0]
    assert [name for name, _ in items.sources(0)] == ["views", "views"]


@pytest.mark.parametrize("name", ["none", "none.csv", "photo.png"])
def test_what_is_no_folder_or_table_is_refused(tmp_path: Path, name: str) -> None:
    """In one message that names it."""
    photos(tmp_path / "in", 1)
    (tmp_path / "photo.png").write_bytes((tmp_path / "in" / "000.png").read_bytes())
    with pytest.raises(DataError, match=f"{name}: no folder or table"):
        found(tmp_path / name)


def test_keys_do_not_depend_on_other_rows(tmp_path: Path) -> None:
    """A folder that grows keeps the answers it has."""
    before = {item.key for item in found(photos(tmp_path / "in", 3)).items}
    assert before < {item.key for item in found(photos(tmp_path / "in", 9)).items}


def test_labels_of_other_kinds_are_read(tmp_path: Path) -> None:
    """As compile reads them."""
    photos(tmp_path, 1)
    (tmp_path / "t.csv").write_text("image,label\n000.png,safe\n")
    items = find_items(Work(tmp_path / "t.csv", LabelSpace("Safe", "Unsafe"), tmp_path / "o.csv"))
    assert items.given[items.items[0].key][0].label == "Safe"
