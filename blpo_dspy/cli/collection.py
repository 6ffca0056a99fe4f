"""What a judged collection is like: `blpo sample`, `population`, `drift` and `rank`; none of them calls a model."""

from __future__ import annotations

from dataclasses import asdict

from blpo_dspy.cli.begin import load_judge
from blpo_dspy.cli.jobs import DriftJob, PopulationJob, RankJob, SampleJob
from blpo_dspy.cli.screen import Screen, noting, plain_table
from blpo_dspy.errors import BlpoError
from blpo_dspy.predictions.ranking import rank
from blpo_dspy.runs.collection.drift import measure_drift
from blpo_dspy.runs.collection.population import estimate_population
from blpo_dspy.runs.collection.to_label import draw_to_label
from blpo_dspy.runs.options.texts import parse_pairs


def sample(job: SampleJob, screen: Screen) -> None:
    """Writes a table with images to label, and prints from which strata they are."""
    drawn = draw_to_label(job.predictions, n=job.n, out=job.out, seed=job.seed)
    if screen.as_json:
        strata = [{**asdict(each), "stratum": str(number)} for number, each in enumerate(drawn.strata, 1)]
        screen.json({"out": str(job.out), "n": len(drawn.chosen), "strata": strata})
        return
    rows = [
        (str(number), each.label or "none", each.confidence or "any", f"{each.size:,}", f"{each.drawn:,}")
        for number, each in sorted(enumerate(drawn.strata, 1), key=lambda item: (item[1].label, item[1].confidence))
    ]
    left = ("stratum", "judge's label", "confidence")
    screen.table(plain_table((*left, "images", "drawn"), rows, left=left))
    screen.text()
    screen.text(
        f"Wrote {job.out} with {len(drawn.chosen):,} images, without the judge's verdicts. Fill in its column label, "
        f"keep all rows, and run: blpo population {job.predictions} --labels {job.out}"
    )


def population(job: PopulationJob, screen: Screen) -> None:
    """Prints the shares, mean or win rate of a judged collection."""
    judge = None if job.judge is None else load_judge(job.judge, job.program)
    with noting(screen):
        found = estimate_population(
            job.predictions,
            job.labels,
            judge=judge,
            labels=None if job.pairs is None else parse_pairs(job.pairs),
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
    tests = [(s.what, f"{s.p_value:.2g}", f"{s.corrected:.2g}", s.test) for s in found.shifts]
    screen.table(plain_table(("compared", "p", "corrected", "test"), tests, left=("compared", "test")))
    screen.text()
    screen.text(found.wording[0].upper() + found.wording[1:] + ".")
    for note in found.notes:
        screen.note(note)
    return found.code


def rank_models(job: RankJob, screen: Screen) -> None:
    """Prints the models of a table of verdicts, the strongest first."""
    if len(job.columns) != 2:
        raise BlpoError(f"--columns {','.join(job.columns)!r}: name two columns, as in model_a,model_b")
    ranking = rank(job.predictions, labels=parse_pairs(job.pairs), columns=job.columns, seed=job.seed)
    if screen.as_json:
        screen.json(ranking.to_dict())
        return
    head, *rows = ranking.rows()
    screen.table(plain_table(head, rows, left=("model",)))
    screen.text()
    left = f"; {ranking.left_out:,} rows without a verdict left out" if ranking.left_out else ""
    screen.text(f"{ranking.verdicts:,} verdicts, {ranking.ties:,} of them ties, which count half a win each{left}")
    screen.text("strength: log-odds, 0 on average; a difference of 1 means winning 73% of the comparisons")
