"""`blpo status`: what ran in a folder, how it ended, and what it spent."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest
from stores import change
from typer.testing import CliRunner

from blpo_dspy.cli.app import app
from blpo_dspy.errors import BlpoError
from blpo_dspy.workspace.answers import Answer
from blpo_dspy.workspace.job import Job
from blpo_dspy.workspace.ledger import Usage
from blpo_dspy.workspace.status import status_of


def made(folder: Path) -> None:
    """Leaves a search that is done, and a measurement whose process died."""
    with closing(Job.in_folder(folder, "search", {})) as job:
        job.put("a", "judge", Answer(("hi",), usage=Usage(calls=2, retries=1, prompt_tokens=7, usd=0.5)), "openai/x")
        job.put_failed("b", "optimizer", Usage(calls=1, failed=1), "openai/y")
        job.end("done")
        job.another("measurement", name="m").record("round", 0, {})
    change(folder, "UPDATE sessions SET started = 'before'", "UPDATE jobs SET command = 'blpo compile t.csv'")


def test_jobs_are_listed_with_what_they_spent(tmp_path: Path) -> None:
    """By role and model, and how each ended; what was cut short names its command."""
    made(tmp_path)
    search, measurement = status_of(tmp_path)
    assert (search.kind, search.state, measurement.name, measurement.state) == ("search", "done", "m", "killed")
    assert {key: (each.calls, each.failed, each.usd) for key, each in search.spent.items()} == {
        ("judge", "openai/x"): (2, 0, 0.5),
        ("optimizer", "openai/y"): (1, 1, 0.0),
    }
    assert (search.total.calls, measurement.total.calls) == (3, 0)
    with closing(Job.in_folder(tmp_path, "measurement", {}, name="m")):
        assert status_of(tmp_path)[1].state == "running"


def test_the_command_prints_a_table_or_json(tmp_path: Path) -> None:
    """The same figures."""
    made(tmp_path)
    said, data = (CliRunner().invoke(app, ["status", str(tmp_path), *more]) for more in ((), ("--json",)))
    assert said.exit_code == 0, said.output
    for words in ("search", "killed", "openai/y", "Spent   3 calls, 7 tokens, $0.50", "Resume  blpo compile t.csv"):
        assert words in said.stdout
    found = json.loads(data.stdout)
    assert found["spent"] == {"calls": 3, "failed": 1, "tokens": 7, "usd": 0.5}
    assert [(job["kind"], len(job["spent"])) for job in found["jobs"]] == [("search", 2), ("measurement", 0)]


def test_a_folder_without_a_store_is_refused(tmp_path: Path) -> None:
    """And stays empty."""
    with pytest.raises(BlpoError, match=r"workspace\.sqlite: there is no such file; name the folder of a run"):
        status_of(tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_command_line_is_kept_without_passwords(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those in an address."""
    words = ["/usr/bin/blpo", "compile", "my labels.csv", "--api-base", "http://me:secret@host/v1"]
    monkeypatch.setattr("sys.argv", words)
    Job.in_folder(tmp_path, "search", {}).close()
    (job,) = status_of(tmp_path)
    assert job.command == "blpo compile 'my labels.csv' --api-base http://host/v1"
