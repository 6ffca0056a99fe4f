"""`blpo drift`: whether a judge's verdicts still mean what they did."""

from __future__ import annotations

from blpo_dspy.cli.begin import load_judge
from blpo_dspy.cli.screen import Screen, noting, plain_table
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
    head, *rows = found.rows()
    screen.table(plain_table(head, rows))
    screen.text()
    screen.table(plain_table(("compared", "p", "corrected", "test"), _tests(found), left=("compared", "test")))
    screen.text()
    screen.text(found.wording[0].upper() + found.wording[1:] + ".")
    for note in found.notes:
        screen.note(note)
    return found.code


def _tests(found: Drift) -> list[list[str]]:
    return [[s.what, f"{s.p_value:.2g}", f"{s.corrected:.2g}", s.test] for s in found.shifts]
