"""`blpo compare`: every method on the data of a compile, in one table."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import typer

from blpo_dspy.agreement.figures import main_figure, main_words
from blpo_dspy.agreement.people import ceiling_of
from blpo_dspy.cli.aligning.prechecks import Meters, preflight
from blpo_dspy.cli.begin import begin, connect, keep_choice, note_offline, note_prices
from blpo_dspy.cli.jobs import CompareJob
from blpo_dspy.cli.screen import Screen, models_line
from blpo_dspy.comparison.compare import Comparison, ComparisonRow, compare
from blpo_dspy.comparison.figures import no_evidence, remarks
from blpo_dspy.comparison.methods import chosen, images_together
from blpo_dspy.comparison.needs import Terms, check_methods
from blpo_dspy.comparison.page import report_comparison
from blpo_dspy.comparison.tables import terminal_table, write_tables
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import ModelError
from blpo_dspy.files import writable_folder, writing_output
from blpo_dspy.models.lm import is_embedded
from blpo_dspy.programs.visual_judge import VisualJudge
from blpo_dspy.report.numbers import figure
from blpo_dspy.runs.data.seal import seal
from blpo_dspy.runs.data.sets import Sets
from blpo_dspy.runs.jobs import Search
from blpo_dspy.runs.progress import Watch, quiet_libraries
from blpo_dspy.workspace.budget import Budget

_INTERRUPTED = 130


def compare_methods(job: CompareJob, screen: Screen) -> None:
    """Runs every method on the same data and prints one table."""
    methods = chosen(job.optimizers)
    student, sets = begin(job.start, job.seeds[0], screen)
    folder = writable_folder(job.out)
    models = connect(job.start.models)
    note_offline(job.start.models, screen, "judge-model")
    note_prices(job.prices, job.start.models, screen)
    used = seal(sets.test, "", run_dir=folder).warning
    if used is not None:
        screen.note(used)
    together = images_together(methods)
    if together and not all(map(is_embedded, job.start.models.by_role().values())):
        screen.note(together)
    if job.preflight:
        terms = Terms(models, Budget(job.max_calls, max_usd=job.max_usd), job.threads, job.prices, job.max_outage)
        check_methods(methods, terms, student, sets.train, sets.val)
        search = Search(threads=job.threads, prices=job.prices, max_outage=job.max_outage)
        with Meters(search, folder) as meters:
            preflight(student, sets.named(), models, meters.another("preflight"), screen)
    files = keep_choice(sets, folder / "drawn.json", folder / "disagreements.csv")
    with quiet_libraries(), Watch(screen.err) as watch:
        watch.say(f"Data    {sets.how}")
        progress = _Progress(watch, len(methods) * len(job.seeds), job.max_calls)
        comparison = _compared(
            folder,
            student,
            trainset=sets.train,
            valset=sets.val,
            testset=sets.test,
            models=models,
            max_calls=job.max_calls,
            max_usd=job.max_usd,
            optimizers=job.optimizers,
            seeds=job.seeds,
            num_threads=job.threads,
            prices=job.prices,
            max_outage=job.max_outage,
            on_start=progress.start,
            on_calls=progress.calls,
            on_row=progress.row,
        )
        watch.begin("drawing")
        files += write_tables(comparison, folder)
        files.insert(0, report_comparison(comparison, folder, sets.how, ["blpo", *sys.argv[1:]]))
    _show(screen, comparison, student, sets, job.start.models.by_role(), files)
    _check_any_searched(comparison)


def _check_any_searched(comparison: Comparison) -> None:
    """Ends with an error where nothing was compared, which a script would take for a result."""
    errors = [row.error for row in comparison.rows if row.method != "none"]
    if errors and all(errors):
        raise ModelError(
            f"every search failed, so nothing is compared; repeat the command to try again. The first: {errors[0]}"
        )


def _compared(folder: Path, student: VisualJudge, **options: Any) -> Comparison:
    try:
        return compare(student, out=folder, **options)
    except KeyboardInterrupt:
        typer.echo(f"Interrupted; what was done is in {folder}: repeat the command to resume.", err=True)
        raise typer.Exit(_INTERRUPTED) from None


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


class _Progress:
    """The live line: which method runs, its calls that count against the cap, and how many runs are done."""

    def __init__(self, watch: Watch, runs: int, cap: int) -> None:
        self._watch, self._runs, self._cap = watch, runs, cap
        self._lock = Lock()
        self._done = self._calls = 0
        self._now = ""
        watch.begin("starting", runs)

    def start(self, method: str, seed: int) -> None:
        """A run begins."""
        with self._lock:
            self._now, self._calls = f"{method}, seed {seed}", 0
        self._show()

    def row(self, row: ComparisonRow) -> None:
        """A run is done."""
        with self._lock:
            self._done += 1
        self._watch.say(f"{row.method}, seed {row.seed}: {_in_words(row)}")
        self._show()

    def calls(self, calls: int) -> None:
        """A run has made so many calls."""
        with self._lock:
            self._calls = calls
        self._show()

    def _show(self) -> None:
        with self._lock:
            what, done = self._now, self._done
            status = f"{self._done}/{self._runs} runs, {self._calls:,} of {self._cap:,} calls"
        self._watch.show(what, done, status)


def _in_words(row: ComparisonRow) -> str:
    if row.error:
        return f"failed: {row.error}"
    assert row.test is not None
    labels = LabelSpace.from_dict(row.test["labels"])
    agreement = f"test {main_words(labels)} {figure(row.test[main_figure(labels)])}"
    return f"{agreement}, {row.spent:,} calls, {row.lm_seconds:,.0f} LM seconds"
