"""The jobs of the command line, as plain values; nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any

from blpo_dspy.calls.budget import Budget
from blpo_dspy.calls.ledger import Usage
from blpo_dspy.calls.outages import MAX_OUTAGE
from blpo_dspy.data.labels.space import LabelSpace, Method, Orders
from blpo_dspy.errors import BlpoError

EMBEDDED = "embedded"


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


@dataclass(frozen=True)
class Search:
    """How BLPO searches; None leaves an option to BLPO's own default.

    Attributes:
        rounds: T.
        inner_steps: K.
        batch_size: The most mistakes in a batch.
        shown_right: The most right examples that the optimizer model is shown beside them.
        minibatch_size: Training images that a round judges.
        keep_back: Whether half of the mistakes are kept back from the optimizer model: auto, always or never.
        instruction_words: How many words longer than the first a judge instruction may be.
        paper: Whether to start from the paper's settings instead of the defaults.
        seed: Of the search and of the split.
        threads: Concurrent LM calls.
        max_calls: The most LM calls, those before the search and on the test split included.
        max_tokens: The most tokens, likewise.
        max_usd: The most dollars, likewise; every model needs a price.
        max_seconds: The longest that all of it may take.
        fidelity: Test images on which it is measured whether descriptions carry what the pixels show.
        label_errors: Training images that the compiled judge judges again to find labels that may be wrong.
        max_instruction_tokens: The longest instruction that is accepted.
        copied_words: The guard of this name; 0 switches it off.
        label_shift: Likewise.
        part_loss: Likewise.
        prices: By model US dollars per million prompt and completion tokens.
        max_outage: Seconds that a server which has stopped answering is waited for.
    """

    rounds: int | None = None
    inner_steps: int | None = None
    batch_size: int | None = None
    shown_right: int | None = None
    minibatch_size: int | None = None
    keep_back: KeepBackOption | None = None
    instruction_words: int | None = None
    paper: bool = False
    seed: int = 0
    threads: int | None = None
    max_calls: int | None = None
    max_tokens: int | None = None
    max_usd: float | None = None
    max_seconds: float | None = None
    fidelity: int = 0
    label_errors: int = 100
    max_instruction_tokens: int | None = None
    copied_words: int | None = None
    label_shift: float | None = None
    part_loss: float | None = None
    prices: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    max_outage: float = MAX_OUTAGE

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


@dataclass(frozen=True)
class CompileJob:
    """One `blpo compile`.

    Attributes:
        start: What it begins with.
        search: How BLPO searches.
        out: Where the judge goes.
        result: Where the record of the run goes, if anywhere.
        run_dir: The folder for journal, judge, record and report, if one is wanted.
        preflight: Whether to look for what is wrong with data and models first.
        repeat: How often the start judges the same images first, to see how far it agrees with itself.
        folds: How many folds stand in for the test set; None with a test set.
    """

    start: Start
    search: Search
    out: Path
    result: Path | None = None
    run_dir: Path | None = None
    preflight: bool = False
    repeat: int | None = None
    folds: int | None = None


@dataclass(frozen=True)
class CompareJob:
    """One `blpo compare`.

    Attributes:
        start: What every method begins with.
        max_calls: The most LM calls of a search.
        out: The folder of the comparison.
        optimizers: The methods, comma-separated; all of them if None.
        seeds: One run of every method for each; the first one also draws the splits.
        threads: Concurrent LM calls.
        max_usd: The most dollars of a search, where every model has a price.
        prices: By model US dollars per million prompt and completion tokens.
        preflight: Whether to look for what is wrong with data and models first.
        max_outage: Seconds that a server which has stopped answering is waited for.
    """

    start: Start
    max_calls: int
    out: Path
    optimizers: str | None = None
    seeds: tuple[int, ...] = (0,)
    threads: int | None = None
    max_usd: float | None = None
    prices: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    preflight: bool = False
    max_outage: float = MAX_OUTAGE


@dataclass(frozen=True)
class DemoJob:
    """One `blpo demo`.

    Attributes:
        out: The folder for photographs, tables, judge and record.
        rater: A file with the taste to discover; a ready one if None.
        search: How BLPO searches.
        labels: What the rater chooses from; the levels from 1 to 5 if None.
        reasons: Whether the rater writes reasons, which the optimizer reads.
    """

    out: Path
    rater: Path | None
    search: Search
    labels: LabelSpace | None = None
    reasons: bool = False


@dataclass(frozen=True)
class EvaluateJob:
    """One `blpo evaluate`.

    Attributes:
        judge: The judge's file.
        data: The labelled images; the context columns are the judge's own.
        models: Its models.
        threads: Concurrent LM calls.
        draw: How many images a source is asked for; as many as the paper's test set has if None.
        seed: Of the draw and of the intervals.
        against: The file of a second judge that the first is compared with, if there is one.
        max_outage: Seconds that a server which has stopped answering is waited for.
        orders: Whether a judge of pairs is asked in both orders of the images or one.
        program: The module and factory of a program of the user's own, whose state the file holds.
    """

    judge: Path
    data: Data
    models: ModelNames
    threads: int | None
    draw: int | None = None
    seed: int = 0
    against: Path | None = None
    max_outage: float = MAX_OUTAGE
    orders: Orders = "both"
    program: str | None = None


@dataclass(frozen=True)
class Escalation:
    """How sure a judge has to be, and who is asked where it isn't.

    Attributes:
        confidence: How the confidence is found; as the judge's file has it if None.
        votes: How often a judge is asked, where it is found by votes.
        temperature: At which temperature.
        to: The files of further judges, each asked where the one before escalates; the last may be a table for people.
        models: The model of each of them; that of the first judge if there are none.
    """

    confidence: Method | None = None
    votes: int = 5
    temperature: float = 1.0
    to: tuple[Path, ...] = ()
    models: tuple[str, ...] = ()


@dataclass(frozen=True)
class CalibrateJob:
    """One `blpo calibrate`.

    Attributes:
        judge: The judge's file.
        data: The labelled images; the context columns are the judge's own.
        models: Its models.
        out: Where the calibrated judge goes.
        agreement: The share of automatic labels that has to agree with people's.
        risk: The probability with which fewer may.
        within: How many levels of an ordinal scale apart labels still agree.
        escalation: How sure the judge has to be, and which judges are asked where it isn't.
        threads: Concurrent LM calls.
        draw: How many images a source is asked for; as many as the paper's test set has if None.
        seed: Of the draw.
        max_outage: Seconds that a server which has stopped answering is waited for.
        orders: Whether a judge of pairs is asked in both orders of the images or one.
        prices: By model US dollars per million prompt and completion tokens.
    """

    judge: Path
    data: Data
    models: ModelNames
    out: Path
    agreement: float = 0.9
    risk: float = 0.1
    within: int = 0
    escalation: Escalation = field(default_factory=Escalation)
    threads: int | None = None
    draw: int | None = None
    seed: int = 0
    max_outage: float = MAX_OUTAGE
    orders: Orders = "both"
    prices: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class JudgeJob:
    """One `blpo judge`.

    Attributes:
        judge: The judge's file.
        images: Paths or URLs, or one folder or table.
        context: A NAME=TEXT for each context input that is the same for all images.
        models: Its models.
        threads: Concurrent LM calls.
        out: The table that the verdicts go to; standard output if None.
        image_column: The column of a table with the only image, where it has another name than the judge's input.
        max_calls: The most LM calls.
        allow_outside: Whether images may lie outside the folder, or that of the table.
        max_outage: Seconds that a server which has stopped answering is waited for.
        orders: Whether a judge of pairs is asked in both orders of the images or one.
        program: The module and factory of a program of the user's own, whose state the file holds.
        escalation: How sure the judge has to be, and who is asked where it isn't.
    """

    judge: Path
    images: list[str]
    context: list[str]
    models: ModelNames
    threads: int | None
    out: Path | None = None
    image_column: str | None = None
    max_calls: int | None = None
    allow_outside: bool = False
    max_outage: float = MAX_OUTAGE
    orders: Orders = "both"
    program: str | None = None
    escalation: Escalation = field(default_factory=Escalation)


@dataclass(frozen=True)
class RankJob:
    """One `blpo rank`.

    Attributes:
        predictions: The table of verdicts.
        labels: The labels of the pairs.
        columns: The columns with the models of the first and the second image.
        seed: Of the intervals.
    """

    predictions: Path
    labels: LabelSpace
    columns: tuple[str, str]
    seed: int = 0


@dataclass(frozen=True)
class ServeJob:
    """One `blpo serve`.

    Attributes:
        judge: The judge's file.
        models: Its models.
        host: The address to listen on.
        port: The port.
        threads: Requests that are judged at once; the server's default if None.
        queue: Requests that may wait.
        request_timeout: Seconds that a request may take.
        max_body: The most bytes of a request.
        allow_urls: Whether an image may be a URL.
        program: The module and factory of a program of the user's own, whose state the file holds.
    """

    judge: Path
    models: ModelNames
    host: str
    port: int
    threads: int | None
    queue: int
    request_timeout: float
    max_body: int
    allow_urls: bool
    program: str | None = None


@dataclass(frozen=True)
class ReportJob:
    """One `blpo report`.

    Attributes:
        run_dir: The run's folder.
        out: Where the report goes; report.html in that folder if None.
        images: Whether it shows pictures.
        blur: Labels whose pictures are blurred until clicked; those that sound unsafe if None.
    """

    run_dir: Path
    out: Path | None
    images: bool
    blur: tuple[str, ...] | None


def names(text: str) -> tuple[str, ...]:
    """Returns the names of a comma-separated list; the empty text lists none."""
    return tuple(name.strip() for name in text.split(",")) if text.strip() else ()
