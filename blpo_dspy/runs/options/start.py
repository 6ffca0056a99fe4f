"""What a run begins with: labelled images and the first judge, as the command line states them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from blpo_dspy.data.columns import Columns
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.sources import SOURCES
from blpo_dspy.errors import BlpoError
from blpo_dspy.runs.jobs import ModelNames
from blpo_dspy.runs.options.fields import option
from blpo_dspy.runs.options.texts import parse_labels

# What a judge to compile further has of its own.
_OF_A_JUDGE = (
    *("task", "labels", "scale", "scores", "tolerance", "pairs", "images", "context", "evidence"),
    *("verbalizer_instruction", "reasoning"),
)


@dataclass(frozen=True, kw_only=True)
class SourceChoice:
    """A published set of labelled images, or a dataset on the Hugging Face Hub."""

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
    manifest: Path | None = option("Draw the same images as this drawn.json.", metavar="FILE")

    def made(self) -> SourceChoice | None:
        """Returns it; None if none is named."""
        if self.source is None and (self.source_option or self.local_dir or self.manifest):
            raise BlpoError("--source-option, --local-dir and --manifest belong to --source")
        return None if self.source is None else self


@dataclass(frozen=True, kw_only=True)
class RaterChoice:
    """Where the labels of several people are, and how they become one."""

    heading: ClassVar[str] = "Several people per image"
    rater_columns: tuple[str, ...] | None = option(
        "Columns with the labels of several people, one column each.", metavar="A,B,…"
    )
    repeated_rows: bool = option("Each row is one person's label; images recur.", False)
    rater_column: str | None = option("Repeated rows: the column that names the person.", metavar="NAME")
    rater_rule: Literal["majority", "mean"] = option(
        "How several labels become one: majority or mean.", "majority", metavar="RULE"
    )

    def made(self) -> RaterChoice | None:
        """Returns it; None if each image has one label."""
        columns, of_rows = self.rater_columns, self.repeated_rows or self.rater_column is not None
        if columns is None:
            return self if of_rows else None
        if of_rows:
            raise BlpoError("several people's labels are in --rater-columns or in --repeated-rows, not in both")
        if len(columns) < 2 or len(set(columns)) < len(columns):
            raise BlpoError(f"--rater-columns {','.join(columns)!r}: name at least two columns, each once, as in A,B")
        return self


@dataclass(frozen=True, kw_only=True)
class Data:
    """Where labelled images come from: a table or a source.

    Attributes:
        images: The image inputs, as `load_examples` takes them.
        context: The context texts; None leaves them to the source.
        group_column: What must stay together.
        reason_column: What people wrote beside the label.
    """

    heading: ClassVar[str] = "Labelled images"
    table: Path | None = option(
        "Labelled images: .csv, .tsv, .jsonl, .parquet or a folder of class folders.",
        argument=True,
        metavar="TABLE",
        show_default=False,
    )
    source: Annotated[SourceChoice | None, SourceChoice] = None
    image_column: str | None = option("Column with the image, a path or URL (default: image).", metavar="NAME")
    label_column: str = option("Column with the human label.", "label", metavar="NAME")
    allow_outside: bool = option("Take images outside the folder, or that of the table.", False)
    require_labels: bool = option("Refuse rows without a label, instead of leaving them out.", False)
    raters: Annotated[RaterChoice | None, RaterChoice] = None
    images: tuple[str, ...] = ("image",)
    context: tuple[str, ...] | None = None
    group_column: str | None = None
    reason_column: str | None = None

    def __post_init__(self) -> None:
        if (self.table is None) == (self.source is None):
            raise BlpoError(
                "name the labelled images once: either a TABLE (or folder), or a published set with --source"
            )
        if self.source is not None and self.raters is not None:
            raise BlpoError("--rater-columns, --rater-column and --repeated-rows are for a TABLE of your own")
        if self.source is not None and (self.allow_outside or self.require_labels):
            name = "allow-outside" if self.allow_outside else "require-labels"
            raise BlpoError(f"--{name} is for a TABLE of your own")

    @property
    def columns(self) -> Columns:
        """Which columns of the table hold what, for its reader."""
        raters = self.raters
        return Columns(
            images=self.images,
            image=self.image_column,
            label=self.label_column,
            context=self.context or (),
            group=self.group_column,
            reason=self.reason_column,
            raters=() if raters is None else raters.rater_columns or (),
            rater=None if raters is None else raters.rater_column,
        )


@dataclass(frozen=True, kw_only=True)
class Start:
    """What compile, estimate and compare begin with: labelled images and the first judge.

    Attributes:
        space: The labels as they are stated; the source's if None.
    """

    heading: ClassVar[str] = "Start"
    data: Data
    judge: Path | None = option(
        "Or a judge.json to compile further; it has its labels, and images that it was compiled with can't be test.",
        flag="--start",
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
        "Scores that differ by no more count as equal (default: 1/10 of the range).", metavar="X"
    )
    context: tuple[str, ...] | None = option("Columns with text that belongs to the image.", metavar="A,B,…")
    group_column: str | None = option("Rows with the same value here stay in one split.", metavar="NAME")
    reason_column: str | None = option(
        "Column with what people wrote beside the label, for the optimizer alone.", metavar="NAME"
    )
    val: Path | None = option("Validation images; else split off TABLE.", metavar="TABLE")
    test: Path | None = option("Sealed test images; else split off TABLE.", metavar="TABLE")
    sizes: tuple[int, int, int] | None = option(
        "Images for train, val and test (default: 40/20/40 % of TABLE, at most 200,100,400; of a source the paper's).",
        metavar="A,B,C",
    )
    unbalanced: bool = option("With --sizes: in the label proportions of TABLE, not balanced.", False)
    models: ModelNames
    evidence: Literal["both", "image", "description"] | None = option(
        "What the judge reads: both, image or description (default both).", metavar="MODE"
    )
    verbalizer_instruction: str | None = option("The verbalizer instruction to start from.", metavar="TEXT")
    reasoning: bool = option("Have the judge state the evidence that decides before its label.", False)
    space: LabelSpace | None = None

    def made(self) -> Start:
        """Returns the start with its labels and columns, once the options fit together."""
        of_table = self.data.source is None
        self._check(of_table=of_table)
        stated = (self.labels, self.scale, self.scores, self.tolerance, self.pairs)
        needed = any(each is not None for each in stated) or (of_table and self.judge is None)
        data = replace(
            self.data,
            images=self.data.images if self.images is None else self.images,
            context=() if self.context is None and of_table else self.context,
            group_column=self.group_column,
            reason_column=self.reason_column,
        )
        return replace(self, data=data, space=parse_labels(*stated) if needed else None)

    def _check(self, *, of_table: bool) -> None:
        own = [f"--{name.replace('_', '-')}" for name in _OF_A_JUDGE if getattr(self, name) not in (None, False)]
        if self.judge is not None and own:
            raise BlpoError(
                f"--start and {', '.join(own)}: a judge.json has these of its own; leave out one or the other"
            )
        if self.task is not None and not self.task.strip():
            raise BlpoError("--task is empty; say in a sentence what the judge is to do")
        if self.task is None and of_table and self.judge is None:
            raise BlpoError("--task is missing: say in a sentence what the judge is to do")
        if (self.val or self.test) and not of_table:
            raise BlpoError("--val and --test name tables; what is drawn from a source is split, see --sizes")
        tables = [table.resolve() for table in (self.data.table, self.val, self.test) if table is not None]
        if len(set(tables)) < len(tables):
            raise BlpoError("TABLE, --val and --test are different tables; what you leave out is split off TABLE")
        if (self.val or self.test) and self.sizes:
            raise BlpoError("--sizes splits one table; with --val or --test the tables have their own sizes")
        if self.unbalanced and not (self.sizes and of_table):
            raise BlpoError(
                "--unbalanced belongs to --sizes of a TABLE; without sizes a split has its label proportions"
            )
        if self.reason_column is not None and not of_table:
            raise BlpoError("--reason-column is for a TABLE of your own")
