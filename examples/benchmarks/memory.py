"""How much memory judging 5,000 distinct images of 200 KB takes, relative to the target of 100 MB.

The images (1 GB) are judged on both of the ways for many: `predict`, which is `blpo judge FOLDER --out …`, and
`judge.batch`, each in a process of its own, with DSPy's settings as they are by default and an engine that answers at
once. What counts is how far the resident memory grows after the first 100 images, at its highest; the ratio is that
growth over the target.

usage: python examples/benchmarks/memory.py [--images 5000] [--quick]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import dspy
from overhead import LABELS, distinct, instant_lm, photograph

from blpo_dspy import VisualJudge
from blpo_dspy.models.lm import Models
from blpo_dspy.predictions.predict import predict
from blpo_dspy.workspace.workspace import Workspace

TARGET_MB = 100
_WARM_UP = 100


def resident() -> float:
    """Returns the resident memory of this process in MB."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


class Highest(threading.Thread):
    """Looks at the resident memory all the while."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.megabytes = 0.0
        self.start()

    def run(self) -> None:
        """Looks until the process ends."""
        while True:
            self.megabytes = max(self.megabytes, resident())
            time.sleep(0.05)


def judge_all(way: str, files: list[Path], out: Path) -> None:
    """Judges files on one of the two ways."""
    judge = VisualJudge(LABELS, instruction="Judge how safe it is.")
    lm = instant_lm()
    if way == "predict":
        with Workspace(models=Models(lm, lm, lm)):
            done = predict(judge, files, out=out)
        assert (done.labels["Safe"], done.errors) == (len(files), 0)
    else:
        judge.set_lm(lm)
        labels = [prediction.label for prediction in judge.batch(files, disable_progress_bar=True)]
        assert labels == ["Safe"] * len(files)


def measure(way: str, folder: Path) -> None:
    """Prints the growth of this process."""
    files = sorted(folder.glob("*.jpg"))
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    with tempfile.TemporaryDirectory() as results:
        judge_all(way, files[:_WARM_UP], Path(results, "first.parquet"))
        before, began, highest = resident(), time.monotonic(), Highest()
        judge_all(way, files[_WARM_UP:], Path(results, "rest.parquet"))
        seconds = time.monotonic() - began
    grown = max(highest.megabytes, resident()) - before
    print(
        f"{way:8} {len(files) - _WARM_UP:,} images in {seconds:.0f} s: {before:.0f} MB, {grown:+.0f} MB at most, "
        f"target {TARGET_MB} MB: ratio {grown / TARGET_MB:.2f}",
        flush=True,
    )


def main() -> None:
    """Writes the images and measures both ways."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--quick", action="store_true", help="400 images")
    parser.add_argument("--way", choices=("predict", "batch"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        measure(arguments.way, arguments.folder)
        return
    photo = photograph()
    with tempfile.TemporaryDirectory() as folder:
        for number in range((400 if arguments.quick else arguments.images) + _WARM_UP):
            Path(folder, f"{number:06}.jpg").write_bytes(distinct(photo, number))
        for way in ("predict", "batch"):
            subprocess.run([sys.executable, __file__, "--way", way, "--folder", folder], check=True)


if __name__ == "__main__":
    main()
