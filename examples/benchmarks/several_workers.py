"""Images a second of `predict(workers=…)` with two processes over those with one, over HTTP.

Every process has so many threads, and the server answers after a while, as for a model that is far away. The rate is
that between a tenth and nine tenths of the images, without the start of the processes; sizes and numbers of processes
alternate in one run, and the median of the ratios is printed (target: 1.7). The server is in a process of its own.

usage: python examples/benchmarks/several_workers.py [--images 1500] [--kilobytes 150] [--threads 16]
    [--latency-ms 200] [--runs 3]
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import dspy
from kill_workers import JUDGE, Server
from overhead import distinct, photograph

from blpo_dspy import Models, predict
from blpo_dspy.workspace.workspace import Step, Workspace

TARGET = 1.7


def serve(latency: float, line: Any) -> None:
    """Serves in a process of its own, which ends with its parent."""
    with Server(latency) as server:
        line.send(server.server_port)
        server.serve_forever()


def rate(folder: Path, out: Path, models: Models, threads: int, workers: int) -> float:
    """Returns images a second in the middle of a run."""
    marks: list[tuple[float, int]] = []
    total = sum(1 for _ in folder.iterdir())

    def note(step: Step) -> None:
        if step.record is not None and total * 0.1 <= step.done <= total * 0.9:
            marks.append((time.perf_counter(), step.done))

    with Workspace(models=models, num_threads=threads, progress=note):
        done = predict(JUDGE, folder, out=out, workers=workers)
    assert (done.known, done.errors) == (total, 0)
    (began, first), (ended, last) = marks[0], marks[-1]
    return (last - first) / (ended - began)


def main() -> None:
    """Measures one and two processes in turn."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1500)
    parser.add_argument("--kilobytes", type=int, default=150)
    parser.add_argument("--threads", type=int, default=16)
    parser.add_argument("--latency-ms", type=float, default=200)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=serve, args=(given.latency_ms / 1000, theirs), daemon=True)
    server.start()
    lm = dspy.LM("openai/x", api_base=f"http://127.0.0.1:{ours.recv()}/v1", api_key="EMPTY", cache=False)
    models = Models(lm, lm, lm)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "photos"
        folder.mkdir()
        photo = photograph(given.kilobytes)
        for number in range(given.images):
            (folder / f"{number:06}.jpg").write_bytes(distinct(photo, number))
        found: dict[int, list[float]] = {1: [], 2: []}
        for run in range(given.runs):
            for workers, rates in found.items():
                out = Path(name) / f"{workers}-{run}.parquet"
                rates.append(rate(folder, out, models, given.threads, workers))
                print(f"workers {workers}: {rates[-1]:.1f} images/s", flush=True)
    server.terminate()
    ideal = given.threads / (given.latency_ms / 1000)
    ratio = statistics.median(two / one for one, two in zip(found[1], found[2], strict=True))
    one, two = statistics.median(found[1]), statistics.median(found[2])
    print(
        f"{given.images} images of {len(photo) / 1000:.0f} KB, {given.threads} threads a process, an answer after "
        f"{given.latency_ms:g} ms: one process {one:.1f} images/s ({one / ideal:.2f} of the ideal), two {two:.1f} "
        f"({two / ideal / 2:.2f}); ratio {ratio:.2f} (target {TARGET})"
    )


if __name__ == "__main__":
    main()
