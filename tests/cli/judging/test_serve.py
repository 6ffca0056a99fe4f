"""`blpo serve`: the command that serves a judge."""

from __future__ import annotations

import signal
import socket
import sys
import time
from pathlib import Path

import httpx
import pytest
from image_files import encoded
from judges import SAFETY, SCALE
from PIL import Image
from processes import interruptible
from typer.testing import CliRunner

from blpo_dspy.cli.app import app
from blpo_dspy.programs import VisualJudge


@pytest.mark.slow
@pytest.mark.wheel
def test_it_serves_until_it_is_stopped(tmp_path: Path) -> None:
    """On loopback without a token; Ctrl-C ends it with exit code 0."""
    VisualJudge(SCALE, instruction="Rate the quality.").save(tmp_path / "judge.json")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(Path(sys.executable).with_name("blpo"))]
    process = interruptible([*command, "serve", "judge.json", "--model", "embedded", "--port", str(port)], cwd=tmp_path)
    try:
        until = time.monotonic() + 60
        while True:
            try:
                assert httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200
                break
            except httpx.TransportError:
                assert time.monotonic() < until
                assert process.poll() is None
                time.sleep(0.1)
        picture = encoded(Image.new("RGB", (64, 64), (90, 120, 150)))
        reply = httpx.post(f"http://127.0.0.1:{port}/judge", files={"image": picture}, timeout=30)
        assert reply.json()["label"] in (1, 2, 3, 4, 5)
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(30) in (0, 130, -signal.SIGINT)


def test_an_address_that_others_reach_needs_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which the environment has, not the command line."""
    monkeypatch.delenv("BLPO_TOKEN", raising=False)
    VisualJudge(SAFETY, instruction="Is it safe?").save(tmp_path / "judge.json")
    done = CliRunner().invoke(app, ["serve", str(tmp_path / "judge.json"), "--host", "0.0.0.0"])
    assert done.exit_code == 2
    assert "set the environment variable BLPO_TOKEN" in done.stderr


def test_a_port_that_is_taken_is_one_error_before_it_is_said_to_serve(tmp_path: Path) -> None:
    """It names another option."""
    VisualJudge(SAFETY, instruction="Is it safe?").save(tmp_path / "judge.json")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        words = ["serve", str(tmp_path / "judge.json"), "--model", "embedded", "--port", port]
        done = CliRunner().invoke(app, words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"127.0.0.1:{port} cannot be listened on" in done.stderr


def test_models_of_further_judges_need_a_cascade(tmp_path: Path) -> None:
    """One for each of its further judges."""
    VisualJudge(SAFETY, instruction="Is it safe?").save(tmp_path / "judge.json")
    words = ["serve", str(tmp_path / "judge.json"), "--model", "embedded", "--escalate-model", "embedded?seed=1"]
    done = CliRunner().invoke(app, words)
    assert (done.exit_code, "there are 0 judges to escalate to" in done.stderr) == (2, True)


def test_a_file_that_is_no_judge_is_refused(tmp_path: Path) -> None:
    """In one message."""
    (tmp_path / "judge.json").write_text("{}")
    done = CliRunner().invoke(app, ["serve", str(tmp_path / "judge.json")])
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
