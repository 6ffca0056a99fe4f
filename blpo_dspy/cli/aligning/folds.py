"""What `blpo compile --folds K` and `blpo estimate --folds K` show and cut in addition."""

from __future__ import annotations

import textwrap
from dataclasses import replace

from blpo_dspy.agreement.figures import table_figures
from blpo_dspy.agreement.intervals import MeanSd
from blpo_dspy.cli.screen import Screen, agreement_table, intervals_in_words
from blpo_dspy.programs.visual_judge import VisualJudge
from blpo_dspy.runs.data.sets import Sets
from blpo_dspy.runs.folds import Folded, Folds, make_folds
from blpo_dspy.runs.jobs import Search
from blpo_dspy.workspace.budget import CAPS


def cut_into_folds(folds: int, start: VisualJudge, sets: Sets, seed: int) -> Folds:
    """Returns all examples of the sets, cut into folds."""
    cut = make_folds([*sets.train, *sets.val, *sets.test], start.labels, folds=folds, seed=seed)
    # A manifest without splits: which images were drawn is what there is to repeat.
    manifest = None if sets.manifest is None else replace(sets.manifest, splits={})
    return replace(cut, whole=replace(cut.whole, people=sets.people, manifest=manifest))


def shares_in_words(search: Search, each: Search, folds: int) -> list[str]:
    """Returns how the caps are shared out."""
    lines = []
    for name in CAPS:
        if (cap := getattr(search, name)) is not None:
            shares = f"{getattr(each, name):g} for each of {folds} folds and for all images"
            lines.append(f"--{name.replace('_', '-')} {cap:g} is shared out equally: {shares}")
    return lines


def show_folds(screen: Screen, found: Folded) -> None:
    """Prints the folds and their pooled agreement."""
    folds, pooled, paired = len(found.folds), found.pooled(), found.paired()
    rows = [
        (f"fold {number}", when, measured[number - 1])
        for number in range(1, folds + 1)
        for when, measured in found.by_fold().items()
    ]
    screen.table(agreement_table([*rows, *((f"all {folds}", when, pooled[when]) for when in pooled)]))
    screen.text()
    lines = [
        f"95% intervals {when}: {intervals_in_words(pooled[when], spans)}" for when, spans in found.intervals().items()
    ]
    lines.append(f"Over {folds} folds, mean ± sd: {_spread(found)}")
    if paired is not None:
        lines.append(f"Out of fold: {paired.wording}")
    for line in lines:
        screen.text(textwrap.fill(line, screen.width))
    screen.text()


def about_folds(found: Folded) -> dict[str, str]:
    """Returns what the folds took, and what is kept."""
    calls = found.calls()
    total = sum(calls.values()) - calls["cached"]
    return {
        "Folds": f"{total:,} calls; the judge of a fold is compiled on the others, and not kept",
        "Kept": f"the judge below, compiled on all {len(found.cut.all())} images; no figure above is its own",
    }


def searches_in_words(searches: int) -> str:
    """Returns which searches an estimate is of."""
    return f"These are {searches} searches: one for each of {searches - 1} folds, and one on all images."


def _spread(found: Folded) -> str:
    over = found.over_folds()
    words = table_figures(found.labels)
    both = [name for name in words if name in over["before"] and name in over["after"]]
    return ", ".join(
        f"{words[name]} {_mean_sd(over['before'][name])} → {_mean_sd(over['after'][name])}" for name in both
    )


def _mean_sd(value: MeanSd) -> str:
    return f"{value.mean:.2f}" + ("" if value.sd is None else f" ± {value.sd:.2f}")
