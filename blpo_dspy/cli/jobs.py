"""What each command takes: its first paragraph is the help of the command, its fields are the options."""

from __future__ import annotations

from dataclasses import MISSING, dataclass
from pathlib import Path

from blpo_dspy.cli.groups import Batching, Escalation, Scale, Shared, Where
from blpo_dspy.data.labels.space import Method, Orders
from blpo_dspy.runs.jobs import JudgeModels, Search
from blpo_dspy.runs.options.fields import argument, option, same
from blpo_dspy.runs.options.start import Data, Start


@dataclass(frozen=True, kw_only=True)
class DemoJob:
    """Make rated photographs and align a judge with them, offline."""

    out: Path = option("Folder for photographs, tables, judge.json, result.json.", MISSING, metavar="DIR")
    seed: int = same(Search, "seed")
    rater: Path | None = option('The taste to discover, as JSON: {"blur": 0.9, "noise": 0.3}.', metavar="FILE")
    reasons: bool = option("The rater writes reasons beside the labels, for the optimizer to read.", False)
    scores: str | None = same(Start, "scores")
    rounds: int | None = same(Search, "rounds")
    inner_steps: int | None = same(Search, "inner_steps")
    batch_size: int | None = same(Search, "batch_size")
    threads: int | None = same(Shared, "threads")


@dataclass(frozen=True, kw_only=True)
class CompileJob:
    """Align a judge with your labelled images."""

    start: Start
    search: Search
    shared: Shared
    out: Path = option("File for the judge, a .json file.", MISSING, metavar="FILE")
    result: Path | None = option("Where to record the run, a .json file.", metavar="FILE")
    preflight: bool = option(
        "First check that the models see images, the largest ones too, and that sets share none.", False
    )
    repeat: int | None = option(
        "First judge ten images N times: how far does the judge agree with itself?", metavar="N", min=2
    )
    folds: int | None = option(
        "For 60 to 100 images: no test set, but K folds, each judged by a judge compiled on the others; K + 1 "
        "searches, among which all caps are shared out equally.",
        metavar="K",
        min=2,
    )
    run_dir: Path | None = option(
        "Folder for workspace.sqlite, judge.json, result.json, report.html; continues a run cut short.", metavar="DIR"
    )


@dataclass(frozen=True, kw_only=True)
class EstimateJob:
    """Estimate the cost of compile. It takes the same options, and calls no model."""

    compile: CompileJob
    latency: float = option("Mean duration of an LM call.", 2.0, metavar="SECONDS")


@dataclass(frozen=True, kw_only=True)
class CompareJob:
    """Run every optimizer on your labels at equal spend. Repeat the command to resume after an interruption."""

    start: Start
    shared: Shared
    max_calls: int = option("Maximum number of LM calls of each search.", MISSING, metavar="N", min=1)
    out: Path = option("Folder for workspace.sqlite, report.html, results.json, table.md, …", MISSING, metavar="DIR")
    optimizers: str | None = option("Methods, such as blpo,gepa,opro (default: all).", metavar="A,B,…")
    seeds: tuple[int, ...] = option(
        "One run of each method per seed; the first draws the splits.", (0,), metavar="A,B,…"
    )
    max_usd: float | None = same(Search, "max_usd")
    preflight: bool = same(CompileJob, "preflight")


@dataclass(frozen=True, kw_only=True)
class EvaluateJob:
    """Measure how far a judge agrees with human labels."""

    judge: Path = argument("A judge.json.", metavar="JUDGE")
    data: Data
    models: JudgeModels
    draw: int | None = option("Images of a source (default: as in the paper's test set).", metavar="N", min=1)
    against: Path | None = option("A second judge.json to compare with on the same images.", metavar="OTHER")
    orders: Orders = option(
        'For a judge of pairs: "both" asks twice, with the images swapped; "one" costs one call.',
        "both",
        metavar="ORDERS",
    )
    program: str | None = option(
        "A function that returns the ProgramJudge whose state the file holds.", metavar="MODULE:FACTORY"
    )
    seed: int = same(Search, "seed")
    run_dir: Path | None = option(
        "Folder for the answers, from which the same command resumes, with --no-cache too.",
        metavar="DIR",
    )
    shared: Shared


@dataclass(frozen=True, kw_only=True)
class CalibrateJob:
    """Find the confidence above which a judge can be trusted. The exit code is 1 if there is none."""

    judge: Path = same(EvaluateJob, "judge")
    data: Data
    out: Path = option("File for the calibrated judge, a .json file.", MISSING, metavar="FILE")
    agreement: float = option("Share of the automatic labels that must agree with people's.", 0.9, metavar="X")
    risk: float = option("Accepted probability that fewer do.", 0.1, metavar="X")
    within: int = option("Labels of a scale agree if they differ by at most so many levels.", 0, metavar="N", min=0)
    escalation: Escalation
    models: JudgeModels
    orders: Orders = same(EvaluateJob, "orders")
    draw: int | None = same(EvaluateJob, "draw")
    seed: int = same(Search, "seed")
    run_dir: Path | None = same(EvaluateJob, "run_dir")
    shared: Shared


@dataclass(frozen=True, kw_only=True)
class JudgeJob:
    """Label images. The exit code is 1 if any image got no label."""

    judge: Path = same(EvaluateJob, "judge")
    images: list[str] = argument(
        "Paths or URLs of images; or one folder; or one .csv, .tsv, .jsonl or .parquet.",
        metavar="IMAGE…|FOLDER|TABLE",
    )
    out: str | None = option("File for verdicts, .parquet, .csv or .jsonl; the same command resumes.", metavar="FILE")
    escalation: Escalation
    models: JudgeModels
    image_column: str | None = option(
        "Column of TABLE with the image, a path, a URL or the image (default: named as the judge's input).",
        metavar="NAME",
    )
    context: list[str] = option(
        "A text that the judge gets with every image, instead of a column.", list, metavar="NAME=TEXT"
    )
    allow_outside: bool = same(Data, "allow_outside")
    orders: Orders = same(EvaluateJob, "orders")
    program: str | None = same(EvaluateJob, "program")
    max_calls: int | None = option(
        "Maximum number of LM calls, with --out; the same command resumes.", metavar="N", min=1
    )
    scale: Scale
    batching: Batching
    shared: Shared


@dataclass(frozen=True, kw_only=True)
class ServeJob:
    """Serve a judge over HTTP: POST /judge. With BLPO_TOKEN set, requests need that bearer token."""

    judge: Path = same(EvaluateJob, "judge")
    models: JudgeModels
    host: str = option("Address to listen on; any but loopback needs BLPO_TOKEN.", "127.0.0.1", metavar="ADDRESS")
    port: int = option("Port to listen on.", 8000, metavar="N", min=1, max=65535)
    queue: int = option("Requests that may wait; further ones get 503 and Retry-After.", 64, metavar="N", min=0)
    request_timeout: float = option("Seconds that a request may take; then it gets 504.", 60.0, metavar="X", min=0.1)
    max_body: int = option("Largest request.", 32 * 2**20, metavar="BYTES", min=1024)
    allow_urls: bool = option("Pass images by URL on to the model's provider.", False)
    escalate_model: list[str] = same(Escalation, "escalate_model")
    program: str | None = same(EvaluateJob, "program")
    shared: Shared


@dataclass(frozen=True, kw_only=True)
class LabelJob:
    """Label images on a local page. Repeat the command to resume. Its address has a token in it."""

    source: Path = argument(
        "Images to label: a folder, or a .csv, .tsv, .jsonl or .parquet, of which some may have labels.",
        metavar="FOLDER|TABLE",
    )
    out: Path = option("File for the labels, a .csv file.", MISSING, metavar="FILE")
    labels: str | None = same(Start, "labels")
    scale: str | None = same(Start, "scale")
    scores: str | None = same(Start, "scores")
    pairs: str | None = option("Or labels that compare the two images of --images.", metavar="A,B[,TIE]")
    images: tuple[str, ...] = option(
        "Where a row has several images: the columns with them.", ("image",), metavar="A,B,…", show_default=False
    )
    image_column: str | None = option("Column with the image, a path (default: image).", metavar="NAME")
    context: tuple[str, ...] = option(
        "Columns with text that belongs to the image.", (), metavar="A,B,…", show_default=False
    )
    label_column: str = option("Column of TABLE with existing labels.", "label", metavar="NAME")
    rater: str = option(
        "Who labels; each person labels blindly, with a name of their own.", "annotator", metavar="NAME"
    )
    task: str = option("The question, shown on the page.", "", metavar="TEXT")
    next: str = option(
        "What is labelled next: a random sample, or what teaches a judge most, by a judge.json, which first judges "
        "the images, or by what `blpo judge --out` wrote.",
        "random",
        metavar="random|JUDGE|PREDICTIONS",
    )
    random_share: float = option("The share of random draws beside what teaches most.", 0.3, metavar="X")
    models: JudgeModels
    confidence: Method | None = option(
        "How sure the judge is: votes, logprobs or views, as for `blpo judge`.", metavar="METHOD"
    )
    max_calls: int | None = option(
        "Maximum number of the judge's LM calls, repetitions of the command included; images beyond it have no "
        "verdict.",
        metavar="N",
        min=1,
    )
    max_usd: float | None = option(
        "Maximum cost of the same calls in dollars, if prices are known.", metavar="X", min=0
    )
    seed: int = same(Search, "seed")
    allow_outside: bool = same(Data, "allow_outside")
    where: Where
    shared: Shared


@dataclass(frozen=True, kw_only=True)
class StudioJob:
    """Exchange labels with Label Studio.

    Reads labels from an export, or writes verdicts as tasks. It calls no model.
    """

    source: Path = argument(
        "An export of Label Studio, .json or .csv; or verdicts, as `blpo judge --out` writes them.",
        metavar="EXPORT|PREDICTIONS",
    )
    out: Path = option("A .csv for an export's labels, or a .json for tasks with predictions.", MISSING, metavar="FILE")
    folder: Path | None = option("Where the images of an export are, in it or below.", metavar="DIR")
    images: tuple[str, ...] = option("The fields of tasks, or columns, with images.", ("image",), metavar="A,B,…")
    label_tag: str | None = option("The control tag with the label (default: the only one).", metavar="NAME")
    reason_tag: str | None = option("The text field with the reason (default: the only one).", metavar="NAME")
    prefix: str = option(
        "What Label Studio needs before the path of an image.", "/data/local-files/?d=", metavar="TEXT"
    )


@dataclass(frozen=True, kw_only=True)
class ReviewJob:
    """Review doubtful labels and wrong verdicts of a run. Repeat the command to resume."""

    run_dir: Path = argument("The folder of a run.", metavar="RUN_DIR")
    where: Where


@dataclass(frozen=True, kw_only=True)
class SampleJob:
    """Draw images for people to label. It calls no model."""

    predictions: Path = argument(
        "Verdicts, as `blpo judge --out` writes them: .csv, .tsv, .jsonl or .parquet.", metavar="PREDICTIONS"
    )
    out: Path = option("The table for people to label: .csv, .jsonl or .parquet, a new file.", MISSING, metavar="FILE")
    n: int = option("How many images are drawn.", 200, flag="--n", metavar="N", min=1)
    seed: int = same(Search, "seed")


@dataclass(frozen=True, kw_only=True)
class PopulationJob:
    """Estimate what a judged collection is like. It calls no model."""

    predictions: Path = same(SampleJob, "predictions")
    labels: Path = option(
        "What `blpo sample` drew, labelled; or your own draw with its probabilities.", MISSING, metavar="TABLE"
    )
    judge: Path | None = option("The judge.json: labels of images it was compiled with are set aside.", metavar="JUDGE")
    by: str | None = option("Also for each value of this column of PREDICTIONS.", metavar="NAME")
    pairs: str | None = option("The labels compare two images; without --judge.", metavar="A,B[,TIE]")
    key: tuple[str, ...] | None = option(
        "Columns by which an image is known in both tables (default: all they share).", metavar="A,B,…"
    )
    level: float = option("How often the intervals are to hold.", 0.95, metavar="X")
    allow_outside: bool = same(Data, "allow_outside")
    program: str | None = same(EvaluateJob, "program")


@dataclass(frozen=True, kw_only=True)
class DriftJob:
    """Look for drift. The exit code is 0 for no sign, 3 for look, 4 for re-align. It calls no model."""

    judge: Path = same(EvaluateJob, "judge")
    reference: Path = option("Its verdicts then, as `blpo judge --out` wrote them.", MISSING, metavar="PREDICTIONS")
    current: Path = option("Its verdicts now, on the same images or others.", MISSING, metavar="PREDICTIONS")
    labels: Path | None = option("A few new labels of images, to see whether agreement fell.", metavar="TABLE")
    key: tuple[str, ...] | None = same(PopulationJob, "key")
    alpha: float = option("How often chance may raise an alarm, over all tests.", 0.05, metavar="X")
    allow_outside: bool = same(Data, "allow_outside")
    program: str | None = same(EvaluateJob, "program")


@dataclass(frozen=True, kw_only=True)
class RankJob:
    """Rank models by verdicts on pairs (Bradley-Terry). It calls no model."""

    predictions: Path = argument(
        "Verdicts on pairs, as `blpo judge --out` writes them: .csv, .tsv, .jsonl or .parquet.", metavar="PREDICTIONS"
    )
    pairs: str = option("The labels: for the first image, the second, neither.", "A,B,tie", metavar="A,B[,TIE]")
    columns: tuple[str, ...] = option(
        "Columns with the model of the first image and that of the second.", ("model_a", "model_b"), metavar="A,B"
    )
    seed: int = same(Search, "seed")


@dataclass(frozen=True, kw_only=True)
class StatusJob:
    """Show the jobs of a folder."""

    folder: Path = argument("The folder of a run, or that of predictions or labels.", metavar="DIR")


@dataclass(frozen=True, kw_only=True)
class ReportJob:
    """Show a run or a comparison as one HTML page. It needs no network."""

    run_dir: Path = argument("The folder of a run or comparison.", metavar="RUN_DIR")
    out: Path | None = option("Where the report goes (default RUN_DIR/report.html).", metavar="FILE")
    no_images: bool = option("Leave out all images.", False)
    blur: tuple[str, ...] | None = option(
        'Labels to blur until clicked (default: those that sound unsafe; "" for none).', metavar="A,B,…"
    )
