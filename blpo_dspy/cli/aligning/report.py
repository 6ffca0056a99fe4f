"""`blpo report`: writes the report of a run or comparison again."""

from __future__ import annotations

from blpo_dspy.cli.jobs import ReportJob
from blpo_dspy.cli.screen import Screen
from blpo_dspy.comparison.page import is_comparison, write_comparison_report
from blpo_dspy.errors import BlpoError
from blpo_dspy.files import writable_folder
from blpo_dspy.report import load_run, write_report


def report(job: ReportJob, screen: Screen) -> None:
    """Writes the report of a run, or of a comparison, and prints its path.

    Raises:
        BlpoError: If the folder holds no run, a label to blur is none of its labels, or the file cannot be written.
    """
    run = None if is_comparison(job.run_dir) else load_run(job.run_dir)
    file = job.out or job.run_dir / "report.html"
    if file.suffix != ".html":
        raise BlpoError(f"{file}: the report is HTML, so its name should end in .html")
    writable_folder(file.parent)
    if run is None:
        write_comparison_report(job.run_dir, file)
    else:
        write_report(run, file, images=not job.no_images, blur=job.blur)
    if screen.as_json:
        screen.json({"report": str(file), "bytes": file.stat().st_size})
    else:
        screen.text(f"Wrote   {file} ({file.stat().st_size / 1e6:.1f} MB)")
