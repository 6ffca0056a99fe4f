"""`blpo demo`: aligns a judge with rated photographs, offline."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from blpo_dspy.cli.begin import connect
from blpo_dspy.cli.jobs import DemoJob
from blpo_dspy.cli.screen import Screen, models_line, show_aligned, working
from blpo_dspy.data.columns import Columns
from blpo_dspy.data.examples import load_examples
from blpo_dspy.data.sources.photographs.dataset import FIVE, REASON_COLUMN, write_dataset
from blpo_dspy.data.sources.photographs.raters import RATERS, Rater, ceiling_instruction, ceiling_verbalizer_instruction
from blpo_dspy.data.splits import NAMES
from blpo_dspy.errors import BlpoError
from blpo_dspy.files import writable_folder, write_json
from blpo_dspy.programs.visual_judge import VisualJudge
from blpo_dspy.runs.align import write_run
from blpo_dspy.runs.compiling import compile_and_measure
from blpo_dspy.runs.data.seal import run_of, seal
from blpo_dspy.runs.data.sets import Origin, Sets
from blpo_dspy.runs.jobs import ModelNames, Search
from blpo_dspy.runs.options.start import Data
from blpo_dspy.runs.options.texts import parse_scores
from blpo_dspy.runs.record import result

_TASK = "Rate the technical quality of this photograph from {} (worst) to {} (best)."
DEMO_TASK = _TASK.format(1, 5)
DEMO_RATER = "colour"
_FIDELITY = 50  # images; the offline engine costs nothing
_TABLES = ("train.csv", "val.csv", "test.csv")


def run_demo(job: DemoJob, screen: Screen) -> None:
    """Makes rated photographs, aligns a judge with them offline, and measures one that states the taste."""
    search = Search(
        rounds=job.rounds,
        inner_steps=job.inner_steps,
        batch_size=job.batch_size,
        seed=job.seed,
        fidelity=_FIDELITY,
    )
    rater = RATERS[DEMO_RATER] if job.rater is None else Rater.from_file(job.rater)
    labels = FIVE if job.scores is None else parse_scores(job.scores)
    scores = labels.score_range
    task = DEMO_TASK if scores is None else _TASK.format(scores.low, scores.high)
    folder = _folder_for_demo(job.out)
    names = ModelNames()
    with working(screen) as watch:
        watch.begin("making photographs")
        write_dataset(folder, rater, seed=job.seed, labels=labels, reasons=job.reasons)
        write_json(folder / "rater.json", {"weights": dict(rater.weights), "noise": rater.noise})
        column = REASON_COLUMN if job.reasons else None
        columns = Columns(reason=column)
        train, val, test = (load_examples(folder / name, labels=labels, columns=columns) for name in _TABLES)
        how = f"train {len(train)}, val {len(val)}, test {len(test)} photographs in {folder}, balanced, seed {job.seed}"
        sets = Sets(train, val, test, how, origin=_origin(folder, column))
        ceiling = VisualJudge(
            labels,
            instruction=ceiling_instruction(rater, task),
            verbalizer_instruction=ceiling_verbalizer_instruction(rater),
        )
        start = VisualJudge(labels, instruction=task)
        sets = replace(sets, seal=seal(sets.test, run_of(start, sets, search), run_dir=folder))
        aligned = compile_and_measure(start, sets, connect(names), search, watch, ceiling)
    record = {**result(aligned, sets, names.by_role()), "rater": dict(rater.weights)}
    more = write_run(folder, aligned, sets, record, command=["blpo", *sys.argv[1:]])
    files = [folder / "judge.json", folder / "result.json", *more]
    if screen.as_json:
        screen.json(record)
    else:
        weights = sorted(rater.weights.items(), key=lambda weighed: -weighed[1])
        shown = ", ".join(f"{flaw} {weight:g}" for flaw, weight in weights)
        about = {"Data": how, "Taste": f"{shown} (for the judge to find out)", "Models": models_line(names.by_role())}
        show_aligned(screen, aligned, about, files, folder)


def _origin(folder: Path, reason_column: str | None) -> Origin:
    """Where the demo's rows are."""
    tables = {name: folder / table for name, table in zip(NAMES, _TABLES, strict=True)}
    return Origin(tables, Data(table=tables["train"], reason_column=reason_column))


def _folder_for_demo(folder: Path) -> Path:
    """The folder, unless it holds tables or images that are not an earlier demo's."""
    taken = [name for name in (*_TABLES, "images") if (folder / name).exists()]
    if taken and not (folder / "rater.json").exists():
        raise BlpoError(f"{folder}: {taken[0]} is there and would be overwritten; name a new folder with --out")
    return writable_folder(folder)
