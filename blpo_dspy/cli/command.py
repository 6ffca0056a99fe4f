"""Commands whose options are the fields of the jobs that they take."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import MISSING, Field, fields, is_dataclass
from importlib import import_module
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperCommand

from blpo_dspy.cli.flags import model_prices, seed_list
from blpo_dspy.runs.options.texts import names, three_sizes

_JSON = "Print JSON, and nothing else, on standard output."


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


# By the type of a field: what an option gives in its place, and how that is parsed.
_PARSED: Mapping[Any, tuple[Any, Callable[[Any], Any]]] = {
    Mapping[str, tuple[float, float]]: (list[str] | None, model_prices),
    tuple[int, ...]: (str, seed_list),
    tuple[int, int, int] | None: (str | None, three_sizes),
    tuple[str, ...]: (str, names),
    tuple[str, ...] | None: (str | None, lambda text: None if text is None else names(text)),
}


def _parts(group: Any) -> Iterator[tuple[Field[Any], Any, Any]]:
    """The fields of a job or group that are options or groups of them, with their types and the class of a group."""
    kinds = get_type_hints(group, include_extras=True)
    for each in fields(group):
        kind = kinds[each.name]
        made_by = get_args(kind)[1] if get_origin(kind) is Annotated else kind if is_dataclass(kind) else None
        if made_by is not None or each.metadata:
            yield each, kind, made_by


def _options(group: Any, heading: str | None = None) -> list[inspect.Parameter]:
    """The options of a job or group, with those of the groups among its fields in their place."""
    heading, listed = getattr(group, "heading", heading), []
    for each, kind, inner in _parts(group):
        listed += [_option(each, kind, heading)] if inner is None else _options(inner, heading)
    return listed


def _option(described: Field[Any], kind: Any, heading: str | None) -> inspect.Parameter:
    """The option that a field describes."""
    about, default = described.metadata, described.default
    if kind in _PARSED:
        kind = _PARSED[kind][0]
        default = ",".join(map(str, default)) if isinstance(default, tuple) else default
    default = inspect.Parameter.empty if default is MISSING and described.default_factory is MISSING else default
    written = about["flag"] or (f"--{described.name.replace('_', '-')}" if kind is bool else None)
    make = typer.Argument if about["argument"] else typer.Option
    option = make(
        *filter(None, [written]), help=about["help"], rich_help_panel=about["heading"] or heading, **about["shown"]
    )
    return inspect.Parameter(
        described.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=[] if default is MISSING else default,
        annotation=Annotated[kind, option],
    )


def _made(group: Any, given: Mapping[str, Any]) -> Any:
    """A job or group with the options that are given, or what a group makes of them."""
    values = {}
    for each, kind, inner in _parts(group):
        if inner is not None:
            values[each.name] = _made(inner, given)
        else:
            values[each.name] = _PARSED[kind][1](given[each.name]) if kind in _PARSED else given[each.name]
    found = group(**values)
    return found.made() if hasattr(found, "made") else found


def command(app: typer.Typer, name: str, job: type, run: str, *, json: str | None = _JSON, **defaults: Any) -> None:
    """Registers a command, whose help is the docstring of its job.

    Args:
        app: The command line.
        name: The command's name.
        job: What it takes.
        run: The module of the command line, and the function in it that takes the job and a screen and may return an
            exit code; it is imported when the command runs.
        json: The help of its option --json, None if it has none.
        **defaults: Options that the job requires and this command doesn't.
    """

    def action(*, as_json: bool = False, **given: Any) -> None:
        from blpo_dspy.cli.screen import Screen  # noqa: PLC0415 - slow to import, and `blpo --help` doesn't need it

        module, _, function = run.partition(":")
        made = _made(job, given)
        shared = getattr(made, "shared", None)
        with nullcontext() if shared is None else shared.opened():
            code = getattr(import_module(f"blpo_dspy.cli.{module}"), function)(made, Screen(as_json=as_json))
        if code:
            raise typer.Exit(code)

    options = [option.replace(default=defaults.get(option.name, option.default)) for option in _options(job)]
    if json is not None:
        shown = Annotated[bool, typer.Option("--json", help=json)]
        options.append(inspect.Parameter("as_json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=shown))
    action.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    action.__annotations__ = {option.name: option.annotation for option in options}
    action.__doc__ = job.__doc__
    app.command(name, cls=_Command)(action)
