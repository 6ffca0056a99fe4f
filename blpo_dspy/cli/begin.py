"""The start of compile, estimate and compare: the first judge, the labelled examples and the models."""

from __future__ import annotations

import importlib
import os
import socket
import sys
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dspy

from blpo_dspy.agreement.people import write_disagreements
from blpo_dspy.cli.screen import Screen, noting, working
from blpo_dspy.data.examples import contradictions
from blpo_dspy.data.fields import InputFields
from blpo_dspy.data.sources.tasks import Task
from blpo_dspy.data.splits import check_labels
from blpo_dspy.errors import BlpoError, ModelError, counted
from blpo_dspy.models.lm import Models, is_embedded
from blpo_dspy.programs.cascade import load_judge_file
from blpo_dspy.programs.pairs import check_pair
from blpo_dspy.programs.program_judge import ProgramJudge
from blpo_dspy.programs.visual_judge import VisualJudge
from blpo_dspy.runs.data.drawing import draw_sets
from blpo_dspy.runs.data.sets import Sets, load_sets
from blpo_dspy.runs.jobs import ModelNames
from blpo_dspy.runs.measure import own_data
from blpo_dspy.runs.options.start import Start


def begin(start: Start, seed: int, screen: Screen) -> tuple[VisualJudge, Sets]:
    """Returns the judge to start from and the labelled examples; what a source shows of itself is noted.

    Raises:
        DataError: If examples cannot be used, or are too few.
        BlpoError: If an option doesn't fit the others.
    """
    parent = None if start.judge is None else VisualJudge.load(start.judge)
    if parent is not None:
        start = _as_parent(start, parent)
    if start.data.source is None:
        task = _task_of_table(start)
        with noting(screen):
            sets = load_sets(start, task.labels, seed, parent)
    else:
        with working(screen) as watch:
            task, sets, seen = draw_sets(start, seed, watch)
        for line in seen:
            screen.note(line)
    with noting(screen):
        check_labels([example.label for example in sets.train], task.labels)
    if parent is None:
        return first_judge(task, reasoning=start.reasoning), sets
    for line in own_data(parent, [*sets.val, *sets.test]):
        screen.note(f"{start.judge} was compiled with {line}")
    if parent.confidence is not None:
        screen.note(f"the confidence of {start.judge} is not kept: blpo calibrate finds that of the new judge")
    return parent, sets


def _as_parent(start: Start, parent: VisualJudge) -> Start:
    """The start with the labels, task and inputs of the judge that is compiled further."""
    return replace(
        start,
        data=replace(start.data, images=parent.images, context=parent.context),
        space=parent.labels,
        task=parent.instruction,
        verbalizer_instruction=parent.verbalizer_instruction,
        evidence=parent.evidence,
    )


def load_judge(path: Path, program: str | None) -> VisualJudge:
    """Returns the judge or cascade of a file; with `program`, "module:factory", that of a program of the user's own.

    Raises:
        BlpoError: If the module or the factory cannot be found, or gives no judge.
        ArtifactError: If the file cannot be loaded.
    """
    if program is None:
        return load_judge_file(path)
    module, _, factory = program.partition(":")
    if not module or not factory:
        raise BlpoError(f"--program {program!r} is not MODULE:FACTORY, such as my_judges:build")
    sys.path.insert(0, str(Path.cwd()))
    try:
        make = getattr(importlib.import_module(module), factory)
    except (ImportError, AttributeError) as error:
        raise BlpoError(f"--program {program}: {error}; name a module of this folder and a function in it") from error
    finally:
        sys.path.pop(0)
    judge = make()
    if not isinstance(judge, ProgramJudge):
        raise BlpoError(f"--program {program} gives a {type(judge).__name__}; return ProgramJudge(program, labels)")
    judge.load(path)
    return judge


def first_judge(task: Task, *, reasoning: bool = False) -> VisualJudge:
    """Returns the judge that a task starts from; with `reasoning` it states its evidence before the label."""
    return VisualJudge(
        task.labels,
        instruction=task.instruction,
        verbalizer_instruction=task.verbalizer_instruction,
        images=task.images,
        context=task.context,
        evidence=task.evidence,
        reasoning=reasoning,
    )


def _task_of_table(start: Start) -> Task:
    labels, instruction = start.space, start.task
    assert labels is not None
    assert instruction is not None
    check_pair(labels, InputFields.of(start.data.images, start.data.context or ()))  # before images are read
    return Task(
        labels=labels,
        instruction=instruction,
        verbalizer_instruction=start.verbalizer_instruction,
        images=start.data.images,
        context=start.data.context or (),
        evidence=start.evidence or "both",
    )


def contradicting(examples: Sequence[dspy.Example]) -> Iterator[str]:
    """Yields a remark if there are images with more than one label."""
    disagreeing = contradictions(examples)
    if disagreeing:
        have = "has" if len(disagreeing) == 1 else "have"
        yield f"{counted(len(disagreeing), 'image')} {have} more than one label; for example, {disagreeing[0]}"


def keep_choice(sets: Sets, drawn: Path, disagreements: Path) -> list[Path]:
    """Writes which images a source gave and on which ones people disagree, and returns the files."""
    files = []
    if sets.manifest is not None:
        sets.manifest.save(drawn)
        files.append(drawn)
    if sets.people is not None:
        write_disagreements(disagreements, sets.people)
        files.append(disagreements)
    return files


_SECONDS_TO_CONNECT = 10
_OWN_SERVER = "hosted_vllm/"


def connect(names: ModelNames) -> Models:
    """Returns the models, once it is clear that a server answers at their address.

    Raises:
        BlpoError: If a name or the address is none.
        ModelError: If no server answers at the address.
    """
    roles = names.by_role()
    homeless = [name for name in roles.values() if name.startswith(_OWN_SERVER)]
    if homeless and names.api_base is None and not os.environ.get("HOSTED_VLLM_API_BASE"):
        raise BlpoError(f"{homeless[0]} has no address: give --api-base, such as http://localhost:8000/v1")
    models = Models.named(**roles, **names.connection())
    if names.api_base is not None and not all(map(is_embedded, roles.values())):
        _check_server(names.api_base)
    # The offline engine answers as fast as DSPy's cache, and its calls are to be seen in the count.
    uncached = [role for role, name in roles.items() if is_embedded(name) or names.no_cache]
    own = {role: getattr(models, role).copy(cache=False) for role in uncached}
    return replace(models, **own)


def _check_server(address: str) -> None:
    parts = urlsplit(address)
    host = parts.hostname or ""
    if parts.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(host):
        return  # only the proxy can reach it
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise BlpoError(f"--api-base: {error}; correct the port") from error
    try:
        socket.create_connection((host, port), timeout=_SECONDS_TO_CONNECT).close()
    except OSError as error:
        reason = error.strerror or error
        raise ModelError(f"no server answers at {host}:{port} ({reason}); start it, or correct --api-base") from error


def note_offline(names: ModelNames, screen: Screen, option: str) -> None:
    """Remarks that no model was named."""
    if names.judge_model is None:
        screen.note(
            "no model is named, so `embedded` is used: the offline engine, which sees eight technical flaws of "
            f"photographs and nothing else. Name a multimodal model with --{option}."
        )


def note_prices(prices: Mapping[str, Any], names: ModelNames, screen: Screen) -> None:
    """Remarks on prices of models that are not asked."""
    asked = sorted(set(names.by_role().values()))
    for name in sorted(set(prices).difference(asked)):
        screen.note(f"--price {name} has no effect: the models are {', '.join(asked)}")
