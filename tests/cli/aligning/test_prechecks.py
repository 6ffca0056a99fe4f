"""What is asked before a search counts like the rest."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import dspy
import pytest
from engines import ScriptedServer, completion, scripted_lm
from PIL import Image
from typer.testing import CliRunner

from blpo_dspy.cli.app import app
from blpo_dspy.data.images.prepare import PixelPolicy
from blpo_dspy.data.sources.photographs import RATERS, write_dataset
from blpo_dspy.embedded.server.http import Options, start_server
from blpo_dspy.runs.checks.preflight import image_limits, needed_policy, send_largest
from blpo_dspy.workspace.store import FILE_NAME

pytestmark = pytest.mark.slow

SMALL = ("--rounds", "1", "--inner-steps", "0", "--batch-size", "2")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 30 rated photographs."""
    return write_dataset(tmp_path_factory.mktemp("data"), RATERS["colour"], train=30, val=0, test=0).train


def blpo(command: str, table: Path, *arguments: object) -> Any:
    """Runs a command on the table in this process."""
    words = [command, table, "--scale", "1-5", "--task", "Rate it.", *arguments]
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


def posted(log: Path) -> int:
    """How many completions a server was asked for."""
    return sum("request" in json.loads(line) for line in log.read_text().splitlines())


def test_one_cap_holds_for_what_is_asked_before_the_search_and_for_the_rest(table: Path, tmp_path: Path) -> None:
    """No request reaches the server beyond it, and the figures shown, recorded and estimated are the same."""
    log, out = tmp_path / "calls.jsonl", ["--out", tmp_path / "judge.json", "--result", tmp_path / "result.json"]
    options = ["--repeat", 2, "--max-calls", 130, "--no-cache"]
    with start_server(Options(log=log)) as address:
        options += ["--judge-model", "openai/embedded", "--api-base", address]
        done = blpo("compile", table, *options, *out)
    record = json.loads((tmp_path / "result.json").read_text())
    spent = sum(record["calls"].values()) - record["calls"]["cached"]
    assert 40 < spent == posted(log) <= 130
    by_phase = {phase: sum(u["calls"] for u in roles.values()) for phase, roles in record["ledger"].items()}
    assert by_phase["beforehand"] == 40
    assert sum(by_phase.values()) == spent
    assert "; before the search: 40 of them;" in " ".join(done.stdout.split())
    assert json.loads(blpo("estimate", table, *options, "--json").stdout)["calls_beforehand"] == 40
    told = blpo("estimate", table, *options).stdout
    assert "--preflight and --repeat take 40 before the search." in " ".join(told.split())
    assert "before the search" not in blpo("estimate", table, "--max-calls", 130).stdout


def test_a_cap_that_leaves_nothing_for_the_search_is_refused_before_any_call(table: Path, tmp_path: Path) -> None:
    """With what it would take."""
    log = tmp_path / "calls.jsonl"
    with start_server(Options(log=log)) as address:
        model = ["--judge-model", "openai/embedded", "--api-base", address, "--out", tmp_path / "judge.json"]
        for command in ("compile", "estimate"):
            done = blpo(command, table, "--repeat", 2, "--preflight", "--max-calls", 43, *model)
            assert done.exit_code == 2
            assert "--preflight and --repeat take 43 LM calls, and --max-calls 43 leaves none" in done.stderr
    assert not log.exists()


def test_a_cap_that_failures_eat_up_before_the_search_says_so(table: Path, tmp_path: Path) -> None:
    """A refused call is no answer without a label."""
    turns = iter(range(1000))

    def failing(body: dict[str, Any]) -> tuple[int, dict[str, Any], dict[str, str]]:
        if next(turns) % 2:
            return 500, {"error": {"message": "once more", "type": "server_error"}}, {"Retry-After": "0"}
        return 200, completion("[[ ## label ## ]]\n3\n\n[[ ## completed ## ]]"), {}

    with ScriptedServer(failing) as server:
        options = ["--repeat", 2, "--max-calls", 21, "--evidence", "image", "--threads", 1]
        model = ["--judge-model", "openai/m", "--api-base", server.url, "--out", tmp_path / "judge.json"]
        done = blpo("compile", table, *options, *model)
        assert len(server.bodies) == 21
    assert done.exit_code == 2
    assert "the budget is spent (--max-calls 21) before the search, as calls failed" in done.stderr


def test_a_run_that_goes_on_asks_nothing_twice(table: Path, tmp_path: Path) -> None:
    """What was asked before the search is kept with the run, so that the same cap is left for it."""
    log = tmp_path / "calls.jsonl"
    with start_server(Options(log=log)) as address:
        options = ["--repeat", 2, "--max-calls", 130, "--no-cache", "--run-dir", tmp_path / "run", *SMALL, "--json"]
        options += ["--judge-model", "openai/embedded", "--api-base", address, "--out", tmp_path / "judge.json"]
        first = json.loads(blpo("compile", table, *options).stdout)
        asked = posted(log)
        second = json.loads(blpo("compile", table, *options).stdout)
    assert posted(log) == asked
    assert first["repeatability"] == second["repeatability"]
    assert first["ledger"]["beforehand"] == second["ledger"]["beforehand"]
    assert second["compiled"] == first["compiled"]
    assert "Before the search: judge" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.parametrize("folds", [(), ("--folds", 2)])
def test_a_folder_of_another_run_is_refused_before_anything_is_asked(
    table: Path, tmp_path: Path, folds: tuple[object, ...]
) -> None:
    """Neither are calls paid for, nor is that run's folder written to."""
    log, run = tmp_path / "calls.jsonl", tmp_path / "run"
    with start_server(Options(log=log)) as address:
        options = ["--run-dir", run, *SMALL, *folds, "--out", tmp_path / "judge.json"]
        options += ["--judge-model", "openai/embedded", "--api-base", address]
        assert blpo("compile", table, *options).exit_code == 0
        asked, files = posted(log), files_in(run)
        done = blpo("compile", table, *options, "--repeat", 2, "--preflight", "--seed", 7)
        assert posted(log) == asked
    assert done.exit_code == 2
    assert "belongs to another run" in done.stderr
    assert files_in(run) == files


def files_in(folder: Path) -> dict[Path, bytes]:
    """The files that people read."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != FILE_NAME}


def test_folds_share_what_is_left(table: Path, tmp_path: Path) -> None:
    """The cap holds for what is asked before them, too."""
    options = ["--folds", 2, "--repeat", 2, "--max-calls", 400, "--judge-model", "embedded", *SMALL, "--json"]
    record = json.loads(blpo("compile", table, *options, "--out", tmp_path / "judge.json").stdout)
    assert sum(usage["calls"] for usage in record["ledger"]["beforehand"].values()) == 40
    done = blpo("compile", table, *options[:-1], "--out", tmp_path / "judge.json")
    assert "--max-calls 360 is shared out equally: 120 for each of 2 folds" in " ".join(done.stderr.split())
    assert json.loads(blpo("estimate", table, *options).stdout)["calls_beforehand"] == 40


def colours(body: dict[str, Any], most: int) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Sees colours, and takes images of so many bytes."""
    parts = body["messages"][-1]["content"]
    uri = next(part["image_url"]["url"] for part in parts if part["type"] == "image_url")
    data = base64.b64decode(uri.partition(",")[2])
    if len(data) > most:
        return 400, {"error": {"message": "image too large", "type": "invalid_request_error"}}, {}
    with Image.open(io.BytesIO(data)) as picture:
        red, _, blue = picture.convert("RGB").getpixel((5, 5))
    return 200, completion(f"[[ ## colour ## ]]\n{'red' if red > blue else 'blue'}\n\n[[ ## completed ## ]]"), {}


def test_a_server_that_takes_no_image_of_that_size_is_told_before_the_run(table: Path, tmp_path: Path) -> None:
    """In one message, with what to change, and with the limits as a note; one model of two roles is asked once."""
    with ScriptedServer(lambda body: colours(body, 2000)) as server:
        model = ["--judge-model", "openai/m", "--api-base", server.url, "--out", tmp_path / "judge.json"]
        done = blpo("compile", table, "--preflight", *model)
        assert len(server.bodies) == 3
    assert done.exit_code == 2
    error = " ".join(done.stderr.partition("Error: ")[2].split())
    assert error.startswith("the verbalizer and judge model takes a small image but none of ")
    assert "image too large" in error
    assert "pixel_policy=PixelPolicy(max_side=512)" in error
    assert "an image is sent with at most 1024 pixels a side and 1.5 MB" in done.stderr
    assert "prompt tokens with openai/m" in done.stderr


def test_the_offline_engine_is_asked_nothing(table: Path, tmp_path: Path) -> None:
    """It has no word for colours, and no limit."""
    done = blpo("compile", table, "--preflight", *SMALL, "--out", tmp_path / "judge.json", "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["ledger"]["beforehand"] == {}
    assert "an image is sent" not in done.stderr


def picture(side: int) -> dspy.Example:
    """An example with a plain picture of this width."""
    return dspy.Example(image=PixelPolicy().prepare(Image.new("RGB", (side, 9), "teal")))


def test_the_limits_are_those_of_the_images_at_hand() -> None:
    """No larger image is asked about than the run sends; one by its address may have any size."""
    policy = PixelPolicy()
    needed = needed_policy(policy, [picture(300), picture(90)])
    assert (needed.max_side, needed.max_bytes) == (300, 4096)
    assert needed_policy(policy, [picture(300), dspy.Example(image=dspy.Image("https://x.example/1.png"))]) == policy
    assert image_limits(policy, needed, ["openai/gpt-4o"]) == (
        "an image is sent with at most 1024 pixels a side and 1.5 MB; the largest here has 300 and 0.0041 MB: at most "
        "255 prompt tokens with openai/gpt-4o"
    )


@pytest.mark.parametrize("policy", [PixelPolicy(), PixelPolicy(max_side=300, max_bytes=50_000), PixelPolicy(64)])
def test_the_image_that_is_sent_is_as_large_as_the_policy_allows(policy: PixelPolicy) -> None:
    """Its side to the pixel; its bytes to a tenth, where so many pixels can have as many."""
    lm = scripted_lm(lambda seen: "whatever")
    send_largest(lm, policy)
    ((image,),) = (seen.images for seen in lm.engine.seen)
    data = base64.b64decode(image)
    with Image.open(io.BytesIO(data)) as sent:
        assert sent.size == (policy.max_side, policy.max_side)
    assert 0.9 * min(policy.max_bytes, 3 * policy.max_side**2) <= len(data) <= policy.max_bytes


def test_as_many_images_are_sent_as_a_row_has() -> None:
    """Some servers take one image a request; the note says how many there are, the policy fits the largest of all."""
    rows = [dspy.Example(left=picture(300).image, views=[picture(90).image, picture(400).image])]
    assert needed_policy(PixelPolicy(), rows).max_side == 400
    assert image_limits(PixelPolicy(), PixelPolicy(400), ["openai/m"], 3).endswith("; a request has up to 3 images")
    lm = scripted_lm(lambda seen: "whatever")
    send_largest(lm, PixelPolicy(64), 3)
    assert [len(seen.images) for seen in lm.engine.seen] == [3]
