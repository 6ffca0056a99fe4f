"""What the logger says of a run: one line for each event, with its figures as fields."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from engines import scripted_lm
from image_files import encoded
from judges import answers, judge_with
from photographs import photographs, student
from PIL import Image
from workspaces import shared

from blpo_dspy.embedded.engine import embedded_lm
from blpo_dspy.errors import BlpoWarning
from blpo_dspy.models.lm import Models
from blpo_dspy.optimizers import BLPO
from blpo_dspy.predictions.predict import predict
from blpo_dspy.workspace.outages import Outages


@pytest.mark.slow
def test_a_search_logs_its_rounds_validations_and_end(caplog: pytest.LogCaptureFixture) -> None:
    """One line each, which a JSON formatter can write whole; neither pixels nor instructions are in it."""
    sets, lm = photographs(), embedded_lm(cache=False)
    with caplog.at_level(logging.INFO, "blpo_dspy"):
        compiled = BLPO(prompt_model=lm, task_model=lm, rounds=2, inner_steps=1).compile(
            student(), trainset=sets["trainset"], valset=sets["valset"]
        )
    result = compiled.detailed_results
    records = [record for record in caplog.records if record.name == "blpo_dspy"]
    events = [record.event for record in records]
    assert events.count("round") == len(result.rounds)
    assert events.count("validation") == len({v.instructions for v in result.validations})
    assert events[-1] == "stop"
    assert [record.mistakes for record in records if record.event == "round"] == [
        r.batch.mistakes for r in result.rounds
    ]
    written = json.dumps([{**vars(record), "args": None} for record in records], default=str)
    assert "base64" not in written
    assert max(len(record.getMessage()) for record in records) < 300
    assert not any("\n" in record.getMessage() for record in records)


def test_judging_a_folder_logs_its_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With what was judged and what failed."""
    (tmp_path / "a.png").write_bytes(encoded(Image.new("RGB", (8, 8))))
    (tmp_path / "b.png").write_bytes(b"")
    judge, lm = judge_with(answers(), evidence="image"), scripted_lm(answers())
    with caplog.at_level(logging.INFO, "blpo_dspy"):
        shared(predict, judge, tmp_path, out=tmp_path / "o.csv", models=Models(lm, lm, lm))
    (record,) = [record for record in caplog.records if record.name == "blpo_dspy"]
    assert (record.event, record.rows, record.judged, record.errors, record.calls) == ("judged", 2, 2, 1, 1)


def test_an_outage_logs_its_beginning_and_its_end(caplog: pytest.LogCaptureFixture) -> None:
    """Not each failed call of it."""
    outages = Outages(60.0, known=True)
    with caplog.at_level(logging.INFO, "blpo_dspy"):
        outages.failed("api.example")
        outages.failed("api.example")
        with pytest.warns(BlpoWarning):
            outages.wait("api.example", "503", 0.0, lambda: outages.answered("api.example"))
        outages.answered("api.example")
    assert [record.event for record in caplog.records] == ["retry", "outage", "answered again"]


def test_it_is_silent_until_it_gets_a_handler() -> None:
    """Nothing is printed where logging was not set up."""
    code = "from blpo_dspy.log import log_event, LOGGER\nlog_event('stop', 'x')\nLOGGER.error('y')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("", "")
