"""What killing costs where several processes judge: one of them, then the whole job, at random moments, over HTTP.

At each moment three sessions of the same job share an output. In the first, which has a cap on calls, one of the
processes is killed (kill -9) once the server has seen a random number of requests; the second is killed as a whole,
likewise; the third runs to its end. Then the output must be that of an undisturbed run, byte for byte, with every
image once; no session may have sent more requests than its cap; and requests may be repeated only for the
chunks that were under way at a kill: those of one process, then those of all.

usage: python examples/benchmarks/kill_workers.py [--moments 2] [--images 160] [--latency-ms 20] [--seed 0]
    [--engines own,cluster]
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import hashlib
import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dspy
from PIL import Image

from blpo_dspy import LabelSpace, Models, VisualJudge, predict
from blpo_dspy.predictions.given import Processes
from blpo_dspy.workspace.workspace import Workspace

PROCESSES, AT_ONCE = 2, 4
JUDGE = VisualJudge(LabelSpace("Safe", "Unsafe"), instruction="Judge how safe it is.", evidence="image")
_LOOK = 0.002  # seconds between two polls of the number of requests


class Server(ThreadingHTTPServer):
    """Answers by the hash of the request, after a while, and counts the requests, also those that are equal."""

    daemon_threads, request_queue_size = True, 128

    def __init__(self, latency: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.latency, self.seen = latency, Counter[str]()
        self.most = self.now = 0
        self.lock = threading.Lock()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of those that were killed."""

    @property
    def total(self) -> int:
        """How many requests came."""
        return self.seen.total()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def do_POST(self) -> None:
        """Answers a chat completion."""
        key = hashlib.sha256(self.rfile.read(int(self.headers["Content-Length"]))).hexdigest()
        with self.server.lock:
            self.server.seen[key] += 1
            self.server.now += 1
            self.server.most = max(self.server.most, self.server.now)
        time.sleep(self.server.latency)
        with self.server.lock:
            self.server.now -= 1
        label = "Safe" if int(key[:4], 16) % 2 else "Unsafe"
        message = {"role": "assistant", "content": f"[[ ## label ## ]]\n{label}\n\n[[ ## completed ## ]]"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 100, "completion_tokens": 5, "total_tokens": 105}
        answer = {"id": "x", "object": "chat.completion", "created": 0, "model": "x", "choices": [choice]}
        content = json.dumps({**answer, "usage": usage}).encode()
        with contextlib.suppress(OSError):  # who asked was killed
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


def job(address: str, folder: str, out: str, cluster: str, cap: int) -> None:
    """Judges the images; the work of the process that is killed."""
    lm = dspy.LM("openai/x", api_base=f"{address}/v1", api_key="EMPTY", cache=False)
    with Workspace(models=Models(lm, lm, lm)):
        workers = Processes(cluster or PROCESSES, max_in_flight=AT_ONCE)
        predict(JUDGE, folder, out=out, workers=workers, max_calls=cap or None)


class Engine:
    """Where chunks are judged, and which of its processes can be killed."""

    def __init__(self, name: str, address: str, cluster: str, pids: Callable[[int], list[int]]) -> None:
        self.name, self._address, self._cluster, self.pids = name, address, cluster, pids

    def start(self, folder: Path, out: Path, cap: int = 0) -> subprocess.Popen[bytes]:
        """Starts a session."""
        command = [sys.executable, __file__, "--job", self._address, str(folder), str(out), self._cluster, str(cap)]
        return subprocess.Popen(command, stderr=subprocess.PIPE)


def children(process: int) -> list[int]:
    """The workers that a session has started."""
    command = ["ps", "-o", "pid=,args=", "--ppid", str(process)]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    return [int(line.split()[0]) for line in listed if "spawn_main" in line]


@contextlib.contextmanager
def engines(names: list[str], address: str) -> Iterator[list[Engine]]:
    """Yields those that are there."""
    found = [Engine("own", address, "", children)] if "own" in names else []
    with contextlib.ExitStack() as opened:
        if "cluster" in names and importlib.util.find_spec("distributed") is None:
            print('dask: not measured, as it is not installed: pip install "blpo-dspy[dask]"')
        elif "cluster" in names:
            from distributed import Client, LocalCluster  # noqa: PLC0415 - an extra

            options: dict[str, Any] = {
                "n_workers": PROCESSES,
                "threads_per_worker": 1,
                "dashboard_address": "127.0.0.1:0",
            }
            cluster = opened.enter_context(LocalCluster(**options, silence_logs=50))
            client = opened.enter_context(Client(cluster))
            pids = lambda _: list(client.run(os.getpid, on_error="ignore").values())  # noqa: E731 - it needs the client
            found.append(Engine("cluster", address, cluster.scheduler_address, pids))
        yield found


def finish(session: subprocess.Popen[bytes]) -> None:
    """Waits for a session, which must end well."""
    _, said = session.communicate(timeout=300)
    if session.returncode:
        raise SystemExit(f"a session failed:\n{said.decode()}")


def wait_for(count: int, server: Server, session: subprocess.Popen[bytes]) -> bool:
    """Waits until the server has seen so many requests; whether the session is still running then."""
    while server.total < count and session.poll() is None:
        time.sleep(_LOOK)
    return session.poll() is None


def moment(engine: Engine, server: Server, rng: random.Random, folder: Path, out: Path, images: int) -> dict[str, int]:
    """Returns what the three sessions of a moment did."""
    cap, found = images // 2, Counter[str]()

    server.seen.clear()
    session = engine.start(folder, out, cap)
    if wait_for(rng.randrange(1, cap), server, session) and (pids := engine.pids(session.pid)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(rng.choice(pids), signal.SIGKILL)
            found["processes killed"] = 1
    finish(session)
    found["over the cap"] = max(0, server.total - cap)
    found["unused of the cap"] = max(0, cap - server.total)
    session = engine.start(folder, out)
    if wait_for(server.total + rng.randrange(1, images - cap), server, session):
        session.kill()
        found["jobs killed"] = 1
    session.communicate()
    finish(engine.start(folder, out))
    found["repeated"] = sum(count - 1 for count in server.seen.values())
    found["missing"] = images - len(server.seen)
    return found


def measure(engine: Engine, server: Server, root: Path, given: argparse.Namespace) -> None:
    """Prints what killing cost on one engine."""
    folder, whole = root / "photos", root / f"{engine.name}-whole" / "out.csv"
    server.seen.clear()
    server.most = 0
    finish(engine.start(folder, whole))
    with whole.open(newline="") as file:
        rows = [row["image"] for row in csv.DictReader(file)]
    assert rows == sorted(path.name for path in folder.iterdir()), "the undisturbed run lacks an image"
    at_once, rng, same = server.most, random.Random(f"{given.seed}:moments"), 0
    total, most = Counter[str](), Counter[str]()
    for number in range(given.moments):
        out = root / f"{engine.name}{number}" / "out.csv"
        found = moment(engine, server, rng, folder, out, given.images)
        total.update(found)
        most |= Counter(found)
        same += out.read_bytes() == whole.read_bytes()
        print(f"{engine.name} {number + 1}: {dict(found)}", file=sys.stderr, flush=True)
    print(
        f"{engine.name}: {total['processes killed']} processes and {total['jobs killed']} jobs killed at "
        f"{given.moments} moments: {same} of {given.moments} outputs byte-identical, every image once; repeated "
        f"requests at most {most['repeated']} (mean {total['repeated'] / given.moments:.1f}), "
        f"those of the chunks that a killed process had; requests over the cap: "
        f"{total['over the cap']}; at most {at_once} at once"
    )


def main() -> None:
    """Kills at every moment, on every engine."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--moments", type=int, default=2)
    parser.add_argument("--images", type=int, default=160)
    parser.add_argument("--latency-ms", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engines", default="own,cluster")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, Server(given.latency_ms / 1000) as server:
        root = Path(name)
        (root / "photos").mkdir()
        for number in range(given.images):
            picture = Image.new("RGB", (8 + number // 256, 8), (number % 256,) * 3)
            picture.save(root / "photos" / f"{number:05}.png")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with engines(given.engines.split(","), f"http://127.0.0.1:{server.server_port}") as found:
            for engine in found:
                measure(engine, server, root, given)
        server.shutdown()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--job"]:
        job(*sys.argv[2:6], int(sys.argv[6]))
    else:
        main()
