"""Rows judged by the workers of Dask: processes started here, or a cluster of threads of this process."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dspy
import pytest
from engines import ScriptedServer, completion
from image_files import encoded
from judges import SAFETY
from PIL import Image
from workspaces import shared

from blpo_dspy.errors import BlpoError, ModelError
from blpo_dspy.models.lm import Models
from blpo_dspy.predictions import judge_chunk, plan_chunks, predict
from blpo_dspy.programs import VisualJudge

pytestmark = pytest.mark.slow

JUDGE = VisualJudge(SAFETY, instruction="Judge how safe it is.", evidence="image")
LOCAL: dict[str, Any] = {"threads_per_worker": 1, "processes": False, "protocol": "tcp", "dashboard_address": None}
SAFE = completion("[[ ## label ## ]]\nSafe\n\n[[ ## completed ## ]]")


def safe(body: dict[str, Any]) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Calls everything safe, after a while."""
    time.sleep(0.02)
    if "[[ ## description ## ]]" in str(body["messages"][0]) and "[[ ## label ## ]]" not in str(body["messages"][0]):
        return 200, completion("[[ ## description ## ]]\ngrey\n\n[[ ## completed ## ]]"), {}
    return 200, SAFE, {}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two workers with a thread each."""
    distributed = pytest.importorskip("distributed", reason="the extra dask is not installed")
    with distributed.LocalCluster(n_workers=2, **LOCAL) as found:
        yield found


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with 48 pictures."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(48):
        (folder / f"{number:02}.png").write_bytes(encoded(Image.new("RGB", (8, 8), (3 * number,) * 3)))
    return folder


def models_at(server: ScriptedServer) -> Models:
    """The models that a server answers for."""
    lm = dspy.LM("openai/gpt-4o-mini", api_base=server.url, api_key="EMPTY", cache=False)
    return Models(lm, lm, lm)


def repeated(server: ScriptedServer) -> int:
    """How many requests came again."""
    return sum(count - 1 for count in Counter(str(body["messages"]) for body in server.bodies).values())


def test_without_dask_the_error_names_the_extra(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is written."""
    monkeypatch.setitem(sys.modules, "distributed", None)
    for where in ({"workers": "tcp://127.0.0.1:1"}, {"workers": 2}):
        with pytest.raises(BlpoError, match=r'other processes need Dask: pip install "blpo-dspy\[dask\]"'):
            shared(predict, JUDGE, photos, out=tmp_path / "o.csv", models=Models.named("embedded"), **where)
    assert list(tmp_path.iterdir()) == [photos]


def test_processes_give_the_table_of_one_and_a_killed_one_costs_its_chunk(photos: Path, tmp_path: Path) -> None:
    """Its rows are sent again, and each image has one row."""
    pytest.importorskip("distributed", reason="the extra dask is not installed")
    killed = threading.Event()

    def script(body: dict[str, Any]) -> tuple[int, dict[str, Any], dict[str, str]]:
        if len(server.bodies) >= 12 and not killed.is_set():
            killed.set()
            os.kill(workers_of(os.getpid())[0], signal.SIGKILL)
        return safe(body)

    with ScriptedServer(script) as server:
        options: dict[str, Any] = {"models": models_at(server), "num_threads": 2}
        done = shared(predict, JUDGE, photos, out=tmp_path / "two" / "o.csv", workers=2, **options)
        assert (killed.is_set(), done.complete, done.errors, done.judged) == (True, True, 0, 48)
        assert len(server.bodies) - repeated(server) == 48
        shared(predict, JUDGE, photos, out=tmp_path / "one" / "o.csv", **options)
    assert (tmp_path / "two" / "o.csv").read_bytes() == (tmp_path / "one" / "o.csv").read_bytes()


def workers_of(process: int) -> list[int]:
    """The processes of Dask's workers that a process has started."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if parent == process and b"spawn_main" in command:
            found.append(int(folder.name))
    return found


def test_a_cluster_gives_the_table_of_one_process_and_keeps_the_caps(
    cluster: Any, photos: Path, tmp_path: Path
) -> None:
    """By its address or a client, which stays open; both workers judge."""
    from distributed import Client

    now, most, lock = [0], [0], threading.Lock()

    def script(body: dict[str, Any]) -> tuple[int, dict[str, Any], dict[str, str]]:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        answer = safe(body)
        with lock:
            now[0] -= 1
        return answer

    out = tmp_path / "many" / "o.csv"
    with ScriptedServer(script) as server, Client(cluster) as client:
        options: dict[str, Any] = {"out": out, "models": models_at(server), "max_in_flight": 4, "num_threads": 2}
        first = shared(predict, JUDGE, photos, workers=cluster.scheduler_address, max_calls=20, **options)
        assert (first.ledger.total.calls, len(server.bodies), first.complete) == (20, 20, False)
        second = shared(predict, JUDGE, photos, workers=client, **options)
        assert client.status == "running"
        assert 2 < most[0] <= 4
        assert (second.complete, second.ledger.total.calls, second.earlier.total.calls) == (True, 28, 20)
        shared(predict, JUDGE, photos, out=tmp_path / "one" / "o.csv", models=models_at(server), num_threads=8)
    assert out.read_bytes() == (tmp_path / "one" / "o.csv").read_bytes()


@pytest.mark.parametrize("first", ["here", "there"])
def test_a_run_begun_in_one_place_goes_on_in_the_other(first: str, cluster: Any, photos: Path, tmp_path: Path) -> None:
    """No paid call is repeated."""
    judge = VisualJudge(SAFETY, instruction="Judge how safe it is.", evidence="both")
    places: list[dict[str, Any]] = [{}, {"workers": cluster}]
    with ScriptedServer(safe) as server:
        options: dict[str, Any] = {"out": tmp_path / "o.csv", "models": models_at(server), "num_threads": 2}
        for where in places if first == "here" else places[::-1]:
            more = {"max_calls": 20, "num_threads": 1} if where == places[first == "there"] else {}
            done = shared(predict, judge, photos, **{**options, **where, **more})
        assert done.complete
        assert (len(server.bodies), repeated(server)) == (96, 0)


def test_two_processes_on_one_output_share_the_answers(photos: Path, tmp_path: Path) -> None:
    """Here threads with stores of their own: each request is sent once."""
    with ScriptedServer(safe) as server:
        options: dict[str, Any] = {"out": tmp_path / "o.csv", "models": models_at(server), "num_threads": 2}
        found: list[Any] = []
        both = [
            threading.Thread(target=lambda: found.append(shared(predict, JUDGE, photos, **options))) for _ in range(2)
        ]
        for one in both:
            one.start()
        for one in both:
            one.join()
        assert [done.complete for done in found] == [True, True]
        assert (len(server.bodies), repeated(server)) == (48, 0)


def test_an_error_of_a_worker_is_raised(cluster: Any, photos: Path, tmp_path: Path) -> None:
    """As in one process."""
    with (
        ScriptedServer(lambda body: (401, {"error": {"message": "wrong key"}}, {})) as server,
        pytest.raises(ModelError, match=r"the model cannot be used: .*wrong key"),
    ):
        shared(
            predict, JUDGE, photos, out=tmp_path / "o.csv", models=models_at(server), workers=cluster.scheduler_address
        )


def test_a_scheduler_that_goes_away_ends_the_call_and_what_is_done_stays(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next call continues, here chunk by chunk."""
    monkeypatch.setattr("blpo_dspy.predictions.cluster._CONNECTING", 2)
    distributed = pytest.importorskip("distributed", reason="the extra dask is not installed")
    out, own = tmp_path / "o.csv", distributed.LocalCluster(n_workers=1, silence_logs=50, **LOCAL)

    def script(body: dict[str, Any]) -> tuple[int, dict[str, Any], dict[str, str]]:
        if len(server.bodies) == 40:
            threading.Thread(target=own.close).start()  # which waits for the task
        return safe(body)

    with ScriptedServer(script) as server:
        with pytest.raises(BlpoError, match=r"the cluster's scheduler is gone .*the same call continues"):
            shared(
                predict, JUDGE, photos, out=out, models=models_at(server), num_threads=1, workers=own.scheduler_address
            )
        plan = shared(plan_chunks, JUDGE, photos, out=out, models=models_at(server), num_threads=2)
        assert plan.merge(map(judge_chunk, plan.chunks)).complete
        assert len(server.bodies) < 2 * 48


def test_what_is_not_an_address_is_refused_without_a_client(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client would wait a minute to close itself, and then print a traceback."""
    distributed = pytest.importorskip("distributed", reason="the extra dask is not installed")
    monkeypatch.delattr(distributed.Client, "__init__")
    monkeypatch.delattr(distributed.Client, "__del__")
    with pytest.raises(BlpoError, match=r"cluster='nonsense': no Dask scheduler answers there .*missing port"):
        shared(predict, JUDGE, photos, out=tmp_path / "o.csv", models=Models.named("embedded"), workers="nonsense")


def test_an_address_where_no_scheduler_answers_is_refused(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Naming it."""
    pytest.importorskip("distributed", reason="the extra dask is not installed")
    monkeypatch.setattr("blpo_dspy.predictions.cluster._CONNECTING", 0.2)
    with pytest.raises(BlpoError, match=r"cluster='tcp://127\.0\.0\.1:1': no Dask scheduler answers there"):
        shared(
            predict, JUDGE, photos, out=tmp_path / "o.csv", models=Models.named("embedded"), workers="tcp://127.0.0.1:1"
        )
