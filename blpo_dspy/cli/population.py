"""`blpo population`: what a judged collection is like, with intervals that are valid although the judge errs."""

from __future__ import annotations

from blpo_dspy.cli.begin import load_judge
from blpo_dspy.cli.screen import Screen, noting, plain_table
from blpo_dspy.runs.jobs import PopulationJob
from blpo_dspy.runs.population import estimate_population


def population(job: PopulationJob, screen: Screen) -> None:
    """Prints the shares, mean or win rate of a judged collection."""
    judge = None if job.judge is None else load_judge(job.judge, job.program)
    with noting(screen):
        found = estimate_population(
            job.predictions,
            job.labels,
            judge=judge,
            labels=job.space,
            by=job.by,
            key=job.key,
            level=job.level,
            allow_outside=job.allow_outside,
        )
    if screen.as_json:
        screen.json(found.to_dict())
        return
    whole = found.whole
    screen.text(f"{job.predictions}: {whole.images:,} judged images, {whole.labelled:,} labels")
    screen.text()
    head, *rows = found.rows()
    screen.table(plain_table(head, rows))
    screen.text()
    screen.text(
        "The interval is valid although the judge errs. labels alone: of as many labels drawn uniformly, without the "
        "judge;\nweight: of the judge, from 0 to 1; worth: how many labels alone would give an interval as short"
    )
    for note in found.notes:
        screen.note(note)
