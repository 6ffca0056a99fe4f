"""Every example runs offline and shows what it says."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from blpo_dspy.data.sources.photographs import RATERS, rated_edits, rated_pairs
from blpo_dspy.embedded.server.http import Options, start_server
from blpo_dspy.models.lm import Models
from blpo_dspy.predictions.labelling import inputs_of, label_images
from blpo_dspy.workspace.ledger import ROLES
from blpo_dspy.workspace.meter import Meter
from blpo_dspy.workspace.workers import Workers

pytestmark = [pytest.mark.slow, pytest.mark.wheel]

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted(path.stem for path in (ROOT / "examples").glob("*.py"))


def run(name: str, tmp_path: Path, *, warns: bool = False) -> str:
    """What an example prints, run as a user runs it; it may warn where that is part of what it shows."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / f"{name}.py")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert warns or done.stderr == ""
    assert not list(tmp_path.iterdir()), "an example leaves files behind"
    return done.stdout


def figures(shown: str, pattern: str) -> list[float]:
    """The numbers that a pattern finds, in order."""
    return [float(number) for number in re.findall(pattern, shown)]


def test_every_example_is_tested() -> None:
    """A new file needs a test below."""
    assert EXAMPLES == [
        "act_on_it", "align_from_csv", "compare_optimizers", "compose_pipeline", "custom_program", "endpoints",
        "judge_as_metric", "label_loop", "pairwise", "ray_judge", "reference", "reproduce_paper",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["align_from_csv", "custom_program"])
def test_compiling_in_an_example_raises_agreement_on_its_test_images(name, tmp_path: Path) -> None:
    """By far more than noise on so few images."""
    shown = run(name, tmp_path)
    before, after = figures(shown, r"macro-F1 (\d\.\d\d)")
    assert after > before + 0.15


def test_a_cascade_agrees_more_than_its_cheap_judge_and_costs_less_than_its_strong_one(
    tmp_path: Path,
) -> None:
    """Every photograph of a folder gets a label or is for people, and the shares are near the true ones."""
    shown = run("act_on_it", tmp_path)
    assert "With probability 0.9, at least 90% of its labels agree" in shown
    table = re.findall(r"^(judge \d alone|calibrated) +(\d+\.\d)% +(\d+\.\d)% +\d+\.\d +\$(\S+)", shown, re.MULTILINE)
    cheap, strong, together = ((float(agreement), float(usd)) for _, _, agreement, usd in table)
    assert together[0] > cheap[0] + 3
    assert cheap[1] < together[1] < 0.8 * strong[1]
    assert re.search(r"^Photographs  150: .* escalated to people$", shown, re.MULTILINE)
    row = r"^(\d|mean) +[\d.]+%?, ([\d.]+)%? to ([\d.]+)%?; judge alone ([\d.]+)%?; true ([\d.]+)%?$"
    found = [tuple(map(float, each[1:])) for each in re.findall(row, shown, re.MULTILINE)]
    assert len(found) == 6
    assert sum(low <= true <= high for low, high, _, true in found) >= 5
    assert not all(low <= alone <= high for low, high, alone, _ in found)


def test_a_judge_works_inside_a_pipeline_and_survives_its_save_and_load(tmp_path: Path) -> None:
    """Only kept photographs have a caption."""
    shown = run("compose_pipeline", tmp_path)
    assert "predictors: judge.verbalizer, judge.judge, caption" in shown
    for label, caption in re.findall(r"judge (\w+), caption (.*)", shown):
        assert (caption == "None") == (label == "reject")
    assert figures(shown, r"right: (\d+) of 20")[0] >= 14
    assert "same labels: True" in shown


def test_another_optimizer_raises_the_score_that_a_judge_gives(tmp_path: Path) -> None:
    """GEPA changes the program's instruction by what the judge said."""
    shown = run("judge_as_metric", tmp_path)
    before, after = figures(shown, r"(?:before|after) (\d+\.\d)")
    assert after >= before
    assert "instruction: Rate this photograph from 1 to 5. " in shown


def test_a_comparison_prints_a_row_for_each_method(tmp_path: Path) -> None:
    """And the start's beside them."""
    shown = run("compare_optimizers", tmp_path, warns=True)
    methods = re.findall(r"^\| (\w+) \|", shown, re.MULTILINE)[1:]
    assert methods[:2] == ["none", "blpo"]
    assert len(methods) > 2


def test_every_recipe_is_shown_and_those_for_ones_own_server_answer(tmp_path: Path) -> None:
    """Over HTTP on this machine."""
    shown = run("endpoints", tmp_path)
    for where in ("vLLM", "Ollama", "llama.cpp", "LM Studio", "OpenRouter", "Azure", "Bedrock", "Gemini"):
        assert re.search(rf"^{re.escape(where)}: ", shown, re.MULTILINE)
    assert re.findall(r"→ (\d)$", shown, re.MULTILINE) == ["4"] * 4


def test_a_folder_without_labels_becomes_a_judge_in_four_sittings(tmp_path: Path) -> None:
    """Both arms begin alike and end far above the start; which of them is ahead is a matter of many runs."""
    shown = run("label_loop", tmp_path)
    (start,) = figures(shown, r"without labels: (\d\.\d+)")
    rows = [figures(line, r"(\d+(?:\.\d+)?) \|") for line in shown.splitlines()[4:]]
    assert [row[0] for row in rows] == [40, 60, 80, 100]
    assert rows[0][1] == rows[0][2]
    assert min(rows[-1][1:3]) > start + 0.15


def test_a_judge_of_pairs_is_compiled_and_ranks_models(tmp_path: Path) -> None:
    """Closer to people than the start, and the model whose images have the worst flaw comes last."""
    shown = run("pairwise", tmp_path)
    before, after = figures(shown, r"accuracy (\d\.\d\d)")
    assert after > before + 0.15
    assert len(figures(shown, r"another label in the other order (\d+)%")) == 2
    assert "shown in the other order: 30 of 60" in shown
    ranked = re.findall(r"^(plain|vivid|tinted) +([+-]\d\.\d\d)", shown, re.MULTILINE)
    assert len(ranked) == 3
    assert ranked[-1][0] == "tinted"


def test_chunks_are_judged_on_ray_or_one_by_one(tmp_path: Path) -> None:
    """Which of them is said; every row is in the table."""
    shown = run("ray_judge", tmp_path)
    assert re.match(
        r"4 chunks, judged (by Ray|in this process, as Ray is not installed)\n40 of 40 rows in predictions", shown
    )
    assert shown.endswith(", 0 errors\n")


def test_an_edit_is_judged_beside_its_original(tmp_path: Path) -> None:
    """Which the same instruction without the original cannot do as well."""
    shown = run("reference", tmp_path)
    before, after, alone = figures(shown, r": accuracy (\d\.\d\d),")
    assert after > before + 0.15
    assert after > alone + 0.05
    told = r"^margin, what the original is worth on the same 200 photographs: accuracy .* \(\+(\d\.\d+), 95% interval"
    assert "): better;" in shown
    (margin,) = re.findall(told, shown, re.MULTILINE)
    assert float(margin) == pytest.approx(after - alone, abs=0.01), "the difference of the two lines above is named"


@pytest.mark.parametrize(("name", "calls"), [("pairwise", 4), ("reference", 2)])
def test_two_images_go_over_http_as_images(name: str, calls: int, tmp_path: Path) -> None:
    """The server's log counts them in each request, and no text holds their pixels."""
    example = runpy.run_path(str(ROOT / "examples" / f"{name}.py"))
    judge = example["start_judge"]()
    made = (rated_pairs if name == "pairwise" else rated_edits)(RATERS["colour"], train=2, val=0, test=0)
    log = tmp_path / "log.jsonl"
    with start_server(Options(log=log)) as address, Workers(2) as workers:
        models = Models.named("openai/embedded", api_base=address)
        uncached = Models(*(getattr(models, role).copy(cache=False) for role in ROLES))
        inputs = inputs_of(example["labelled"](made.train))
        verdicts = label_images(judge, uncached, inputs, workers=workers, meter=Meter(num_threads=2))
    assert all(not verdict.failure and not verdict.invalid for verdict in verdicts)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(lines) == calls * len(made.train)
    assert {line["images"] for line in lines} == {2}
    assert max(line["longest_word"] for line in lines) < 100


def test_the_papers_protocol_states_its_cost_and_spends_nothing(tmp_path: Path) -> None:
    """Until it is told to go on."""
    shown = run("reproduce_paper", tmp_path)
    assert re.findall(r"^\| (\w+) \| main \|", shown, re.MULTILINE) == ["unsafebench", "seetrue", "imagereward", "agin"]
    assert "Nothing was fetched and no model was asked." in shown
