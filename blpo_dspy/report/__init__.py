"""The report of a run: one HTML file that needs nothing else."""

from blpo_dspy.report.run.folder import load_run
from blpo_dspy.report.run.page import write_report
from blpo_dspy.report.run.record import write_report_data

__all__ = ["load_run", "write_report", "write_report_data"]
