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
from workspaces import shared

from blpo_dspy.data.tables import read_table
from blpo_dspy.embedded.server.http import start_server
from blpo_dspy.errors import ModelError
from blpo_dspy.models.lm import Models
from blpo_dspy.predictions.predict import predict
from blpo_dspy.programs import VisualJudge
from blpo_dspy.workspace.metered_lm import served_in


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


class World:
    """A server, which says that another version answers than was asked for, and a folder of photographs."""

    def __init__(self, folder: Path) -> None:
        self.version, self.photos = "engine-1", folder / "photos"
        self.judge = VisualJudge(SAFETY, instruction="Is it safe?", evidence="image")
        self.photos.mkdir()

    def add(self, number: int) -> None:
        """One more photograph."""
        (self.photos / f"{number}.png").write_bytes(encoded(Image.new("RGB", (8, 8), (99 * number,) * 3)))

    def script(self, handler: Raw) -> None:
        """Answers by the version of now."""
        message = {"role": "assistant", "content": "[[ ## label ## ]]\nSafe\n\n[[ ## completed ## ]]"}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        answer = {"id": "1", "object": "chat.completion", "created": 1, "choices": choices, "usage": usage}
        handler.send(200, json.dumps({**answer, "model": self.version}).encode())

    def served(self, address: str, out: Path, **options: Any) -> list[Any]:
        """Judges the photographs and returns who answered, None without such a column."""
        models = Models.named("openai/engine", api_base=address, cache=False)
        shared(predict, self.judge, self.photos, out=out, models=models, **options)
        return [row.values.get("served_by") for row in read_table(out, ["label", "served_by"]).rows]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_verdicts_say_which_version_of_the_model_they_are_by(suffix: str, tmp_path: Path) -> None:
    """Of a real answer over HTTP; a run that resumes keeps it, and one that is answered as asked has no such column."""
    world, out = World(tmp_path), tmp_path / f"said{suffix}"
    with raw_server(world.script) as address:
        world.add(0)
        assert world.served(address, out, num_threads=1) == ["engine-1"]
        world.version = "engine-2"
        world.add(1)
        assert world.served(address, out, num_threads=1) == ["engine-1", "engine-2"]
        world.version = "engine"
        assert world.served(address, tmp_path / "other" / f"again{suffix}", num_threads=1) == [None, None]
    assert "served_by" not in read_table(tmp_path / "other" / f"again{suffix}", ["label"]).columns


@pytest.mark.slow
def test_verdicts_of_other_processes_say_so_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is returned."""
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    world = World(tmp_path)
    world.add(0)
    with raw_server(world.script) as address:
        assert world.served(address, tmp_path / "said.csv", workers=1) == ["engine-1"]


def test_an_address_without_its_path_ends_the_run_at_its_first_calls(tmp_path: Path) -> None:
    """A 404 is not about an image: no other one would be judged, and the error says what to correct."""
    world = World(tmp_path)
    for number in range(3):
        world.add(number)
    with start_server() as base:
        models = Models.named("openai/x", api_base=base.removesuffix("/v1"))
        with pytest.raises(ModelError, match=r"no such model or path: check .* address, which mostly ends in /v1"):
            shared(predict, world.judge, world.photos, out=tmp_path / "o.csv", models=models, num_threads=2)
