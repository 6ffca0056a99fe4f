"""`blpo report`: writes the report of a run or comparison again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from blpo_dspy.cli.screen import Screen
from blpo_dspy.comparison.page import is_comparison, write_comparison_report
from blpo_dspy.errors import BlpoError
from blpo_dspy.files import writable_folder
from blpo_dspy.report import load_run, write_report


def report(run_dir: Path, out: Path | None, screen: Screen, *, images: bool, blur: Sequence[str] | None) -> None:
    """Writes the report of a run, or of a comparison, and prints its path.

    Raises:
        BlpoError: If the folder holds no run, a label to blur is none of its labels, or the file cannot be written.
    """
    comparison = is_comparison(run_dir)
    run = None if comparison else load_run(run_dir)
    file = out or run_dir / "report.html"
    if file.suffix != ".html":
        raise BlpoError(f"{file}: the report is HTML, so its name should end in .html")
    writable_folder(file.parent)
    if run is None:
        write_comparison_report(run_dir, file)
    else:
        write_report(run, file, images=images, blur=blur)
    if screen.as_json:
        screen.json({"report": str(file), "bytes": file.stat().st_size})
    else:
        screen.text(f"Wrote   {file} ({file.stat().st_size / 1e6:.1f} MB)")
