"""The benchmark of killed batches, with few kills and photographs: its full figures are in the README."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "examples" / "benchmarks" / "kill_batches.py"


@pytest.mark.slow
def test_a_command_killed_at_any_moment_pays_for_each_row_once(tmp_path: Path) -> None:
    """And predicts what plain calls do, by the same requests.

    In a process of its own, as it forks its commands from one that has imported LiteLLM, unlike other tests.
    """
    command = [sys.executable, str(SCRIPT), "--kills", "4", "--images", "5", "--failing", "0.1"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=200, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.match(r"killed 4 times in \d jobs of 10 rows\n", done.stdout)
    assert done.stdout.endswith("ratio 1.000\n")
