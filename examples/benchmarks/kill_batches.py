"""What killing a command with batches costs: kill -9 of `blpo judge --batch-api` over HTTP, then the same again.

A kill comes shortly after one of the command's first requests to the server, so that it meets each of them: upload,
submission, look, download. The server fails a share of the rows, drops connections, and lets the first batch expire
half done. The printed ratio is the rows that the server answered over the rows that there are; it is 1 if each was paid
once.

usage: python examples/benchmarks/kill_batches.py [--kills 25] [--images 30] [--failing 0.05] [--seed 0]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from blpo_dspy import Models, VisualJudge
from blpo_dspy.cli.app import app
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.sources.photographs import RATERS, write_dataset
from blpo_dspy.embedded.server.batches import BatchOptions
from blpo_dspy.embedded.server.faults import Faults
from blpo_dspy.embedded.server.http import Options, start_server
from blpo_dspy.predictions.predict import predict
from blpo_dspy.workspace.workspace import Workspace

_LOOK = 0.002  # seconds between two polls of the server's log
_MOST_REQUESTS = 6  # of a command before it is killed
_LATER = 0.02  # seconds after that, at most
_BATCH_SECONDS = 0.3


def run(arguments: list[str]) -> None:
    """Runs `blpo`, silently."""
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    app(arguments)


def lines_of(log: Path) -> list[dict[str, Any]]:
    """Returns the server's log, without a line that it is writing."""
    whole, _, _ = log.read_text().rpartition("\n") if log.exists() else ("", "", "")
    return [json.loads(line) for line in whole.splitlines()]


def answered(log: Path) -> Counter[str]:
    """Returns how often each request was answered, in batches or in plain calls."""
    chats = [line for line in lines_of(log) if "chat" in line["path"] and line["status"] == 200]
    return Counter(line["request"] for line in chats)


def killed_until_done(command: list[str], log: Path, kills: int, rng: random.Random) -> int:
    """Repeats a command until it ends by itself, the first times killed; returns the number of kills."""
    processes, done = multiprocessing.get_context("forkserver"), 0
    processes.set_forkserver_preload(["blpo_dspy.cli.app", "blpo_dspy.predictions.predict", "litellm"])
    while True:
        process = processes.Process(target=run, args=(command,), daemon=True)
        seen = len(lines_of(log))
        after = rng.randint(1, _MOST_REQUESTS) if done < kills else sys.maxsize
        process.start()
        while process.is_alive() and sum(line["method"] != "BATCH" for line in lines_of(log)[seen:]) < after:
            time.sleep(_LOOK)
        time.sleep(rng.uniform(0, _LATER) if process.is_alive() else 0)
        if not process.is_alive():
            if process.exitcode:
                raise SystemExit(f"the command ended with exit code {process.exitcode}")
            return done
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        done += process.exitcode == -signal.SIGKILL


def job(folder: Path, number: int, kills: int, failing: float, rng: random.Random) -> tuple[int, Counter[str]]:
    """Judges the photographs once, with kills; returns their number and how often each request was answered."""
    log, faults = folder / f"log{number}.jsonl", Faults(prow=failing, pdrop=0.05, seed=number)
    batches = BatchOptions(seconds=_BATCH_SECONDS, expiring=1)
    with start_server(Options(log=log, faults=faults, batches=batches)) as address:
        command = [
            "judge",
            str(folder / "judge.json"),
            str(folder / "photos"),
            "--out",
            str(folder / str(number) / "out.jsonl"),  # outputs in one folder share their answers
        ]
        command += ["--model", "openai/embedded", "--api-base", address, "--batch-api", "--poll", "0.02", "--no-cache"]
        return killed_until_done(command, log, kills, rng), answered(log)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the ratio; returns 1 if a prediction differs or a row was answered twice."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--images", type=int, default=30)
    parser.add_argument("--failing", type=float, default=0.05, help="share of the rows that fail")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as place:
        folder, rng = Path(place), random.Random(f"{given.seed}:kills")
        write_dataset(folder / "photos", RATERS["colour"], seed=given.seed, train=given.images, val=0, test=0)
        judge = VisualJudge(LabelSpace.ordinal(1, 5), instruction="Rate the technical quality of this photograph.")
        judge.save(folder / "judge.json")
        with start_server(Options(log=folder / "plain.log")) as address:
            models = Models.named("openai/embedded", api_base=address, cache=False)
            with Workspace(models=models):
                predict(judge, folder / "photos", out=folder / "plain" / "out.jsonl")
        plain, rows = (folder / "plain" / "out.jsonl").read_bytes(), answered(folder / "plain.log")
        kills, jobs, equal, paid = 0, 0, 0, 0
        while kills < given.kills:
            done, found = job(folder, jobs, given.kills - kills, given.failing, rng)
            equal += (folder / str(jobs) / "out.jsonl").read_bytes() == plain and found == rows
            kills, jobs, paid = kills + done, jobs + 1, paid + found.total()
    print(f"killed {kills} times in {jobs} jobs of {rows.total()} rows")
    print(f"predictions and requests those of plain calls: {equal} of {jobs} jobs")
    print(f"rows answered over rows: ratio {paid / (jobs * rows.total()):.3f}")
    return 0 if equal == jobs else 1


if __name__ == "__main__":
    raise SystemExit(main())
