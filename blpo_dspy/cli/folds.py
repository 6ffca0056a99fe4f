"""`blpo compile --folds K` and `blpo estimate --folds K`."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from blpo_dspy.agreement.figures import table_figures
from blpo_dspy.agreement.intervals import MeanSd
from blpo_dspy.calls.ledger import Usage
from blpo_dspy.cli.begin import begin, connect, contradicting, note_offline, note_prices
from blpo_dspy.cli.compile import target_files, write_all
from blpo_dspy.cli.flags import check_folds
from blpo_dspy.cli.prechecks import precheck_calls, prechecks_in_words, run_prechecks
from blpo_dspy.cli.screen import Evaluated, Screen, agreement_table, models_line, noting, show_aligned, working
from blpo_dspy.models.lm import Models
from blpo_dspy.optimizers.estimate import estimate, sum_of_estimates
from blpo_dspy.programs.visual_judge import VisualJudge
from blpo_dspy.runs.compiling import claim, make_optimizer
from blpo_dspy.runs.costs import costs_after
from blpo_dspy.runs.folds import Folded, Folds, align_folds, each_fold, make_folds, share
from blpo_dspy.runs.jobs import CompileJob, Search
from blpo_dspy.runs.record import result


def compile_folds(job: CompileJob, screen: Screen) -> None:
    """Measures out of fold what compiling does, and writes a judge compiled on all images."""
    start, cut = _begin(job, screen)
    share(job.search, start, cut)  # refuses a cap that is too small before anything is written or called
    files = target_files(job)
    models = connect(job.start.models)
    note_offline(job.start.models, screen, "judge-model")
    note_prices(job.search.prices, job.start.models, screen)
    for line in contradicting(cut.all()):
        screen.note(line)
    with noting(screen):
        claim(start, cut.whole, models, job.search, job.run_dir)
    asked = run_prechecks(job, start, cut.named(), cut.whole.train, models, screen)
    search = job.search.after(asked.ledger.total, asked.seconds)
    for line in _shares(search, share(search, start, cut), len(cut.folds)):
        screen.note(line)
    with working(screen) as watch:
        found = align_folds(start, cut, models, search, watch, log_dir=job.run_dir)
    found = replace(found, aligned=replace(found.aligned, beforehand=asked.ledger))
    names = job.start.models.by_role()
    more = {"repeatability": asked.repeatability, "warnings": watch.warnings, "folds": found.to_dict()}
    record = {**result(found.aligned, cut.whole, names), **more}
    files = write_all(job, found.aligned, cut.whole, record, files, (cut.all(), *found.verdicts()))
    if screen.as_json:
        screen.json(record)
    else:
        _show(screen, found, record, models_line(names), files)


def _begin(job: CompileJob, screen: Screen) -> tuple[VisualJudge, Folds]:
    assert job.folds is not None
    check_folds(job.start, job.search)
    start, sets = begin(job.start, job.search.seed, screen)
    examples = [*sets.train, *sets.val, *sets.test]
    cut = make_folds(examples, start.labels, folds=job.folds, seed=job.search.seed)
    # A manifest without splits: which images were drawn is what there is to repeat.
    manifest = None if sets.manifest is None else replace(sets.manifest, splits={})
    return start, replace(cut, whole=replace(cut.whole, people=sets.people, manifest=manifest))


def _shares(search: Search, each: Search, folds: int) -> list[str]:
    """How the caps are shared out, in words."""
    caps = {
        "--max-calls": "max_calls",
        "--max-tokens": "max_tokens",
        "--max-usd": "max_usd",
        "--max-seconds": "max_seconds",
    }
    return [
        f"{option} {cap:g} is shared out equally: {getattr(each, name):g} for each of {folds} folds and for all images"
        for option, name in caps.items()
        if (cap := getattr(search, name)) is not None
    ]


def _show(screen: Screen, found: Folded, record: dict[str, Any], models: str, files: Sequence[Path]) -> None:
    """Prints the folds, their pooled agreement, and the judge that is kept."""
    folds, pooled, paired = len(found.folds), found.pooled(), found.paired()
    rows = [
        (f"fold {number}", when, measured[number - 1])
        for number in range(1, folds + 1)
        for when, measured in found.by_fold().items()
    ]
    screen.table(agreement_table([*rows, *((f"all {folds}", when, pooled[when]) for when in pooled)]))
    screen.text()
    lines = [
        f"95% intervals {when}: {Evaluated(pooled[when], spans).in_words()}"
        for when, spans in found.intervals().items()
    ]
    lines.append(f"Over {folds} folds, mean ± sd: {_spread(found)}")
    if paired is not None:
        lines.append(f"Out of fold: {paired.wording}")
    for line in lines:
        screen.text(textwrap.fill(line, screen.width))
    screen.text()
    calls = found.calls()
    total = sum(calls.values()) - calls["cached"]
    about = {
        "Folds": f"{total:,} calls; the judge of a fold is compiled on the others, and not kept",
        "Kept": f"the judge below, compiled on all {len(found.cut.all())} images; no figure above is its own",
        "Data": found.cut.whole.how,
        "Models": models,
    }
    if record["humans"] is not None:
        about["Ceiling"] = record["humans"]["headline"]
    show_aligned(screen, found.aligned, about, files)


def _spread(found: Folded) -> str:
    over = found.over_folds()
    words = table_figures(found.labels)
    both = [name for name in words if name in over["before"] and name in over["after"]]
    return ", ".join(
        f"{words[name]} {_mean_sd(over['before'][name])} → {_mean_sd(over['after'][name])}" for name in both
    )


def _mean_sd(value: MeanSd) -> str:
    return f"{value.mean:.2f}" + ("" if value.sd is None else f" ± {value.sd:.2f}")


def estimate_folds(job: CompileJob, latency: float, screen: Screen) -> None:
    """Prints the cost of `compile_folds`; no LM is called and nothing is written."""
    start, cut = _begin(job, screen)
    note_prices(job.search.prices, job.start.models, screen)
    models = Models.named(**job.start.models.by_role(), **job.start.models.connection())
    beforehand = precheck_calls(job, start, cut.whole.train, models)
    first = beforehand.total()
    each = share(job.search.after(Usage(calls=first)), start, cut)
    searches = [(sets, each_fold(each)) for sets in cut.folds] + [(cut.whole, each)]
    costs = [costs_after(start, sets, search) for sets, search in searches]
    parts = [
        estimate(
            make_optimizer(models, search, cost.reserved), start, trainset=sets.train, valset=sets.val, latency=latency
        )
        for (sets, search), cost in zip(searches, costs, strict=True)
    ]
    found = sum_of_estimates(parts)
    whole = found.plus(sum((cost.calls for cost in costs), beforehand), job.search.budget())
    after = {
        "validation_calls": sum(cost.val for cost in costs),
        "test_calls": sum(cost.test or 0 for cost in costs),
        "fidelity_calls": 0,
        "label_error_calls": costs[-1].label_errors,
        "calls_beforehand": first,
    }
    if screen.as_json:
        screen.json({**found.to_dict(), **after, "folds": len(cut.folds), "in_all": whole.totals()})
        return
    screen.text(
        f"{found.table(whole)}\n\nThese are {len(parts)} searches: one for each of {len(cut.folds)} folds, and one on "
        f"all images. Judging the folds adds {after['test_calls']} calls, doubtful labels at most "
        f"{after['label_error_calls']}{prechecks_in_words(first)}."
    )
