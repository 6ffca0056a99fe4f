"""How sure a judge has to be, and who is asked where it isn't: what the options of `judge` and `calibrate` state."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import dspy

from blpo_dspy.cli.begin import connect, load_judge
from blpo_dspy.cli.groups import Escalation
from blpo_dspy.cli.screen import Screen, in_dollars
from blpo_dspy.data.images.prepare import ImageError
from blpo_dspy.data.inputs import Inputs
from blpo_dspy.errors import BlpoError, counted
from blpo_dspy.models.lm import Models
from blpo_dspy.models.prices import Prices, known_price
from blpo_dspy.programs.cascade import Cascade, stages_of
from blpo_dspy.programs.costs import judging_cost
from blpo_dspy.programs.pairs import asked_in
from blpo_dspy.programs.visual_judge import VisualJudge
from blpo_dspy.runs.jobs import ModelNames

# Images by which it is estimated what all of them cost.
_ENOUGH = 8


def doubting(judge: VisualJudge, path: Path, escalation: Escalation) -> VisualJudge:
    """Returns a judge with the confidence that the options state, and the judges behind it.

    Raises:
        BlpoError: If the judge is calibrated for another confidence, or the judges don't fit together.
        ArtifactError: If a file cannot be loaded.
    """
    others, _ = _further(escalation)
    named = [(path, judge), *((file, load_judge(file, None)) for file in others)]
    if others and any(isinstance(each, Cascade) for _, each in named):
        raise BlpoError("--escalate-to names single judges, and one of these files holds a cascade already")
    asked = {"votes": escalation.votes, "temperature": escalation.temperature}
    sampling: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    if sampling and escalation.confidence != "votes":
        raise BlpoError(f"--{next(iter(sampling))} belongs to --confidence votes; give both, or leave it out")
    if escalation.confidence is None:
        return Cascade([each for _, each in named]) if others else judge
    for file, each in named:
        if any(stage.threshold is not None for stage in stages_of(each)):
            raise BlpoError(
                f"{file} is calibrated with a confidence of its own, for which its threshold holds; leave out "
                "--confidence"
            )
    made = [each.confident(escalation.confidence, **sampling) if each.confidence is None else each for _, each in named]
    return Cascade(made) if others else made[0]


def for_people(escalation: Escalation) -> Path | None:
    """Returns the table for people that the options name, None if they name none."""
    return _further(escalation)[1]


def _further(escalation: Escalation) -> tuple[list[Path], Path | None]:
    """The files of further judges, and the table for people."""
    judges = [path for path in escalation.escalate_to if path.suffix.lower() == ".json"]
    tables = [path for path in escalation.escalate_to if path not in judges]
    if len(tables) > 1 or (tables and escalation.escalate_to[-1] != tables[0]):
        raise BlpoError(
            "--escalate-to names judges (.json), in the order in which they are asked, and last of all at most one "
            f"table for people (.csv, .jsonl or .parquet), not {', '.join(map(str, escalation.escalate_to))}"
        )
    return judges, tables[0] if tables else None


def connected(judge: VisualJudge, names: ModelNames, escalation: Escalation) -> list[Models]:
    """Returns the models of each judge of a cascade, or the only one, as `connect` does.

    Raises:
        BlpoError: If models are named for another number of judges, or one cannot be used.
        ModelError: If no server answers.
    """
    further = len(stages_of(judge)) - 1
    if escalation.escalate_model and len(escalation.escalate_model) != further:
        raise BlpoError(
            f"--escalate-model is given {len(escalation.escalate_model)} times, and there are {further} judges to "
            "escalate to; give it once for each, in order"
        )
    first = connect(names)
    return [
        first,
        *(connect(replace(names, judge_model=name, verbalizer_model=None)) for name in escalation.escalate_model),
    ] + [first] * (further - len(escalation.escalate_model))


def names_by_role(names: ModelNames, escalation: Escalation) -> dict[str, str]:
    """Returns the names of the models that are asked, by role; of a cascade in their order."""
    rows = [names, *(replace(names, judge_model=name, verbalizer_model=None) for name in escalation.escalate_model)]
    each = [row.by_role() for row in rows]
    return {role: ", then ".join(dict.fromkeys(row[role] for row in each)) for role in ("judge", "verbalizer")}


def cost_of(
    judge: VisualJudge, models: Sequence[Models], inputs: Inputs, images: int, orders: str, prices: Prices
) -> str:
    """Returns in words what judging so many images usually costs, by a few of them; "" where there is nothing to pay.

    Args:
        judge: The judge.
        models: Those of each judge of a cascade, or of the only one.
        inputs: What is judged.
        images: How many are left.
        orders: In how many orders a pair is asked about.
        prices: The user's prices.
    """
    stages = stages_of(judge)
    examples = _some(stages[0], inputs)
    asked = {getattr(own, role) for stage, own in zip(stages, models, strict=True) for role in stage.roles}
    if unknown := sorted({lm.model for lm in asked if known_price(lm, prices) is None}):
        return f"cost unknown, as {', '.join(unknown)} has no known price; --price states it"
    if not examples:
        return ""
    times = images * asked_in(judge.labels, orders)
    each = [times * (judging_cost(*pair, examples, prices) or 0.0) for pair in zip(stages, models, strict=True)]
    ends = dict.fromkeys(in_dollars(usd) for usd in (each[0], sum(each)))
    return f"about {', at most about '.join(ends)}" if sum(each) else ""


def _some(judge: VisualJudge, inputs: Inputs) -> list[dspy.Example]:
    """A few of the inputs that can be used, as a judge prepares them."""
    found = []
    for _, draft in inputs.drafts(range(0, len(inputs.rows), max(1, len(inputs.rows) // _ENOUGH))):
        with contextlib.suppress(ImageError):
            prepared = {} if draft.problems else judge.prepare(**draft.sources, **draft.context)
            found += [dspy.Example(**prepared).with_inputs(*prepared)] if prepared else []
    return found


def note_cost(judge: VisualJudge, images: int, orders: str, screen: Screen) -> None:
    """Remarks on what the confidence costs, before the first call."""
    stages: Sequence[VisualJudge] = stages_of(judge)
    if all(stage.confidence is None for stage in stages):
        return
    each = [stage.calls_per_image * asked_in(judge.labels, orders) for stage in stages]
    if len(each) == 1:
        method = stages[0].confidence.method if stages[0].confidence is not None else ""
        calls = f"{counted(each[0], 'LM call')} an image for a confidence by {method}"
    else:
        then = ", ".join(f"{count} more where judge {place} escalates" for place, count in enumerate(each[1:], 1))
        calls = f"{counted(each[0], 'LM call')} an image, {then}"
    screen.note(f"{calls}: up to {counted(sum(each) * images, 'LM call')} for {counted(images, 'image')}")
