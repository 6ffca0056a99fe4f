"""How many images a second one process judges, relative to what the latency of the model and the threads allow.

A server in a process of its own answers each request after a while (`--latency`), so that as many threads get at most
threads / latency answers a second. The first part sends images of about 150 KB, half PNG and half JPEG, through a raw
`httpx` client in threads, `judge.batch` and `predict`, in turn and block by block, and prints the images a second over
that ideal; the target is 0.85. Reading all images before the first call is part of the time of `predict`.

The second part, `--scale`, judges that many small images of 3 KB with `predict` on a server that answers at once. It
prints how far the resident memory grows after the first tenth (target: 50 MB), the processor time of an image over that
of one of 1,000 (1.1), and how long the same call takes once all is done (5 s).

usage: python examples/benchmarks/throughput.py [--images 2560] [--threads 32] [--latency 200] [--scale 0] [--quick]
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import dspy
from canned_server import canned_server
from memory import Highest, resident
from overhead import ANSWER, LABELS, RawClient, distinct, photograph, write_pictures

from blpo_dspy import VisualJudge
from blpo_dspy.models.lm import Models
from blpo_dspy.predictions.predict import predict
from blpo_dspy.workspace.workspace import OnStep, Step, Workspace

TARGET, MEMORY_MB, COST, SECONDS = 0.85, 50, 1.10, 5.0
_BLOCKS, _FEW, _SMALL = 2, 1000, 3  # small images have about so many KB


@dataclass(frozen=True)
class Setting:
    """What is measured.

    Attributes:
        judge: The judge, of one call an image.
        lm: Its model.
        address: Of its server.
        threads: How many.
        folder: For results.
    """

    judge: VisualJudge
    lm: dspy.LM
    address: str
    threads: int
    folder: Path

    def predict(self, files: list[Path], name: str, progress: OnStep | None = None) -> None:
        """Judges files with `predict`."""
        models = Models(self.lm, self.lm, self.lm)
        with Workspace(models=models, num_threads=self.threads, progress=progress):
            done = predict(self.judge, files, out=self.folder / f"{name}.parquet")
        assert (done.known, done.errors) == (len(files), 0)

    def batch(self, files: list[Path], name: str) -> None:
        """Judges files with `judge.batch`."""
        labels = self.judge.batch(files, num_threads=self.threads, disable_progress_bar=True)
        assert [prediction.label for prediction in labels] == ["Safe"] * len(files)


def raw_way(setting: Setting, files: list[Path]) -> Callable[[list[Path], str], None]:
    """Returns the way of a raw client in threads."""
    raw = RawClient(setting.address, setting.judge, files[:2])

    def ask(block: list[Path], name: str) -> None:
        with ThreadPoolExecutor(setting.threads) as pool:
            list(pool.map(raw, block))

    return ask


def measure_rate(setting: Setting, files: list[Path], latency: float) -> None:
    """Prints the images a second of each way over the ideal."""
    ways = {"raw httpx": raw_way(setting, files), "judge.batch": setting.batch, "predict": setting.predict}
    ideal = setting.threads / latency
    rates: dict[str, list[float]] = {name: [] for name in ways}
    size = len(files) // _BLOCKS
    for name, way in ways.items():  # connections, threads and imports
        way(files[: setting.threads], f"{name} first")
    for start in range(0, size * _BLOCKS, size):
        for name, way in ways.items():
            began = time.perf_counter()
            way(files[start : start + size], f"{name} {start}")
            rates[name].append(size / (time.perf_counter() - began))
    kilobytes = statistics.fmean(file.stat().st_size for file in files) / 1000
    print(
        f"{len(files)} images of {kilobytes:.0f} KB in {setting.threads} threads, an answer after {latency:g} s: "
        f"at most {ideal:.0f} images/s"
    )
    for name, values in rates.items():
        rate = statistics.median(values)
        aim = "" if name == "raw httpx" else f" (target >= {TARGET})"
        print(f"  {name:12} {rate:6.1f} images/s   ratio {rate / ideal:.2f}{aim}", flush=True)


def measure_scale(setting: Setting, count: int) -> None:
    """Prints memory, cost and the time of a finished run over many small images."""
    photo = photograph(_SMALL, side=128)
    size = min(_FEW, count)
    files = [setting.folder / f"{number}.jpg" for number in range(count + size)]
    for number, file in enumerate(files):
        file.write_bytes(distinct(photo, number))
    few, many = files[:size], files[size:]
    setting.predict(few[: size // 10], "first")
    costs = []
    highest: list[Highest] = []
    levels: list[float] = []

    def look(step: Step) -> None:
        if not highest and step.what == "judging" and step.done >= count // 10:
            levels.append(resident())
            highest.append(Highest())

    for name, part, progress in (("few", few, None), ("many", many, look)):
        began = time.process_time()
        setting.predict(part, name, progress)
        costs.append(1000 * (time.process_time() - began) / len(part))
    grown = max(highest[0].megabytes, resident()) - levels[0]
    began_again = time.perf_counter()
    setting.predict(many, "many")
    seconds = time.perf_counter() - began_again
    print(f"{count:,} images of {len(photo) / 1000:.0f} KB in {setting.threads} threads")
    print(f"  memory {levels[0]:.0f} MB, {grown:+.0f} MB at most after the first tenth (target {MEMORY_MB} MB)")
    print(
        f"  processor time {costs[1]:.2f} ms an image, {costs[0]:.2f} of {size:,}: "
        f"ratio {costs[1] / costs[0]:.2f} (target <= {COST:.2f})"
    )
    print(f"  the same call again {seconds:.1f} s (target {SECONDS:g} s)", flush=True)


def main() -> None:
    """Measures both parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2560)
    parser.add_argument("--threads", type=int, default=32)
    parser.add_argument("--latency", type=float, default=200, help="milliseconds")
    parser.add_argument("--scale", type=int, default=0, help="so many small images in the second part")
    parser.add_argument("--quick", action="store_true", help="128 images after 50 ms, and 1,000 small ones")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.images, arguments.scale, arguments.latency = 128, 1000, 50
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "true")  # DSPy's own prices, without the network
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    judge = VisualJudge(LABELS, instruction="Judge how safe it is.", evidence="image")

    def setting(address: str, folder: str) -> Setting:
        lm = dspy.LM("openai/canned", api_base=f"{address}/v1", api_key="x", cache=False)
        return Setting(judge, lm, address, arguments.threads, Path(folder))

    with dspy.context(disable_history=True, trace=None):
        latency = arguments.latency / 1000
        with tempfile.TemporaryDirectory() as name, canned_server(ANSWER, latency) as address:
            chosen = setting(address, name)
            files = write_pictures(chosen.folder, arguments.images)
            with dspy.context(lm=chosen.lm):
                measure_rate(chosen, files, latency)
        if arguments.scale:
            with tempfile.TemporaryDirectory() as name, canned_server(ANSWER) as address:
                measure_scale(setting(address, name), arguments.scale)


if __name__ == "__main__":
    main()
