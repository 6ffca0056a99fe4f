"""The jobs of the command line, as plain values; nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any, NewType, TypeVar

from blpo_dspy.calls.budget import Budget
from blpo_dspy.calls.ledger import Usage
from blpo_dspy.calls.outages import MAX_OUTAGE
from blpo_dspy.data.labels.space import LabelSpace, Method, Orders
from blpo_dspy.errors import BlpoError

EMBEDDED = "embedded"
T = TypeVar("T")

# What several jobs say of an option.
_MAX_USD = "Maximum cost of the same calls in dollars, if prices are known."
_MAX_OUTAGE = "Maximum time to wait for a server that has stopped answering."
_PRICES = "A model's dollars per million prompt and completion tokens."
_ALLOW_OUTSIDE = "Take images outside the folder, or that of the table."
_DRAW = "Images of a source (default: as in the paper's test set)."
_ORDERS = 'Of a judge of pairs: "both" asks twice, the images changing places; "one" costs one call.'
_THREADS = "Concurrent LM calls (default 8); results don't depend on it."
_KEY = "Columns by which an image is known in both tables (default: all they share)."
_SEED = "Seeds every draw."
_PROGRAM = "A function that returns the ProgramJudge whose state the file holds."
_MANY = "Many images, with --out"  # a heading of the help
_BATCHES = "Batches of a provider"
_PREFLIGHT = "First check that the models see, also the largest images, and that the sets are apart."


class EvidenceOption(str, Enum):
    """What the judge reads."""

    BOTH = "both"
    IMAGE = "image"
    DESCRIPTION = "description"


class KeepBackOption(str, Enum):
    """From when mistakes are kept back from the optimizer model."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class RaterRule(str, Enum):
    """How several people's labels become one."""

    MAJORITY = "majority"
    MEAN = "mean"


@dataclass(frozen=True)
class ModelNames:
    """The models by role; the judge's stands in for one that is not named.

    Attributes:
        judge: Labels images; the offline engine if None.
        verbalizer: Describes images.
        optimizer: Writes instructions.
        api_base: The server of all but the offline engine.
        cache: Whether answers may come from DSPy's cache.
        timeout: Seconds after which a call to any but the offline engine has failed; those of each role if None.
    """

    judge: str | None = None
    verbalizer: str | None = None
    optimizer: str | None = None
    api_base: str | None = None
    cache: bool = True
    timeout: float | None = None

    def connection(self) -> dict[str, Any]:
        """Returns the connection options, as `Models.named` takes them."""
        return {"api_base": self.api_base, **({} if self.timeout is None else {"timeout": self.timeout})}

    def by_role(self) -> dict[str, str]:
        """Returns the name that each role has in the end."""
        judge = self.judge or EMBEDDED
        return {"judge": judge, "verbalizer": self.verbalizer or judge, "optimizer": self.optimizer or judge}


JudgeModels = NewType("JudgeModels", ModelNames)
"""The models of a judge, without an optimizer's."""


@dataclass(frozen=True)
class Columns:
    """Which columns of a table hold what.

    Attributes:
        image: The column of the only image, where it has another name than its input.
        label: The label.
        images: The image inputs, as `load_examples` takes them.
        context: The context texts; None leaves them to the source.
        group: What must stay together.
        reason: What people wrote beside the label.
    """

    image: str | None = None
    label: str = "label"
    images: tuple[str, ...] = ("image",)
    context: tuple[str, ...] | None = None
    group: str | None = None
    reason: str | None = None


def option(text: str, default: Any = None, *, heading: str | None = None, **shown: Any) -> Any:
    """Returns a field that the command line offers as an option.

    Args:
        text: What it is, for the help.
        default: Its default.
        heading: The part of the help that lists it.
        **shown: What else `typer.Option` takes, such as metavar and min.
    """
    return field(default=default, metadata=option_of(text, heading=heading, **shown))


def option_of(text: str, *, heading: str | None = None, **shown: Any) -> dict[str, Any]:
    """Returns the metadata of such a field, where it has no default or makes one."""
    return {"help": text, "heading": heading, "shown": shown}


def argument_of(text: str, metavar: str) -> dict[str, Any]:
    """Returns the metadata of a field that the command line takes without a flag."""
    return {**option_of(text, metavar=metavar, show_default=False), "argument": True}


def described(cls: type[T]) -> type[T]:
    """Adds the options of a class to its docstring."""
    listed = [f"    {each.name}: {each.metadata['help']}" for each in fields(cls) if each.metadata]  # type: ignore[arg-type]
    cls.__doc__ = "\n".join([f"{cls.__doc__}\n\nAttributes:", *listed])
    return cls


_JUDGE = argument_of("A judge.json.", "JUDGE")
_VERDICTS = argument_of("Verdicts, as `blpo judge --out` writes them: .csv, .tsv, .jsonl or .parquet.", "PREDICTIONS")
_search, _guards = partial(option, heading="Search"), partial(option, heading="Guards")


@described
@dataclass(frozen=True)
class Search:
    """How BLPO searches; None leaves an option to BLPO's own default."""

    rounds: int | None = _search(
        "Outer rounds (default 24, or as many as the caps pay for; 5 with --paper).", metavar="N", min=1
    )
    inner_steps: int | None = _search(
        "Verbalizer instructions tried in a round (default 1; 5 with --paper).", metavar="N", min=0
    )
    batch_size: int | None = _search("Maximum number of mistakes shown at once (default 10).", metavar="N", min=1)
    shown_right: int | None = _search(
        "Right examples shown with the mistakes (default 4; 0 with --paper).", metavar="N", min=0
    )
    minibatch_size: int | None = _search("Images judged in a round (default 20; all with --paper).", metavar="N", min=1)
    keep_back: KeepBackOption | None = _search(  # noqa: RUF009 - a field
        "Whether to hide half of the mistakes from the optimizer model and score updates on them (default auto: once "
        "it corrects all that it is shown; never with --paper)."
    )
    instruction_words: int | None = _search(
        "How many words longer than the first a judge instruction may be (default 150; any with --paper).",
        metavar="N",
        min=1,
    )
    paper: bool = _search(
        "The paper's algorithm to the letter; its judge sees the image alone: --evidence image.", default=False
    )
    seed: int = _search(_SEED, default=0, metavar="N")
    threads: int | None = _search(_THREADS, metavar="N", min=1)
    max_calls: int | None = _search("Maximum number of LM calls in total, the test split included.", metavar="N", min=1)
    max_tokens: int | None = _search("Maximum number of tokens, likewise.", metavar="N", min=1)
    max_usd: float | None = _search(_MAX_USD, metavar="X", min=0)
    max_seconds: float | None = _search("Maximum time in seconds, likewise.", metavar="X", min=0)
    fidelity: int = _search(
        "Test images to check on, at 2 or 4 calls each, whether descriptions carry what the pixels show.",
        default=0,
        metavar="N",
        min=0,
    )
    label_errors: int = _search(
        "Training images to judge again, at 1 or 2 calls each, to find labels that may be wrong.",
        default=100,
        metavar="N",
        min=0,
    )
    max_instruction_tokens: int | None = _guards(
        "Longest instruction that is accepted (default 1500).", metavar="N", min=1
    )
    copied_words: int | None = _guards(
        "Refuse instructions with so many words of an example in a row (default 8, 0 off).", metavar="N", min=0
    )
    label_shift: float | None = _guards(
        "Refuse a judge whose label shares are farther from people's by X in [0, 1].", metavar="X"
    )
    part_loss: float | None = _guards(
        "Refuse a judge that is worse by X in [0, 1] for a label or a group.", metavar="X"
    )
    prices: Mapping[str, tuple[float, float]] = field(
        default_factory=dict, metadata=option_of(_PRICES, heading="Search", metavar="MODEL=IN,OUT")
    )
    max_outage: float = _search(_MAX_OUTAGE, default=MAX_OUTAGE, metavar="SECONDS", min=0)
    batch_api: bool = _search(
        "After the search, use the provider's batch endpoint, with --run-dir: test split, label errors.", default=False
    )

    def after(self, spent: Usage, seconds: float = 0.0) -> Search:
        """Returns the search with what its caps leave once so much was spent.

        Raises:
            BlpoError: If that is nothing.
        """
        left: dict[str, Any] = {}
        used = {"LM calls": spent.calls, "tokens": spent.tokens, "usd": spent.usd, "seconds": seconds}
        for what, amount in used.items():
            name = f"max_{what.split()[-1]}"
            cap = getattr(self, name)
            if cap is not None and amount >= cap:
                raise BlpoError(
                    f"--preflight and --repeat take {amount:g} {what}, and {name}={cap:g} leaves none for the search; "
                    "raise it, or leave one of them out",
                    option=name,
                )
            left[name] = None if cap is None else cap - amount
        return replace(self, **left)

    def budget(self, reserved: int = 0) -> Budget | None:
        """Returns the caps, None if there are none; `reserved` calls are kept for the test split."""
        caps = (self.max_calls, self.max_tokens, self.max_usd, self.max_seconds)
        kept = reserved if self.max_calls is None else min(reserved, self.max_calls - 1)
        return None if all(cap is None for cap in caps) else Budget(*caps, kept)

    def given(self) -> dict[str, Any]:
        """Returns the options that were set, by BLPO's names."""
        names = (
            "rounds",
            "inner_steps",
            "batch_size",
            "shown_right",
            "minibatch_size",
            "keep_back",
            "instruction_words",
            "max_instruction_tokens",
        )
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def guards(self) -> dict[str, Any]:
        """Returns the guards that were set, by their names in `Guards`; None switches one off."""
        given = {name: getattr(self, name) for name in ("copied_words", "label_shift", "part_loss")}
        set_ones = {name: value for name, value in given.items() if value is not None}
        return {**set_ones, **({"copied_words": None} if self.copied_words == 0 else {})}


@dataclass(frozen=True)
class SourceChoice:
    """A published set of labelled images.

    Attributes:
        name: As `open_source` takes it, or the id of a dataset on the Hugging Face Hub, "owner/name".
        options: A NAME=VALUE for each field of the source's class that is set.
        local_dir: A folder with a copy of its files.
        manifest: A file that names the images to take again; a new draw if None.
    """

    name: str
    options: tuple[str, ...] = ()
    local_dir: Path | None = None
    manifest: Path | None = None


@dataclass(frozen=True)
class RaterChoice:
    """Where the ratings of several people are, and how they become one label.

    Attributes:
        columns: One column for each rater; if there are none, each row is one rating of its image.
        name_column: The column with the rater of a row, if that is known.
        rule: "majority" or "mean".
    """

    columns: tuple[str, ...] = ()
    name_column: str | None = None
    rule: str = "majority"


@dataclass(frozen=True)
class Data:
    """Where labelled images come from: a table or a source.

    Attributes:
        table: A table or a folder; None if there is a source.
        source: A published set; None if there is a table.
        columns: Which columns hold what.
        raters: Where several people's ratings are; None if each image has one label.
        allow_outside: Whether images may lie outside the folder, or that of the table.
        require_labels: Whether a row without a label is refused, in place of left out.
    """

    table: Path | None
    source: SourceChoice | None
    columns: Columns
    raters: RaterChoice | None = None
    allow_outside: bool = False
    require_labels: bool = False


@dataclass(frozen=True)
class Start:
    """What compile, estimate and compare begin with: labelled images and the first judge.

    Attributes:
        data: The labelled images.
        labels: Their label space; the source's if None.
        task: The judge instruction to start from; the source's if None.
        models: The models by role.
        val: A table of its own for validation; split off the data if None.
        test: Likewise for the sealed test.
        sizes: How many images train, val and test get; shares of all, up to `MOST_EXAMPLES`, if None.
        balanced: Whether `sizes` are balanced by label, in place of in the label proportions of the whole.
        evidence: What the judge reads; the source's choice or the library's default if None.
        verbalizer_instruction: The verbalizer instruction to start from; the source's or the library's if None.
        reasoning: Whether the judge states the evidence that decides before its label.
        judge: The file of a judge to compile further, which has labels, task and inputs of its own; None to begin
            with a task.
    """

    data: Data
    labels: LabelSpace | None
    task: str | None
    models: ModelNames
    val: Path | None = None
    test: Path | None = None
    sizes: tuple[int, int, int] | None = None
    balanced: bool = True
    evidence: EvidenceOption | None = None
    verbalizer_instruction: str | None = None
    reasoning: bool = False
    judge: Path | None = None


@described
@dataclass(frozen=True)
class CompileJob:
    """One `blpo compile`: what it begins with, how BLPO searches, and what it leaves."""

    start: Start
    search: Search
    out: Path = field(metadata=option_of("Where the judge goes, a .json file.", metavar="FILE"))
    result: Path | None = option(  # noqa: RUF009 - a field
        "Where to record the run, a .json file.", metavar="FILE"
    )
    preflight: bool = option(_PREFLIGHT, default=False)
    repeat: int | None = option(
        "First judge ten images N times: how far does the judge agree with itself?", metavar="N", min=2
    )
    folds: int | None = option(
        "For 60 to 100 images: no test set, but K folds, each judged by a judge compiled on the others; K + 1 "
        "searches, among which all caps are shared out equally.",
        metavar="K",
        min=2,
    )
    run_dir: Path | None = option(  # noqa: RUF009 - a field
        "Folder for journal, judge.json, result.json, report.html; continues a run cut short.", metavar="DIR"
    )


@described
@dataclass(frozen=True)
class CompareJob:
    """One `blpo compare`: what every method begins with, and the caps of each search."""

    start: Start
    max_calls: int = field(metadata=option_of("Maximum number of LM calls of each search.", metavar="N", min=1))
    out: Path = field(
        metadata=option_of("Folder for the journal, report.html, results.json, table.md, plot.png.", metavar="DIR")
    )
    optimizers: str | None = option("Methods, such as blpo,gepa,opro (default: all).", metavar="A,B,…")
    seeds: tuple[int, ...] = option(
        "One run of each method per seed; the first draws the splits.", default=(0,), metavar="A,B,…"
    )
    threads: int | None = option(
        "Concurrent LM calls (default 8); results of our own optimizers don't depend on it.", metavar="N", min=1
    )
    max_usd: float | None = option(_MAX_USD, metavar="X", min=0)
    prices: Mapping[str, tuple[float, float]] = field(
        default_factory=dict, metadata=option_of(_PRICES, metavar="MODEL=IN,OUT")
    )
    preflight: bool = option(_PREFLIGHT, default=False)
    max_outage: float = option(_MAX_OUTAGE, default=MAX_OUTAGE, metavar="SECONDS", min=0)


@described
@dataclass(frozen=True)
class EvaluateJob:
    """One `blpo evaluate`; the context columns are the judge's own."""

    judge: Path = field(metadata=_JUDGE)
    data: Data
    models: JudgeModels
    draw: int | None = option(_DRAW, metavar="N", min=1)
    against: Path | None = option(  # noqa: RUF009 - a field
        "A second judge.json to compare with on the same images.", metavar="OTHER"
    )
    orders: Orders = option(_ORDERS, default="both", metavar="ORDERS")  # noqa: RUF009 - a field
    program: str | None = option(_PROGRAM, metavar="MODULE:FACTORY")
    seed: int = option(_SEED, default=0, metavar="N")
    threads: int | None = option(_THREADS, metavar="N", min=1)
    max_outage: float = option(_MAX_OUTAGE, default=MAX_OUTAGE, metavar="SECONDS", min=0)

    def __post_init__(self) -> None:
        _check_draw(self.draw, self.data)


def _check_draw(draw: int | None, data: Data) -> None:
    if draw is not None and data.source is None:
        raise BlpoError("--draw belongs to --source; a TABLE is used whole")


@described
@dataclass(frozen=True)
class Scale:
    """How `blpo judge --out` uses several processes."""

    workers: int | None = option(
        "Judge in so many processes, each with --threads calls.", heading=_MANY, metavar="N", min=1
    )
    cluster: str | None = option(
        "Judge on the workers of a Dask cluster, such as tcp://10.0.0.5:8786.", heading=_MANY, metavar="ADDRESS"
    )
    max_in_flight: int | None = option(
        "Maximum number of LM calls at once, over all.", heading=_MANY, metavar="N", min=1
    )
    max_usd: float | None = option("Maximum cost in dollars, if prices are known.", heading=_MANY, metavar="X", min=0)


@described
@dataclass(frozen=True)
class Batching:
    """Whether and how `blpo judge --out` uses the provider's batch endpoint."""

    batch_api: bool = option("Answered within a day, at half of the price as a rule.", False, heading=_BATCHES)
    prices: Mapping[str, tuple[float, float]] = field(
        default_factory=dict,
        metadata=option_of(
            "A model's dollars per million prompt and completion tokens of single calls, for --out.",
            heading=_MANY,
            metavar="MODEL=IN,OUT",
        ),
    )
    poll: float | None = option(
        "First delay between two looks at a batch; it doubles up to a minute (default 1).",
        heading=_BATCHES,
        metavar="SECONDS",
        min=0,
    )
    abandon: bool = option("Forget the batches under way, and pay for their requests again.", False, heading=_BATCHES)


@dataclass(frozen=True)
class Escalation:
    """How sure a judge has to be, and who is asked where it isn't.

    Attributes:
        confidence: How the confidence is found; as the judge's file has it if None.
        votes: How often a judge is asked, where it is found by votes; 5 times if None.
        temperature: At which temperature; at 1 if None.
        to: The files of further judges, each asked where the one before escalates; the last may be a table for people.
        models: The model of each of them; that of the first judge if there are none.
    """

    confidence: Method | None = None
    votes: int | None = None
    temperature: float | None = None
    to: tuple[Path, ...] = ()
    models: tuple[str, ...] = ()


@described
@dataclass(frozen=True)
class CalibrateJob:
    """One `blpo calibrate`: of which judge, on which images, and what its automatic labels have to keep."""

    judge: Path = field(metadata=_JUDGE)
    data: Data
    out: Path = field(metadata=option_of("Where the calibrated judge goes, a .json file.", metavar="FILE"))
    agreement: float = option(
        "Share of the automatic labels that has to agree with people's.", default=0.9, metavar="X"
    )
    risk: float = option("Probability with which fewer may.", default=0.1, metavar="X")
    within: int = option("Levels of a scale that labels may be apart and still agree.", default=0, metavar="N", min=0)
    escalation: Escalation = Escalation()
    models: JudgeModels = JudgeModels(ModelNames())  # noqa: RUF009 - it is frozen
    orders: Orders = option(_ORDERS, default="both", metavar="ORDERS")  # noqa: RUF009 - a field
    draw: int | None = option(_DRAW, metavar="N", min=1)
    prices: Mapping[str, tuple[float, float]] = field(
        default_factory=dict, metadata=option_of(_PRICES, metavar="MODEL=IN,OUT")
    )
    seed: int = option(_SEED, default=0, metavar="N")
    threads: int | None = option(_THREADS, metavar="N", min=1)
    max_outage: float = option(_MAX_OUTAGE, default=MAX_OUTAGE, metavar="SECONDS", min=0)

    def __post_init__(self) -> None:
        _check_draw(self.draw, self.data)


@dataclass(frozen=True)
class JudgeJob:
    """One `blpo judge`.

    Attributes:
        judge: The judge's file.
        images: Paths or URLs, or one folder or table.
        context: A NAME=TEXT for each context input that is the same for all images.
        models: Its models.
        threads: Concurrent LM calls.
        out: The path or address of the table that the verdicts go to; standard output if None.
        image_column: The column of a table with the only image, where it has another name than the judge's input.
        max_calls: The most LM calls.
        allow_outside: Whether images may lie outside the folder, or that of the table.
        max_outage: Seconds that a server which has stopped answering is waited for.
        orders: Whether a judge of pairs is asked in both orders of the images or one.
        program: The module and factory of a program of the user's own, whose state the file holds.
        scale: Where and under which further caps a table is made.
        batching: Whether and how a provider's batch endpoint is used.
        escalation: How sure the judge has to be, and who is asked where it isn't.
    """

    judge: Path
    images: list[str]
    context: list[str]
    models: ModelNames
    threads: int | None
    out: str | None = None
    image_column: str | None = None
    max_calls: int | None = None
    allow_outside: bool = False
    max_outage: float = MAX_OUTAGE
    orders: Orders = "both"
    program: str | None = None
    scale: Scale = Scale()
    batching: Batching = Batching()
    escalation: Escalation = Escalation()


@described
@dataclass(frozen=True)
class SampleJob:
    """One `blpo sample`."""

    predictions: Path = field(metadata=_VERDICTS)
    out: Path = field(
        metadata=option_of("The table for people to label: .csv, .jsonl or .parquet, a new file.", metavar="FILE")
    )
    n: int = option("How many images are drawn.", default=200, metavar="N", min=1)
    seed: int = option(_SEED, default=0, metavar="N")


@described
@dataclass(frozen=True)
class PopulationJob:
    """One `blpo population`."""

    predictions: Path = field(metadata=_VERDICTS)
    labels: Path = field(
        metadata=option_of(
            "What `blpo sample` drew, labelled; or your own draw with its probabilities.", metavar="TABLE"
        )
    )
    judge: Path | None = option(  # noqa: RUF009 - a field
        "The judge.json: labels of images it was compiled with are set aside.", metavar="JUDGE"
    )
    by: str | None = option("Also for each value of this column of PREDICTIONS.", metavar="NAME")
    space: LabelSpace | None = option(  # noqa: RUF009 - a field
        "The labels compare two images; without --judge.", metavar="A,B[,TIE]"
    )
    key: tuple[str, ...] | None = option(_KEY, metavar="A,B,…")
    level: float = option("How often the intervals are to hold.", default=0.95, metavar="X")
    allow_outside: bool = option(_ALLOW_OUTSIDE, default=False)
    program: str | None = option(_PROGRAM, metavar="MODULE:FACTORY")


@described
@dataclass(frozen=True)
class DriftJob:
    """One `blpo drift`."""

    judge: Path = field(metadata=_JUDGE)
    reference: Path = field(
        metadata=option_of("Its verdicts then, as `blpo judge --out` wrote them.", metavar="PREDICTIONS")
    )
    current: Path = field(metadata=option_of("Its verdicts now, on the same images or others.", metavar="PREDICTIONS"))
    labels: Path | None = option(  # noqa: RUF009 - a field
        "A few new labels of images, to see whether agreement fell.", metavar="TABLE"
    )
    key: tuple[str, ...] | None = option(_KEY, metavar="A,B,…")
    alpha: float = option("How often chance may raise an alarm, over all tests.", default=0.05, metavar="X")
    allow_outside: bool = option(_ALLOW_OUTSIDE, default=False)
    program: str | None = option(_PROGRAM, metavar="MODULE:FACTORY")


@dataclass(frozen=True)
class Where:
    """Where a page for people is served.

    Attributes:
        host: The address to listen on; loopback if None.
        port: The port.
    """

    host: str | None
    port: int


def names(text: str) -> tuple[str, ...]:
    """Returns the names of a comma-separated list; the empty text lists none."""
    return tuple(name.strip() for name in text.split(",")) if text.strip() else ()
