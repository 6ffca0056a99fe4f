"""`blpo compile` and `blpo estimate`: from labelled images to a judge and its record, or to their cost."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from blpo_dspy.agreement.label_errors import FILE_NAME as LABEL_ERRORS
from blpo_dspy.agreement.label_errors import write_label_errors
from blpo_dspy.agreement.verdicts import compare_verdicts
from blpo_dspy.cli.aligning.folds import about_folds, cut_into_folds, searches_in_words, shares_in_words, show_folds
from blpo_dspy.cli.aligning.prechecks import precheck_calls, prechecks_in_words, run_prechecks
from blpo_dspy.cli.begin import begin, connect, contradicting, keep_choice, note_offline, note_prices
from blpo_dspy.cli.flags import check_folds, with_flags
from blpo_dspy.cli.jobs import CompileJob, EstimateJob
from blpo_dspy.cli.screen import Screen, models_line, noting, show_aligned, working
from blpo_dspy.errors import BlpoError
from blpo_dspy.files import writable_file, writable_folder
from blpo_dspy.models.lm import Models
from blpo_dspy.optimizers.estimate import estimate, sum_of_estimates
from blpo_dspy.programs.visual_judge import VisualJudge
from blpo_dspy.runs.align import Judged, write_judge, write_run
from blpo_dspy.runs.checks.costs import costs_after, not_paid_for
from blpo_dspy.runs.compiling import claim, compile_and_measure, make_optimizer
from blpo_dspy.runs.data.seal import run_of, seal
from blpo_dspy.runs.data.sets import Sets
from blpo_dspy.runs.folds import Folds, align_folds, searches_of, share
from blpo_dspy.runs.jobs import Search
from blpo_dspy.runs.record import Aligned, result
from blpo_dspy.workspace.ledger import Usage
from blpo_dspy.workspace.workspace import current_workspace


def compile_judge(job: CompileJob, screen: Screen) -> None:
    """Aligns a judge with labelled images and writes it; with folds what compiling does is measured out of fold."""
    job = replace(job, run_dir=job.run_dir or job.shared.workspace)
    job = replace(job, search=job.search.within(current_workspace().room("plan", job.run_dir)))
    start, sets, cut = _begin(job, screen)
    files = target_files(job)
    models = connect(job.start.models)
    note_offline(job.start.models, screen, "judge-model")
    note_prices(job.shared.prices, job.start.models, screen)
    if cut is None:
        sets = replace(sets, seal=seal(sets.test, run_of(start, sets, job.search), run_dir=job.run_dir, files=files))
    used = None if sets.seal is None else sets.seal.warning
    for line in [*filter(None, [used]), *contradicting([*sets.train, *sets.val, *sets.test])]:
        screen.note(line)
    with noting(screen):
        claim(start, sets, models, job.search, job.run_dir)
    asked = run_prechecks(job, start, (sets if cut is None else cut).named(), sets.train, models, screen)
    search = job.search.after(asked.ledger.total, asked.seconds)
    for line in _caps_in_words(job, search, start, sets, cut):
        screen.note(line)
    folded = None
    with working(screen) as watch:
        if cut is None:
            watch.say(f"Data    {sets.how}")
            aligned = compile_and_measure(start, sets, models, search, watch, log_dir=job.run_dir)
        else:
            folded = align_folds(start, cut, models, search, watch, log_dir=job.run_dir)
            aligned = folded.aligned
    aligned = replace(aligned, beforehand=asked.ledger)
    names = job.start.models.by_role()
    record = {**result(aligned, sets, names), "repeatability": asked.repeatability, "warnings": watch.warnings}
    about = {"Data": sets.how, "Models": models_line(names)}
    judged, against = None, _against_start(job, start, sets, aligned)
    if folded is not None:
        record["folds"], judged = folded.to_dict(), (folded.cut.all(), *folded.verdicts())
        about = {**about_folds(folded), **about}
    files = _write_all(job, aligned, sets, record, files, judged)
    if screen.as_json:
        screen.json(record)
        return
    if record["humans"] is not None:
        about["Ceiling"] = record["humans"]["headline"]
    if folded is not None:
        show_folds(screen, folded)
    show_aligned(screen, aligned, about, files, None if sets.origin is None else job.run_dir)
    if against:
        screen.text(against)


def _against_start(job: CompileJob, start: VisualJudge, sets: Sets, aligned: Aligned) -> str:
    """How the judge compares with the one that it was compiled from, on the test images."""
    if job.start.judge is None or job.folds is not None or not all(aligned.verdicts):
        return ""
    paired = compare_verdicts(start.labels, sets.test, *aligned.verdicts, seed=job.search.seed)
    return "" if paired is None else f"\nAgainst {job.start.judge} on the test images: {paired.wording}"


def _caps_in_words(job: CompileJob, search: Search, start: VisualJudge, sets: Sets, cut: Folds | None) -> list[str]:
    """How the caps are shared out among the folds, or what they don't pay for."""
    if cut is not None:
        return shares_in_words(search, share(search, start, cut), len(cut.folds))
    unpaid = not_paid_for(start, job.search, costs_after(start, sets, search), sets)
    return [with_flags(line, ["max_calls", "fidelity"]) for line in unpaid]


def _begin(job: CompileJob, screen: Screen) -> tuple[VisualJudge, Sets, Folds | None]:
    """The start and its sets, and with folds what these are cut into."""
    if job.start.judge is not None and job.out.resolve() == job.start.judge.resolve():
        raise BlpoError(f"--out and --start both name {job.out}; give the new judge a file of its own")
    if job.folds is not None:
        check_folds(job.start, job.search)
    start, sets = begin(job.start, job.search.seed, screen)
    if job.folds is None:
        return start, sets, None
    cut = cut_into_folds(job.folds, start, sets, job.search.seed)
    share(job.search, start, cut)  # refuses a cap that is too small before anything is written or called
    return start, cut.whole, cut


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


def _write_all(
    job: CompileJob,
    aligned: Aligned,
    sets: Sets,
    record: Mapping[str, Any],
    files: list[Path],
    judged: Judged | None,
) -> list[Path]:
    """Writes what a run leaves, the judge and the record to `files`, and returns the files to name.

    Its report shows the images that were judged before and after: those of the test set, if none are given.
    """
    write_judge(files, aligned.judge, record)
    folder = job.run_dir or job.out.parent
    lead = "" if job.run_dir is not None else f"{job.out.stem}."
    files = files + keep_choice(sets, folder / f"{lead}drawn.json", folder / f"{lead}disagreements.csv")
    if job.run_dir is not None:
        command, server = ["blpo", *sys.argv[1:]], job.start.models.api_base
        return files + write_run(job.run_dir, aligned, sets, record, judged, command, server)
    if aligned.checks.label_errors:
        files.append(folder / f"{lead}{LABEL_ERRORS}")
        write_label_errors(files[-1], aligned.checks.label_errors)
    return files


def estimate_cost(asked: EstimateJob, screen: Screen) -> None:
    """Prints the cost of `compile_judge`; no LM is called and nothing is written."""
    job, latency = asked.compile, asked.latency
    start, sets, cut = _begin(job, screen)
    note_prices(job.shared.prices, job.start.models, screen)
    models = Models.named(**job.start.models.by_role(), **job.start.models.connection())
    beforehand = precheck_calls(job, start, sets.train, models)
    first = beforehand.total()
    search = job.search.after(Usage(calls=first))
    searches = [(sets, search)] if cut is None else searches_of(share(search, start, cut), cut)
    costs = [costs_after(start, part, search) for part, search in searches]
    parts = [
        estimate(
            make_optimizer(models, search, cost.reserved), start, trainset=part.train, valset=part.val, latency=latency
        )
        for (part, search), cost in zip(searches, costs, strict=True)
    ]
    found = sum_of_estimates(parts)
    whole = found.plus(sum((cost.calls for cost in costs), beforehand), job.search.budget())
    after = {
        "validation_calls": sum(cost.val for cost in costs),
        "test_calls": sum(cost.test or 0 for cost in costs),
        "fidelity_calls": sum(cost.fidelity for cost in costs),
        "label_error_calls": sum(cost.label_errors for cost in costs),
        "calls_beforehand": first,
    }
    if screen.as_json:
        folds = {} if cut is None else {"folds": len(cut.folds)}
        screen.json({**found.to_dict(), **after, **folds, "in_all": whole.totals()})
        return
    lead = "The test split" if cut is None else f"{searches_in_words(len(parts))} Judging the folds"
    validated, described = after["validation_calls"], after["fidelity_calls"]
    more = f", the validation split, which the search doesn't judge, {validated}" if validated else ""
    more += f", descriptions checked on {job.search.fidelity} images {described}" if described else ""
    both = " Each pair of them is judged in both orders." if start.labels.paired else ""
    screen.text(
        f"{found.table(whole)}\n\n{lead} adds {after['test_calls']} calls{more}, doubtful labels at most "
        f"{after['label_error_calls']}{prechecks_in_words(first)}.{both}"
    )
