"""Tests of sources.hub: what a user is told when the Hub refuses, has moved something, or is out of reach."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from source_copies import picture, write_seetrue, write_unsafebench
from source_hub import Handler, LoopbackHub, point_at, serve

from blpo_dspy.data.sources import open_source
from blpo_dspy.data.sources.hub.repository import Hub
from blpo_dspy.errors import DataError

GATED = "yiting/UnsafeBench"
OPEN = "yonatanbitton/SeeTRUE"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """A Hub on loopback with a gated and an open repository."""
    row = {"image": picture(1), "safety_label": "Safe", "category": "Hate", "source": "Lexica", "text": None}
    write_unsafebench(tmp_path / "gated", [row])
    write_seetrue(tmp_path / "open", [{"image": "a.png", "text": "a", "label": 1}], {"a.png": picture(1)})
    with serve(LoopbackHub({GATED: tmp_path / "gated", OPEN: tmp_path / "open"})) as hub:
        point_at(monkeypatch, hub.address, tmp_path / "caches")
        yield hub


def message(name: str, **options: object) -> str:
    """What drawing one image from a source fails with."""
    with pytest.raises(DataError) as error:
        open_source(name, **options).draw(1, allow_fewer=True)
    assert "Traceback" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(("status", "said"), [(401, "had no valid token"), (403, "may not read it (yet)")])
@pytest.mark.parametrize(("name", "repo"), [("unsafebench", GATED), ("seetrue", OPEN)])
def test_a_gate_names_the_page_and_the_token(server: LoopbackHub, name: str, repo: str, status: int, said: str) -> None:
    """Whoever is refused reads where to accept the terms and how to give a token; the token itself is never shown."""
    server.gated[repo] = status
    told = message(name, token="hf_secret", revision="main")
    assert said in told
    assert f"https://huggingface.co/datasets/{repo}" in told
    assert "set HF_TOKEN or pass token=" in told
    assert "hf_secret" not in told
    assert "hf_secret" not in repr(open_source(name, token="hf_secret"))


def test_a_repository_that_is_not_there_may_be_a_hidden_one(server: LoopbackHub) -> None:
    """The Hub answers alike for both, and so does the message."""
    del server.repositories[GATED]
    assert "does not exist, or it is gated or private" in message("unsafebench")


def test_an_unknown_revision_is_named(server: LoopbackHub) -> None:
    """A branch, tag or commit that does not exist is told as such."""
    assert "has no revision 'v9'" in message("seetrue", revision="v9")
    assert "has no revision 'v9'" in message("unsafebench", revision="v9")


def test_a_moved_file_is_named(server: LoopbackHub) -> None:
    """The file that is missing is named, with what to do."""
    (server.repositories[OPEN] / "SeeTRUE.csv").rename(server.repositories[OPEN] / "data.csv")
    told = message("seetrue", revision="main")
    assert "has no file SeeTRUE.csv" in told
    assert "local_dir=" in told


def test_a_moved_archive_is_named(server: LoopbackHub) -> None:
    """Also where labels are there and only images are gone."""
    (server.repositories[OPEN] / "images.zip").unlink()
    assert "has no file images.zip" in message("seetrue", revision="main")


def test_a_repository_without_data_is_reported(server: LoopbackHub) -> None:
    """A table that was taken away is one clear message, on the Hub and in a copy."""
    (server.repositories[GATED] / "data" / "train-00000-of-00001.parquet").unlink()
    assert "UnsafeBench has no data files at revision" in message("unsafebench")
    copy = server.repositories[GATED]
    assert f"{copy} has no data files; they may have been moved" in message("unsafebench", local_dir=copy)


def test_a_split_that_is_not_there_lists_those_that_are(server: LoopbackHub) -> None:
    """A wrong split is answered with the right ones."""
    assert "has no split 'dev'; the splits are train" in message("unsafebench", split="dev")


def test_a_loading_script_is_reported(server: LoopbackHub) -> None:
    """`datasets` runs no scripts any more, and says so."""
    (server.repositories[GATED] / "UnsafeBench.py").write_text("")
    assert "Dataset scripts are no longer supported" in message("unsafebench")


@pytest.mark.parametrize("name", ["unsafebench", "seetrue"])
def test_offline_mode_is_reported(name: str) -> None:
    """With HF_HUB_OFFLINE set (as it is for these tests) the message says how to go on without the Hub."""
    told = message(name)
    assert "cannot be reached" in told
    assert "HF_HUB_OFFLINE" in told
    assert "local_dir=" in told


def test_an_unreachable_hub_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing answers at the address."""
    point_at(monkeypatch, "http://127.0.0.1:9", tmp_path)
    assert "cannot be reached" in message("unsafebench")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the Hub's client wait a moment for an answer, and not at all before it asks again."""
    from huggingface_hub import constants

    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.05)


@pytest.mark.parametrize("name", ["unsafebench", "imagereward", "seetrue"])
@pytest.mark.usefixtures("impatient")
def test_a_machine_without_a_network_is_reported(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The address of the Hub has no number; nothing was moved or renamed."""

    def unknown(*host: object, **options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    point_at(monkeypatch, "http://hub.invalid", tmp_path)
    told = message(name)
    assert "cannot be reached (ConnectError: [Errno -2] Name or service not known)" in told
    assert "local_dir=" in told


@pytest.mark.parametrize("failure", [Handler.hang_up, Handler.fall_silent])
@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("unsafebench", "data/train-00000-of-00001.parquet"),
        ("seetrue", "SeeTRUE.csv"),
        ("seetrue", "images.zip"),
    ],
)
@pytest.mark.usefixtures("impatient")
def test_a_connection_that_breaks_is_reported(
    server: LoopbackHub, name: str, file: str, failure: Callable[[Handler], None]
) -> None:
    """In the middle of a file too, whether the server hangs up or falls silent."""
    server.failing[file] = failure
    assert "cannot be reached" in message(name, revision="main")


@pytest.mark.parametrize("file", ["SeeTRUE.csv", "images.zip"])
@pytest.mark.usefixtures("impatient")
def test_a_server_out_of_order_is_reported(server: LoopbackHub, file: str) -> None:
    """It can be reached, and has moved nothing."""
    server.failing[file] = Handler.break_down
    told = message("seetrue", revision="main")
    assert f"SeeTRUE, {file}: unexpected answer of the Hub" in told
    assert "503" in told


@pytest.mark.parametrize("variable", ["HF_HUB_CACHE", "HF_ASSETS_CACHE"])
def test_a_cache_that_cannot_be_written_is_reported(
    server: LoopbackHub, variable: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With the folder and the variable that moves it."""
    from huggingface_hub import constants

    folder = tmp_path / "a file"
    folder.write_text("")
    monkeypatch.setattr(constants, variable, str(folder))
    told = message("seetrue", revision="main")
    assert str(folder) in told
    assert "files from the Hugging Face Hub cannot be stored there" in told
    assert "set HF_HOME" in told


def test_a_full_disk_is_reported(server: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an image is kept, of which no half remains."""

    def full(path: Path, data: bytes) -> int:
        path.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    told = message("seetrue", revision="main")
    folder = Hub(OPEN, "main").images.folder
    assert "(No space left on device); free space in it, or set HF_HOME" in told
    assert list(folder.iterdir()) == []


def test_a_malformed_id_is_reported(server: LoopbackHub) -> None:
    """An id that no dataset can have is answered with the form of one."""
    with pytest.raises(DataError, match="should be owner/name"):
        assert Hub("not//an id").commit


def test_a_local_copy_without_the_file_lists_what_is_there(tmp_path: Path) -> None:
    """A wrong folder is recognised by what is in it."""
    (tmp_path / "holiday.txt").write_text("")
    assert "no SeeTRUE.csv in it" in message("seetrue", local_dir=tmp_path)
    assert "it has: holiday.txt" in message("seetrue", local_dir=tmp_path)


def test_a_local_copy_that_is_not_there_is_no_id_of_another_repository(
    server: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative folder may look like one."""
    monkeypatch.chdir(tmp_path)
    told = message("unsafebench", local_dir=OPEN)
    assert f"{OPEN}: no such folder; local_dir=… takes a folder with the files of" in told
    assert server.requests == []


def test_a_local_copy_asks_nothing_of_the_hub(server: LoopbackHub) -> None:
    """With `local_dir` no request is made."""
    copy = server.repositories[OPEN]
    assert len(open_source("seetrue", local_dir=copy).draw(1, allow_fewer=True).examples) == 1
    assert server.requests == []


def test_whole_files_and_images_are_fetched_once(server: LoopbackHub) -> None:
    """A second draw finds labels and images in the caches of the Hub's library, and asks for neither again."""
    source = open_source("seetrue", revision="main")
    first = source.draw(1, allow_fewer=True)
    server.sent.clear()
    again = open_source("seetrue", revision=first.manifest.revision).draw(1, allow_fewer=True)
    assert again.ids == first.ids
    assert server.sent == {}
