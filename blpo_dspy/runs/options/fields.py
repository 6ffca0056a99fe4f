"""Options of the command line as fields of dataclasses; nothing heavy is imported here."""

from __future__ import annotations

from dataclasses import MISSING, field, fields
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")


def option(
    text: str,
    default: Any = None,
    *,
    heading: str | None = None,
    flag: str | None = None,
    argument: bool = False,
    **shown: Any,
) -> Any:
    """Returns a field that the command line offers as an option.

    Args:
        text: What it is, for the help.
        default: Its default, or a function that makes it; `MISSING` if it has to be given.
        heading: The part of the help that lists it.
        flag: How the command line writes it, where that doesn't follow from its name.
        argument: Whether it is given without a flag.
        **shown: What else `typer.Option` takes, such as metavar and min.
    """
    metadata = {"help": text, "heading": heading, "flag": flag, "argument": argument, "shown": shown}
    return field(metadata=metadata, **{"default_factory" if callable(default) else "default": default})


def described(cls: type[T]) -> type[T]:
    """Adds the options of a class to its docstring."""
    listed = [f"    {each.name}: {each.metadata['help']}" for each in fields(cls) if each.metadata]  # type: ignore[arg-type]
    cls.__doc__ = "\n".join([f"{cls.__doc__}\n\nAttributes:", *listed])
    return cls


argument = partial(option, default=MISSING, argument=True, show_default=False)


def same(group: type, name: str, *, flag: str | None = None) -> Any:
    """Returns a field like that of another group, as an option under no heading, perhaps with another flag."""
    found = next(each for each in fields(group) if each.name == name)
    default, about = found.default if found.default_factory is MISSING else found.default_factory, found.metadata
    return option(about["help"], default, flag=flag or about["flag"], argument=about["argument"], **about["shown"])
