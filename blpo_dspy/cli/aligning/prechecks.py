"""Checks before a search, under its cap: whether the models see, and whether the judge agrees with itself."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import dspy
from dspy.utils.exceptions import LMError

from blpo_dspy.cli.jobs import CompileJob
from blpo_dspy.cli.screen import Screen, noting, working
from blpo_dspy.data.fields import all_images
from blpo_dspy.data.images.prepare import PixelPolicy
from blpo_dspy.errors import ModelError
from blpo_dspy.models.lm import Models, is_embedded
from blpo_dspy.programs.visual_judge import VisualJudge
from blpo_dspy.runs.checks.costs import calls_of
from blpo_dspy.runs.checks.preflight import (
    PROBES,
    image_limits,
    near_duplicates,
    needed_policy,
    scarce_labels,
    sees_pixels,
    send_largest,
)
from blpo_dspy.runs.checks.repeatability import IMAGES, repeatability
from blpo_dspy.runs.jobs import Search
from blpo_dspy.workspace.allowance import Allowance
from blpo_dspy.workspace.budget import CAPS
from blpo_dspy.workspace.failures import RunStoppedError
from blpo_dspy.workspace.ledger import Ledger, Usage
from blpo_dspy.workspace.meter import GRACE, Meter
from blpo_dspy.workspace.outages import Outages
from blpo_dspy.workspace.workers import Workers, thread_count
from blpo_dspy.workspace.workspace import current_workspace

_MOST_NOTES = 20
_Examples: TypeAlias = Sequence[dspy.Example]


@dataclass(frozen=True)
class Prechecks:
    """The result of the checks before a search.

    Attributes:
        ledger: The LM calls that it took.
        repeatability: How far the start agrees with itself, as plain data; None if that was not checked.
        seconds: How long it took.
    """

    ledger: Ledger
    repeatability: dict[str, Any] | None
    seconds: float


def precheck_calls(job: CompileJob, start: VisualJudge, train: _Examples, models: Models) -> Counter[str]:
    """Returns by role the LM calls that `run_prechecks` makes where no call fails and no cache answers."""
    calls = calls_of(start, len(train[:IMAGES]) * (job.repeat or 0))
    for roles, _ in (_seeing(start, models) if job.preflight else {}).values():
        calls[_asked_as(roles)] += PROBES
    return calls


def prechecks_in_words(calls: int) -> str:
    """Returns the end of a sentence about these calls, nothing if there are none."""
    return f"; --preflight and --repeat take {calls} before the search" if calls else ""


def run_prechecks(
    job: CompileJob,
    start: VisualJudge,
    sets: Mapping[str, _Examples],
    train: _Examples,
    models: Models,
    screen: Screen,
) -> Prechecks:
    """Does what `--preflight` and `--repeat` ask for, and notes the result.

    Raises:
        BlpoError: If the cap on calls leaves nothing for the search.
        ModelError: If a model cannot be used, or does not see images.
    """
    began = time.monotonic()
    calls = precheck_calls(job, start, train, models).total()
    job.search.after(Usage(calls=calls))  # or none would be left for the search
    with noting(screen), Meters(job.search, job.run_dir) as meters:
        if job.preflight:
            preflight(start, sets, models, meters.another("preflight"), screen)
        repeated = None
        if job.repeat is not None:
            with working(screen) as watch, Workers(None, grace=GRACE) as workers:
                watch.begin(f"judging the same images {job.repeat} times")
                found = repeatability(
                    start,
                    models,
                    train,
                    times=job.repeat,
                    workers=workers,
                    meters=lambda turn: meters.another(f"repeat-{turn + 1}"),
                )
            screen.note(found.summary)
            repeated = found.to_dict()
    return Prechecks(meters.ledger(), repeated, time.monotonic() - began)


class Meters(ExitStack):
    """Meters used one after the other under one budget, each with a memory of its own, which a run's folder keeps."""

    def __init__(self, search: Search, run_dir: Path | None) -> None:
        super().__init__()
        self._search, self._run_dir = search, run_dir
        self._allowance = Allowance(search.budget(), self.ledger, _spent_early)
        self._meters: list[Meter] = []

    def another(self, name: str) -> Meter:
        """Returns a meter with nothing in its memory but what an earlier session of the same run asked for."""
        workspace, job = current_workspace(), None
        if self._run_dir is not None:
            kept = workspace.job("precheck", {}, self._run_dir, name=name, memory=name)
            job = self.enter_context(closing(kept))
            self.callback(kept.end, "done")
        before = self.ledger()
        meter = Meter(
            num_threads=thread_count(None),
            job=job,
            admit=lambda ledger: self._allowance.admit(before + ledger),
            deadline=self._allowance.deadline,
            outages=Outages(workspace.max_outage, known=bool(self._meters)),
        )
        self._meters.append(meter)
        return meter

    def ledger(self) -> Ledger:
        """Returns what all of them counted."""
        return sum((meter.ledger for meter in self._meters), Ledger({}))


def _spent_early(reason: str) -> RunStoppedError:
    return RunStoppedError(f"{reason} before the search, as calls failed or took long; raise the cap", option=CAPS)


def _seeing(start: VisualJudge, models: Models) -> dict[str, tuple[str, dspy.LM]]:
    """By name the models that get images, with their roles in words and an LM."""
    found: dict[str, tuple[str, dspy.LM]] = {}
    for role in ("verbalizer", "judge") if start.evidence != "description" else ("verbalizer",):
        lm = getattr(models, role)
        if not is_embedded(lm.model):  # it measures pixels and has no word for colours
            found[lm.model] = (f"{found[lm.model][0]} and {role}" if lm.model in found else role, lm)
    return found


def _asked_as(roles: str) -> str:
    """The role that a model's calls are counted under, of those that it has in words."""
    return roles.partition(" ")[0]


def preflight(start: VisualJudge, sets: Mapping[str, _Examples], models: Models, meter: Meter, screen: Screen) -> None:
    """Notes what is wrong with the sets, and refuses a model that doesn't see images or takes none of this size.

    Raises:
        ModelError: If a model cannot be used, or does not see images.
    """
    lines = [*scarce_labels(sets, start.labels), *near_duplicates(sets)]
    for line in lines[:_MOST_NOTES]:
        screen.note(line)
    if len(lines) > _MOST_NOTES:
        screen.note(f"… and {len(lines) - _MOST_NOTES} more such pairs")
    seeing = _seeing(start, models)
    if not seeing:
        return
    examples = [example for part in sets.values() for example in part]
    policy, most = needed_policy(start.pixel_policy, examples), max(len(all_images(example)) for example in examples)
    screen.note(image_limits(start.pixel_policy, policy, list(seeing), most))
    for roles, lm in seeing.values():
        _check_sight(roles, meter.wrap(lm, _asked_as(roles)), policy, most)


def _check_sight(roles: str, lm: dspy.BaseLM, policy: PixelPolicy, most: int) -> None:
    try:
        probe = sees_pixels(lm)
    except LMError as error:
        raise ModelError(f"the {roles} model refuses an image: {error}") from error
    if not probe.sees:
        raise ModelError(
            f"the {roles} model doesn't seem to see images: of a plain red and a plain blue one it says "
            f"{list(probe.answers.values())}; name a multimodal model, or check that its server passes images on"
        )
    try:
        send_largest(lm, policy, most)
    except LMError as error:
        size = f"{policy.max_side} × {policy.max_side} pixels and {policy.max_bytes / 1e6:.2g} MB"
        none = f"none of {size}, which is as large as those here" if most == 1 else f"not {most} of {size} in a request"
        raise ModelError(
            f"the {roles} model takes a small image but {none}: {error}; raise its server's limit, or "
            "make the images smaller, in Python with VisualJudge(…, pixel_policy=PixelPolicy(max_side=512))"
        ) from error
