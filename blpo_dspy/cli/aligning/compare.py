"""`blpo compare`: every method on the data of a compile, in one table."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import typer

from blpo_dspy.agreement.people import ceiling_of
from blpo_dspy.cli.aligning.prechecks import Meters, preflight
from blpo_dspy.cli.begin import begin, connect, keep_choice, note_offline, note_prices
from blpo_dspy.cli.jobs import CompareJob
from blpo_dspy.cli.screen import Screen, models_line
from blpo_dspy.comparison.compare import Comparison, compared
from blpo_dspy.comparison.figures import no_evidence, remarks
from blpo_dspy.comparison.methods import chosen, images_together
from blpo_dspy.comparison.needs import Terms, check_methods
from blpo_dspy.comparison.page import report_comparison
from blpo_dspy.comparison.tables import terminal_table, write_tables
from blpo_dspy.errors import ModelError
from blpo_dspy.files import writable_folder, writing_output
from blpo_dspy.models.lm import is_embedded
from blpo_dspy.programs.visual_judge import VisualJudge
from blpo_dspy.runs.data.seal import seal
from blpo_dspy.runs.data.sets import Sets
from blpo_dspy.runs.jobs import Search
from blpo_dspy.workspace.budget import Budget
from blpo_dspy.workspace.watch import quiet_libraries

_INTERRUPTED = 130


def compare_methods(job: CompareJob, screen: Screen) -> None:
    """Runs every method on the same data and prints one table."""
    methods = chosen(job.optimizers)
    student, sets = begin(job.start, job.seeds[0], screen)
    folder = writable_folder(job.out)
    models = connect(job.start.models)
    note_offline(job.start.models, screen, "judge-model")
    note_prices(job.shared.prices, job.start.models, screen)
    used = seal(sets.test, "", run_dir=folder).warning
    if used is not None:
        screen.note(used)
    together = images_together(methods)
    if together and not all(map(is_embedded, job.start.models.by_role().values())):
        screen.note(together)
    terms = Terms(models, Budget(job.max_calls, max_usd=job.max_usd))
    if job.preflight:
        check_methods(methods, terms, student, sets.train, sets.val)
        with Meters(Search(), folder) as meters:
            preflight(student, sets.named(), models, meters.another("preflight"), screen)
    files = keep_choice(sets, folder / "drawn.json", folder / "disagreements.csv")
    try:
        with quiet_libraries():
            comparison = compared(student, (sets.train, sets.val, sets.test), terms, methods, job.seeds, folder)
            files += write_tables(comparison, folder)
            files.insert(0, report_comparison(comparison, folder, sets.how, ["blpo", *sys.argv[1:]]))
    except KeyboardInterrupt:
        raise typer.Exit(_INTERRUPTED) from None
    _show(screen, comparison, student, sets, job.start.models.by_role(), files)
    _check_any_searched(comparison)


def _check_any_searched(comparison: Comparison) -> None:
    """Ends with an error where nothing was compared, which a script would take for a result."""
    errors = [row.error for row in comparison.rows if row.method != "none"]
    if errors and all(errors):
        raise ModelError(
            f"every search failed, so nothing is compared; repeat the command to try again. The first: {errors[0]}"
        )


def _show(
    screen: Screen,
    comparison: Comparison,
    student: VisualJudge,
    sets: Sets,
    models: dict[str, str],
    files: Sequence[Path],
) -> None:
    if screen.as_json:
        screen.json(comparison.to_dict())
        return
    screen.text(f"Data    {sets.how}")
    screen.text(f"Models  {models_line(models)}")
    if sets.people is not None:
        screen.text(f"Ceiling {ceiling_of(student.labels, sets.test).headline}")
    screen.text()
    with writing_output():
        screen.out.print(terminal_table(comparison, screen.out.width))
    for line in filter(None, [*remarks(comparison), no_evidence(comparison)]):
        screen.text(line)
    screen.text()
    screen.text(f"Wrote   {', '.join(str(file) for file in files)}")
