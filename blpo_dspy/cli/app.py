"""`blpo`: the command line. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, NewType, cast

import typer
from typer.core import TyperCommand, TyperGroup

from blpo_dspy.calls.outages import MAX_OUTAGE
from blpo_dspy.cli.flags import (
    model_prices,
    parse_labels,
    parse_pairs,
    parse_scores,
    seed_list,
    three_sizes,
    with_flags,
)
from blpo_dspy.data.labels.space import Method, Orders
from blpo_dspy.data.sources import SOURCES
from blpo_dspy.errors import BlpoError, DataError, brief, gathered
from blpo_dspy.files import writing_output
from blpo_dspy.runs.jobs import (
    Batching,
    CalibrateJob,
    Columns,
    CompareJob,
    CompileJob,
    Data,
    DriftJob,
    Escalation,
    EvaluateJob,
    EvidenceOption,
    JudgeJob,
    ModelNames,
    PopulationJob,
    RaterChoice,
    RaterRule,
    SampleJob,
    Scale,
    Search,
    SourceChoice,
    Start,
    Where,
    names,
)

_BAD_INPUT = 2
_INTERRUPTED = 130
_BROKEN_PIPE = 141  # as for a process that SIGPIPE ends
_HOW_TO_RESUME = {
    "compile": " A run with --run-dir resumes from here when repeated.",
    "judge": " With --out FILE verdicts are kept, and the same command resumes.",
}
_MOST_PROBLEMS = 1000
_DEMO_FIDELITY = 50  # images; the offline engine costs nothing


class _Group(TyperGroup):
    """Turns what a user can put right into one message; anything else keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            if sys.stdout is None:
                raise BlpoError("standard output is closed; redirect it to a file, or to /dev/null")
            result = super().invoke(ctx)
            with writing_output():
                sys.stdout.flush()
            return result
        except BrokenPipeError:
            # The reader is gone, as after `| head`.
            _drop_output()
            raise typer.Exit(_BROKEN_PIPE) from None
        except BlpoError as error:
            typer.echo(f"Error: {with_flags(_message(error), error.options)}", err=True)
            _drop_output()
            raise typer.Exit(_BAD_INPUT) from None
        except OSError as error:
            if error.filename is None:
                raise
            typer.echo(f"Error: {brief(error.filename)}: {error.strerror}; give another path", err=True)
            raise typer.Exit(_BAD_INPUT) from None
        except KeyboardInterrupt:
            typer.echo(f"Interrupted; no result was written.{_HOW_TO_RESUME.get(ctx.invoked_subcommand, '')}", err=True)
            raise typer.Exit(_INTERRUPTED) from None


def _drop_output() -> None:
    """Leaves nothing in the buffer of standard output, as it would fail once more at the end."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Command(TyperCommand):
    """A command whose help shows its options under headings."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                panel = getattr(parameter, "rich_help_panel", None) or "Options"
                heading = "Arguments" if parameter.param_type_name == "argument" else panel
                sections.setdefault(heading, []).append(record)
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)


def _message(error: BlpoError) -> str:
    """The error in full: where the exception's own text names the first bad rows, a terminal has room for all."""
    if not isinstance(error, DataError) or not error.problems:
        return str(error)
    lines = gathered(error.problems, _MOST_PROBLEMS)
    more = len(lines) - _MOST_PROBLEMS
    shown = [f"  - {line}" for line in lines[:_MOST_PROBLEMS]]
    return "\n".join([error.summary, *shown, *([f"  … and {more} more"] if more > 0 else [])])


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


def _of_search(name: str) -> Any:
    """An option of a search, as its field describes it."""
    metadata = next(each.metadata for each in fields(Search) if each.name == name)
    return typer.Option(help=metadata["help"], **metadata["shown"])


Seed = Annotated[int, _of_search("seed")]
Scores = Annotated[
    str | None, typer.Option(metavar="LOW-HIGH", help="Or scores with decimals: 0-100; 0-10:0.5 in steps of 0.5.")
]
Rounds = Annotated[int | None, _of_search("rounds")]
InnerSteps = Annotated[int | None, _of_search("inner_steps")]
BatchSize = Annotated[int | None, _of_search("batch_size")]
Threads = Annotated[int | None, _of_search("threads")]
ApiBase = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Your own server, e.g. http://localhost:8000/v1, for all but `embedded`."),
]
Timeout = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        help="Timeout of an LM call (default 120; 300 for an optimizer and for models that reason first).",
    ),
]
MaxOutage = Annotated[float, _of_search("max_outage")]
InOrders = Annotated[
    Orders,
    typer.Option(
        metavar="ORDERS",
        help='Of a judge of pairs: "both" asks twice, the images changing places; "one" costs one call.',
    ),
]
AllowOutside = Annotated[
    bool, typer.Option("--allow-outside", help="Take images outside the folder, or that of the table.")
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Bypass DSPy's cache: call the models for every answer.")]
JudgeFile = Annotated[Path, typer.Argument(metavar="JUDGE", help="A judge.json.", show_default=False)]
Model = Annotated[
    str | None, typer.Option(metavar="MODEL", help="The judge's model, e.g. openai/gpt-4o (default `embedded`).")
]
VerbalizerModel = Annotated[
    str | None, typer.Option(metavar="MODEL", help="The verbalizer's model (default: the judge's).")
]
Seconds = Annotated[float, typer.Option(metavar="SECONDS", help="Mean duration of an LM call.")]
ProgramFactory = Annotated[
    str | None,
    typer.Option(metavar="MODULE:FACTORY", help="A function that returns the ProgramJudge whose state the file holds."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on standard output.")]


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


# Fields whose value is parsed from what the option states: the function, the option's type and its default.
_PARSED: Mapping[str, tuple[Callable[[Any], Any], Any, Any]] = {
    "prices": (model_prices, list[str] | None, None),
    "seeds": (seed_list, str, "0"),
}
# Options that are written in another way than their fields.
_WRITTEN = {"prices": "--price"}


_JudgeModels = NewType("_JudgeModels", ModelNames)


def _judge_models(
    model: Model = None,
    verbalizer_model: VerbalizerModel = None,
    api_base: ApiBase = None,
    timeout: Timeout = None,
    no_cache: NoCache = False,
) -> ModelNames:
    """The options for the models of a judge."""
    return ModelNames(model, verbalizer_model, None, api_base, not no_cache, timeout)


def _evaluate_job(
    judge: JudgeFile,
    data: Data,
    *,
    models: _JudgeModels,
    draw: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Images of a source (default: as in the paper's test set).")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(metavar="OTHER", help="A second judge.json to compare with on the same images.")
    ] = None,
    orders: InOrders = "both",
    program: ProgramFactory = None,
    seed: Seed = 0,
    threads: Threads = None,
    max_outage: MaxOutage = MAX_OUTAGE,
) -> EvaluateJob:
    """The options of evaluate."""
    if draw is not None and data.source is None:
        raise BlpoError("--draw belongs to --source; a TABLE is used whole")
    return EvaluateJob(judge, data, models, threads, draw, seed, against, max_outage, orders, program)


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


def _calibrate_job(
    judge: JudgeFile,
    data: Data,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where the calibrated judge goes, a .json file.")],
    agreement: Annotated[
        float, typer.Option(metavar="X", help="Share of the automatic labels that has to agree with people's.")
    ] = 0.9,
    risk: Annotated[float, typer.Option(metavar="X", help="Probability with which fewer may.")] = 0.1,
    within: Annotated[
        int, typer.Option(metavar="N", min=0, help="Levels of a scale that labels may be apart and still agree.")
    ] = 0,
    *,
    escalation: Escalation,
    models: _JudgeModels,
    orders: InOrders = "both",
    draw: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Images of a source (default: as in the paper's test set).")
    ] = None,
    price: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL=IN,OUT", help="A model's dollars per million prompt and completion tokens."),
    ] = None,
    seed: Seed = 0,
    threads: Threads = None,
    max_outage: MaxOutage = MAX_OUTAGE,
) -> CalibrateJob:
    """The options of calibrate."""
    if draw is not None and data.source is None:
        raise BlpoError("--draw belongs to --source; a TABLE is used whole")
    promised = (agreement, risk, within)
    return CalibrateJob(
        judge, data, models, out, *promised, escalation, threads, draw, seed, max_outage, orders, model_prices(price)
    )


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
_GROUPS: Mapping[Any, Callable[..., Any]] = {
    SourceChoice | None: _source,
    RaterChoice | None: _raters,
    ModelNames: _models,
    _JudgeModels: _judge_models,
    Data: _data,
    Start: _start,
    EvaluateJob: _evaluate_job,
    Escalation: _escalation,
    CalibrateJob: _calibrate_job,
    Where: _page,
}


# Under which heading the help shows the options of a group; those of others are simply options.
_HEADINGS: Mapping[Any, str] = {
    Data: "Labelled images",
    SourceChoice | None: "Published images",
    RaterChoice | None: "Several people per image",
    Start: "Start",
    ModelNames: "Models",
    Escalation: "Confidence",
}


def _options(function: Callable[..., Any], heading: str | None = None) -> list[inspect.Parameter]:
    """The parameters of a function or job, each group of options in place of the value that is made of it."""
    listed: list[inspect.Parameter] = []
    metadata = {each.name: each.metadata for each in fields(function)} if is_dataclass(function) else {}
    for name, parameter in inspect.signature(function, eval_str=True).parameters.items():
        kind = parameter.annotation
        if metadata.get(name):
            listed.append(_option(parameter, metadata[name]))
        elif kind in _GROUPS:
            listed += _options(_GROUPS[kind], _HEADINGS.get(kind))
        elif is_dataclass(kind):
            listed += _options(cast("Callable[..., Any]", kind))
        else:
            listed.append(parameter.replace(annotation=_under(heading, kind)))
    return listed


def _option(parameter: inspect.Parameter, metadata: Mapping[str, Any]) -> inspect.Parameter:
    """The option that a field of a job describes."""
    name, kind, default = parameter.name, parameter.annotation, parameter.default
    if name in _PARSED:
        _, kind, default = _PARSED[name]
    written = [f"--{name.replace('_', '-')}"] if kind is bool else []
    option = typer.Option(
        *([_WRITTEN[name]] if name in _WRITTEN else written), help=metadata["help"], **metadata["shown"]
    )
    return parameter.replace(annotation=_under(metadata["heading"], Annotated[kind, option]), default=default)


def _under(heading: str | None, annotation: Any) -> Any:
    """An option under the heading of its group."""
    option = copy(annotation.__metadata__[0])
    option.rich_help_panel = heading
    return Annotated[annotation.__origin__, option]


def _call(function: Callable[..., Any], given: Mapping[str, Any]) -> Any:
    """Calls a function or class with its options, from which the groups among its parameters are made."""
    values = {}
    for name, parameter in inspect.signature(function, eval_str=True).parameters.items():
        kind = parameter.annotation
        if kind in _GROUPS or is_dataclass(kind):
            values[name] = _call(_GROUPS.get(kind, kind), given)
        else:
            values[name] = _PARSED[name][0](given[name]) if name in _PARSED else given[name]
    return function(**values)


def _command(name: str, **defaults: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Registers an action as a command with all options of the groups that it takes.

    Args:
        name: The command's name.
        **defaults: Options that a group requires and this command doesn't.
    """

    def register(action: Callable[..., None]) -> Callable[..., None]:
        def command(**given: Any) -> None:
            _call(action, given)

        options = [o.replace(default=defaults.get(o.name, o.default), kind=o.KEYWORD_ONLY) for o in _options(action)]
        command.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
        command.__annotations__ = {o.name: o.annotation for o in options}
        command.__doc__ = action.__doc__
        app.command(name, cls=_Command)(command)
        return action

    return register


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
    models: _JudgeModels,
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
    models: _JudgeModels,
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
    models: _JudgeModels,
    threads: Threads = None,
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
    label_images(LabelJob(work, where, next, models, threads, seed, random_share), Screen(as_json=False))


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
    """Read labels from an export of Label Studio, or write verdicts as tasks for it. It calls no model."""
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


Predictions = Annotated[
    Path,
    typer.Argument(
        metavar="PREDICTIONS",
        help="Verdicts, as `blpo judge --out` writes them: .csv, .tsv, .jsonl or .parquet.",
        show_default=False,
    ),
]
KeyColumns = Annotated[
    str | None,
    typer.Option(metavar="A,B,…", help="Columns by which an image is known in both tables (default: all they share)."),
]


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
