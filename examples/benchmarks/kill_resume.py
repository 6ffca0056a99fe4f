"""What killing a run costs: kill -9 of `blpo compile --run-dir` over HTTP, then the same again.

A kill comes once the server has seen a random number of the run's requests, so that it is always within the run.

Every resumed run must end with the judge.json of the uninterrupted one, byte for byte. The printed ratio is the
requests that the server saw across kill and resume over those of the uninterrupted run; a kill may cost what was under
way, at most one request for each thread.

usage: python examples/benchmarks/kill_resume.py [--kills 25] [--threads 4] [--rounds 3] [--latency-ms 20] [--seed 0]
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from blpo_dspy.data.sources.photographs import RATERS, write_dataset
from blpo_dspy.embedded.server.http import Options, start_server

TASK = "Rate the technical quality of this photograph."
_LOOK = 0.005  # seconds between two polls of the server's log


def command(address: str, folder: Path, arguments: argparse.Namespace) -> list[str]:
    """Returns the compile that is killed and repeated."""
    options = ["--val", "val.csv", "--test", "test.csv", "--scale", "1-5", "--task", TASK, "--inner-steps", "1"]
    options += ["--judge-model", "openai/embedded", "--api-base", address, "--threads", str(arguments.threads)]
    options += ["--rounds", str(arguments.rounds), "--run-dir", str(folder), "--out", str(folder / "out.json")]
    return [sys.executable, "-m", "blpo_dspy.cli.app", "compile", "train.csv", *options]


def requests(log: Path) -> int:
    """Returns how many LM requests the server has seen."""
    return sum('"POST"' in line or "chat/completions" in line for line in log.read_text().splitlines())


def finish(address: str, folder: Path, data: Path, cache: Path, arguments: argparse.Namespace) -> float:
    """Runs the command to its end and returns its seconds."""
    began = time.monotonic()
    environment = {**os.environ, "DSPY_CACHEDIR": str(cache)}
    subprocess.run(
        command(address, folder, arguments), cwd=data, env=environment, check=True, capture_output=True, text=True
    )
    return time.monotonic() - began


def killed(
    address: str, folder: Path, data: Path, cache: Path, log: Path, after: int, arguments: argparse.Namespace
) -> bool:
    """Kills the command once the server has seen so many requests of it; whether it was still running."""
    seen = requests(log)
    environment = {**os.environ, "DSPY_CACHEDIR": str(cache)}
    process = subprocess.Popen(
        command(address, folder, arguments),
        cwd=data,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while requests(log) - seen < after and process.poll() is None:
        time.sleep(_LOOK)
    running = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    return running


def main() -> None:
    """Runs once uninterrupted, then once for every kill."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--latency-ms", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(f"{arguments.seed}:kills")
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_dataset(root / "data", RATERS["sharp"], train=40, val=20, test=20)
        log = root / "server.log"
        with start_server(Options(latency_ms=arguments.latency_ms, log=log)) as address:
            data = root / "data"
            seconds = finish(address, root / "whole", data, root / "cache-whole", arguments)
            whole, expected = requests(log), (root / "whole" / "out.json").read_bytes()
            print(f"uninterrupted: {whole} requests, {seconds:.1f} s")
            same, more, running = 0, [], 0
            for kill in range(arguments.kills):
                before, folder = requests(log), root / f"run{kill}"
                # Each session has an empty DSPy cache: what is not paid for again comes from the store.
                after = rng.randrange(1, whole)
                running += killed(address, folder, data, root / f"cache{kill}a", log, after, arguments)
                finish(address, folder, data, root / f"cache{kill}b", arguments)
                same += (folder / "out.json").read_bytes() == expected
                more.append(requests(log) - before - whole)
                print(f"kill {kill + 1} after {after} requests: {more[-1]:+d} requests", flush=True)
    ratio = 1 + sum(more) / (whole * len(more))
    print(
        f"{running} of {arguments.kills} killed while running, {same} of {arguments.kills} judges byte-identical, "
        f"at most {max(more)} requests more (threads: {arguments.threads}); "
        f"requests across kill and resume / uninterrupted = {ratio:.4f}"
    )


if __name__ == "__main__":
    main()
