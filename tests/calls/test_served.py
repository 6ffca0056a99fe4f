"""Which version of a model a server reports to have answered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from image_files import encoded
from judges import SAFETY
from PIL import Image
from raw_servers import Raw, raw_server

from blpo_dspy.calls.served import note_served, noting_served, served_in
from blpo_dspy.data.tables import read_table
from blpo_dspy.models.lm import Models
from blpo_dspy.predictions.predict import predict
from blpo_dspy.programs import VisualJudge


@pytest.mark.parametrize(
    ("reported", "system", "served"),
    [
        ("gpt-4o", None, None),
        ("openai/gpt-4o", None, None),
        ("", None, None),
        (None, None, None),
        ("gpt-4o-2024-08-06", None, "gpt-4o-2024-08-06"),
        ("gpt-4o", "fp_9", "gpt-4o (fp_9)"),
        ("x\x1b[2J", None, "x\\x1b[2J"),
    ],
)
def test_a_version_is_what_differs_from_the_name_asked_for(reported: Any, system: Any, served: str | None) -> None:
    """Without what could reach a terminal as a command."""
    response = type("Response", (), {"provider_data": {"system_fingerprint": system}})()
    assert served_in({"response_model": reported, "response": response}, "openai/gpt-4o") == served


def test_it_is_noted_where_someone_wants_to_know() -> None:
    """Each once, in order; outside of the block nothing is."""
    note_served("lost")
    with noting_served() as names:
        for name in ("b", "a", None, "b"):
            note_served(name)
    note_served("lost")
    assert list(names) == ["b", "a"]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_verdicts_say_which_version_of_the_model_they_are_by(suffix: str, tmp_path: Path) -> None:
    """Of a real answer over HTTP; a run that resumes keeps it, and one that is answered as asked has no such column."""
    versions = ["engine-1"]

    def script(handler: Raw) -> None:
        message = {"role": "assistant", "content": "[[ ## label ## ]]\nSafe\n\n[[ ## completed ## ]]"}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        answer = {"id": "1", "object": "chat.completion", "created": 1, "choices": choices, "usage": usage}
        handler.send(200, json.dumps({**answer, "model": versions[-1]}).encode())

    photos, out = tmp_path / "photos", tmp_path / f"said{suffix}"
    photos.mkdir()
    judge = VisualJudge(SAFETY, instruction="Is it safe?", evidence="image")
    with raw_server(script) as address:
        models = Models.named("openai/engine", api_base=address, api_key="none", cache=False)
        for number in range(2):
            (photos / f"{number}.png").write_bytes(encoded(Image.new("RGB", (8, 8), (99 * number,) * 3)))
            predict(judge, photos, out=out, models=models, num_threads=1)
            versions.append("engine-2")
        rows = read_table(out, ["label", "served_by"]).rows
        assert [row.values["served_by"] for row in rows] == ["engine-1", "engine-2"]
        versions.append("engine")
        predict(judge, photos, out=tmp_path / f"again{suffix}", models=models, num_threads=1)
    assert "served_by" not in read_table(tmp_path / f"again{suffix}", ["label"]).columns
