"""`blpo drift`: whether a judge's verdicts still mean what they did."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from blpo_dspy.cli.begin import load_judge
from blpo_dspy.cli.screen import Screen, noting
from blpo_dspy.errors import shown
from blpo_dspy.runs.drift import Drift, measure_drift
from blpo_dspy.runs.jobs import DriftJob


def drift(job: DriftJob, screen: Screen) -> int:
    """Prints what differs between verdicts then and now; returns the exit code: 0 no sign, 3 look, 4 re-align."""
    judge = load_judge(job.judge, job.program)
    with noting(screen):
        found = measure_drift(
            judge,
            job.reference,
            job.current,
            labelled=job.labels,
            key=job.key,
            alpha=job.alpha,
            allow_outside=job.allow_outside,
        )
    if screen.as_json:
        screen.json(found.to_dict())
        return found.code
    screen.table(_table(found.rows()))
    screen.text()
    screen.table(_table(_tests(found)))
    screen.text()
    screen.text(found.wording[0].upper() + found.wording[1:] + ".")
    for note in found.notes:
        screen.note(note)
    return found.code


def _tests(found: Drift) -> list[list[str]]:
    rows = [["compared", "p", "corrected", "test"]]
    for shift in found.shifts:
        rows.append([shift.what, f"{shift.p_value:.2g}", f"{shift.corrected:.2g}", shift.test])
    return rows


def _table(rows: list[list[str]]) -> Table:
    head, *body = rows
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in head:
        table.add_column(name, justify="left" if name in ("", "compared", "test") else "right", no_wrap=True)
    for cells in body:
        table.add_row(*(Text(shown(cell)) for cell in cells))
    return table
