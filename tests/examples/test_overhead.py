"""The benchmark of our own time per image runs and compares like with like."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "benchmarks" / "overhead.py"


@pytest.mark.slow
@pytest.mark.parametrize(("options", "ways"), [([], 2), (["--raw"], 3)])
def test_it_prints_a_ratio_for_each_way_and_kind_of_evidence(options: list[str], ways: int, tmp_path: Path) -> None:
    """Having checked that each of them sends the same bytes of an image."""
    command = [sys.executable, str(SCRIPT), *options, "--images", "6"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    ratios = [float(found) for found in re.findall(r"ratio (\d+\.\d\d) \(target", done.stdout)]
    assert len(ratios) == 2 * ways
    assert min(ratios) > 0
