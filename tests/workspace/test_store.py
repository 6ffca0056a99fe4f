"""The store: transactions, several processes, and what is left of one that died."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from stores import change, select

from blpo_dspy.workspace.job import Job
from blpo_dspy.workspace.store import FILE_NAME, FORMAT_VERSION, Store, StoreError


def in_process(code: str, folder: Path) -> subprocess.Popen[str]:
    """Starts a process with a job of a store."""
    start = "import os, sys; from pathlib import Path; from blpo_dspy.workspace.job import Job"
    start += f"; folder = Path({str(folder)!r})"
    return subprocess.Popen([sys.executable, "-c", f"{start}\n{code}"], stdout=subprocess.PIPE, text=True)


def test_a_transaction_is_kept_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    """Nested ones are part of the outer one."""
    with closing(Store(tmp_path / FILE_NAME)) as store:

        def written(*, fails: bool) -> None:
            with store.transaction():
                store.write("INSERT INTO files VALUES ('a', 'x')")
                with store.transaction():
                    store.write("INSERT INTO files VALUES ('b', 'y')")
                if fails:
                    raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            written(fails=True)
        assert store.one("SELECT COUNT(*) FROM files") == (0,)
        written(fails=False)
    assert select(tmp_path, "SELECT path FROM files ORDER BY path") == [("a",), ("b",)]


def test_threads_write_without_losing_a_row(tmp_path: Path) -> None:
    """Sixteen of them, each in transactions of its own."""
    with closing(Store(tmp_path / FILE_NAME)) as store, ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: store.write("INSERT INTO files VALUES (?, '')", (str(n),)), range(400)))
        assert store.one("SELECT COUNT(*) FROM files") == (400,)
        assert sum(1 for _ in store.rows("SELECT path FROM files", at_once=7)) == 400


@pytest.mark.slow
def test_a_request_is_reserved_once_over_processes(tmp_path: Path) -> None:
    """Four processes ask for the same hundred at once."""
    code = (
        "job = Job.in_folder(folder, 'search', {}); print(sum(job.reserve(str(n), 'judge', 'm') for n in range(100)))"
    )
    processes = [in_process(code + "; import time; sys.stdout.flush(); time.sleep(60)", tmp_path) for _ in range(4)]
    try:
        assert sum(int(process.stdout.readline()) for process in processes if process.stdout) == 100
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.mark.slow
def test_what_a_dead_process_had_under_way_counts_as_failed(tmp_path: Path) -> None:
    """It was sent, and may have been charged; the request can be made again."""
    code = "job = Job.in_folder(folder, 'search', {}); job.reserve('k', 'judge', 'm'); os.kill(os.getpid(), 9)"
    assert in_process(code, tmp_path).wait(60) == -signal.SIGKILL
    assert select(tmp_path, "SELECT COUNT(*) FROM under_way") == [(1,)]
    with closing(Job.in_folder(tmp_path, "search", {})) as job:
        assert (job.spent()["judge"].calls, job.failed()["judge"].failed) == (1, 1)
        assert job.reserve("k", "judge", "m")


def test_what_a_living_process_has_under_way_is_left_to_it(tmp_path: Path) -> None:
    """Another session of it does not send the same."""
    with (
        closing(Job.in_folder(tmp_path, "search", {})) as first,
        closing(Job.in_folder(tmp_path, "search", {})) as other,
    ):
        assert first.reserve("k", "judge", "m")
        assert not other.reserve("k", "judge", "m")
        other.store.bury()
        assert other.spent().roles == {}


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"not a database at all, but a text", "is damaged"), (b"SQLite format 3\0" + bytes(200), "is damaged")],
)
def test_another_file_is_refused_and_left(content: bytes, says: str, tmp_path: Path) -> None:
    """With what to do."""
    (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(StoreError, match=says):
        Store(tmp_path / FILE_NAME)
    assert (tmp_path / FILE_NAME).read_bytes() == content


def test_a_newer_version_is_refused(tmp_path: Path) -> None:
    """Which may mean other things by the same names."""
    Store(tmp_path / FILE_NAME).close()
    change(tmp_path, f"PRAGMA user_version={FORMAT_VERSION + 1}")
    with pytest.raises(StoreError, match=r"newer version of blpo-dspy \(format 3, known is 2\); update"):
        Store(tmp_path / FILE_NAME)


def test_a_full_disk_is_said_and_loses_nothing(tmp_path: Path) -> None:
    """What was written stays, and more can be written once there is room."""
    with closing(Store(tmp_path / FILE_NAME)) as store:
        store.write("INSERT INTO files VALUES ('a', 'x')")
        pages = store.one("PRAGMA page_count")[0]
        store.one(f"PRAGMA max_page_count={pages}")
        with pytest.raises(StoreError, match=r"disk is full\); free space on its disk and repeat the command"):
            store.write("INSERT INTO files VALUES ('b', ?)", ("x" * 100_000,))
        store.one("PRAGMA max_page_count=100000")
        store.write("INSERT INTO files VALUES ('b', ?)", ("x" * 100_000,))
        assert store.one("SELECT COUNT(*) FROM files") == (2,)


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    """As one that is used after the end of a run."""
    store = Store(tmp_path / FILE_NAME)
    store.close()
    with pytest.raises(StoreError, match="is closed"):
        store.write("INSERT INTO files VALUES ('a', 'x')")


def test_the_file_is_one_once_it_is_closed(tmp_path: Path) -> None:
    """It can be copied as it is."""
    Store(tmp_path / FILE_NAME).close()
    assert os.listdir(tmp_path) == [FILE_NAME]
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as found:
        assert found.execute("PRAGMA integrity_check").fetchone() == ("ok",)
