"""The report of a run: one HTML file that needs nothing else."""

from blpo_dspy.report.page import write_report
from blpo_dspy.report.record import write_report_data
from blpo_dspy.report.run import load_run

__all__ = ["load_run", "write_report", "write_report_data"]
