"""What `blpo compare` does: the data of a compile, every method on it, one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import dspy
import typer
from dspy.utils.callback import BaseCallback

from blpo_dspy.commands import connect, note_offline
from blpo_dspy.comparison import Comparison, Row, compare
from blpo_dspy.comparison_tables import failures, terminal_table, write_tables
from blpo_dspy.errors import BlpoError
from blpo_dspy.labels import LabelSpace
from blpo_dspy.methods import chosen
from blpo_dspy.options import Columns, EvidenceOption, ModelNames, writable_folder
from blpo_dspy.programs.signatures import DEFAULT_VERBALIZER_INSTRUCTION
from blpo_dspy.programs.visual_judge import VisualJudge
from blpo_dspy.progress import Watch, quiet_libraries
from blpo_dspy.screen import Screen, models_line
from blpo_dspy.sets import Sets, load_sets

_INTERRUPTED = 130


@dataclass(frozen=True)
class CompareJob:
    """One `blpo compare`.

    Attributes:
        table: The labelled images.
        labels: Their label space.
        task: The judge instruction that every method starts from.
        columns: Which columns hold what.
        val: A table of its own for validation; split off the first one if None.
        test: Likewise for the sealed test.
        evidence: What the judge reads.
        verbalizer_instruction: The verbalizer instruction to start from; the library's default if None.
        models: The models by role.
        optimizers: The methods, comma-separated; all of them if None.
        seeds: One run of every method for each; the first one also draws the splits.
        max_calls: The most LM calls of a search.
        threads: LM calls under way at once.
        out: The folder of the comparison.
    """

    table: Path
    labels: LabelSpace
    task: str
    columns: Columns
    val: Path | None
    test: Path | None
    evidence: EvidenceOption
    verbalizer_instruction: str | None
    models: ModelNames
    optimizers: str | None
    seeds: tuple[int, ...]
    max_calls: int
    threads: int | None
    out: Path


def seeds(text: str) -> tuple[int, ...]:
    """Returns the seeds of a comma-separated list.

    Raises:
        BlpoError: If one of them is no whole number of at least zero, or there is none.
    """
    listed = [seed.strip() for seed in text.split(",")]
    if not all(seed.isdecimal() for seed in listed):
        raise BlpoError(f"--seeds {text!r} is no list of seeds; write whole numbers such as 0,1,2")
    return tuple(dict.fromkeys(map(int, listed)))


def compare_methods(job: CompareJob, screen: Screen) -> None:
    """Runs every method on the same data and prints one table."""
    methods = chosen(job.optimizers)
    student = VisualJudge(
        job.labels,
        instruction=job.task,
        verbalizer_instruction=job.verbalizer_instruction or DEFAULT_VERBALIZER_INSTRUCTION,
        context=job.columns.context,
        evidence=job.evidence.value,
    )
    sets = load_sets(job.table, job.val, job.test, labels=job.labels, columns=job.columns, seed=job.seeds[0])
    folder = writable_folder(job.out)
    models = connect(job.models)
    note_offline(job.models, screen, "judge-model")
    with quiet_libraries(), Watch(screen.err) as watch:
        watch.say(f"Data    {sets.how}")
        progress = _Progress(watch, len(methods) * len(job.seeds))
        with dspy.context(callbacks=[*dspy.settings.callbacks, progress]):
            comparison = _compared(
                folder,
                student,
                trainset=sets.train,
                valset=sets.val,
                testset=sets.test,
                models=models,
                max_calls=job.max_calls,
                optimizers=job.optimizers,
                seeds=job.seeds,
                num_threads=job.threads,
                on_start=progress.start,
                on_row=progress.row,
            )
        watch.begin("drawing")
        files = write_tables(comparison, folder)
    _show(screen, comparison, sets, job.models.by_role(), files)


def _compared(folder: Path, student: VisualJudge, **options: Any) -> Comparison:
    try:
        return compare(student, out=folder, **options)
    except KeyboardInterrupt:
        typer.echo(f"Interrupted; what was done is in {folder}: repeat the command to go on.", err=True)
        raise typer.Exit(_INTERRUPTED) from None


def _show(screen: Screen, comparison: Comparison, sets: Sets, models: dict[str, str], files: Sequence[Path]) -> None:
    if files[-1].suffix != ".png":
        screen.note('no plot was drawn, as matplotlib is not installed: pip install "blpo-dspy[compare]"')
    if screen.as_json:
        screen.json(comparison.to_dict())
        return
    screen.text(f"Data    {sets.how}")
    screen.text(f"Models  {models_line(models)}")
    screen.text()
    screen.out.print(terminal_table(comparison, screen.out.width))
    for line in failures(comparison):
        screen.text(line)
    screen.text()
    screen.text(f"Wrote   {', '.join(str(file) for file in files)}")


class _Progress(BaseCallback):
    """The live line: which method runs, its calls, and how many runs are done."""

    def __init__(self, watch: Watch, runs: int) -> None:
        super().__init__()
        self._watch, self._runs = watch, runs
        self._lock = Lock()
        self._done = self._calls = 0
        self._now = ""
        watch.begin("starting", runs)

    def start(self, method: str, seed: int) -> None:
        """A run begins."""
        with self._lock:
            self._now, self._calls = f"{method}, seed {seed}", 0
        self._show()

    def row(self, row: Row) -> None:
        """A run is done."""
        with self._lock:
            self._done += 1
        self._watch.say(f"{row.method}, seed {row.seed}: {_told(row)}")
        self._show()

    def on_lm_end(self, call_id: str, outputs: Any, exception: Exception | None = None) -> None:
        """An LM answered or failed."""
        with self._lock:
            self._calls += 1
        self._show()

    def _show(self) -> None:
        with self._lock:
            what, done, status = self._now, self._done, f"{self._done}/{self._runs} runs, {self._calls:,} calls"
        self._watch.show(what, done, status)


def _told(row: Row) -> str:
    if row.error:
        return f"failed: {row.error}"
    assert row.test is not None
    found = row.test["macro_f1"]
    return f"test macro-F1 {'–' if found is None else f'{found:.2f}'}, {row.spent} calls, {row.seconds:.0f} s"
