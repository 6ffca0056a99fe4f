"""Whether a judge says the same when it is asked again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import dspy
import pytest
from engines import Seen, scripted_lm
from typer.testing import CliRunner

from blpo_dspy.cli.app import app
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.sources.photographs import RATERS, write_dataset
from blpo_dspy.embedded.server.http import Options, start_server
from blpo_dspy.models.lm import Models
from blpo_dspy.programs.visual_judge import VisualJudge
from blpo_dspy.runs.checks.repeatability import Repeatability, repeatability
from blpo_dspy.workspace.meter import Meter
from blpo_dspy.workspace.workers import Workers

LABELS = LabelSpace("keep", "reject")


def asked(script: Callable[[Seen], object], *, images: int = 12, times: int = 3) -> Repeatability:
    """What becomes of asking a scripted judge."""
    examples = [
        dspy.Example(image=dspy.Image(f"https://pictures.example/{n}.png"), label="keep" if n < 9 else "reject")
        for n in range(images)
    ]
    lm = scripted_lm(script)
    judge = VisualJudge(LABELS, instruction="Keep or reject.", evidence="image")
    with Workers(4) as workers:
        return repeatability(
            judge,
            Models(lm, lm, lm),
            [e.with_inputs("image") for e in examples],
            times=times,
            workers=workers,
            meters=lambda turn: Meter(num_threads=4),
        )


def test_a_judge_that_always_says_the_same_agrees_with_itself() -> None:
    """Ten images of all labels, each judged again, as no cache answers."""
    seen: Counter[str] = Counter()

    def answer(request: Seen) -> dict[str, str]:
        seen[request.images[0]] += 1
        return {"label": "keep" if "3.png" in request.images[0] else "reject"}

    found = asked(answer)
    assert (found.images, found.times, found.unanimous, found.kappa, found.calls) == (10, 3, 10, 1.0, 30)
    assert set(seen.values()) == {3}
    assert {f"https://pictures.example/{n}.png" for n in (9, 10, 11)} < set(seen)
    assert found.interval is not None
    assert found.interval.low < 0.9
    assert found.summary == (
        "asked 3 times about 10 images, the judge gave the same label each time for 10 of them "
        f"(kappa 1.00, {found.interval.low:.2f} to 1.00); 30 calls"
    )


def test_changed_answers_and_missing_labels_are_counted() -> None:
    """A judge that changes its mind about every image agrees with itself on none."""
    seen: Counter[str] = Counter()

    def answer(request: Seen) -> object:
        image = request.images[0]
        seen[image] += 1
        if image.endswith("/0.png") and seen[image] == 2:
            return {"label": "no idea"}
        return {"label": ("keep", "reject")[seen[image] % 2]}

    found = asked(answer, times=2)
    assert found.unanimous == 0
    assert found.without_label == 1
    assert "1 answers gave no label" in found.summary


@pytest.mark.slow
def test_it_is_an_option_of_compile(tmp_path: Path) -> None:
    """A remark and a block of the record; over HTTP every asking reaches the server, whatever DSPy's cache holds."""
    table = write_dataset(tmp_path, RATERS["colour"], train=30, val=0, test=0).train
    log = tmp_path / "calls.jsonl"
    with start_server(Options(log=log)) as address:
        done = CliRunner().invoke(
            app,
            [
                "compile", str(table), "--scale", "1-5", "--task", "Rate it.", "--out", str(tmp_path / "judge.json"),
                "--repeat", "2", "--rounds", "1", "--inner-steps", "0", "--batch-size", "2", "--judge-model",
                "openai/embedded", "--api-base", address, "--json",
            ],
            catch_exceptions=False,
        )  # fmt: skip
    record = json.loads(done.stdout)
    found = record["repeatability"]
    assert (found["images"], found["times"], found["unanimous"], found["calls"]) == (10, 2, 10, 40)
    assert found["kappa"] == pytest.approx(1)
    assert [record["ledger"]["beforehand"][role]["calls"] for role in ("judge", "verbalizer")] == [20, 20]
    assert f"Note: {found['summary']}" in done.stderr
    first = [json.loads(line)["request"] for line in log.read_text().splitlines() if "request" in line][:40]
    assert sorted(Counter(first).values()) == [2] * 20


def test_scores_within_the_tolerance_are_the_same_answer() -> None:
    """Of images of all parts of the range; the rank correlation stands in for kappa."""
    labels = LabelSpace.scores(0, 100)
    examples = [dspy.Example(image=dspy.Image(f"https://pictures.example/{n}.png"), label=4.5 * n) for n in range(20)]
    turns: Counter[str] = Counter()

    def wavering(seen: Seen) -> object:
        image = seen.images[0]
        turns[image] += 1
        number = int(image.rsplit("/", 1)[1].removesuffix(".png"))
        wide = 30 if number >= 16 else 3
        return {"label": str(4 * number + wide * (turns[image] % 2))}

    lm = scripted_lm(wavering)
    judge = VisualJudge(labels, instruction="Rate from 0 to 100.", evidence="image")
    with Workers(2) as workers:
        found = repeatability(
            judge,
            Models(lm, lm, lm),
            [e.with_inputs("image") for e in examples],
            times=2,
            workers=workers,
            meters=lambda turn: Meter(num_threads=2),
        )
    assert (found.images, found.unanimous, found.kappa) == (10, 8, None)
    assert found.spearman is not None
    assert "8 of them (Spearman " in found.summary
