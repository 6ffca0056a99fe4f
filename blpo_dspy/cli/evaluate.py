"""`blpo evaluate`: one judge measured on labelled images, or two compared on the same ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dspy

from blpo_dspy.agreement.intervals import PairedComparison, agreement_intervals, plain_intervals
from blpo_dspy.agreement.people import Ceiling, People, ceiling_of
from blpo_dspy.agreement.verdicts import Verdict, agreement_of, compare_verdicts
from blpo_dspy.calls.meter import Meter
from blpo_dspy.calls.outages import Outages
from blpo_dspy.calls.workers import Workers
from blpo_dspy.cli.begin import connect, load_judge, note_offline
from blpo_dspy.cli.screen import Evaluated, Screen, noting, show_evaluated, working
from blpo_dspy.data.sources.tasks import Task
from blpo_dspy.errors import BlpoError
from blpo_dspy.models.lm import Models
from blpo_dspy.predictions.labelling import inputs_of, label_images
from blpo_dspy.programs.visual_judge import VisualJudge
from blpo_dspy.runs.drawing import draw_set
from blpo_dspy.runs.jobs import Data, EvaluateJob
from blpo_dspy.runs.measure import own_data
from blpo_dspy.runs.progress import Watch
from blpo_dspy.runs.sets import load_set


@dataclass(frozen=True)
class _Judged:
    """The verdicts of one judge, and its agreement."""

    examples: Sequence[dspy.Example]
    verdicts: list[Verdict]
    shown: Evaluated


def evaluate(job: EvaluateJob, screen: Screen) -> None:
    """Prints how far a saved judge agrees with people, and how it compares with another one."""
    judges = [
        load_judge(job.judge, job.program),
        *([] if job.against is None else [load_judge(job.against, job.program)]),
    ]
    if judges[-1].labels != judges[0].labels:
        raise BlpoError(
            f"{job.judge} labels with {judges[0].labels}, {job.against} with {judges[1].labels}; only judges with the "
            "same labels can be compared"
        )
    loaded = [labelled(job.data, judge, screen, job.draw, job.seed, noted=judge is judges[0]) for judge in judges]
    if any([e.id for e in examples] != [e.id for e in loaded[0][0]] for examples, _ in loaded):
        raise BlpoError("the two judges prepare images differently, and some images are usable for only one of them")
    for path, judge, (examples, _) in zip((job.judge, job.against), judges, loaded, strict=False):
        for line in own_data(judge, examples):
            screen.note(f"{path} was compiled with {line}")
    models = connect(job.models)
    note_offline(job.models, screen, "model")
    with working(screen) as watch, Workers(job.threads) as workers:
        meter = Meter(num_threads=workers.num_threads, outages=Outages(job.max_outage))
        done = [
            _judge(job, judge, examples, models, watch, workers, meter)
            for judge, (examples, _) in zip(judges, loaded, strict=True)
        ]
    people = loaded[0][1]
    ceiling = None
    if people is not None:
        ceiling = ceiling_of(judges[0].labels, done[0].examples, None, done[0].verdicts, seed=job.seed)
    paired = None
    if len(done) > 1:
        now, other = done
        labels = judges[0].labels
        paired = compare_verdicts(labels, now.examples, other.verdicts, now.verdicts, seed=job.seed)
    used = {role: name for role, name in job.models.by_role().items() if role != "optimizer"}
    if screen.as_json:
        screen.json({**_record(done, paired, people, ceiling), "calls": meter.ledger.calls(), "models": used})
        return
    where = str(job.data.table) if job.data.source is None else job.data.source.name
    names = [str(job.judge), *([] if job.against is None else [str(job.against)])]
    headline = None if ceiling is None else ceiling.headline
    show_evaluated(screen, [d.shown for d in done], names, where, used, headline, paired)


def labelled(
    data: Data, judge: VisualJudge, screen: Screen, draw: int | None, seed: int, *, noted: bool = True
) -> tuple[list[dspy.Example], People | None]:
    """Returns the examples as a judge takes them, and what several people said about them.

    Args:
        data: Where they come from.
        judge: The judge.
        screen: Where the reading of the data is shown.
        draw: How many images a source is asked for.
        seed: Of the draw.
        noted: Whether remarks on the draw are shown.

    Raises:
        DataError: Naming all rows that cannot be used.
    """
    if data.source is None:
        with noting(screen):
            return load_set(data, judge.labels, judge.fields, judge.pixel_policy)
    task = Task(judge.labels, judge.instruction, images=judge.images, context=judge.context)
    with working(screen) as watch:
        examples, seen = draw_set(data, task, draw, seed, judge.pixel_policy, watch)
    for line in seen if noted else ():
        screen.note(line)
    return examples, None


def _judge(
    job: EvaluateJob,
    judge: VisualJudge,
    examples: list[dspy.Example],
    models: Models,
    watch: Watch,
    workers: Workers,
    meter: Meter,
) -> _Judged:
    watch.begin("judging", len(examples))
    verdicts = label_images(
        judge,
        models,
        inputs_of(examples),
        workers=workers,
        meter=meter,
        done=watch.advance,
        orders=job.orders,
    )
    agreement = agreement_of(judge.labels, examples, verdicts)
    intervals = agreement_intervals(agreement, seed=job.seed)
    return _Judged(examples, verdicts, Evaluated(agreement, intervals))


def _record(
    done: Sequence[_Judged], paired: PairedComparison | None, people: People | None, ceiling: Ceiling | None
) -> dict[str, Any]:
    record = _figures(done[0].shown)
    record["humans"] = None if people is None or ceiling is None else people.to_dict(ceiling)
    if len(done) > 1:
        record["against"] = _figures(done[1].shown)
        record["paired"] = None if paired is None else paired.to_dict()
    return record


def _figures(shown: Evaluated) -> dict[str, Any]:
    return {**shown.agreement.to_dict(), "intervals": plain_intervals(shown.intervals)}
