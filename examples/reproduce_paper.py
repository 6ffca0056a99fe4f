r"""Reproduce the tables of the BLPO paper (arXiv 2602.11340) with one command and your own keys.

With no option it says what would be done and what it would cost, fetching and asking nothing. `--yes` does it: images
are drawn and fetched, every method is run with every seed, and tables and plots are written to `--out`. The same
command continues an interrupted run and pays for nothing twice.

    python examples/reproduce_paper.py
    python examples/reproduce_paper.py --yes --datasets unsafebench,seetrue --seeds 0,1,2 --out paper
    python examples/reproduce_paper.py --yes --local-dir sets --judge-model openai/Qwen/Qwen2.5-VL-32B-Instruct \
        --api-base http://localhost:8000/v1
    python examples/reproduce_paper.py --smoke
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from paper.methods import PAPER, SMOKE, methods
from paper.plan import Choices, Part, described, plan
from paper.plots import plot_methods, plot_sweeps
from paper.published import JUDGE, OPTIMIZER
from paper.sets import PAPERS, TASKS, PaperSet, draw, open_sets, stand_in
from paper.tables import Result, ablation_table, failures, main_table, notes, sweep_table

from blpo_dspy import Models, compare, make_lm
from blpo_dspy.cli.flags import seed_list
from blpo_dspy.comparison.compare import Comparison
from blpo_dspy.comparison.rows import ComparisonRow
from blpo_dspy.errors import BlpoError
from blpo_dspy.workspace.watch import quiet_libraries
from blpo_dspy.workspace.workspace import Step, Workspace

SMOKE_TITLE = (
    "A check of the mechanism on synthetic copies with the embedded engine, which is not a multimodal LLM: no figure "
    "here says anything about a method or a dataset."
)
_SMOKE_SIZES = {"unsafebench": 12, "seetrue": 10, "imagereward": 14, "agin": 10, "agiqa3k": 10}
_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the example; returns the exit status."""
    given = _parser().parse_args(arguments)
    try:
        if given.smoke:
            return _smoke(given)
        chosen = _choices(given)
        if not given.yes:
            return _tell(given, chosen)
        return _reproduce(given.datasets, chosen, given.local_dir, given.out, {}, "")
    except BlpoError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"Interrupted; what was done is in {given.out}: repeat the command to resume.", file=sys.stderr)
        return _INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--yes", action="store_true", help="continue after the estimate: fetch images and pay for LM calls")
    add("--smoke", action="store_true", help="the whole protocol, tiny, offline: a check of the mechanism")
    add("--datasets", type=_names, default=PAPERS, help=f"of {', '.join(TASKS)} (default: the paper's four)")
    add("--methods", type=_names, help=f"of {', '.join(methods(PAPER))} (default: all)")
    add("--seeds", type=_seeds, default=(0, 1, 2), help="seeds of the search (default: 0,1,2)")
    add("--sweeps", action="store_true", help="also the sweeps of Fig. 4")
    add("--judge-model", default=JUDGE, help="default: %(default)s")
    add("--verbalizer-model", help="default: the judge's")
    add("--optimizer-model", default=OPTIMIZER, help="default: %(default)s")
    add("--api-base", help="the server of judge and verbalizer, such as http://localhost:8000/v1")
    add("--max-calls", type=int, help="the most LM calls of each search (default: the most that BLPO may make)")
    add("--max-usd", type=float, help="the most US dollars of each search")
    add("--threads", type=int, default=8, help="LM calls under way at once (default: 8)")
    add("--out", type=Path, default=Path("paper-results"), help="folder of the run (default: %(default)s)")
    add("--local-dir", type=Path, help="folder with copies of datasets in sub-folders of their names")
    return parser


def _names(text: str) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not found:
        raise argparse.ArgumentTypeError("it names none")
    return found


def _seeds(text: str) -> tuple[int, ...]:
    try:
        return seed_list(text)
    except BlpoError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _choices(given: argparse.Namespace) -> Choices:
    judge = make_lm(given.judge_model, api_base=given.api_base, role="judge")
    described_by = given.verbalizer_model or given.judge_model
    models = Models(
        judge=judge,
        verbalizer=make_lm(described_by, api_base=given.api_base, role="verbalizer"),
        optimizer=make_lm(given.optimizer_model, role="optimizer"),
    )
    return Choices(
        models, PAPER, given.methods, given.seeds, given.sweeps, given.max_calls, given.max_usd, given.threads
    )


def _tell(given: argparse.Namespace, chosen: Choices) -> int:
    """Says what `--yes` would do and cost, for pictures of 1024 × 768 pixels; no network is used."""
    unknown = [name for name in given.datasets if name not in TASKS]
    if unknown:
        raise BlpoError(f"unknown datasets {', '.join(unknown)}; choose from {', '.join(TASKS)}")
    with quiet_libraries():
        parts = [part for name in given.datasets for part in plan(stand_in(name), chosen)]
    print(f"judge {chosen.models.judge.model}, verbalizer {chosen.models.verbalizer.model}, "
          f"optimizer {chosen.models.optimizer.model}; methods {', '.join(parts[0].methods)}\n")  # fmt: skip
    print(described(parts, chosen))
    print(
        "\nNothing was fetched and no model was asked. Repeat with --yes to do it, or with --smoke to try it offline."
    )
    return 0


def _reproduce(
    names: Sequence[str], chosen: Choices, local_dir: Path | None, out: Path, sizes: dict[str, int], title: str
) -> int:
    """Draws the sets, states the cost, runs everything and writes tables and plots."""
    sources = open_sets(names, local_dir)
    sets = []
    for name, source in sources.items():
        with quiet_libraries():
            sets.append(draw(source, sizes.get(name, TASKS[name].size), out / name / "ids.json"))
        print(f"{sets[-1].seen}\n")
    parts = [part for data in sets for part in plan(data, chosen)]
    print(f"{described(parts, chosen)}\n")
    results = [_result(data, [part for part in parts if part.data is data], chosen, out) for data in sets]
    print()
    report = _report(results, chosen, title)
    (out / "tables.md").write_text(report, encoding="utf-8")
    print(report)
    print(f"Wrote {', '.join(str(path) for path in [out / 'tables.md', *_plots(results, chosen, out, title)])}")
    return 1 if failures(results) else 0


def _result(data: PaperSet, parts: Sequence[Part], chosen: Choices, out: Path) -> Result:
    found = {part.name: _compared(part, chosen, out / data.name / part.name) for part in parts}
    return Result(data, found["main"], found.get("sweep"))


def _compared(part: Part, chosen: Choices, folder: Path) -> Comparison:
    """Runs one comparison; the folder's store makes the same call resume where it was interrupted."""

    def tell(step: Step) -> None:
        row = step.record
        if not isinstance(row, ComparisonRow) or (part.name == "sweep" and row.method == "none"):
            return  # a comparison has it always, and that of the main table has reported it
        what = row.error or f"macro-F1 {(row.test or {}).get('macro_f1') or 0:.2f}, {row.spent} calls"
        print(f"{part.data.name}: {row.method}, seed {row.seed}: {what}", flush=True)

    with Workspace(models=chosen.models, num_threads=chosen.threads, progress=tell):
        return compare(
            part.data.student,
            trainset=part.data.train,
            valset=part.data.train,  # the paper has no third half; nothing is picked on this one either
            testset=part.data.test,
            max_calls=part.max_calls,
            max_usd=chosen.max_usd,
            optimizers=part.methods,
            seeds=chosen.seeds,
            out=folder,
        )


def _report(results: Sequence[Result], chosen: Choices, title: str) -> str:
    models = {role: getattr(chosen.models, role).model for role in ("judge", "verbalizer", "optimizer")}
    parts = [title, "## Main table", *map(main_table, results), ablation_table(results)]
    if chosen.sweeps:
        parts.append(sweep_table(results, chosen.sizes))
    parts += [notes(models, chosen.seeds), *failures(results)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _plots(results: Sequence[Result], chosen: Choices, out: Path, title: str) -> list[Path]:
    plot_methods(results, out / "methods.png", title)
    if not chosen.sweeps:
        return [out / "methods.png"]
    plot_sweeps(results, chosen.sizes, out / "sweeps.png", title)
    return [out / "methods.png", out / "sweeps.png"]


def _smoke(given: argparse.Namespace) -> int:
    """Runs the whole protocol on synthetic copies, in a folder that is thrown away unless `--out` names one."""
    from paper.copies import write_copies  # noqa: PLC0415 - the offline engine's photographs are needed here only

    chosen = Choices(Models.named("embedded"), SMOKE, given.methods, seeds=(0, 1), sweeps=True, threads=2)
    kept = given.out if given.out != _parser().get_default("out") else None
    names = given.datasets if given.datasets != PAPERS else tuple(TASKS)
    print(f"{SMOKE_TITLE}\n")
    with tempfile.TemporaryDirectory() as folder:
        out = kept or Path(folder) / "paper"
        with quiet_libraries():
            write_copies(out / "copies", _SMOKE_SIZES)
        return _reproduce(names, chosen, out / "copies", out, _SMOKE_SIZES, SMOKE_TITLE)


if __name__ == "__main__":
    raise SystemExit(main())
