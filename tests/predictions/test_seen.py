"""What is known of image files, so that they need not be read again."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Collection
from pathlib import Path

import pytest

from blpo_dspy.data.inputs import Inputs, content_key, find_inputs, print_of, read_images
from blpo_dspy.predictions.seen import SeenFiles
from blpo_dspy.workspace.store import Store


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with two files of the same size, modified an hour ago."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(name.encode())
        age(folder / name, 3600)
    return folder


def age(path: Path, seconds: float) -> None:
    """Sets when a file was modified."""
    then = time.time() - seconds
    os.utime(path, (then, then))


def keys(inputs: Inputs, kept: Path, done: Collection[str] = ()) -> list[str]:
    """Returns the keys of all rows, and keeps what was seen."""
    with contextlib.closing(Store(kept)) as store:
        seen = SeenFiles(store)
        found = [seen.content(draft, done)[0] for _, draft in inputs.drafts(range(len(inputs.rows)))]
        seen.save()
        return found


def files(kept: Path) -> dict[str, str]:
    """Returns the state of each file that is kept."""
    with contextlib.closing(Store(kept)) as store:
        return dict(store.rows("SELECT path, state FROM files"))


def true_keys(inputs: Inputs) -> list[str]:
    """Returns the keys of all rows by reading them."""
    return [
        content_key(draft, list(map(print_of, read_images(draft))))
        for _, draft in inputs.drafts(range(len(inputs.rows)))
    ]


def mislead(kept: Path, photos: Path) -> None:
    """Exchanges the hashes of the two files, so that a key shows whether its file was read."""
    a, b = (str(photos / name) for name in ("a.png", "b.png"))
    states = files(kept)
    with contextlib.closing(Store(kept)) as store:
        for path, other in ((a, b), (b, a)):
            state = states[other][:64] + states[path][64:]
            store.write("UPDATE files SET state = ? WHERE path = ?", (state, path))


def test_a_file_that_stays_as_it_was_is_read_again_only_without_a_verdict(photos: Path, tmp_path: Path) -> None:
    """The hash that was kept stands in for reading what is done, and for nothing else."""
    inputs, kept = find_inputs([photos]), tmp_path / "store"
    a, b = true_keys(inputs)
    assert keys(inputs, kept) == [a, b]
    mislead(kept, photos)
    assert keys(inputs, kept, {a, b}) == [b, a]
    assert keys(inputs, kept) == [a, b]


def test_another_state_of_a_file_means_that_it_is_read(photos: Path, tmp_path: Path) -> None:
    """The size and the time of modification may be the same: replacing a file changes its inode or its own time."""
    inputs, kept = find_inputs([photos]), tmp_path / "store"
    before = keys(inputs, kept)
    status = (photos / "a.png").stat()
    (photos / "a.png").write_bytes(b"A.png")
    os.utime(photos / "a.png", ns=(status.st_atime_ns, status.st_mtime_ns))
    after = keys(inputs, kept, before)
    assert after == true_keys(inputs)
    assert (after[0] != before[0], after[1] == before[1]) == (True, True)
    shutil.copy2(photos / "b.png", tmp_path / "new.png")
    os.replace(tmp_path / "new.png", photos / "a.png")
    assert keys(inputs, kept, {*before, *after}) == [before[1], before[1]]


@pytest.mark.parametrize("seconds", [0.5, -60])
def test_what_was_modified_just_before_it_was_read_is_not_kept(seconds: float, photos: Path, tmp_path: Path) -> None:
    """Such a file may change once more in the same tick of its clock, and one from the future at any time."""
    inputs, kept = find_inputs([photos]), tmp_path / "store"
    age(photos / "a.png", seconds)
    keys(inputs, kept)
    assert list(files(kept)) == [str(photos / "b.png")]


def test_files_alone_are_kept(photos: Path, tmp_path: Path) -> None:
    """URLs and bytes have no state."""
    rows = [{"image": source} for source in (str(photos / "a.png"), b"bytes", "https://x.org/a.png")]
    inputs, kept = find_inputs(rows, allow_outside=True), tmp_path / "store"
    known = keys(inputs, kept)
    assert list(files(kept)) == [str(photos / "a.png")]
    assert keys(inputs, kept, known) == known == true_keys(inputs)


def test_a_row_is_unchanged_while_its_files_are_what_they_were(photos: Path, tmp_path: Path) -> None:
    """One that was not read, or was modified just before it was read, is not known to be."""
    (photos / "new.png").write_bytes(b"c.png")
    old, other, new = (draft for _, draft in find_inputs([photos]).drafts(range(3)))
    seen = SeenFiles(Store(None))
    for draft in (old, new):
        seen.content(draft, ())
    assert [seen.unchanged(draft) for draft in (old, other, new)] == [True, False, False]
    (photos / "a.png").write_bytes(b"A.png")
    age(photos / "a.png", 3600)
    assert not seen.unchanged(old)
