"""Tests of sources.ranges, sources.names and sources.zips."""

from __future__ import annotations

import contextlib
import io
import struct
import unicodedata
import zipfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from source_copies import picture, write_zip
from source_hub import LoopbackHub, point_at, serve

from blpo_dspy.data.images.prepare import ImageError
from blpo_dspy.data.sources.hub.names import ImageFolder
from blpo_dspy.data.sources.hub.ranges import RangeFile
from blpo_dspy.data.sources.hub.repository import Hub
from blpo_dspy.data.sources.hub.zips import ZipImages
from blpo_dspy.errors import DataError


def over(data: bytes) -> RangeFile:
    """These bytes as a file that lies elsewhere."""
    return RangeFile(lambda start, stop: data[start:stop], len(data))


def zipped(members: dict[str, bytes], tmp_path: Path) -> ZipImages:
    """An archive with these members."""
    write_zip(tmp_path / "images.zip", members, folders=["images/"])
    data = (tmp_path / "images.zip").read_bytes()
    return ZipImages(lambda: over(data), "images.zip")


def reasons(found: list[bytes | ImageError]) -> list[str]:
    """What is said of the members without bytes."""
    return [str(item) for item in found if isinstance(item, ImageError)]


@settings(max_examples=60)
@given(
    st.binary(min_size=1, max_size=200),
    st.lists(st.tuples(st.integers(0, 220), st.integers(0, 220)), max_size=4),
    st.lists(st.tuples(st.integers(0, 220), st.integers(0, 60)), max_size=6),
)
def test_a_range_file_reads_as_the_file_itself(
    data: bytes, held: list[tuple[int, int]], reads: list[tuple[int, int]]
) -> None:
    """Seeks and reads give the bytes of the file, whatever was prefetched."""
    file, plain = over(data), io.BytesIO(data)
    file.prefetch([(min(span), max(span)) for span in held])
    for position, count in reads:
        assert file.seek(position) == plain.seek(position)
        assert file.read(count) == plain.read(count)
        assert file.tell() == plain.tell()


def test_prefetched_ranges_are_fetched_once() -> None:
    """Reads within a prefetched range fetch nothing more."""
    asked = []

    def read_range(start: int, stop: int) -> bytes:
        asked.append((start, stop))
        return bytes(stop - start)

    file = RangeFile(read_range, 1000)
    file.prefetch([(100, 200), (900, 5000)])
    for position in (100, 150, 990):
        file.seek(position)
        file.read(10)
    assert sorted(asked) == [(100, 200), (900, 1000)]


def test_fewer_bytes_than_asked_for_are_an_error() -> None:
    """A server that cuts an answer short is told of, never taken for the end of the file."""
    with pytest.raises(DataError, match="3 bytes were received for the range 0 to 10"):
        RangeFile(lambda start, stop: b"abc", 10).read(10)


def test_odd_names_are_found(tmp_path: Path) -> None:
    """Names with signs, spaces, other scripts and either Unicode spelling lead to their own images."""
    names = ["a=b&c.png", "with space.png", "猫.png", unicodedata.normalize("NFC", "café.png"), "back\\slash.png"]
    archive = zipped({f"images/{name}": picture(i) for i, name in enumerate(names)}, tmp_path)
    asked = [unicodedata.normalize("NFD", name) for name in names]
    assert list(archive.read(asked, "images")) == [picture(i) for i in range(len(names))]


def test_a_name_written_as_utf8_without_saying_so_is_found(tmp_path: Path) -> None:
    """Many packers leave out the flag that says a name is UTF-8."""
    archive = tmp_path / "images.zip"
    write_zip(archive, {"images/XX.png": picture(1)})
    data = archive.read_bytes().replace(b"XX.png", "é.png".encode())
    assert list(ZipImages(lambda: over(data), "images.zip").read(["é.png"])) == [picture(1)]


def test_a_name_with_dots_reads_the_member_and_no_file(tmp_path: Path) -> None:
    """Names that would climb out of a folder are only keys: of the archive's members, or of nothing."""
    (tmp_path / "secret.png").write_bytes(b"secret")
    archive = zipped({"../secret.png": picture(1), "/etc/other.png": picture(2)}, tmp_path)
    assert list(archive.read(["../secret.png", "/etc/other.png"])) == [picture(1), picture(2)]
    before = sorted(tmp_path.rglob("*"))
    (tmp_path / "inside").mkdir()
    found = list(ImageFolder(tmp_path / "inside").read(["../secret.png", str(tmp_path / "secret.png")]))
    assert len(reasons(found)) == 2
    assert sorted(tmp_path.rglob("*")) == sorted([*before, tmp_path / "inside"])


def test_of_members_with_one_name_the_last_counts(tmp_path: Path) -> None:
    """As when the archive is unpacked."""
    path = tmp_path / "images.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images/a.png", b"first")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("images/a.png", b"second")
    data = path.read_bytes()
    assert list(ZipImages(lambda: over(data), "images.zip").read(["a.png"])) == [b"second"]


def test_a_base_name_in_two_folders_is_not_guessed(tmp_path: Path) -> None:
    """The whole name is taken where it is there; a base name that several have is reported."""
    archive = zipped({"one/a.png": b"1", "two/a.png": b"2", "two/b.png": b"3"}, tmp_path)
    found = list(archive.read(["one/a.png", "b.png", "a.png", "c.png", "images"]))
    assert found[:2] == [b"1", b"3"]
    assert reasons(found) == ["a.png: 2 files have this name", "c.png: not found", "images: not found"]


def test_damaged_and_locked_members_are_reported_one_by_one(tmp_path: Path) -> None:
    """The other members are still read."""
    path = tmp_path / "images.zip"
    members = {f"{name}.png": picture(i) for i, name in enumerate(("good", "damaged", "locked"))}
    write_zip(path, members)
    data = bytearray(path.read_bytes())
    data[data.index(picture(1)) + 50] ^= 0xFF
    for start in (data.index(b"locked.png") - 30, data.rindex(b"locked.png") - 46):
        data[start + (6 if data[start + 2] == 3 else 8)] |= 1  # the flag for encryption, in both headers
    found = list(ZipImages(lambda: over(bytes(data)), "images.zip").read(list(members)))
    assert found[0] == picture(0)
    assert [reason.split(" (")[0] for reason in reasons(found)] == [
        "damaged.png: cannot be unpacked",
        "locked.png: cannot be unpacked",
    ]


def test_a_member_that_says_it_is_huge_is_refused(tmp_path: Path) -> None:
    """A zip bomb is not unpacked."""
    path = tmp_path / "images.zip"
    write_zip(path, {"a.png": picture(1)})
    data = bytearray(path.read_bytes())
    directory = data.rindex(b"PK\x01\x02")
    data[directory + 24 : directory + 28] = struct.pack("<I", 2**31)
    (found,) = ZipImages(lambda: over(bytes(data)), "images.zip").read(["a.png"])
    assert "larger than 256 MiB" in str(found)


def packed(count: int) -> bytes:
    """A small archive, half of its members compressed."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for i in range(count):
            archive.writestr(f"images/{i}.png", bytes(range(40)) * 2, zipfile.ZIP_DEFLATED if i % 2 else None)
    return file.getvalue()


@pytest.mark.slow
@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=6), st.integers(0, 2000), st.integers(0, 40)
)
@example([(580, 0)], 0, 0)  # a member without a name
def test_a_damaged_archive_is_reported_and_nothing_else(changes: list[tuple[int, int]], start: int, count: int) -> None:
    """Whatever bytes are changed or missing, each member comes whole, or with a reason, or the archive is refused."""
    data = bytearray(packed(4))
    for position, value in changes:
        data[position % len(data)] = value
    begin = start % len(data)
    del data[begin : begin + count]
    names = [f"{i}.png" for i in range(4)]
    found = None
    with contextlib.suppress(DataError):
        found = list(ZipImages(lambda: over(bytes(data)), "images.zip").read(names, "images"))
    assert found is None or len(found) == 4
    assert all(isinstance(item, (bytes, ImageError)) for item in found or [])


def test_a_member_packed_by_a_rare_method_is_reported(tmp_path: Path) -> None:
    """Only stored and deflated members are read, which is what images come as."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("a.png", picture(1))
    data = (tmp_path / "a.zip").read_bytes()
    (found,) = ZipImages(lambda: over(data), "a.zip").read(["a.png"])
    assert "compressed by method 12" in str(found)


@pytest.mark.parametrize("data", [b"", b"<html>not found</html>", b"PK\x03\x04" + bytes(500)])
def test_what_is_no_archive_is_said_plainly(data: bytes) -> None:
    """An empty, cut or other file is named with the advice to fetch it again."""
    with pytest.raises(DataError, match=r"images\.zip: not a complete zip archive"):
        list(ZipImages(lambda: over(data), "images.zip").read(["a.png"]))


@pytest.mark.slow
def test_only_sampled_members_and_the_directory_cross_the_wire(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an archive on a server the bytes of the members asked for are fetched, each once, and its directory."""
    members = {f"images/{i}.png": picture(i) * 8 for i in range(400)}
    (tmp_path / "repo").mkdir()
    write_zip(tmp_path / "repo" / "images.zip", members)
    whole = (tmp_path / "repo" / "images.zip").stat().st_size
    with serve(LoopbackHub({"some/one": tmp_path / "repo"})) as server:
        point_at(monkeypatch, server.address, tmp_path / "caches")
        hub = Hub("some/one")
        asked = [f"{i}.png" for i in range(5, 400, 13)]
        found = list(ZipImages(lambda: hub.open("images.zip"), "images.zip").read(asked, "images"))
    assert found == [members[f"images/{name}"] for name in asked]
    sampled = sum(len(members[f"images/{name}"]) for name in asked)
    assert sampled < server.sent["images.zip"] < sampled + 2**16 + 150 * len(asked) < whole / 4
    gets = [path for method, path in server.requests if method == "GET" and path.endswith("images.zip")]
    assert len(gets) == len(asked) + 1
