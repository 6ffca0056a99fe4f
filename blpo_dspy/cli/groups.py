"""Groups of options: what a command takes as one value, and a user gives as many options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from blpo_dspy.cli.flags import parse_labels, three_sizes
from blpo_dspy.cli.options import (
    AllowOutside,
    ApiBase,
    Model,
    NoCache,
    Scores,
    Timeout,
    VerbalizerModel,
)
from blpo_dspy.data.labels.space import Method
from blpo_dspy.data.sources import SOURCES
from blpo_dspy.errors import BlpoError
from blpo_dspy.runs.jobs import (
    Columns,
    Data,
    Escalation,
    EvidenceOption,
    JudgeModels,
    ModelNames,
    RaterChoice,
    RaterRule,
    SourceChoice,
    Start,
    Where,
    names,
)


def _source(
    source: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=f"Or a published set: {', '.join(name for name in SOURCES if name != 'huggingface')}; or any on the "
            "Hugging Face Hub as owner/name.",
        ),
    ] = None,
    source_option: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="An option of the source, such as split=test or revision=main."),
    ] = None,
    local_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A copy of the source's files, instead of the network.")
    ] = None,
    manifest: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the very images again that this drawn.json names.")
    ] = None,
) -> SourceChoice | None:
    """The options for a published set."""
    if source is not None:
        return SourceChoice(source.strip(), tuple(source_option or ()), local_dir, manifest)
    if source_option or local_dir or manifest:
        raise BlpoError("--source-option, --local-dir and --manifest belong to --source")
    return None


def _raters(
    rater_columns: Annotated[
        str | None, typer.Option(metavar="A,B,…", help="Columns with the labels of several people, one column each.")
    ] = None,
    repeated_rows: Annotated[
        bool, typer.Option("--repeated-rows", help="Each row is one person's label; images recur.")
    ] = False,
    rater_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Repeated rows: the column that names the person.")
    ] = None,
    rater_rule: Annotated[
        RaterRule, typer.Option(metavar="RULE", help="How several labels become one: majority or mean.")
    ] = RaterRule.MAJORITY,
) -> RaterChoice | None:
    """The options for the labels of several people."""
    if rater_columns is None and not repeated_rows and rater_column is None:
        return None
    if rater_columns is not None and (repeated_rows or rater_column is not None):
        raise BlpoError("several people's labels are in --rater-columns or in --repeated-rows, not in both")
    raters = RaterChoice(names(rater_columns or ""), rater_column, rater_rule.value)
    if rater_columns is not None and (len(raters.columns) < 2 or len(set(raters.columns)) < len(raters.columns)):
        raise BlpoError(f"--rater-columns {rater_columns!r}: name at least two columns, each once, as in A,B")
    return raters


def _data(
    table: Annotated[
        Path | None,
        typer.Argument(
            metavar="TABLE",
            help="Labelled images: .csv, .tsv, .jsonl, .parquet or a folder of class folders.",
            show_default=False,
        ),
    ] = None,
    *,
    source: SourceChoice | None,
    image_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column with the image, a path or URL (default: image).")
    ] = None,
    label_column: Annotated[str, typer.Option(metavar="NAME", help="Column with the human label.")] = "label",
    allow_outside: AllowOutside = False,
    require_labels: Annotated[
        bool, typer.Option("--require-labels", help="Refuse rows without a label, in place of leaving them out.")
    ] = False,
    raters: RaterChoice | None,
) -> Data:
    """The options for labelled images."""
    if (table is None) == (source is None):
        raise BlpoError("name the labelled images once: either a TABLE (or folder), or a published set with --source")
    if source is not None and raters is not None:
        raise BlpoError("--rater-columns, --rater-column and --repeated-rows are for a TABLE of your own")
    if source is not None and (allow_outside or require_labels):
        raise BlpoError(f"--{'allow-outside' if allow_outside else 'require-labels'} is for a TABLE of your own")
    return Data(table, source, Columns(image_column, label_column), raters, allow_outside, require_labels)


def _models(
    judge_model: Model = None,
    verbalizer_model: VerbalizerModel = None,
    optimizer_model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="The optimizer's model (default: the judge's).")
    ] = None,
    api_base: ApiBase = None,
    timeout: Timeout = None,
    no_cache: NoCache = False,
) -> ModelNames:
    """The options for the models of an optimizer."""
    return ModelNames(judge_model, verbalizer_model, optimizer_model, api_base, not no_cache, timeout)


def _start(
    data: Data,
    start: Annotated[
        Path | None,
        typer.Option(
            metavar="JUDGE",
            help="Or a judge.json to compile further; it has its labels, and images it was compiled with are no test.",
        ),
    ] = None,
    task: Annotated[
        str | None, typer.Option(metavar="TEXT", help="The judge instruction to start from (a source has its own).")
    ] = None,
    labels: Annotated[str | None, typer.Option(metavar="A,B,…", help='Nominal labels: "Safe,Unsafe".')] = None,
    scale: Annotated[str | None, typer.Option(metavar="LOW-HIGH", help="Or a scale of whole numbers: 1-5.")] = None,
    pairs: Annotated[
        str | None,
        typer.Option(
            metavar="A,B[,TIE]",
            help="Or labels that compare the two images of --images: for the first, the second, neither.",
        ),
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,…",
            help='Where a row has several images: the columns with one each; "photos: list[dspy.Image]" is one with a '
            "list.",
        ),
    ] = None,
    scores: Scores = None,
    tolerance: Annotated[
        float | None,
        typer.Option(metavar="X", help="Scores that are no more apart count as the same (default: 1/10 of the range)."),
    ] = None,
    context: Annotated[
        str | None, typer.Option(metavar="A,B,…", help="Columns with text that belongs to the image.")
    ] = None,
    group_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Rows with the same value here stay in one split.")
    ] = None,
    reason_column: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Column with what people wrote beside the label, for the optimizer alone."),
    ] = None,
    val: Annotated[Path | None, typer.Option(metavar="TABLE", help="Validation images; else split off TABLE.")] = None,
    test: Annotated[
        Path | None, typer.Option(metavar="TABLE", help="Sealed test images; else split off TABLE.")
    ] = None,
    sizes: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,C",
            help="Images for train, val and test (default: 40/20/40 % of TABLE, at most 200,100,400; of a source the "
            "paper's).",
        ),
    ] = None,
    unbalanced: Annotated[
        bool, typer.Option("--unbalanced", help="With --sizes: in the label proportions of TABLE, not balanced.")
    ] = False,
    *,
    models: ModelNames,
    evidence: Annotated[
        EvidenceOption | None,
        typer.Option(metavar="MODE", help="What the judge reads: both, image or description (default both)."),
    ] = None,
    verbalizer_instruction: Annotated[
        str | None, typer.Option(metavar="TEXT", help="The verbalizer instruction to start from.")
    ] = None,
    reasoning: Annotated[
        bool, typer.Option("--reasoning", help="Have the judge state the evidence that decides before its label.")
    ] = False,
) -> Start:
    """The options for what an optimizer starts from."""
    of_table = data.source is None
    if start is not None:
        _check_own(
            task=task,
            labels=labels,
            scale=scale,
            scores=scores,
            tolerance=tolerance,
            pairs=pairs,
            images=images,
            context=context,
            evidence=evidence,
            verbalizer_instruction=verbalizer_instruction,
            reasoning=reasoning or None,
        )
    own_splits, sized = bool(val or test), bool(sizes)
    _check_start(task, of_table=of_table, own_splits=own_splits, sized=sized, begun=start is not None)
    if unbalanced and not (sizes and of_table):
        raise BlpoError("--unbalanced belongs to --sizes of a TABLE; without sizes a split has its label proportions")
    stated = any(option is not None for option in (labels, scale, scores, tolerance, pairs))
    needed = stated or (of_table and start is None)
    space = parse_labels(labels, scale, scores, tolerance, pairs) if needed else None
    texts = None if context is None and not of_table else names(context or "")
    if reason_column is not None and not of_table:
        raise BlpoError("--reason-column is for a TABLE of your own")
    columns = replace(data.columns, context=texts, group=group_column, reason=reason_column)
    if images is not None:
        columns = replace(columns, images=names(images))
    return Start(
        data=replace(data, columns=columns),
        labels=space,
        task=task,
        models=models,
        val=val,
        test=test,
        sizes=three_sizes(sizes),
        balanced=not unbalanced,
        evidence=evidence,
        verbalizer_instruction=verbalizer_instruction,
        reasoning=reasoning,
        judge=start,
    )


def _check_own(**given: object) -> None:
    """Refuses options for what a judge to compile further has of its own."""
    flags = [f"--{name.replace('_', '-')}" for name, value in given.items() if value is not None]
    if flags:
        raise BlpoError(
            f"--start and {', '.join(flags)}: a judge.json has these of its own; leave out one or the other"
        )


def _check_start(task: str | None, *, of_table: bool, own_splits: bool, sized: bool, begun: bool) -> None:
    if task is not None and not task.strip():
        raise BlpoError("--task is empty; say in a sentence what the judge is to do")
    if task is None and of_table and not begun:
        raise BlpoError("--task is missing: say in a sentence what the judge is to do")
    if own_splits and not of_table:
        raise BlpoError("--val and --test name tables; what is drawn from a source is split, see --sizes")
    if own_splits and sized:
        raise BlpoError("--sizes splits one table; with --val or --test the tables have their own sizes")


def _judge_models(
    model: Model = None,
    verbalizer_model: VerbalizerModel = None,
    api_base: ApiBase = None,
    timeout: Timeout = None,
    no_cache: NoCache = False,
) -> ModelNames:
    """The options for the models of a judge."""
    return ModelNames(model, verbalizer_model, None, api_base, not no_cache, timeout)


def _escalation(
    confidence: Annotated[
        Method | None,
        typer.Option(
            metavar="METHOD",
            help="How sure the judge is: votes (several answers), logprobs (the label's probability) or views (image, "
            "description and both).",
        ),
    ] = None,
    votes: Annotated[
        int | None, typer.Option(metavar="K", min=2, help="Answers of a judge, for --confidence votes (default 5).")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(metavar="X", help="Temperature of these answers (default 1).")
    ] = None,
    escalate_to: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="A further judge.json to ask where the one before escalates, and so on; last of all a table for "
            "people, such as people.csv.",
        ),
    ] = None,
    escalate_model: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL", help="The model of each further judge, in order (default: the first one's)."),
    ] = None,
) -> Escalation:
    """The options for how sure a judge is, and who is asked where it isn't."""
    return Escalation(confidence, votes, temperature, tuple(escalate_to or ()), tuple(escalate_model or ()))


def _page(
    host: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Address to listen on, where other machines are to reach the page."),
    ] = None,
    port: Annotated[int, typer.Option(metavar="N", min=1, max=65535, help="Port to listen on.")] = 8010,
) -> Where:
    """The options for where a page is served."""
    return Where(host, port)


# What a command takes as one value and a user gives as many options, made by a function of them.
GROUPS: Mapping[Any, Callable[..., Any]] = {
    SourceChoice | None: _source,
    RaterChoice | None: _raters,
    ModelNames: _models,
    JudgeModels: _judge_models,
    Data: _data,
    Start: _start,
    Escalation: _escalation,
    Where: _page,
}


# Under which heading the help shows the options of a group; those of others are simply options.
HEADINGS: Mapping[Any, str] = {
    Data: "Labelled images",
    SourceChoice | None: "Published images",
    RaterChoice | None: "Several people per image",
    Start: "Start",
    ModelNames: "Models",
    Escalation: "Confidence",
}
