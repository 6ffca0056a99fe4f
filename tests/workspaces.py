"""Jobs in a workspace of their own."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from blpo_dspy.predictions.batches.api import batch_api_of
from blpo_dspy.predictions.files import Output
from blpo_dspy.predictions.given import Job, Processes, given_models, inputs_of
from blpo_dspy.predictions.predict import predict, predicted
from blpo_dspy.workspace.workspace import Step, Workspace, current_workspace

_SHARED = ("models", "prices", "num_threads", "max_outage", "progress")
_HOOKS = ("on_start", "on_calls", "on_progress", "on_read", "on_row")
_CAPS = {"max_usd", "max_in_flight", "partial_table"}


def shared(job: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """What a job returns in a workspace without a folder, which has those options that are a workspace's."""
    settings = {name: options.pop(name) for name in _SHARED if name in options}
    if (orders := options.pop("orders", None)) is not None:
        arguments = (arguments[0].in_orders(orders), *arguments[1:])
    if job is predict and (method := options.pop("confidence", None)) is not None:
        arguments = (arguments[0].confident(method), *arguments[1:])
    hooks = {name: options.pop(name) for name in _HOOKS if name in options}
    if hooks:
        settings["progress"] = _calling(hooks)
    with Workspace(**settings):
        if job is predict and _CAPS & options.keys():
            return _capped(*arguments, **options)
        return job(*arguments, **options)


def _calling(hooks: dict[str, Callable[..., object]]) -> Callable[[Step], None]:
    """Calls hooks with what they want of a step; those of a comparison with what its line says."""
    begun: list[str] = []
    told: list[str] = []

    def called(step: Step) -> None:
        compared = re.fullmatch(r".* runs, ([\d,]+) of .* calls", step.status)
        if compared and step.what not in begun and ", seed " in step.what:
            begun.append(step.what)
            hooks.get("on_start", lambda *_: None)(*step.what.split(", seed "))
        elif compared and (step.what, compared[1]) != tuple(told) and "on_calls" in hooks and int(compared[1]):
            told[:] = [step.what, compared[1]]
            hooks["on_calls"](int(compared[1]))
        if step.what == "reading" and "on_read" in hooks:
            hooks["on_read"](step.done)
        for name in ("on_progress", "on_row"):
            if step.record is not None and name in hooks:
                hooks[name](step.record)

    return called


def _capped(judge: Any, source: Any, *, out: Path, **options: Any) -> Any:
    """A prediction with what the command line alone can ask for."""
    workers, prices = options.pop("workers", None), current_workspace().prices
    return predicted(
        Job(
            judge=judge,
            inputs=inputs_of(judge, source, None, None, options.pop("allow_outside", False)),
            output=Output.at(out),
            models=given_models(judge),
            processes=None if workers is None else Processes(workers, options.pop("max_in_flight", None)),
            batch=batch_api_of(options.pop("batch_api", False), prices),
            partial=options.pop("partial_table", False),
            **options,
        )
    )
