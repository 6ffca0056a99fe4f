"""Shards judged by processes of this machine, over HTTP, with processes that are killed."""

from __future__ import annotations

import logging
import subprocess
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

from blpo_dspy.calls.leases import Office
from blpo_dspy.errors import BlpoError, ModelError
from blpo_dspy.models.lm import Models
from blpo_dspy.predictions import judge_shard, plan_shards, predict
from blpo_dspy.predictions.shards import pool
from blpo_dspy.predictions.shards.line import Desk
from blpo_dspy.predictions.shards.pool import Pool
from blpo_dspy.programs import VisualJudge

pytestmark = pytest.mark.slow

JUDGE = VisualJudge(SAFETY, instruction="Judge how safe it is.", evidence="image")
SAFE = completion("[[ ## label ## ]]\nSafe\n\n[[ ## completed ## ]]")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 64 pictures."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(64):
        (folder / f"{number:02}.png").write_bytes(encoded(Image.new("RGB", (8, 8), (3 * number,) * 3)))
    return folder


def models_at(server: ScriptedServer, **options: Any) -> Models:
    """The models that a server answers for."""
    lm = dspy.LM("openai/gpt-4o-mini", api_base=server.url, api_key="EMPTY", cache=False, **options)
    return Models(lm, lm, lm)


@pytest.fixture(autouse=True)
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[subprocess.Popen[bytes]]]:
    """The processes that a test has started, the earliest first; none outlives the call that started it."""
    processes: list[subprocess.Popen[bytes]] = []

    class Noted(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            processes.append(self)

    monkeypatch.setattr(subprocess, "Popen", Noted)
    yield processes
    assert all(process.returncode is not None for process in processes)


class Slow:
    """Answers after a while, and knows how many requests it had at once; calls `after` at a number of them."""

    def __init__(self, after: dict[int, Any] | None = None) -> None:
        self.most = self._now = self.answered = 0
        self._lock, self._after = threading.Lock(), after or {}

    def __call__(self, body: dict[str, Any]) -> tuple[int, dict[str, Any], dict[str, str]]:
        """Answers."""
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
            self.answered += 1
            action = self._after.get(self.answered)
        if action is not None:
            action()
        time.sleep(0.05)
        with self._lock:
            self._now -= 1
        return SAFE


def test_a_killed_process_is_replaced_and_only_its_calls_under_way_are_repeated(
    photos: Path, tmp_path: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    """No more calls at once than the cap over both; every row once, in order, as one process has them."""
    shown, before = list[Any](), list[int]()

    def kill() -> None:
        before.append(script.most)
        started[0].kill()

    script = Slow({20: kill})
    with ScriptedServer(lambda body: (200, script(body), {})) as server:
        models = models_at(server)
        options = {"models": models, "workers": 2, "max_in_flight": 3}
        done = predict(JUDGE, photos, out=tmp_path / "o.csv", on_progress=shown.append, **options)
        assert len(started) == 3
        assert before[0] <= 3
        assert script.most <= 3 + 2, "the server answers what the killed process asked, too"
        assert 64 <= script.answered <= 64 + 2
        predict(JUDGE, photos, out=tmp_path / "one.csv", models=models, num_threads=8)
    assert (tmp_path / "o.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()
    assert (done.known, done.judged, done.complete) == (64, 64, True)
    assert (done.ledger.total.calls, done.ledger.total.failed) == (64, 0)
    assert [progress.known for progress in shown] == sorted(progress.known for progress in shown)


def test_caps_and_rate_limits_hold_over_all_processes_and_the_next_call_continues(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What is left is judged without processes as well; what a process logs, the calling one does."""
    times: list[float] = []
    out = tmp_path / "o.csv"

    def script(body: dict[str, Any]) -> tuple[int, dict[str, Any], dict[str, str]]:
        times.append(time.monotonic())
        if len(times) == 10:
            return 429, {"error": {"message": "slow down"}}, {"Retry-After": "4"}
        time.sleep(0.02)
        return 200, SAFE, {}

    caplog.set_level(logging.INFO, logger="blpo_dspy")
    with ScriptedServer(script) as server:
        models = models_at(server)
        first = predict(JUDGE, photos, out=out, models=models, workers=2, num_threads=2, max_calls=25)
        assert (first.ledger.total.calls, len(times), first.known, first.complete) == (25, 25, 24, False)
        # A few were sent before the others heard of it.
        assert sum(1.5 < when - times[9] < 3.9 for when in times) == 0
        assert [record.event for record in caplog.records] == ["retry", "judged"]  # type: ignore[attr-defined]
        price = first.ledger.total.usd / 24
        assert price > 0
        # Without `workers`, what was begun in shards is continued in one process.
        assert not out.exists()
        capped: dict[str, Any] = {"max_usd": 10.5 * price, "partial_table": True}
        second = predict(JUDGE, photos, out=out, models=models, num_threads=2, **capped)
        assert (second.ledger.total.calls, second.earlier.total.calls, len(times)) == (10, 25, 35)
        assert out.read_text().count(",Safe,") == second.known < second.total
        plan = plan_shards(JUDGE, photos, out=out, models=models)
        assert plan.merge(map(judge_shard, plan.shards)).complete
    assert len(times) == 65


def test_an_error_of_a_process_ends_the_others_and_is_raised(photos: Path, tmp_path: Path) -> None:
    """As in one process."""
    with (
        ScriptedServer(lambda body: (401, {"error": {"message": "wrong key"}}, {})) as server,
        pytest.raises(ModelError, match=r"the model cannot be used: .*wrong key"),
    ):
        predict(JUDGE, photos, out=tmp_path / "o.csv", models=models_at(server), workers=1)


def test_a_process_that_dies_again_and_again_is_an_error(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """With its exit code and the part that it was at."""
    monkeypatch.setattr(pool, "_LIVES", 0)
    plan = plan_shards(JUDGE, photos, out=tmp_path / "o.csv", models=Models.named("embedded"))
    desk = Desk(Office(), lambda report: None, lambda number: None)
    with pytest.raises(ModelError, match=r"part-00000\.parquet has died 1 times in a row, .* exit code 1;"):
        Pool(1).run(Counter, plan.shards, desk, threads=[1])  # it takes no `line`
    assert "Traceback" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "workers=0 is too small"),
        ({"workers": 1.5}, "workers=1.5 is not a whole number"),
        ({"workers": 2, "max_in_flight": 0}, "max_in_flight=0 is too small"),
        ({"workers": 2, "max_usd": -1}, "max_usd=-1 leaves nothing to spend"),
        ({"workers": 2, "cluster": "tcp://127.0.0.1:1"}, "give one of them"),
    ],
)
def test_options_that_cannot_work_are_refused_before_anything_is_written(
    options: dict[str, Any], message: str, photos: Path, tmp_path: Path
) -> None:
    """By name."""
    with pytest.raises(BlpoError, match=message):
        predict(JUDGE, photos, out=tmp_path / "o.csv", models=Models.named("embedded"), **options)
    assert not list(tmp_path.rglob("manifest.json"))
    assert not list(tmp_path.glob("o.csv*"))
