"""Images and tables by an address that fsspec reads; here in memory."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import fsspec
import pytest
from image_files import encoded
from PIL import Image

from blpo_dspy.data.fields import InputFields
from blpo_dspy.data.images.prepare import ImageError, content
from blpo_dspy.data.images.remote import RemoteFolder, RemoteImage, is_remote
from blpo_dspy.data.inputs import Inputs, find_inputs, read_images
from blpo_dspy.errors import BlpoError, DataError


def png(grey: int) -> bytes:
    """A small picture."""
    return encoded(Image.new("RGB", (8, 8), (grey,) * 3))


@pytest.fixture
def store() -> Iterator[Any]:
    """A bucket with three pictures and a table of them."""
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    for name, grey in (("a.png", 1), ("in/b.png", 2), ("in/c.JPG", 3), (".hidden/d.png", 4)):
        memory.pipe(f"/bucket/photos/{name}", png(grey))
    memory.pipe("/bucket/photos/notes.txt", b"no image")
    memory.pipe(
        "/bucket/photos/t.csv", b"image,n\na.png,1\nin/b.png,2\nnone.png,3\n../secret.png,4\ns3://other/x.png,5\n"
    )
    memory.pipe("/bucket/secret.png", png(9))
    yield memory
    memory.store.clear()


def read(inputs: Inputs) -> list[object]:
    """The pictures of the rows, or why there is none."""
    found: list[object] = []
    for _, draft in inputs.drafts(range(len(inputs.rows))):
        try:
            found.append(draft.filled(read_images(draft))["image"])
        except ImageError as error:
            found.append(error.reason)
    return found


def test_a_folder_by_address_gives_its_images(store: Any) -> None:
    """By their paths below it; also in another process, from a subset."""
    inputs = find_inputs(["memory://bucket/photos"])
    assert (inputs.name, inputs.columns) == ("memory://bucket/photos", ("image",))
    assert [row.where for row in inputs.rows] == ["a.png", "in/b.png", "in/c.JPG"]
    assert inputs.notes == ("2 files that are not images were skipped: 1 .txt, 1 .csv",)
    assert read(inputs) == [png(1), png(2), png(3)]
    assert [draft.place for _, draft in inputs.drafts({1})] == ["in/b.png"]
    assert read(pickle.loads(pickle.dumps(inputs.subset([1, 2])))) == [png(2), png(3)]


def test_a_table_by_address_names_images_below_its_folder_and_none_elsewhere(store: Any) -> None:
    """A path out of it, and an address in a cell, are data of others."""
    inputs = find_inputs(["memory://bucket/photos/t.csv"])
    assert inputs.columns == ("image", "n")
    good, other, missing, outside, foreign = read(inputs)
    assert (good, other) == (png(1), png(2))
    assert missing == "no such file"
    assert "leaves the folder of the table" in str(outside)
    assert "other addresses are not read" in str(foreign)


def test_a_judge_with_context_takes_it_for_a_folder_by_address(store: Any) -> None:
    """As for any folder."""
    fields = InputFields.of(context=["prompt"])
    inputs = find_inputs(["memory://bucket/photos"], fields=fields, texts={"prompt": "a cat"})
    assert [draft.context for _, draft in inputs.drafts({0})] == [{"prompt": "a cat"}]
    with pytest.raises(BlpoError, match="missing: prompt"):
        find_inputs(["memory://bucket/photos"], fields=fields)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("memory://nowhere/photos", "no images"),
        ("memory://bucket/none.csv", "no such file"),
        ("nosuch://bucket/photos", "cannot be read .*nosuch"),
    ],
)
def test_what_cannot_be_read_at_an_address_is_named(url: str, message: str, store: Any) -> None:
    """With the address and the reason."""
    with pytest.raises(DataError, match=rf"{url}: .*{message}"):
        find_inputs([url])


def test_a_large_file_is_no_image(store: Any) -> None:
    """It is not read to its end."""
    with pytest.raises(ImageError, match="more than 10 bytes"):
        RemoteImage("memory://bucket/secret.png").read(10)
    assert content(RemoteFolder("memory://bucket").image("secret.png")) == png(9)


@pytest.mark.parametrize(
    ("source", "remote"),
    [
        ("s3://bucket/photos", True),
        ("gs://bucket/photos/", True),
        ("gs://bucket/t.parquet", True),
        ("gs://bucket/a.png", False),
        ("https://a.example/t.csv", False),
        ("data:image/png;base64,x", False),
        ("photos/t.csv", False),
        ("C:/photos", False),
    ],
)
def test_an_address_is_told_from_an_image_that_the_provider_fetches(source: str, remote: bool) -> None:
    """An http(s) address always is one, and a gs address unless it is a table or ends with a slash."""
    assert is_remote(source) == remote
