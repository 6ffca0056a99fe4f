"""Jobs in a workspace of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from blpo_dspy.predictions.files import Output
from blpo_dspy.predictions.given import Job, Processes, given_models, inputs_of
from blpo_dspy.predictions.predict import predict, predicted
from blpo_dspy.workspace.workspace import Step, Workspace

_SHARED = ("models", "prices", "num_threads", "max_outage", "progress")


def shared(job: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """What a job returns in a workspace without a folder, which has those options that are a workspace's."""
    settings = {name: options.pop(name) for name in _SHARED if name in options}
    if (orders := options.pop("orders", None)) is not None:
        arguments = (arguments[0].in_orders(orders), *arguments[1:])
    hooks = {name: options.pop(name) for name in ("on_progress", "on_read", "on_row", "on_calls") if name in options}
    if hooks:
        settings["progress"] = _calling(hooks)
    with Workspace(**settings):
        if job is predict and {"max_usd", "max_in_flight", "partial_table"} & options.keys():
            return _capped(*arguments, **options)
        return job(*arguments, **options)


def _calling(hooks: dict[str, Callable[[Any], object]]) -> Callable[[Step], None]:
    def called(step: Step) -> None:
        if step.what == "reading" and "on_read" in hooks:
            hooks["on_read"](step.done)
        for name in ("on_progress", "on_row"):
            if step.record is not None and name in hooks:
                hooks[name](step.record)

    return called


def _capped(judge: Any, source: Any, *, out: Path, **options: Any) -> Any:
    """A prediction with what the command line alone can ask for."""
    workers = options.pop("workers", None)
    return predicted(
        Job(
            judge=judge,
            inputs=inputs_of(judge, source, None, None, options.pop("allow_outside", False)),
            output=Output.at(out),
            models=given_models(judge),
            processes=None if workers is None else Processes(workers, options.pop("max_in_flight", None)),
            partial=options.pop("partial_table", False),
            **options,
        )
    )
