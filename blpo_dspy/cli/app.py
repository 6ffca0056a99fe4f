"""`blpo`: the command line. Nothing heavy is imported before a command runs."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from blpo_dspy.calls.outages import MAX_OUTAGE
from blpo_dspy.cli.command import command
from blpo_dspy.cli.exits import Exits
from blpo_dspy.cli.flags import parse_labels, parse_pairs, parse_scores
from blpo_dspy.cli.groups import JudgeModels
from blpo_dspy.cli.options import (
    AllowOutside,
    AsJson,
    BatchSize,
    InnerSteps,
    InOrders,
    JudgeFile,
    KeyColumns,
    MaxOutage,
    Predictions,
    ProgramFactory,
    Rounds,
    Scores,
    Seconds,
    Seed,
    Threads,
)
from blpo_dspy.data.labels.space import Method
from blpo_dspy.errors import BlpoError
from blpo_dspy.runs.jobs import (
    Batching,
    CalibrateJob,
    CompareJob,
    CompileJob,
    DriftJob,
    Escalation,
    EvaluateJob,
    JudgeJob,
    PopulationJob,
    SampleJob,
    Scale,
    Search,
    Where,
    names,
)

_DEMO_FIDELITY = 50  # images; the offline engine costs nothing

app = typer.Typer(
    name="blpo",
    cls=Exits,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Align a multimodal LLM judge with human labels.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


_command = partial(command, app)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"blpo-dspy {version('blpo-dspy')}")
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
    reasons: Annotated[
        bool, typer.Option("--reasons", help="The rater writes reasons beside the labels, for the optimizer to read.")
    ] = False,
    scores: Scores = None,
    rounds: Rounds = None,
    inner_steps: InnerSteps = None,
    batch_size: BatchSize = None,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Make rated photographs and align a judge with them, offline."""
    from blpo_dspy.cli.demo import run_demo
    from blpo_dspy.cli.screen import Screen

    search = Search(rounds, inner_steps, batch_size, seed=seed, threads=threads, fidelity=_DEMO_FIDELITY)
    space = None if scores is None else parse_scores(scores)
    run_demo(out, search, Screen(as_json=as_json), taste=rater, labels=space, reasons=reasons)


@_command("compile")
def compile_(job: CompileJob, as_json: AsJson = False) -> None:
    """Align a judge with your labelled images."""
    from blpo_dspy.cli.compile import compile_judge
    from blpo_dspy.cli.screen import Screen

    compile_judge(job, Screen(as_json=as_json))


@_command("estimate", out=Path("judge.json"))
def estimate_(job: CompileJob, latency: Seconds = 2.0, as_json: AsJson = False) -> None:
    """Estimate the cost of compile. It takes the same options, and calls no model."""
    from blpo_dspy.cli.compile import estimate_cost
    from blpo_dspy.cli.screen import Screen

    estimate_cost(job, latency, Screen(as_json=as_json))


@_command("compare")
def compare_(job: CompareJob, as_json: AsJson = False) -> None:
    """Run every optimizer on your labels at equal spend. Repeat the command to resume after an interruption."""
    from blpo_dspy.cli.compare import compare_methods
    from blpo_dspy.cli.screen import Screen

    compare_methods(job, Screen(as_json=as_json))


@_command("evaluate")
def evaluate(job: EvaluateJob, as_json: AsJson = False) -> None:
    """Measure how far a judge agrees with human labels."""
    from blpo_dspy.cli.evaluate import evaluate as run
    from blpo_dspy.cli.screen import Screen

    run(job, Screen(as_json=as_json))


@_command("calibrate")
def calibrate(job: CalibrateJob, as_json: AsJson = False) -> None:
    """Find the confidence from which on a judge can be trusted. The exit code is 1 if there is none."""
    from blpo_dspy.cli.calibrate import calibrate_judge
    from blpo_dspy.cli.screen import Screen

    code = calibrate_judge(job, Screen(as_json=as_json))
    if code:
        raise typer.Exit(code)


@_command("judge")
def judge_(
    judge: JudgeFile,
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE…|FOLDER|TABLE",
            help="Paths or URLs of images; or one folder; or one .csv, .tsv, .jsonl or .parquet.",
            show_default=False,
        ),
    ],
    out: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Where verdicts go, .parquet, .csv or .jsonl; the same command resumes."),
    ] = None,
    *,
    escalation: Escalation,
    models: JudgeModels,
    image_column: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Column of TABLE with the image, a path, a URL or the image (default: named as the judge's input).",
        ),
    ] = None,
    context: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=TEXT", help="A text that the judge gets with every image, in place of a column."),
    ] = None,
    allow_outside: AllowOutside = False,
    orders: InOrders = "both",
    program: ProgramFactory = None,
    threads: Threads = None,
    max_calls: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Maximum number of LM calls, with --out; the same command resumes."),
    ] = None,
    max_outage: MaxOutage = MAX_OUTAGE,
    scale: Scale,
    batching: Batching,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per image and line; with --out, one of all.")
    ] = False,
) -> None:
    """Label images. The exit code is 1 if any image got no label."""
    from blpo_dspy.cli.judge import judge_images
    from blpo_dspy.cli.screen import Screen

    where = (out, image_column, max_calls, allow_outside)
    texts = context or []
    how = (scale, batching, escalation)
    job = JudgeJob(judge, images, texts, models, threads, *where, max_outage, orders, program, *how)
    code = judge_images(job, Screen(as_json=as_json))
    if code:
        raise typer.Exit(code)


@_command("serve")
def serve(
    judge: JudgeFile,
    *,
    models: JudgeModels,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Address to listen on; any but loopback needs BLPO_TOKEN.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", min=1, max=65535, help="Port to listen on.")] = 8000,
    threads: Threads = None,
    queue: Annotated[
        int, typer.Option(metavar="N", min=0, help="Requests that may wait; further ones get 503 and Retry-After.")
    ] = 64,
    request_timeout: Annotated[
        float, typer.Option(metavar="X", min=0.1, help="Seconds that a request may take; then it gets 504.")
    ] = 60.0,
    max_body: Annotated[int, typer.Option(metavar="BYTES", min=1024, help="Largest request.")] = 32 * 2**20,
    allow_urls: Annotated[
        bool, typer.Option("--allow-urls", help="Pass images by URL on to the model's provider.")
    ] = False,
    program: ProgramFactory = None,
    as_json: AsJson = False,
) -> None:
    """Serve a judge over HTTP: POST /judge. With BLPO_TOKEN set, requests need that bearer token."""
    from blpo_dspy.cli.screen import Screen
    from blpo_dspy.cli.serve import serve as serve_judge

    serve_judge(
        judge,
        program,
        models,
        Screen(as_json=as_json),
        address=(host, port),
        limits=(threads, queue, request_timeout, max_body),
        allow_urls=allow_urls,
    )


@_command("label")
def label(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER|TABLE",
            help="Images to label: a folder, or a .csv, .tsv, .jsonl or .parquet, of which some may have labels.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where the labels go, a .csv file.")],
    *,
    labels: Annotated[str | None, typer.Option(metavar="A,B,…", help='Nominal labels: "Safe,Unsafe".')] = None,
    scale: Annotated[str | None, typer.Option(metavar="LOW-HIGH", help="Or a scale of whole numbers: 1-5.")] = None,
    scores: Scores = None,
    pairs: Annotated[
        str | None,
        typer.Option(metavar="A,B[,TIE]", help="Or labels that compare the two images of --images."),
    ] = None,
    images: Annotated[
        str | None, typer.Option(metavar="A,B,…", help="Where a row has several images: the columns with them.")
    ] = None,
    image_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column with the image, a path (default: image).")
    ] = None,
    context: Annotated[
        str | None, typer.Option(metavar="A,B,…", help="Columns with text that belongs to the image.")
    ] = None,
    label_column: Annotated[
        str, typer.Option(metavar="NAME", help="Column of TABLE with labels that are there already.")
    ] = "label",
    rater: Annotated[
        str, typer.Option(metavar="NAME", help="Who labels; each person labels blindly, with a name of their own.")
    ] = "annotator",
    task: Annotated[str, typer.Option(metavar="TEXT", help="The question, shown on the page.")] = "",
    next: Annotated[
        str,
        typer.Option(
            metavar="random|JUDGE|PREDICTIONS",
            help="What is labelled next: a random sample, or what teaches a judge most, by a judge.json, which first "
            "judges the images, or by what `blpo judge --out` wrote.",
        ),
    ] = "random",
    random_share: Annotated[
        float, typer.Option(metavar="X", help="The share of random draws beside what teaches most.")
    ] = 0.3,
    models: JudgeModels,
    threads: Threads = None,
    confidence: Annotated[
        Method | None,
        typer.Option(metavar="METHOD", help="How sure the judge is: votes, logprobs or views, as of `blpo judge`."),
    ] = None,
    seed: Seed = 0,
    allow_outside: AllowOutside = False,
    where: Where,
) -> None:
    """Label images on a local page. Repeat the command to resume. Its address has a token in it."""
    from blpo_dspy.cli.label import LabelJob, label_images
    from blpo_dspy.cli.screen import Screen
    from blpo_dspy.data.fields import InputFields
    from blpo_dspy.labelling.opening import Work

    space = parse_labels(labels, scale, scores, None, pairs)
    fields = InputFields.of(names(images or "image"), names(context or ""))
    work = Work(source, space, out, fields, rater, task.strip(), image_column, label_column, allow_outside)
    label_images(LabelJob(work, where, next, models, threads, confidence, seed, random_share), Screen(as_json=False))


@app.command("label-studio")
def label_studio(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="EXPORT|PREDICTIONS",
            help="An export of Label Studio, .json or .csv; or verdicts, as `blpo judge --out` writes them.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="A .csv for an export's labels, or a .json for tasks with predictions.")
    ],
    folder: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the images of an export are, in it or below.")
    ] = None,
    images: Annotated[
        str, typer.Option(metavar="A,B,…", help="The fields of tasks, or columns, with images.")
    ] = "image",
    label_tag: Annotated[
        str | None, typer.Option(metavar="NAME", help="The control tag with the label (default: the only one).")
    ] = None,
    reason_tag: Annotated[
        str | None, typer.Option(metavar="NAME", help="The text field with the reason (default: the only one).")
    ] = None,
    prefix: Annotated[
        str, typer.Option(metavar="TEXT", help="What Label Studio needs before the path of an image.")
    ] = "/data/local-files/?d=",
) -> None:
    """Exchange labels with Label Studio.

    Reads labels from an export, or writes verdicts as tasks. It calls no model.
    """
    from blpo_dspy.cli.label_studio import StudioJob
    from blpo_dspy.cli.label_studio import label_studio as run
    from blpo_dspy.cli.screen import Screen

    job = StudioJob(source, out, folder, names(images), label_tag, reason_tag, prefix)
    run(job, Screen(as_json=False))


@_command("review")
def review(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="The folder of a run.", show_default=False)],
    *,
    where: Where,
) -> None:
    """Review doubtful labels and wrong verdicts of a run. Repeat the command to resume."""
    from blpo_dspy.cli.review import review_run
    from blpo_dspy.cli.screen import Screen

    review_run(run_dir, where, Screen(as_json=False))


@app.command()
def rank(
    predictions: Annotated[
        Path,
        typer.Argument(
            metavar="PREDICTIONS",
            help="Verdicts on pairs, as `blpo judge --out` writes them: .csv, .tsv, .jsonl or .parquet.",
            show_default=False,
        ),
    ],
    pairs: Annotated[
        str, typer.Option(metavar="A,B[,TIE]", help="The labels: for the first image, the second, neither.")
    ] = "A,B,tie",
    columns: Annotated[
        str,
        typer.Option(metavar="A,B", help="Columns with the model of the first image and that of the second."),
    ] = "model_a,model_b",
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Rank models by verdicts on pairs (Bradley-Terry). It calls no model."""
    from blpo_dspy.cli.rank import rank_models
    from blpo_dspy.cli.screen import Screen

    named = names(columns)
    if len(named) != 2:
        raise BlpoError(f"--columns {columns!r}: name two columns, as in model_a,model_b")
    rank_models(predictions, parse_pairs(pairs), named, seed, Screen(as_json=as_json))


@app.command()
def sample(
    predictions: Predictions,
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="The table for people to label: .csv, .jsonl or .parquet, a new file.")
    ],
    n: Annotated[int, typer.Option("--n", metavar="N", min=1, help="How many images are drawn.")] = 200,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Draw images for people to label. It calls no model."""
    from blpo_dspy.cli.sample import sample as run
    from blpo_dspy.cli.screen import Screen

    run(SampleJob(predictions, n, out, seed), Screen(as_json=as_json))


@app.command()
def population(
    predictions: Predictions,
    labels: Annotated[
        Path,
        typer.Option(
            metavar="TABLE", help="What `blpo sample` drew, labelled; or your own draw with its probabilities."
        ),
    ],
    judge: Annotated[
        Path | None,
        typer.Option(metavar="JUDGE", help="The judge.json: labels of images it was compiled with are set aside."),
    ] = None,
    by: Annotated[
        str | None, typer.Option(metavar="NAME", help="Also for each value of this column of PREDICTIONS.")
    ] = None,
    pairs: Annotated[
        str | None, typer.Option(metavar="A,B[,TIE]", help="The labels compare two images; without --judge.")
    ] = None,
    key: KeyColumns = None,
    level: Annotated[float, typer.Option(metavar="X", help="How often the intervals are to hold.")] = 0.95,
    allow_outside: AllowOutside = False,
    program: ProgramFactory = None,
    as_json: AsJson = False,
) -> None:
    """Estimate what a judged collection is like. It calls no model."""
    from blpo_dspy.cli.population import population as run
    from blpo_dspy.cli.screen import Screen

    space = None if pairs is None else parse_pairs(pairs)
    columns = None if key is None else names(key)
    job = PopulationJob(predictions, labels, judge, space, by, columns, level, allow_outside, program)
    run(job, Screen(as_json=as_json))


@app.command()
def drift(
    judge: JudgeFile,
    reference: Annotated[
        Path, typer.Option(metavar="PREDICTIONS", help="Its verdicts then, as `blpo judge --out` wrote them.")
    ],
    current: Annotated[
        Path, typer.Option(metavar="PREDICTIONS", help="Its verdicts now, on the same images or others.")
    ],
    labels: Annotated[
        Path | None, typer.Option(metavar="TABLE", help="A few new labels of images, to see whether agreement fell.")
    ] = None,
    key: KeyColumns = None,
    alpha: Annotated[
        float, typer.Option(metavar="X", help="How often chance may raise an alarm, over all tests.")
    ] = 0.05,
    allow_outside: AllowOutside = False,
    program: ProgramFactory = None,
    as_json: AsJson = False,
) -> None:
    """Look for drift. The exit code is 0 for no sign, 3 for look, 4 for re-align. It calls no model."""
    from blpo_dspy.cli.drift import drift as run
    from blpo_dspy.cli.screen import Screen

    columns = None if key is None else names(key)
    job = DriftJob(judge, reference, current, labels, columns, alpha, allow_outside, program)
    code = run(job, Screen(as_json=as_json))
    if code:
        raise typer.Exit(code)


@app.command()
def report(
    run_dir: Annotated[
        Path, typer.Argument(metavar="RUN_DIR", help="The folder of a run or comparison.", show_default=False)
    ],
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
    """Show a run or a comparison as one HTML page. It needs no network."""
    from blpo_dspy.cli.report import report as run
    from blpo_dspy.cli.screen import Screen

    blurred = None if blur is None else names(blur)
    run(run_dir, out, Screen(as_json=as_json), images=not no_images, blur=blurred)


def main() -> None:
    """Runs the command line."""
    app()


if __name__ == "__main__":
    main()
