"""Where predictions are kept, and which earlier ones a call may continue."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from blpo_dspy.data.inputs import Inputs
from blpo_dspy.errors import BlpoError
from blpo_dspy.models.lm import Models, identity
from blpo_dspy.predictions.files import Output, check_target
from blpo_dspy.predictions.job import is_known, opened_job
from blpo_dspy.predictions.results import escalates_to_people
from blpo_dspy.programs.cascade import Cascade, stages_of
from blpo_dspy.programs.pairs import asked_in
from blpo_dspy.programs.visual_judge import VisualJudge
from blpo_dspy.workspace.ledger import Usage
from blpo_dspy.workspace.store import FILE_NAME
from blpo_dspy.workspace.workspace import current_workspace


def kept_in(out: str | os.PathLike[str]) -> Path:
    """Returns the file from which an output resumes."""
    return current_workspace().store_path or Output.at(out).path.parent / FILE_NAME


def check_output(target: Path, inputs: Inputs) -> None:
    """Refuses an output that is the source, or that is there without what an earlier call has kept of it."""
    if target.exists() and os.path.exists(inputs.name) and os.path.samefile(target, inputs.name):
        raise BlpoError(f"{target}: this is the table to be judged; name another output")
    if target.exists() and not is_known(target):
        raise BlpoError(
            f"{target}: there is such a file already, but nothing of a run to continue; name another "
            "output, or remove it"
        )


def check_escalated(path: Path | None, out: Path, judge: VisualJudge) -> None:
    """Refuses a table for people that would be empty, or that would overwrite another file."""
    if path is None:
        return
    check_target(path)
    if path.resolve() == out.resolve():
        raise BlpoError(f"{path}: all verdicts go there; name another file for what is escalated", option="escalated")
    if not escalates_to_people(judge):
        raise BlpoError(
            f"{path} would be empty, as the judge escalates nothing to people: it isn't calibrated; calibrate it first "
            "(blpo_dspy.calibrate, blpo calibrate)",
            option="escalated",
        )
    if path.exists() and not is_known(out):
        raise BlpoError(f"{path}: there is such a file already; name another one, or remove it", option="escalated")


def spent_on(out: Path, judge: VisualJudge, models: Sequence[Models]) -> Usage:
    """Returns what earlier calls of `predict` used for an output; of pairs, in both orders.

    Raises:
        StoreError: As `predict`.
    """
    if not is_known(out):
        return Usage()
    both = asked_in(judge.labels, "both") > 1
    with contextlib.closing(opened_job(out, fingerprint_of(judge, models, both=both))) as job:
        return job.earlier.total


def fingerprint_of(judge: VisualJudge, models: Sequence[Models], *, both: bool) -> dict[str, Any]:
    """What verdicts depend on apart from the rows."""
    used = [
        {role: identity(getattr(own, role)) for role in ("judge", "verbalizer") if role in stage.roles}
        for stage, own in zip(stages_of(judge), models, strict=True)
    ]
    orders = {"orders": "both" if both else "one"} if judge.labels.paired else {}
    return {"judge": judge.identity(), "models": used if isinstance(judge, Cascade) else used[0], **orders}
