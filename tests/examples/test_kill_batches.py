"""The benchmark of killed batches, with few kills and photographs: its full figures are in the README."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "examples" / "benchmarks"


@pytest.mark.slow
def test_a_command_killed_at_any_moment_pays_for_each_row_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And predicts what plain calls do, by the same requests."""
    monkeypatch.syspath_prepend(BENCHMARKS)  # where its processes look, too
    assert import_module("kill_batches").main(["--kills", "4", "--images", "5", "--failing", "0.1"]) == 0
    printed = capsys.readouterr().out
    assert re.match(r"killed 4 times in \d jobs of 10 rows\n", printed)
    assert printed.endswith("ratio 1.000\n")
