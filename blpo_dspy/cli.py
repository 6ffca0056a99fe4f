"""`blpo`: the command line. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from blpo_dspy.errors import BlpoError, DataError
from blpo_dspy.options import (
    Columns,
    CompileJob,
    DemoJob,
    EvaluateJob,
    EvidenceOption,
    JudgeJob,
    ModelNames,
    ReportJob,
    Search,
    label_space,
    names,
)

_BAD_INPUT = 2
_INTERRUPTED = 130
_MOST_PROBLEMS = 1000
_DEMO_FIDELITY = 50  # images; the offline engine costs nothing


class _Group(TyperGroup):
    """Turns what a user can put right into one message; anything else keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BlpoError as error:
            typer.echo(f"Error: {_message(error)}", err=True)
            raise typer.Exit(_BAD_INPUT) from None
        except KeyboardInterrupt:
            typer.echo(
                "Interrupted; no result was written. A run with --run-dir goes on from here when repeated.", err=True
            )
            raise typer.Exit(_INTERRUPTED) from None


def _message(error: BlpoError) -> str:
    """The error in full: where the exception's own text names the first bad rows, a terminal has room for all."""
    if not isinstance(error, DataError) or not error.problems:
        return str(error)
    summary = str(error).partition("\n  - ")[0]
    lines = [f"  - {problem}" for problem in error.problems[:_MOST_PROBLEMS]]
    more = len(error.problems) - len(lines)
    return "\n".join([summary, *lines, *([f"  … and {more} more"] if more else [])])


app = typer.Typer(
    name="blpo",
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Align a multimodal LLM judge with human labels.",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Seed = Annotated[int, typer.Option(metavar="N", help="Seeds every draw.")]
Rounds = Annotated[int | None, typer.Option(metavar="N", min=1, help="Outer rounds (default 8; 5 with --paper).")]
InnerSteps = Annotated[
    int | None,
    typer.Option(metavar="N", min=0, help="Verbalizer instructions tried in a round (default 3; 5 with --paper)."),
]
BatchSize = Annotated[int | None, typer.Option(metavar="N", min=1, help="Most mistakes in a batch (default 10).")]
Threads = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="LM calls under way at once (default 8); results don't depend on it."),
]
ApiBase = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Your own server, e.g. http://localhost:8000/v1, for all but `embedded`."),
]
JudgeFile = Annotated[Path, typer.Argument(metavar="JUDGE", help="A judge.json.", show_default=False)]
Model = Annotated[
    str | None, typer.Option(metavar="MODEL", help="The judge's model, e.g. openai/gpt-4o (default `embedded`).")
]
VerbalizerModel = Annotated[
    str | None, typer.Option(metavar="MODEL", help="The verbalizer's model (default: the judge's).")
]
ImageColumn = Annotated[str, typer.Option(metavar="NAME", help="Column with the image: a path or URL.")]
LabelColumn = Annotated[str, typer.Option(metavar="NAME", help="Column with the human label.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on standard output.")]


def _version(wanted: bool) -> None:
    if wanted:
        from blpo_dspy import __version__

        typer.echo(f"blpo-dspy {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Align a multimodal LLM judge with human labels."""


@app.command()
def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for photographs, tables, judge.json, result.json.")],
    seed: Seed = 0,
    rater: Annotated[
        Path | None, typer.Option(metavar="FILE", help='The taste to discover, as JSON: {"blur": 0.9, "noise": 0.3}.')
    ] = None,
    rounds: Rounds = None,
    inner_steps: InnerSteps = None,
    batch_size: BatchSize = None,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Make rated photographs and align a judge with them, offline."""
    from blpo_dspy.commands import run_demo
    from blpo_dspy.screen import Screen

    search = Search(rounds, inner_steps, batch_size, seed=seed, threads=threads, fidelity=_DEMO_FIDELITY)
    run_demo(DemoJob(out, rater, search), Screen(as_json=as_json))


def _compile_job(
    table: Annotated[
        Path,
        typer.Argument(
            metavar="TABLE", help="Labelled images: .csv, .tsv, .jsonl, .parquet or a folder of class folders."
        ),
    ],
    task: Annotated[str, typer.Option(metavar="TEXT", help="The judge instruction to start from.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where the judge goes, a .json file.")],
    labels: Annotated[str | None, typer.Option(metavar="A,B,…", help='Nominal labels: "Safe,Unsafe".')] = None,
    scale: Annotated[str | None, typer.Option(metavar="LOW-HIGH", help="Or a scale of whole numbers: 1-5.")] = None,
    image_column: ImageColumn = "image",
    label_column: LabelColumn = "label",
    context: Annotated[str, typer.Option(metavar="A,B,…", help="Columns with text that belongs to the image.")] = "",
    group_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Rows with the same value here stay in one split.")
    ] = None,
    val: Annotated[Path | None, typer.Option(metavar="TABLE", help="Validation images; else split off TABLE.")] = None,
    test: Annotated[
        Path | None, typer.Option(metavar="TABLE", help="Sealed test images; else split off TABLE.")
    ] = None,
    judge_model: Model = None,
    verbalizer_model: VerbalizerModel = None,
    optimizer_model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="The optimizer's model (default: the judge's).")
    ] = None,
    api_base: ApiBase = None,
    evidence: Annotated[
        EvidenceOption, typer.Option(metavar="MODE", help="What the judge reads: both, image or description.")
    ] = EvidenceOption.BOTH,
    verbalizer_instruction: Annotated[
        str | None, typer.Option(metavar="TEXT", help="The verbalizer instruction to start from.")
    ] = None,
    rounds: Rounds = None,
    inner_steps: InnerSteps = None,
    batch_size: BatchSize = None,
    guard_size: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=0, help="Right examples scored beside the mistakes (default 10; 0 with --paper)."
        ),
    ] = None,
    paper: Annotated[bool, typer.Option("--paper", help="The paper's algorithm to the letter.")] = False,
    seed: Seed = 0,
    threads: Threads = None,
    max_calls: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Most LM calls in all, the test split included.")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(metavar="N", min=1, help="Most tokens of the search.")] = None,
    max_usd: Annotated[
        float | None, typer.Option(metavar="X", min=0, help="Most dollars of the search, if prices are known.")
    ] = None,
    max_seconds: Annotated[float | None, typer.Option(metavar="X", min=0, help="Longest time of the search.")] = None,
    fidelity: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            help="Test images to check on, at 2 or 4 calls each, whether descriptions tell what the pixels do.",
        ),
    ] = 0,
    result: Annotated[Path | None, typer.Option(metavar="FILE", help="Where to record the run, a .json file.")] = None,
    preflight: Annotated[
        bool, typer.Option("--preflight", help="First check that the models see, and that the sets are apart.")
    ] = False,
    run_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder for journal, judge.json, result.json, report.html; continues a run cut short."
        ),
    ] = None,
) -> CompileJob:
    """The options of compile."""
    space = label_space(labels, scale)
    if not task.strip():
        raise BlpoError("--task is empty; say in a sentence what the judge is to do")
    return CompileJob(
        table=table,
        labels=space,
        task=task,
        columns=Columns(image_column, label_column, names(context), group_column),
        val=val,
        test=test,
        evidence=evidence,
        verbalizer_instruction=verbalizer_instruction,
        models=ModelNames(judge_model, verbalizer_model, optimizer_model, api_base),
        search=Search(
            rounds,
            inner_steps,
            batch_size,
            guard_size,
            paper,
            seed,
            threads,
            max_calls,
            max_tokens,
            max_usd,
            max_seconds,
            fidelity,
        ),
        out=out,
        result=result,
        run_dir=run_dir,
        preflight=preflight,
    )


def _command(name: str, *further: str, **defaults: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Registers an action as a command with the options of compile, the further ones and --json.

    Args:
        name: The command's name.
        *further: Names of the action's own options.
        **defaults: Options that compile requires and this command doesn't.
    """

    def register(action: Callable[..., None]) -> Callable[..., None]:
        def command(**given: Any) -> None:
            own = {option: given.pop(option) for option in (*further, "as_json")}
            action(_compile_job(**given), **own)

        options = inspect.signature(_compile_job, eval_str=True).parameters.values()
        shared = [o.replace(default=defaults[o.name]) if o.name in defaults else o for o in options]
        own = [inspect.signature(action, eval_str=True).parameters[option] for option in (*further, "as_json")]
        everything = [o.replace(kind=inspect.Parameter.KEYWORD_ONLY) for o in (*shared, *own)]
        command.__signature__ = inspect.Signature(everything)  # type: ignore[attr-defined]
        command.__annotations__ = {o.name: o.annotation for o in everything}
        command.__doc__ = action.__doc__
        app.command(name)(command)
        return action

    return register


@_command("compile")
def compile_(job: CompileJob, as_json: AsJson = False) -> None:
    """Align a judge with your labelled images."""
    from blpo_dspy.commands import compile_judge
    from blpo_dspy.screen import Screen

    compile_judge(job, Screen(as_json=as_json))


@_command("estimate", "latency", out=Path("judge.json"))
def estimate_(
    job: CompileJob,
    latency: Annotated[float, typer.Option(metavar="SECONDS", help="What an LM call takes.")] = 2.0,
    as_json: AsJson = False,
) -> None:
    """Tell what compile would cost, with the same options, before any call."""
    from blpo_dspy.commands import estimate_cost
    from blpo_dspy.screen import Screen

    estimate_cost(job, latency, Screen(as_json=as_json))


@app.command("compare")
def compare_(
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="Labelled images, as for compile.")],
    task: Annotated[str, typer.Option(metavar="TEXT", help="The judge instruction that all start from.")],
    max_calls: Annotated[int, typer.Option(metavar="N", min=1, help="Most LM calls of each search.")],
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for the journal, results.json, table.md and plot.png.")
    ],
    labels: Annotated[str | None, typer.Option(metavar="A,B,…", help='Nominal labels: "Safe,Unsafe".')] = None,
    scale: Annotated[str | None, typer.Option(metavar="LOW-HIGH", help="Or a scale of whole numbers: 1-5.")] = None,
    optimizers: Annotated[
        str | None, typer.Option(metavar="A,B,…", help="Methods, such as blpo,gepa,opro (default: all).")
    ] = None,
    seeds: Annotated[
        str, typer.Option(metavar="A,B,…", help="One run of each method per seed; the first draws the splits.")
    ] = "0",
    image_column: ImageColumn = "image",
    label_column: LabelColumn = "label",
    context: Annotated[str, typer.Option(metavar="A,B,…", help="Columns with text that belongs to the image.")] = "",
    group_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Rows with the same value here stay in one split.")
    ] = None,
    val: Annotated[Path | None, typer.Option(metavar="TABLE", help="Validation images; else split off TABLE.")] = None,
    test: Annotated[
        Path | None, typer.Option(metavar="TABLE", help="Sealed test images; else split off TABLE.")
    ] = None,
    judge_model: Model = None,
    verbalizer_model: VerbalizerModel = None,
    optimizer_model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="The optimizer's model (default: the judge's).")
    ] = None,
    api_base: ApiBase = None,
    evidence: Annotated[EvidenceOption, typer.Option(help="What the judge reads.")] = EvidenceOption.BOTH,
    verbalizer_instruction: Annotated[
        str | None, typer.Option(metavar="TEXT", help="The verbalizer instruction to start from.")
    ] = None,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Run every optimizer on your labels at equal spend; repeat the command to go on after a break."""
    space = label_space(labels, scale)
    if not task.strip():
        raise BlpoError("--task is empty; say in a sentence what the judge is to do")
    from blpo_dspy import compare_command
    from blpo_dspy.screen import Screen

    job = compare_command.CompareJob(
        table=table,
        labels=space,
        task=task,
        columns=Columns(image_column, label_column, names(context), group_column),
        val=val,
        test=test,
        evidence=evidence,
        verbalizer_instruction=verbalizer_instruction,
        models=ModelNames(judge_model, verbalizer_model, optimizer_model, api_base),
        optimizers=optimizers,
        seeds=compare_command.seeds(seeds),
        max_calls=max_calls,
        threads=threads,
        out=out,
    )
    compare_command.compare_methods(job, Screen(as_json=as_json))


@app.command()
def evaluate(
    judge: JudgeFile,
    table: Annotated[
        Path, typer.Argument(metavar="TABLE", help="Labelled images, as for compile.", show_default=False)
    ],
    model: Model = None,
    verbalizer_model: VerbalizerModel = None,
    api_base: ApiBase = None,
    image_column: ImageColumn = "image",
    label_column: LabelColumn = "label",
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Measure how far a judge agrees with human labels."""
    from blpo_dspy.commands import evaluate as run
    from blpo_dspy.screen import Screen

    models = ModelNames(model, verbalizer_model, None, api_base)
    run(EvaluateJob(judge, table, Columns(image_column, label_column), models, threads), Screen(as_json=as_json))


@app.command("judge")
def judge_(
    judge: JudgeFile,
    images: Annotated[list[str], typer.Argument(metavar="IMAGE", help="Paths or URLs.", show_default=False)],
    model: Model = None,
    verbalizer_model: VerbalizerModel = None,
    api_base: ApiBase = None,
    context: Annotated[
        list[str] | None, typer.Option(metavar="NAME=TEXT", help="A text that the judge takes beside the image.")
    ] = None,
    threads: Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per image and line.")] = False,
) -> None:
    """Label images. The exit code is 1 if any image got no label."""
    from blpo_dspy.commands import judge_images
    from blpo_dspy.screen import Screen

    models = ModelNames(model, verbalizer_model, None, api_base)
    job = JudgeJob(judge, images, context or [], models, threads)
    if not judge_images(job, Screen(as_json=as_json)):
        raise typer.Exit(1)


@app.command()
def report(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="The folder of a run.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where the report goes (default RUN_DIR/report.html).")
    ] = None,
    no_images: Annotated[bool, typer.Option("--no-images", help="Leave all pictures out.")] = False,
    blur: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,…", help='Labels to blur until clicked (default: those that sound unsafe; "" for none).'
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show a run as one HTML page that needs no network."""
    from blpo_dspy.report_command import report as run
    from blpo_dspy.screen import Screen

    blurred = None if blur is None else names(blur)
    run(ReportJob(run_dir, out, not no_images, blurred), Screen(as_json=as_json))


def main() -> None:
    """Runs the command line."""
    app()


if __name__ == "__main__":
    main()
