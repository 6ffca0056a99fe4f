"""`blpo evaluate`: one judge measured on labelled images, or two compared on the same ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dspy

from blpo_dspy.agreement.intervals import agreement_intervals, plain_intervals
from blpo_dspy.agreement.people import Ceiling, People, ceiling_of
from blpo_dspy.cli.begin import connect, load_judge, note_offline
from blpo_dspy.cli.jobs import EvaluateJob
from blpo_dspy.cli.judging.escalation import note_cost
from blpo_dspy.cli.screen import Evaluated, Screen, noting, show_evaluated, working
from blpo_dspy.data.sources.tasks import Task
from blpo_dspy.errors import BlpoError
from blpo_dspy.programs.visual_judge import VisualJudge
from blpo_dspy.runs.data.drawing import draw_set
from blpo_dspy.runs.data.sets import load_set
from blpo_dspy.runs.measure import Measurement, calibration_data, measured, own_data
from blpo_dspy.runs.options.start import Data


def evaluate(job: EvaluateJob, screen: Screen) -> None:
    """Prints how far a saved judge agrees with people, and how it compares with another one."""
    paths = [job.judge, *([] if job.against is None else [job.against])]
    judges = [load_judge(path, job.program).in_orders(job.orders) for path in paths]
    labels = judges[0].labels
    if judges[-1].labels != labels:
        raise BlpoError(
            f"{job.judge} labels with {labels}, {job.against} with {judges[1].labels}; only judges with the same "
            "labels can be compared"
        )
    loaded = [labelled(job.data, judge, screen, job.draw, job.seed, noted=judge is judges[0]) for judge in judges]
    examples, people = loaded[0]
    if any([e.id for e in others] != [e.id for e in examples] for others, _ in loaded):
        raise BlpoError("the two judges prepare images differently, and some images are usable for only one of them")
    for path, judge, (own, _) in zip(paths, judges, loaded, strict=True):
        for line in own_data(judge, own):
            screen.note(f"{path} was compiled with {line}")
        for line in calibration_data(judge, own):
            screen.note(f"{path} was calibrated on {line}")
        note_cost(judge, len(own), job.orders, screen)
    models = connect(job.models)
    note_offline(job.models, screen, "model")
    asked = [(judge, models, own) for judge, (own, _) in zip(judges, loaded, strict=True)]
    with working(screen) as watch:
        found = measured(asked, watch, seed=job.seed, run_dir=job.run_dir)
    ceiling = None if people is None else ceiling_of(labels, examples, None, found.verdicts, seed=job.seed)
    shown: list[Evaluated] = [(found.agreement, found.intervals)]
    if found.against is not None:
        shown.append((found.against, agreement_intervals(found.against, seed=job.seed)))
    used = {role: name for role, name in job.models.by_role().items() if role != "optimizer"}
    if screen.as_json:
        screen.json({**_record(shown, found, people, ceiling), "calls": found.ledger.calls(), "models": used})
        return
    where = str(job.data.table if job.data.source is None else job.data.source.source)
    headline = None if ceiling is None else ceiling.headline
    show_evaluated(screen, shown, list(map(str, paths)), where, used, headline, found.paired)


def labelled(
    data: Data, judge: VisualJudge, screen: Screen, draw: int | None, seed: int, *, noted: bool = True
) -> tuple[list[dspy.Example], People | None]:
    """Returns the examples as a judge takes them, `draw` of a source, and what several people said about them.

    Raises:
        DataError: Naming all rows that cannot be used.
    """
    if data.source is None:
        if draw is not None:
            raise BlpoError("--draw belongs to --source; a TABLE is used whole")
        with noting(screen):
            examples, people = load_set(data, judge.labels, judge.fields, judge.pixel_policy)
        if people is not None and noted:
            screen.note(f"{data.table}: {people.describe()}")
        return examples, people
    task = Task(judge.labels, judge.instruction, images=judge.images, context=judge.context)
    with working(screen) as watch:
        examples, seen = draw_set(data, task, draw, seed, judge.pixel_policy, watch)
    for line in seen if noted else ():
        screen.note(line)
    return examples, None


def _record(
    shown: Sequence[Evaluated], found: Measurement, people: People | None, ceiling: Ceiling | None
) -> dict[str, Any]:
    record, *against = (
        {**agreement.to_dict(), "intervals": plain_intervals(intervals)} for agreement, intervals in shown
    )
    record["humans"] = None if people is None or ceiling is None else people.to_dict(ceiling)
    if against:
        paired = None if found.paired is None else found.paired.to_dict()
        record = {**record, "against": against[0], "paired": paired}
    return record
