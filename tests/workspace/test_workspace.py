"""What the jobs of a workflow share."""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import dspy
import pytest
from engines import scripted_lm
from worlds import TRAIN, VALIDATION, examples, student, world

from blpo_dspy import align, measure
from blpo_dspy.errors import BlpoError
from blpo_dspy.models.lm import Models
from blpo_dspy.workspace.answers import Answer
from blpo_dspy.workspace.failures import RunStoppedError
from blpo_dspy.workspace.ledger import Usage
from blpo_dspy.workspace.store import StoreError
from blpo_dspy.workspace.workspace import Step, Workspace, current_workspace

TEST = examples(range(1, 250, 12))


def call(workspace: Workspace, key: str, **usage: Any) -> None:
    """One call in a workspace, from its reservation to its answer."""
    with closing(workspace.job("search", {}, name="calls")) as job:
        job.reserve(key, "judge", "m")
        job.put(key, "judge", Answer(("x",), None, Usage(calls=1, **usage)), "m")


def calls_until_refused(workspace: Workspace, first: int, **usage: Any) -> int:
    """How many calls are made until the workspace refuses one."""
    for number in itertools.count(first):
        try:
            call(workspace, str(number), **usage)
        except RunStoppedError:
            return number - first
    raise AssertionError


@pytest.mark.parametrize(
    ("cap", "usage", "calls"),
    [
        ({"max_calls": 3}, {}, 3),
        ({"max_tokens": 25}, {"prompt_tokens": 10}, 2),
        ({"max_usd": 1.0}, {"usd": 0.5}, 2),
    ],
)
def test_caps_hold_over_all_that_was_ever_done(tmp_path: Path, cap: Any, usage: Any, calls: int) -> None:
    """Also in a later session that states none; a higher one goes on."""
    made = 0
    for caps in (cap, {}, {}):
        with Workspace(tmp_path, **caps) as workspace:
            made += calls_until_refused(workspace, made, **usage)
    assert made == calls
    assert Workspace(tmp_path).spent.total.calls == calls
    with Workspace(tmp_path, **{name: 10 * most for name, most in cap.items()}) as workspace:
        call(workspace, "more", **usage)


def take(folder: Path, asked: int, got: Any) -> None:
    """Makes calls until the workspace refuses."""
    with Workspace(folder) as workspace:
        for number in range(asked):
            try:
                call(workspace, f"{threading.get_native_id()}-{number}")
            except RunStoppedError:
                break
            with got.get_lock():
                got.value += 1


def test_processes_share_a_cap_to_the_call(tmp_path: Path) -> None:
    """Each call is reserved in the transaction that notes it."""
    with Workspace(tmp_path, max_calls=150):
        pass
    context = multiprocessing.get_context("fork")
    got = context.Value("i", 0)
    processes = [context.Process(target=take, args=(tmp_path, 100, got)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert got.value == 150
    assert Workspace(tmp_path).left == {"max_calls": 0}


def test_calls_that_others_may_make_count_until_they_are_released(tmp_path: Path) -> None:
    """As those of a chunk, or of a batch."""
    with Workspace(tmp_path, max_calls=10) as workspace, closing(workspace.job("prediction", {})) as job:
        job.hold("chunk", 8)
        with pytest.raises(RunStoppedError):
            job.hold("other", 3)
        assert workspace.left == {"max_calls": 2}
        job.release("chunk")
        assert workspace.left == {"max_calls": 10}


def test_workspaces_are_contexts_and_are_not_nested(tmp_path: Path) -> None:
    """Threads that were started inside see none of their own; tasks do."""
    assert current_workspace().folder is None

    async def inside() -> Path | None:
        return current_workspace().folder

    with Workspace(tmp_path) as workspace:
        assert current_workspace() is workspace
        assert asyncio.run(inside()) == tmp_path
        with pytest.raises(BlpoError, match="not nested"), Workspace(tmp_path / "other"):
            pass
    assert current_workspace().folder is None


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"max_calls": 5}, "name one, as in Workspace"),
        ({"max_usd": -1}, "max_usd=-1 leaves nothing"),
        ({"num_threads": 0}, "num_threads=0 is too small"),
        ({"max_outage": "5"}, "max_outage='5' is not a number of seconds"),
        ({"models": "openai/gpt-4o"}, "is not a Models object"),
        ({"progress": "yes"}, "progress='yes' is not a function"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], says: str) -> None:
    """When it is made."""
    with pytest.raises(BlpoError, match=says):
        Workspace(**options)


def test_jobs_take_models_threads_and_progress_and_share_answers(tmp_path: Path) -> None:
    """A measurement after the alignment pays for nothing that this has paid for, and the table of jobs says so."""
    lm, steps = world(), list[Step]()
    sets = {"train": TRAIN, "val": VALIDATION, "test": TEST}
    models = Models(lm, lm, lm)
    with Workspace(tmp_path, models=models, num_threads=2, max_calls=900, progress=steps.append) as workspace:
        done = align(student(), **sets, rounds=1, inner_steps=0, label_errors=0)
        asked = len(lm.engine.seen)
        measure(done.judge, TEST)
        assert len(lm.engine.seen) == asked == workspace.spent.total.calls == 900 - workspace.left["max_calls"]
        assert {job.kind: job.state for job in workspace.jobs} == dict.fromkeys(
            ("plan", "search", "measurement", "evaluate"), "done"
        )
        assert "search" in workspace._repr_html_()
    assert (tmp_path / "judge.json").exists()
    assert {type(step.record).__name__ for step in steps} >= {"Round", "Validation"}
    assert f"{asked} calls" in repr(workspace)
    with Workspace(tmp_path, models=models, progress=False):
        again = align(student(), **sets, rounds=1, inner_steps=0, label_errors=0)
    assert (len(lm.engine.seen), again.judge.instruction) == (asked, done.judge.instruction)


def test_a_job_plans_with_what_the_caps_leave_when_it_begins(tmp_path: Path) -> None:
    """So that a search ends in time for its last validation; one resumed later has the same room."""
    lm = world()
    with Workspace(tmp_path, models=Models(lm, lm, lm), max_calls=260, progress=False) as workspace:
        call(workspace, "before")
        done = align(student(), train=TRAIN, val=VALIDATION, test=TEST, label_errors=0)
        assert done.after.test is not None
        assert len(lm.engine.seen) + 1 <= 260
        workspace.job("search", {}, name="x").store.set_caps({"max_calls": workspace.spent.total.calls})
        with pytest.raises(BlpoError, match="max_calls is spent"):
            align(student(), train=TRAIN, val=VALIDATION, run_dir=tmp_path / "second")


def test_the_store_may_be_elsewhere(tmp_path: Path) -> None:
    """And the folder holds what people read."""
    with Workspace(tmp_path / "far", store=tmp_path / "near.sqlite") as workspace:
        call(workspace, "a")
    assert (tmp_path / "near.sqlite").exists()
    assert not (tmp_path / "far" / "workspace.sqlite").exists()


def test_two_searches_in_one_workspace_have_a_name_each(tmp_path: Path) -> None:
    """Their run_dir; another search in the same place is refused."""
    lm = scripted_lm(lambda seen: "[[ ## label ## ]]\n1\n\n[[ ## completed ## ]]")
    with dspy.context(lm=lm), Workspace(tmp_path) as workspace:
        for name in ("a", "b"):
            workspace.job("search", {"of": name}, tmp_path / name).record("round", 0, {})
        with pytest.raises(StoreError, match="another run"):
            workspace.job("search", {"of": "c"}, tmp_path / "a")
        assert [job.name for job in workspace.jobs] == ["a", "b"]
