"""Groups of options: what a command takes as one value, and a user gives as many options."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar

from blpo_dspy.cli.flags import parse_labels, three_sizes
from blpo_dspy.data.labels.space import Method
from blpo_dspy.data.sources import SOURCES
from blpo_dspy.errors import BlpoError
from blpo_dspy.runs.jobs import Columns, Data, Evidence, ModelNames, RaterChoice, Rule, SourceChoice, Start, option

argument = partial(option, default=MISSING, argument=True, show_default=False)


def same(group: type, name: str) -> Any:
    """Returns a field like that of another group, as an option under no heading."""
    found = next(each for each in fields(group) if each.name == name)
    default, about = found.default if found.default_factory is MISSING else found.default_factory, found.metadata
    return option(about["help"], default, flag=about["flag"], argument=about["argument"], **about["shown"])


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """The options for a published set."""

    heading: ClassVar[str] = "Published images"
    source: str | None = option(
        f"Or a published set: {', '.join(name for name in SOURCES if name != 'huggingface')}; or any on the Hugging "
        "Face Hub as owner/name.",
        metavar="NAME",
    )
    source_option: list[str] = option(
        "An option of the source, such as split=test or revision=main.", list, metavar="NAME=VALUE"
    )
    local_dir: Path | None = option("A copy of the source's files, instead of the network.", metavar="DIR")
    manifest: Path | None = option("Draw the very images again that this drawn.json names.", metavar="FILE")

    def made(self) -> SourceChoice | None:
        """Returns the set; None if none is named."""
        if self.source is not None:
            return SourceChoice(self.source.strip(), tuple(self.source_option), self.local_dir, self.manifest)
        if self.source_option or self.local_dir or self.manifest:
            raise BlpoError("--source-option, --local-dir and --manifest belong to --source")
        return None


@dataclass(frozen=True, kw_only=True)
class RaterOptions:
    """The options for the labels of several people."""

    heading: ClassVar[str] = "Several people per image"
    rater_columns: tuple[str, ...] | None = option(
        "Columns with the labels of several people, one column each.", metavar="A,B,…"
    )
    repeated_rows: bool = option("Each row is one person's label; images recur.", False)
    rater_column: str | None = option("Repeated rows: the column that names the person.", metavar="NAME")
    rater_rule: Rule = option("How several labels become one: majority or mean.", "majority", metavar="RULE")

    def made(self) -> RaterChoice | None:
        """Returns where the labels are; None if each image has one."""
        columns, of_rows = self.rater_columns, self.repeated_rows or self.rater_column is not None
        if columns is None:
            return RaterChoice((), self.rater_column, self.rater_rule) if of_rows else None
        if of_rows:
            raise BlpoError("several people's labels are in --rater-columns or in --repeated-rows, not in both")
        if len(columns) < 2 or len(set(columns)) < len(columns):
            raise BlpoError(f"--rater-columns {','.join(columns)!r}: name at least two columns, each once, as in A,B")
        return RaterChoice(columns, None, self.rater_rule)


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """The options for labelled images."""

    heading: ClassVar[str] = "Labelled images"
    table: Path | None = option(
        "Labelled images: .csv, .tsv, .jsonl, .parquet or a folder of class folders.",
        argument=True,
        metavar="TABLE",
        show_default=False,
    )
    source: Annotated[SourceChoice | None, SourceOptions]
    image_column: str | None = option("Column with the image, a path or URL (default: image).", metavar="NAME")
    label_column: str = option("Column with the human label.", "label", metavar="NAME")
    allow_outside: bool = option("Take images outside the folder, or that of the table.", False)
    require_labels: bool = option("Refuse rows without a label, in place of leaving them out.", False)
    raters: Annotated[RaterChoice | None, RaterOptions]

    def made(self) -> Data:
        """Returns where the images come from."""
        if (self.table is None) == (self.source is None):
            raise BlpoError(
                "name the labelled images once: either a TABLE (or folder), or a published set with --source"
            )
        if self.source is not None and self.raters is not None:
            raise BlpoError("--rater-columns, --rater-column and --repeated-rows are for a TABLE of your own")
        if self.source is not None and (self.allow_outside or self.require_labels):
            name = "allow-outside" if self.allow_outside else "require-labels"
            raise BlpoError(f"--{name} is for a TABLE of your own")
        columns = Columns(self.image_column, self.label_column)
        return Data(self.table, self.source, columns, self.raters, self.allow_outside, self.require_labels)


@dataclass(frozen=True, kw_only=True)
class ConnectionOptions:
    """The options for all models of a command."""

    api_base: str | None = option(
        "Your own server, e.g. http://localhost:8000/v1, for all but `embedded`.", metavar="URL"
    )
    timeout: float | None = option(
        "Timeout of an LM call (default 120; 300 for an optimizer and for models that reason first).",
        metavar="SECONDS",
    )
    no_cache: bool = option("Bypass DSPy's cache: call the models for every answer.", False)

    def models(self, judge: str | None, verbalizer: str | None, optimizer: str | None = None) -> ModelNames:
        """Returns models of these names."""
        return ModelNames(judge, verbalizer, optimizer, self.api_base, not self.no_cache, self.timeout)


@dataclass(frozen=True, kw_only=True)
class JudgeModelOptions:
    """The options for the models of a judge."""

    model: str | None = option("The judge's model, e.g. openai/gpt-4o (default `embedded`).", metavar="MODEL")
    verbalizer_model: str | None = option("The verbalizer's model (default: the judge's).", metavar="MODEL")
    connection: ConnectionOptions

    def made(self) -> ModelNames:
        """Returns the models."""
        return self.connection.models(self.model, self.verbalizer_model)


JudgeModels = Annotated[ModelNames, JudgeModelOptions]


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """The options for the models of an optimizer."""

    heading: ClassVar[str] = "Models"
    judge_model: str | None = same(JudgeModelOptions, "model")
    verbalizer_model: str | None = same(JudgeModelOptions, "verbalizer_model")
    optimizer_model: str | None = option("The optimizer's model (default: the judge's).", metavar="MODEL")
    connection: ConnectionOptions

    def made(self) -> ModelNames:
        """Returns the models."""
        return self.connection.models(self.judge_model, self.verbalizer_model, self.optimizer_model)


@dataclass(frozen=True, kw_only=True)
class StartOptions:
    """The options for what an optimizer starts from."""

    heading: ClassVar[str] = "Start"
    data: Annotated[Data, DataOptions]
    start: Path | None = option(
        "Or a judge.json to compile further; it has its labels, and images it was compiled with are no test.",
        metavar="JUDGE",
    )
    task: str | None = option("The judge instruction to start from (a source has its own).", metavar="TEXT")
    labels: str | None = option('Nominal labels: "Safe,Unsafe".', metavar="A,B,…")
    scale: str | None = option("Or a scale of whole numbers: 1-5.", metavar="LOW-HIGH")
    pairs: str | None = option(
        "Or labels that compare the two images of --images: for the first, the second, neither.", metavar="A,B[,TIE]"
    )
    images: tuple[str, ...] | None = option(
        'Where a row has several images: the columns with one each; "photos: list[dspy.Image]" is one with a list.',
        metavar="A,B,…",
    )
    scores: str | None = option("Or scores with decimals: 0-100; 0-10:0.5 in steps of 0.5.", metavar="LOW-HIGH")
    tolerance: float | None = option(
        "Scores that are no more apart count as the same (default: 1/10 of the range).", metavar="X"
    )
    context: tuple[str, ...] | None = option("Columns with text that belongs to the image.", metavar="A,B,…")
    group_column: str | None = option("Rows with the same value here stay in one split.", metavar="NAME")
    reason_column: str | None = option(
        "Column with what people wrote beside the label, for the optimizer alone.", metavar="NAME"
    )
    val: Path | None = option("Validation images; else split off TABLE.", metavar="TABLE")
    test: Path | None = option("Sealed test images; else split off TABLE.", metavar="TABLE")
    sizes: str | None = option(
        "Images for train, val and test (default: 40/20/40 % of TABLE, at most 200,100,400; of a source the paper's).",
        metavar="A,B,C",
    )
    unbalanced: bool = option("With --sizes: in the label proportions of TABLE, not balanced.", False)
    models: Annotated[ModelNames, ModelOptions]
    evidence: Evidence | None = option(
        "What the judge reads: both, image or description (default both).", metavar="MODE"
    )
    verbalizer_instruction: str | None = option("The verbalizer instruction to start from.", metavar="TEXT")
    reasoning: bool = option("Have the judge state the evidence that decides before its label.", False)

    def made(self) -> Start:
        """Returns the start, once the options fit together."""
        of_table = self.data.source is None
        self._check(of_table=of_table)
        spaces = (self.labels, self.scale, self.scores, self.tolerance, self.pairs)
        needed = any(option is not None for option in spaces) or (of_table and self.start is None)
        columns = replace(
            self.data.columns,
            images=self.data.columns.images if self.images is None else self.images,
            context=() if self.context is None and of_table else self.context,
            group=self.group_column,
            reason=self.reason_column,
        )
        return Start(
            data=replace(self.data, columns=columns),
            labels=parse_labels(*spaces) if needed else None,
            task=self.task,
            models=self.models,
            val=self.val,
            test=self.test,
            sizes=three_sizes(self.sizes),
            balanced=not self.unbalanced,
            evidence=self.evidence,
            verbalizer_instruction=self.verbalizer_instruction,
            reasoning=self.reasoning,
            judge=self.start,
        )

    def _check(self, *, of_table: bool) -> None:
        own = [f"--{name.replace('_', '-')}" for name in _OF_A_JUDGE if getattr(self, name) not in (None, False)]
        if self.start is not None and own:
            raise BlpoError(
                f"--start and {', '.join(own)}: a judge.json has these of its own; leave out one or the other"
            )
        if self.task is not None and not self.task.strip():
            raise BlpoError("--task is empty; say in a sentence what the judge is to do")
        if self.task is None and of_table and self.start is None:
            raise BlpoError("--task is missing: say in a sentence what the judge is to do")
        if (self.val or self.test) and not of_table:
            raise BlpoError("--val and --test name tables; what is drawn from a source is split, see --sizes")
        if (self.val or self.test) and self.sizes:
            raise BlpoError("--sizes splits one table; with --val or --test the tables have their own sizes")
        if self.unbalanced and not (self.sizes and of_table):
            raise BlpoError(
                "--unbalanced belongs to --sizes of a TABLE; without sizes a split has its label proportions"
            )
        if self.reason_column is not None and not of_table:
            raise BlpoError("--reason-column is for a TABLE of your own")


# What a judge to compile further has of its own.
_OF_A_JUDGE = (
    *("task", "labels", "scale", "scores", "tolerance", "pairs", "images", "context", "evidence"),
    *("verbalizer_instruction", "reasoning"),
)


@dataclass(frozen=True, kw_only=True)
class Escalation:
    """How sure a judge has to be, and who is asked where it isn't."""

    heading: ClassVar[str] = "Confidence"
    confidence: Method | None = option(
        "How sure the judge is: votes (several answers), logprobs (the label's probability) or views (image, "
        "description and both).",
        metavar="METHOD",
    )
    votes: int | None = option("Answers of a judge, for --confidence votes (default 5).", metavar="K", min=2)
    temperature: float | None = option("Temperature of these answers (default 1).", metavar="X")
    escalate_to: list[Path] = option(
        "A further judge.json to ask where the one before escalates, and so on; last of all a table for people, such "
        "as people.csv.",
        list,
        metavar="FILE",
    )
    escalate_model: list[str] = option(
        "The model of each further judge, in order (default: the first one's).", list, metavar="MODEL"
    )


@dataclass(frozen=True, kw_only=True)
class Where:
    """Where a page for people is served."""

    host: str | None = option("Address to listen on, where other machines are to reach the page.", metavar="ADDRESS")
    port: int = option("Port to listen on.", 8010, metavar="N", min=1, max=65535)
