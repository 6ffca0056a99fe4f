"""Shards judged by the workers of a Dask cluster, here threads of this process."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dspy
import pytest
from engines import ScriptedServer, completion
from image_files import encoded
from judges import SAFETY
from PIL import Image

from blpo_dspy.errors import BlpoError, ModelError
from blpo_dspy.models.lm import Models
from blpo_dspy.predictions import judge_shard, plan_shards, predict
from blpo_dspy.programs import VisualJudge

pytestmark = pytest.mark.slow

JUDGE = VisualJudge(SAFETY, instruction="Judge how safe it is.", evidence="image")
LOCAL: dict[str, Any] = {
    "threads_per_worker": 1,
    "processes": False,
    "protocol": "tcp",
    "dashboard_address": "127.0.0.1:0",
}
SAFE = completion("[[ ## label ## ]]\nSafe\n\n[[ ## completed ## ]]")


def test_without_dask_the_error_names_the_extra(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is written."""
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(BlpoError, match=r'a cluster needs Dask: pip install "blpo-dspy\[dask\]"'):
        predict(JUDGE, photos, out=tmp_path / "o.csv", models=Models.named("embedded"), cluster="tcp://127.0.0.1:1")
    assert list(tmp_path.iterdir()) == [photos]


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
        time.sleep(0.02)
        with lock:
            now[0] -= 1
        return 200, SAFE, {}

    out = tmp_path / "o.csv"
    with ScriptedServer(script) as server, Client(cluster) as client:
        options: dict[str, Any] = {"out": out, "models": models_at(server), "max_in_flight": 4}
        first = predict(JUDGE, photos, cluster=cluster.scheduler_address, max_calls=20, **options)
        assert (first.ledger.total.calls, len(server.bodies), first.complete) == (20, 20, False)
        second = predict(JUDGE, photos, cluster=client, **options)
        assert client.status == "running"
        assert 2 < most[0] <= 4
        assert (second.complete, second.ledger.total.calls, second.earlier.total.calls) == (True, 28, 20)
        predict(JUDGE, photos, out=tmp_path / "one.csv", models=models_at(server), num_threads=8)
    assert out.read_bytes() == (tmp_path / "one.csv").read_bytes()


def test_an_error_of_a_worker_is_raised(cluster: Any, photos: Path, tmp_path: Path) -> None:
    """As in one process."""
    with (
        ScriptedServer(lambda body: (401, {"error": {"message": "wrong key"}}, {})) as server,
        pytest.raises(ModelError, match=r"the model cannot be used: .*wrong key"),
    ):
        predict(JUDGE, photos, out=tmp_path / "o.csv", models=models_at(server), cluster=cluster.scheduler_address)


def test_a_worker_that_is_lost_costs_only_its_calls_under_way(cluster: Any, photos: Path, tmp_path: Path) -> None:
    """Another one resumes its shard; what the lost one still writes is its own."""
    from distributed import Client

    closed = threading.Event()

    def script(body: dict[str, Any]) -> tuple[int, dict[str, Any], dict[str, str]]:
        if len(server.bodies) >= 12 and not closed.is_set():
            closed.set()
            with Client(cluster) as client:
                client.retire_workers([next(iter(client.ncores()))], close_workers=True)
        time.sleep(0.02)
        return 200, SAFE, {}

    with ScriptedServer(script) as server:
        done = predict(JUDGE, photos, out=tmp_path / "o.csv", models=models_at(server), num_threads=2, cluster=cluster)
        assert closed.is_set()
        assert (done.complete, done.errors) == (True, 0)
        assert 48 <= len(server.bodies) <= 48 + 2


def test_a_scheduler_that_goes_away_ends_the_call_and_what_is_done_stays(photos: Path, tmp_path: Path) -> None:
    """The next call continues from the journals."""
    distributed = pytest.importorskip("distributed", reason="the extra dask is not installed")
    out, own = tmp_path / "o.csv", distributed.LocalCluster(n_workers=1, silence_logs=50, **LOCAL)

    def script(body: dict[str, Any]) -> tuple[int, dict[str, Any], dict[str, str]]:
        if len(server.bodies) == 12:
            threading.Thread(target=own.close).start()  # which waits for the task
        time.sleep(0.02)
        return 200, SAFE, {}

    with ScriptedServer(script) as server:
        with pytest.raises(BlpoError, match=r"the cluster's scheduler is gone .*the same call continues"):
            predict(JUDGE, photos, out=out, models=models_at(server), num_threads=1, cluster=own.scheduler_address)
        plan = plan_shards(JUDGE, photos, out=out, models=models_at(server), num_threads=2)
        assert plan.merge(map(judge_shard, plan.shards)).complete
        assert len(server.bodies) <= 48 + 1


def test_what_is_not_an_address_is_refused_without_a_client(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client would wait a minute to close itself, and then print a traceback."""
    distributed = pytest.importorskip("distributed", reason="the extra dask is not installed")
    monkeypatch.delattr(distributed.Client, "__init__")
    monkeypatch.delattr(distributed.Client, "__del__")
    with pytest.raises(BlpoError, match=r"cluster='nonsense': no Dask scheduler answers there .*missing port"):
        predict(JUDGE, photos, out=tmp_path / "o.csv", models=Models.named("embedded"), cluster="nonsense")


def test_an_address_where_no_scheduler_answers_is_refused(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Naming it."""
    pytest.importorskip("distributed", reason="the extra dask is not installed")
    monkeypatch.setattr("blpo_dspy.predictions.shards.cluster._CONNECTING", 0.2)
    with pytest.raises(BlpoError, match=r"cluster='tcp://127\.0\.0\.1:1': no Dask scheduler answers there"):
        predict(JUDGE, photos, out=tmp_path / "o.csv", models=Models.named("embedded"), cluster="tcp://127.0.0.1:1")
