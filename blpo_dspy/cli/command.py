"""A command whose options are those of the values that it takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, cast

import typer
from typer.core import TyperCommand

from blpo_dspy.cli.flags import model_prices, seed_list
from blpo_dspy.cli.groups import GROUPS, HEADINGS


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


# Fields whose value is parsed from what the option states: the function, the option's type and its default.
_PARSED: Mapping[str, tuple[Callable[[Any], Any], Any, Any]] = {
    "prices": (model_prices, list[str] | None, None),
    "seeds": (seed_list, str, "0"),
}
# Options that are written in another way than their fields.
_WRITTEN = {"prices": "--price"}


def _options(function: Callable[..., Any], heading: str | None = None) -> list[inspect.Parameter]:
    """The parameters of a function or job, each group of options in place of the value that is made of it."""
    listed: list[inspect.Parameter] = []
    metadata = {each.name: each.metadata for each in fields(function)} if is_dataclass(function) else {}
    for name, parameter in inspect.signature(function, eval_str=True).parameters.items():
        kind = parameter.annotation
        if metadata.get(name):
            listed.append(_option(parameter, metadata[name]))
        elif kind in GROUPS:
            listed += _options(GROUPS[kind], HEADINGS.get(kind))
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
        if kind in GROUPS or is_dataclass(kind):
            values[name] = _call(GROUPS.get(kind, kind), given)
        else:
            values[name] = _PARSED[name][0](given[name]) if name in _PARSED else given[name]
    return function(**values)


def command(app: typer.Typer, name: str, **defaults: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Registers an action as a command with all options of the groups that it takes.

    Args:
        app: The command line.
        name: The command's name.
        **defaults: Options that a group requires and this command doesn't.
    """

    def register(action: Callable[..., None]) -> Callable[..., None]:
        def run(**given: Any) -> None:
            _call(action, given)

        options = [o.replace(default=defaults.get(o.name, o.default), kind=o.KEYWORD_ONLY) for o in _options(action)]
        run.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
        run.__annotations__ = {o.name: o.annotation for o in options}
        run.__doc__ = action.__doc__
        app.command(name, cls=_Command)(run)
        return action

    return register
