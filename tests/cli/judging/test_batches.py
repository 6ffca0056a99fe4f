"""`blpo judge --batch-api`, as a user meets it."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from image_files import encoded
from PIL import Image
from processes import ctrl_c
from typer.testing import CliRunner

from blpo_dspy.cli.app import app
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.embedded.server.batches import BatchOptions
from blpo_dspy.embedded.server.http import Options, start_server
from blpo_dspy.programs import VisualJudge

pytestmark = pytest.mark.slow


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """A command over four photographs, but for its server."""
    (tmp_path / "photos").mkdir()
    for grey in range(4):
        (tmp_path / "photos" / f"{grey}.png").write_bytes(encoded(Image.new("RGB", (8, 8), (grey,) * 3)))
    VisualJudge(LabelSpace.ordinal(1, 5), instruction="Rate it.", evidence="image").save(tmp_path / "judge.json")
    where = ["judge", str(tmp_path / "judge.json"), str(tmp_path / "photos"), "--out", str(tmp_path / "p.csv")]
    return [*where, "--model", "openai/embedded", "--no-cache"]


def blpo(*arguments: str) -> Any:
    """Runs a command in this process; an unexpected exception is raised."""
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


@pytest.mark.wheel
def test_the_cost_comes_before_the_batch_and_the_ledger_after_it(command: list[str]) -> None:
    """The price of batches is half of that given; then plain calls have nothing to do."""
    with start_server() as base:
        at = [*command, "--api-base", base, "--price", "openai/embedded=2,4", "--batch-api", "--poll", "0.01"]
        capped = blpo(*at, "--max-calls", "3")
        done = blpo(*at, "--max-usd", "1", "--json")
        plain = json.loads(blpo(*command, "--api-base", base, "--json").stdout)
    assert capped.exit_code == 1
    assert capped.stderr.startswith("Batch of 3 requests to openai/embedded (judge): about $0.00")
    assert capped.stdout.startswith("Stopped at a cap. ")
    record = json.loads(done.stdout)
    assert "Batch of 1 request to openai/embedded (judge): about $0.00" in done.stderr
    assert (record["rows"], record["judged"], record["calls"]["judge"]) == (4, 1, 1)
    spent = record["spent"]["judge"]
    assert spent["usd"] == pytest.approx((spent["prompt_tokens"] * 1 + spent["completion_tokens"] * 2) / 1e6)
    assert (plain["judged"], plain["calls"]["judge"]) == (0, 0)


def test_plain_calls_say_what_they_usually_cost_before_the_first_one(command: list[str]) -> None:
    """For what is left, by the price that is given; without one they say so."""
    with start_server() as base:
        other = [part.replace("p.csv", "other/p.csv") for part in command]
        unknown = blpo(*other, "--api-base", base, "--max-calls", "1").stderr
        at = [*command, "--api-base", base, "--price", "openai/embedded=20,40", "--json"]
        capped = blpo(*at, "--max-calls", "1")
        done = blpo(*at)
    assert "4 images: cost unknown, as openai/embedded has no known price; --price states it" in unknown
    first, left = (re.search(r"about \$(\d\.\d{4})\n", run.stderr) for run in (capped, done))
    assert first is not None
    assert left is not None
    assert left[0] in done.stderr.partition("4 images: 1 known from earlier runs, 3 to judge; ")[2]
    spent = json.loads(done.stdout)["spent"]["judge"]["usd"]
    assert float(left[1]) == pytest.approx(0.75 * float(first[1]), abs=1e-4)
    assert spent < float(first[1]) < 10 * spent, "what an image costs is not documented for this model"


def test_ctrl_c_ends_the_wait_and_names_the_batches(command: list[str]) -> None:
    """The same command takes their answers in; until then plain calls are refused."""
    log = Path(command[1]).with_name("log.txt")

    def interrupt() -> None:
        while not log.exists() or log.read_text().count("/batches/batch_") < 2:  # states asked for
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    with ctrl_c(), start_server(Options(batches=BatchOptions(seconds=4), log=log)) as base:
        threading.Thread(target=interrupt, daemon=True).start()
        interrupted = blpo(*command, "--api-base", base, "--batch-api", "--poll", "0.2")
        refused = blpo(*command, "--api-base", base)
        done = blpo(*command, "--api-base", base, "--batch-api", "--poll", "0.2")
    assert interrupted.exit_code == 130
    last = interrupted.stderr.splitlines()[-1]
    assert last.startswith("Interrupted. ")
    assert last.endswith(" Under way: batch_000002; the same command takes their answers in.")
    assert (refused.exit_code, "are under way (batch_000002); repeat the call with --batch-api" in refused.stderr) == (
        2,
        True,
    )
    assert (done.exit_code, "Batch of" in done.stderr) == (0, False)


def test_options_that_do_not_fit_are_refused(command: list[str]) -> None:
    """Before anything is read; so is a server without the endpoint, by its flag."""
    plain = [part for part in command if part != "--out" and not part.endswith("p.csv")]
    assert "--batch-api needs --out" in blpo(*plain, "--batch-api").stderr
    stray = blpo(*command, "--poll", "2", "--abandon").stderr
    assert "--poll and --abandon: only for --batch-api" in stray
    assert "--max-usd needs --out" in blpo(*plain, "--max-usd", "1").stderr
    sharded = blpo(*command, "--batch-api", "--workers", "2").stderr
    assert "other processes make plain calls; leave out --batch-api" in sharded
    with start_server(Options(batches=None)) as base:
        refused = blpo(*command, "--api-base", base, "--batch-api")
    assert refused.exit_code == 2
    assert f"openai/embedded: there is no batch endpoint at {base} (it answers 404); leave out --batch-api" in (
        refused.stderr
    )
