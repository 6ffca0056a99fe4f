"""The benchmarks of our own time per image run and compare like with like."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "examples" / "benchmarks"


def printed(script: str, options: list[str], folder: Path) -> str:
    """What a benchmark prints."""
    command = [sys.executable, str(BENCHMARKS / script), *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(("options", "ways"), [([], 2), (["--raw"], 3)])
def test_it_prints_a_ratio_for_each_way_and_kind_of_evidence(options: list[str], ways: int, tmp_path: Path) -> None:
    """Having checked that each of them sends the same bytes of an image."""
    shown = printed("overhead.py", [*options, "--images", "6"], tmp_path)
    ratios = [float(found) for found in re.findall(r"ratio (\d+\.\d\d) \(target", shown)]
    assert len(ratios) == 2 * ways
    assert min(ratios) > 0


@pytest.mark.slow
def test_no_way_judges_more_images_a_second_than_there_are_threads_for(tmp_path: Path) -> None:
    """Each judges different ones; the second part prints its three figures."""
    options = ["--images", "32", "--threads", "4", "--latency", "100", "--scale", "100"]
    shown = printed("throughput.py", options, tmp_path)
    ratios = [float(found) for found in re.findall(r"images/s +ratio (\d+\.\d\d)", shown)]
    assert len(ratios) == 3
    assert 0 < min(ratios) <= max(ratios) <= 1
    assert len(re.findall(r"\(target", shown)) == 5
