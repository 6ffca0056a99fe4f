"""Images to be judged: what a folder, a table or a list comes to."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from image_files import encoded
from PIL import Image
from pyarrow import parquet

from blpo_dspy.data.fields import InputFields
from blpo_dspy.data.images.prepare import ImageError
from blpo_dspy.data.inputs import check_usable, content_key, find_inputs, print_of, read_images
from blpo_dspy.errors import BlpoError, DataError

WITH_PROMPT = InputFields.of(context=["prompt"])


def png(grey: int = 0) -> bytes:
    """A small picture."""
    return encoded(Image.new("RGB", (8, 8), (grey,) * 3))


def table(path: Path, rows: list[Mapping[str, Any]]) -> Path:
    """Writes a CSV, with an image file for each row that names one."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        if str(row.get("image", "")).endswith(".png"):
            (path.parent / row["image"]).write_bytes(png())
    return path


def places(inputs: Any) -> list[str]:
    """What the rows are called, in order."""
    return [draft.place for _, draft in inputs.drafts(range(len(inputs.rows)))]


def problems(inputs: Any) -> list[list[str]]:
    """What is wrong with the rows, in order."""
    return [draft.problems for _, draft in inputs.drafts(range(len(inputs.rows)))]


def test_a_folder_gives_its_images_by_path_and_counts_what_else_is_there(tmp_path: Path) -> None:
    """However deep; hidden files aside."""
    for name in ("b.png", "in/a.png", "in/deep/c.PNG", ".hidden.png", "notes.txt", "in/more.txt", "LICENSE"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(png())
    inputs = find_inputs([tmp_path])
    assert places(inputs) == ["b.png", "in/a.png", "in/deep/c.PNG"]
    assert inputs.notes == ("3 files that are not images were skipped: 2 .txt, 1 no suffix",)


def test_links_that_leave_the_folder_are_not_followed_unless_asked_to(tmp_path: Path) -> None:
    """A linked folder is noted, a linked file is a row with an error."""
    folder, outside = tmp_path / "folder", tmp_path / "outside"
    for place in (folder, outside):
        place.mkdir()
        (place / "a.png").write_bytes(png())
    (folder / "b.png").symlink_to(outside / "a.png")
    (folder / "more").symlink_to(outside)
    inputs = find_inputs([folder])
    assert places(inputs) == ["a.png", "b.png"]
    assert [bool(found) for found in problems(inputs)] == [False, True]
    assert any(note.startswith("more: a link to another folder") for note in inputs.notes)
    followed = find_inputs([folder], allow_outside=True)
    assert places(followed) == ["a.png", "b.png", "more/a.png"]
    assert problems(followed) == [[], [], []]


def test_a_table_gives_images_context_and_all_its_columns(tmp_path: Path) -> None:
    """A row without context, or whose image is nowhere, has an error of its own."""
    path = table(
        tmp_path / "t.csv",
        [
            {"n": "1", "image": "a.png", "prompt": "a cat"},
            {"n": "2", "image": "b.png", "prompt": ""},
            {"n": "3", "image": "nowhere.jpg", "prompt": "x"},
            {"n": "4", "image": "", "prompt": "x"},
        ],
    )
    inputs = find_inputs([path], fields=WITH_PROMPT)
    check_usable(inputs)
    assert inputs.columns == ("n", "image", "prompt")
    (_, first), *_ = inputs.drafts({0})
    assert (first.sources, first.context) == ({"image": tmp_path / "a.png"}, {"prompt": "a cat"})
    assert problems(inputs) == [[], ["no text in context column 'prompt'"], [], ["no image"]]


def test_a_column_without_a_name_is_kept_under_one_by_its_position(tmp_path: Path) -> None:
    """That no other column has, with one note on all of them."""
    (tmp_path / "t.csv").write_text(",image,,column_3\n0,a.png,x,y\n1,b.png,,z\n")
    found = find_inputs([tmp_path / "t.csv"])
    assert found.columns == ("column_1", "image", "column_3_", "column_3")
    assert found.rows[0].values == {"column_1": "0", "image": "a.png", "column_3_": "x", "column_3": "y"}
    assert found.notes == ("2 columns have no name in the header, and are kept as 'column_1', 'column_3_'",)


def test_a_text_for_all_images_stands_in_for_a_column(tmp_path: Path) -> None:
    """In a table, a folder and a list."""
    path = table(tmp_path / "t.csv", [{"image": "a.png"}])
    for source in (path, tmp_path, tmp_path / "a.png"):
        inputs = find_inputs([source], fields=WITH_PROMPT, texts={"prompt": "a cat"})
        assert [draft.context for _, draft in inputs.drafts({0})] == [{"prompt": "a cat"}]
        assert "prompt" in inputs.columns


@pytest.mark.parametrize("as_struct", [True, False], ids=["as datasets stores them", "as bytes"])
def test_images_inside_a_parquet_file_are_read_as_their_turn_comes(as_struct: bool, tmp_path: Path) -> None:
    """Those of the wanted rows alone, in order, beside the other columns."""
    pictures = [png(n) for n in range(40)]
    cells = [{"bytes": data, "path": f"{n}.png"} if as_struct else data for n, data in enumerate(pictures)]
    path = tmp_path / "t.parquet"
    parquet.write_table(pyarrow.table({"image": cells, "n": list(range(40))}), path)
    inputs = find_inputs([path])
    assert inputs.columns == ("image", "n")
    assert all("image" not in row.values for row in inputs.rows)
    found = list(inputs.drafts({3, 17, 39}))
    assert [(position, draft.sources["image"]) for position, draft in found] == [(n, pictures[n]) for n in (3, 17, 39)]
    assert found[0][1].place == ("3.png" if as_struct else "t.parquet, row 4")


def test_a_subset_reads_its_own_rows_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a table beside its images, of a list of paths, and of a Parquet file with several groups of rows inside."""
    monkeypatch.chdir(tmp_path)
    table(Path("t.csv"), [{"image": f"{number}.png"} for number in range(10)])
    for number in range(10):
        Path(f"{number}.png").write_bytes(png(number))
    cells = pyarrow.table({"image": [png(number) for number in range(10)]})
    parquet.write_table(cells, "t.parquet", row_group_size=3)
    sources: list[Any] = [["t.csv"], [f"{number}.png" for number in range(10)], ["t.parquet"]]
    subsets = [find_inputs(source).subset([1, 4, 5, 9]).subset([1, 3]) for source in sources]
    monkeypatch.chdir(tmp_path.parent)
    for subset in subsets:
        read = [(number, draft.filled(read_images(draft))) for number, draft in subset.drafts({0, 1})]
        assert read == [(0, {"image": png(4)}), (1, {"image": png(9)})]


def keys(inputs: Any) -> list[str]:
    """What the verdicts on the rows belong to."""
    return [
        content_key(draft, list(map(print_of, read_images(draft))))
        for _, draft in inputs.drafts(range(len(inputs.rows)))
    ]


def test_a_verdict_belongs_to_the_bytes_of_an_image_and_its_context(tmp_path: Path) -> None:
    """Whatever its file is called, wherever it is named, and wherever the text comes from."""
    for number, name in enumerate(["a.png", "b.png", "c.png"]):
        (tmp_path / name).write_bytes(png(number // 2))
    first, copy, other = keys(find_inputs([tmp_path]))
    assert (first == copy, first == other) == (True, False)
    path = tmp_path / "t.csv"
    path.write_text("image,prompt\nc.png,a cat\na.png,a cat\na.png,a dog\n")
    assert keys(find_inputs([path])) == [other, first, first]
    told = keys(find_inputs([path], fields=WITH_PROMPT))
    assert len({first, *told}) == 4
    assert keys(find_inputs([tmp_path / "b.png"], fields=WITH_PROMPT, texts={"prompt": "a dog"})) == told[2:]
    stored = tmp_path / "t.parquet"
    parquet.write_table(pyarrow.table({"image": [png(1), png(0)]}), stored)
    assert keys(find_inputs([stored])) == [other, first]


def test_an_image_by_reference_goes_by_its_url(tmp_path: Path) -> None:
    """It is never fetched, and a file that holds the same text is another image."""
    one, same, other = keys(find_inputs([f"https://example.org/{name}.png" for name in "aab"]))
    assert (one == same, one == other) == (True, False)
    (tmp_path / "a.png").write_text("https://example.org/a.png")
    assert keys(find_inputs([tmp_path / "a.png"])) != [one]


@pytest.mark.parametrize("rows", [3, 0])
def test_a_table_of_images_that_shrinks_meanwhile_is_reported(rows: int, tmp_path: Path) -> None:
    """Once its rows are known, whether it is whole or torn by then."""
    path = tmp_path / "t.parquet"
    parquet.write_table(pyarrow.table({"image": [png(n) for n in range(40)]}), path)
    inputs = find_inputs([path])
    if rows:
        parquet.write_table(pyarrow.table({"image": [png(n) for n in range(rows)]}), path)
    else:
        path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DataError, match=r"t.parquet: .*; repeat the call when it is complete"):
        list(inputs.drafts(range(40)))


def test_a_row_that_cannot_be_used_belongs_to_nothing(tmp_path: Path) -> None:
    """Its reason is told."""
    path = table(tmp_path / "t.csv", [{"image": "a.png", "prompt": ""}, {"image": "nowhere.jpg", "prompt": "x"}])
    (_, untold), (_, gone) = find_inputs([path], fields=WITH_PROMPT).drafts({0, 1})
    with pytest.raises(ImageError, match="no text in context column 'prompt'"):
        read_images(untold)
    with pytest.raises(ImageError, match="no such file"):
        read_images(gone)


def test_what_is_no_source_is_refused(tmp_path: Path) -> None:
    """With what to give instead."""
    (tmp_path / "empty").mkdir()
    path = table(tmp_path / "t.csv", [{"image": "a.png", "prompt": "x"}])
    (tmp_path / "torn.csv").write_text("image,prompt\na.png\n")
    refused: dict[str, tuple[list[Any], dict[str, Any]]] = {
        "empty: no images": ([tmp_path / "empty"], {}),
        "no such table": ([tmp_path / "none.csv"], {}),
        "no column 'file'; the columns are: 'image', 'prompt'; name the column with the images": (
            [path],
            {"image_column": "file"},
        ),
        "no column 'style'; the columns are: 'image', 'prompt'": (
            [path],
            {"fields": InputFields.of(context=["style"])},
        ),
        "torn.csv: 1 rows cannot be read": ([tmp_path / "torn.csv"], {}),
        "one folder or table is judged at a time": ([tmp_path, path], {}),
        "give one --context NAME=TEXT for each": ([tmp_path], {"fields": WITH_PROMPT}),
        "takes no context, but there is a text for prompt": ([path], {"texts": {"prompt": "x"}}),
        "nothing to judge": ([], {}),
    }
    for message, (sources, options) in refused.items():
        with pytest.raises(BlpoError) as raised:
            find_inputs(sources, **options)
        assert message in str(raised.value)


def test_a_source_without_a_single_usable_image_is_refused(tmp_path: Path) -> None:
    """With where its paths start from, and the first of the problems."""
    rows = [{"image": f"sub/{n}.jpg"} for n in range(30)]
    path = table(tmp_path / "t.csv", rows)
    with pytest.raises(DataError, match=r"none of the images can be used \(paths start from the folder") as raised:
        check_usable(find_inputs([path]))
    assert len(raised.value.problems) == 11
    assert raised.value.problems[-1] == "… and 20 more"
    with pytest.raises(DataError, match=r"nowhere.png: no such file"):
        check_usable(find_inputs(["nowhere.png"]))
    check_usable(find_inputs(["nowhere.png", "https://example.org/a.png"]))
