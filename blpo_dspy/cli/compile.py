"""`blpo compile` and `blpo estimate`: from labelled images to a judge and its record, or to their cost."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from blpo_dspy.agreement.verdicts import compare_verdicts
from blpo_dspy.calls.ledger import Usage
from blpo_dspy.cli.begin import begin, connect, contradicting, keep_choice, note_offline, note_prices
from blpo_dspy.cli.flags import with_flags
from blpo_dspy.cli.prechecks import precheck_calls, prechecks_in_words, run_prechecks
from blpo_dspy.cli.screen import Screen, models_line, noting, show_aligned, working
from blpo_dspy.errors import BlpoError
from blpo_dspy.files import writable_file, writable_folder
from blpo_dspy.models.lm import Models
from blpo_dspy.optimizers.estimate import estimate
from blpo_dspy.runs.align import Judged, write_judge, write_run
from blpo_dspy.runs.compiling import claim, compile_and_measure, make_optimizer
from blpo_dspy.runs.costs import costs_after, not_paid_for
from blpo_dspy.runs.jobs import CompileJob
from blpo_dspy.runs.record import Aligned, result
from blpo_dspy.runs.seal import run_of, seal
from blpo_dspy.runs.sets import Sets


def compile_judge(job: CompileJob, screen: Screen) -> None:
    """Aligns a judge with labelled images and writes it."""
    if job.start.judge is not None and job.out.resolve() == job.start.judge.resolve():
        raise BlpoError(f"--out and --start both name {job.out}; give the new judge a file of its own")
    start, sets = begin(job.start, job.search.seed, screen)
    files = target_files(job)
    models = connect(job.start.models)
    note_offline(job.start.models, screen, "judge-model")
    note_prices(job.search.prices, job.start.models, screen)
    sets = replace(sets, seal=seal(sets.test, run_of(start, sets, job.search), run_dir=job.run_dir, files=files))
    for line in _remarks(sets):
        screen.note(line)
    with noting(screen):
        claim(start, sets, models, job.search, job.run_dir)
    asked = run_prechecks(job, start, sets.named(), sets.train, models, screen)
    search = job.search.after(asked.ledger.total, asked.seconds)
    for line in not_paid_for(job.search, costs_after(start, sets, search), sets):
        screen.note(with_flags(line, ["max_calls", "fidelity"]))
    with working(screen) as watch:
        watch.say(f"Data    {sets.how}")
        aligned = compile_and_measure(start, sets, models, search, watch, log_dir=job.run_dir)
    aligned = replace(aligned, beforehand=asked.ledger)
    found: dict[str, Any] = {"repeatability": asked.repeatability, "warnings": watch.warnings}
    parent = None
    if job.start.judge is not None and all(aligned.verdicts):
        parent = compare_verdicts(start.labels, sets.test, *aligned.verdicts, seed=job.search.seed)
    if parent is not None:
        found["against_start"] = parent.to_dict()
    record = {**result(aligned, sets, job.start.models.by_role()), **found}
    files = write_all(job, aligned, sets, record, files)
    if screen.as_json:
        screen.json(record)
        return
    about = {"Data": sets.how, "Models": models_line(job.start.models.by_role())}
    if record["humans"] is not None:
        about["Ceiling"] = record["humans"]["headline"]
    show_aligned(screen, aligned, about, files)
    if parent is not None:
        screen.text(f"\nAgainst {job.start.judge} on the sealed test images: {parent.wording}")


def target_files(job: CompileJob) -> list[Path]:
    """Returns the files that the judge and the record go to, once it is clear that they can be written.

    Raises:
        BlpoError: If they cannot.
    """
    files = [writable_file(file) for file in (job.out, job.result) if file is not None]
    if job.run_dir is not None:
        writable_folder(job.run_dir)
    if len({file.resolve() for file in files}) < len(files):
        raise BlpoError(f"--out and --result both name {job.out}; give each a file of its own")
    return files


def write_all(
    job: CompileJob,
    aligned: Aligned,
    sets: Sets,
    record: Mapping[str, Any],
    files: list[Path],
    judged: Judged | None = None,
) -> list[Path]:
    """Writes what a run leaves, the judge and the record to `files`, and returns the files to name.

    Its report shows the images that were judged before and after: those of the test set, if none are given.
    """
    write_judge(files, aligned.judge, record)
    folder = job.run_dir or job.out.parent
    lead = "" if job.run_dir is not None else f"{job.out.stem}."
    files = files + keep_choice(sets, folder / f"{lead}drawn.json", folder / f"{lead}disagreements.csv")
    return (
        files
        if job.run_dir is None
        else files + write_run(job.run_dir, aligned, sets, record, judged, ["blpo", *sys.argv[1:]])
    )


def _remarks(sets: Sets) -> Iterator[str]:
    """Remarks on the sets before a run."""
    if sets.seal is not None and sets.seal.warning is not None:
        yield sets.seal.warning
    yield from contradicting([*sets.train, *sets.val, *sets.test])


def estimate_cost(job: CompileJob, latency: float, screen: Screen) -> None:
    """Prints the cost of `compile_judge`; no LM is called and nothing is written."""
    start, sets = begin(job.start, job.search.seed, screen)
    note_prices(job.search.prices, job.start.models, screen)
    models = Models.named(**job.start.models.by_role(), **job.start.models.connection())
    beforehand = precheck_calls(job, start, sets.train, models)
    first = beforehand.total()
    search = job.search.after(Usage(calls=first))
    costs = costs_after(start, sets, search)
    optimizer = make_optimizer(models, search, costs.reserved)
    found = estimate(optimizer, start, trainset=sets.train, valset=sets.val, latency=latency)
    whole = found.plus(beforehand + costs.calls, job.search.budget())
    if screen.as_json:
        after = {
            "validation_calls": costs.val,
            "test_calls": costs.test or 0,
            "fidelity_calls": costs.fidelity,
            "label_error_calls": costs.label_errors,
        }
        screen.json({**found.to_dict(), **after, "calls_beforehand": first, "in_all": whole.totals()})
        return
    validated = f", the validation split, which the search doesn't judge, {costs.val}" if costs.val else ""
    described = f", descriptions checked on {job.search.fidelity} images {costs.fidelity}" if costs.fidelity else ""
    both = " Each pair of them is judged in both orders." if start.labels.paired else ""
    screen.text(
        f"{found.table(whole)}\n\nThe test split adds {costs.test or 0} calls{validated}{described}, doubtful labels "
        f"at most {costs.label_errors}{prechecks_in_words(first)}.{both}"
    )
