"""`blpo compare`, as a user meets it."""

from __future__ import annotations

import io
import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from processes import Command
from rich.console import Console
from stores import answers
from typer.testing import CliRunner

from blpo_dspy.cli.app import app
from blpo_dspy.cli.flags import seed_list
from blpo_dspy.comparison.methods import METHODS, Method
from blpo_dspy.comparison.progress import ComparisonProgress
from blpo_dspy.comparison.rows import ComparisonRow
from blpo_dspy.data.sources.photographs import RATERS, write_dataset
from blpo_dspy.embedded.server.http import Options, start_server
from blpo_dspy.errors import BlpoError
from blpo_dspy.optimizers import BLPO
from blpo_dspy.optimizers.bench.records import BLPOResult
from blpo_dspy.optimizers.bench.run import Run
from blpo_dspy.workspace.watch import Watch

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 40 rated photographs."""
    return write_dataset(tmp_path_factory.mktemp("data"), RATERS["colour"], train=40, val=0, test=0).train


def compare(table: Path, out: Path, *arguments: object) -> Any:
    """Runs the command in this process."""
    words = ["compare", table, "--task", "Rate this photograph.", "--scale", "1-5", "--out", out, *arguments]
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


def test_it_prints_the_table_and_writes_all_files(table: Path, tmp_path: Path) -> None:
    """One line per method; a second call finds everything done and prints the same."""
    options = ("--max-calls", 40, "--optimizers", "copro", "--judge-model", "embedded")
    first = compare(table, tmp_path / "new", *options)
    assert (first.exit_code, first.stderr) == (0, "")
    assert {path.name for path in (tmp_path / "new").iterdir()} == {
        "workspace.sqlite",
        "results.json",
        "table.md",
        "plot.png",
        "report.json",
        "report.html",
    }
    lines = [line.split()[0] for line in first.stdout.splitlines() if line.strip()]
    assert lines.index("none") == lines.index("copro") - 1
    assert "offline engine, not a multimodal LLM" in first.stdout
    paid = answers(tmp_path / "new")
    assert compare(table, tmp_path / "new", *options).stdout == first.stdout
    assert answers(tmp_path / "new") == paid


def test_json_is_the_results_and_nothing_else(table: Path, tmp_path: Path) -> None:
    """For scripts; the offline engine is remarked on where no model is named."""
    done = compare(table, tmp_path, "--max-calls", 40, "--optimizers", "none", "--seeds", "0,1", "--json")
    assert json.loads(done.stdout) == json.loads((tmp_path / "results.json").read_text())
    assert [row["seed"] for row in json.loads(done.stdout)["rows"]] == [0, 1]
    assert "no model is named" in done.stderr


def test_how_many_images_a_method_sends_at_once_is_told_of_real_models(table: Path, tmp_path: Path) -> None:
    """Before any call; the offline engine takes any number."""
    with start_server() as address:
        options = ("--max-calls", 40, "--optimizers", "gepa", "--sizes", "6,4,4", "--api-base", address)
        done = compare(table, tmp_path, *options, "--judge-model", "openai/embedded")
    assert done.exit_code == 0
    assert "most images in one request, which the models have to take: gepa 3" in done.stderr


def test_dollars_and_prices_are_those_of_compile(table: Path, tmp_path: Path) -> None:
    """A model without a price is refused before any call; with one its dollars end a search."""
    with start_server() as address:
        options = ("--max-calls", 400, "--max-usd", 0.01, "--optimizers", "fixed", "--sizes", "20,6,6")
        options += ("--api-base", address, "--judge-model", "openai/embedded", "--json")
        refused = compare(table, tmp_path / "none", *options)
        done = compare(table, tmp_path / "given", *options, "--price", "openai/embedded=1,1")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "--max-usd 0.01 can't be kept, as the price of openai/embedded is not known" in refused.stderr
    row = json.loads(done.stdout)["rows"][1]
    assert "max_usd" in json.loads(done.stdout)["about"]
    assert row["capped"]
    assert row["tokens"] < 11_000


def test_preflight_comes_before_anything_is_paid_for(table: Path, tmp_path: Path) -> None:
    """A model that sees no colours is refused, as in compile; the offline engine by its name is not asked."""
    with start_server() as address:
        options = ("--max-calls", 60, "--optimizers", "none", "--preflight")
        served = ("--api-base", address, "--judge-model", "openai/embedded")
        refused = compare(table, tmp_path / "served", *options, *served)
    assert refused.exit_code == 2
    assert "doesn't seem to see images" in refused.stderr
    assert not (tmp_path / "served" / "results.json").exists()
    assert compare(table, tmp_path / "embedded", *options, "--judge-model", "embedded").exit_code == 0


def test_the_live_line_counts_the_calls_of_the_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the run under way, and how many runs are done."""
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with Watch(console) as watch:
        shown: list[str] = []
        monkeypatch.setattr(watch, "show", lambda what, done, status: shown.append(f"{what}: {status}"))
        progress = ComparisonProgress(watch, runs=3, cap=1200)
        progress.start("blpo", 0)
        progress.calls(1100)
        progress.row(ComparisonRow("blpo", 0, error="no"))
    assert shown[1:] == ["blpo, seed 0: 0/3 runs, 1,100 of 1,200 calls", "blpo, seed 0: 1/3 runs, 1,100 of 1,200 calls"]


def test_judges_that_reason_are_another_comparison(table: Path, tmp_path: Path) -> None:
    """The answers of the one are none of the other's."""
    options = ("--max-calls", 40, "--optimizers", "none", "--judge-model", "embedded")
    done = compare(table, tmp_path, *options, "--reasoning", "--json")
    assert json.loads(done.stdout)["about"]["student"]["reasoning"] is True
    again = compare(table, tmp_path, *options)
    assert again.exit_code == 2
    assert "reasoning" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--max-calls", 5),
            "14 of the chosen optimizers cannot run, and nothing was spent; put that right:\n  - blpo: ",
        ),
        (
            ("--max-calls", 30, "--optimizers", "gepa,textgrad,opro"),
            "nothing was spent; leave them out (--optimizers 'textgrad'), or put that right:\n"
            "  - gepa: a first candidate takes 53 LM calls at least: give --max-calls 53 or, better, more\n"
            "  - opro: a first candidate takes 53 LM calls",
        ),
        (
            ("--max-calls", 50, "--optimizers", "bplo,gpea"),
            r"unknown optimizers ['bplo', 'gpea']; choose from none, blpo",
        ),
        (("--max-calls", 50, "--optimizers", ""), "no optimizer is named; choose from none, blpo"),
        (("--max-calls", 50, "--seeds", "0;1"), "--seeds '0;1' is not a list of seeds"),
        (("--max-calls", 50, "--task", " "), "--task is empty"),
        (("--max-calls", 50, "--labels", "a,b"), "--labels and --scale exclude each other"),
    ],
)
def test_what_cannot_be_is_said_in_one_message(
    table: Path, tmp_path: Path, arguments: tuple[object, ...], message: str
) -> None:
    """With exit code 2, before anything is paid for."""
    done = compare(table, tmp_path / "out", *arguments, "--judge-model", "embedded")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: ")
    assert message in done.stderr


class Fails(BLPO):
    """A method that fails in its search."""

    def _search(self, run: Run) -> BLPOResult:
        raise KeyError("no such prompt")


def test_what_a_method_needs_is_checked_before_the_preflight_spends_anything(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the answers of the model would be."""
    monkeypatch.setitem(sys.modules, "gepa", None)
    log = tmp_path / "log.jsonl"
    with start_server(Options(log=log)) as address:
        options = ("--max-calls", 200, "--optimizers", "gepa,blpo", "--preflight", "--api-base", address)
        done = compare(table, tmp_path / "out", *options, "--judge-model", "openai/embedded")
    assert done.exit_code == 2
    assert "leave them out (--optimizers 'blpo')" in done.stderr
    assert "  - gepa: GEPA needs gepa, which is not installed: pip install gepa" in done.stderr
    assert not log.exists() or not log.read_text()


def test_a_comparison_of_which_every_search_failed_is_an_error(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the first reason; what was measured is written all the same."""
    monkeypatch.setitem(METHODS, "fails", Method("fails", Fails))  # type: ignore[misc]
    options = ("--max-calls", 70, "--optimizers", "fails", "--judge-model", "embedded")
    done = compare(table, tmp_path / "out", *options)
    assert done.exit_code == 2
    assert "every search failed, so nothing is compared" in done.stderr
    assert "KeyError: 'no such prompt'" in done.stderr
    assert (tmp_path / "out" / "report.html").is_file()


def test_seeds_are_whole_numbers_once_each() -> None:
    """In the order given."""
    assert seed_list("2, 0,2") == (2, 0)
    for text in ("", "1,", "-1", "1.5", "²"):
        with pytest.raises(BlpoError, match="write whole numbers"):
            seed_list(text)


def test_an_interrupted_comparison_says_how_to_go_on(table: Path, tmp_path: Path) -> None:
    """Ctrl-C ends it with one line, exit code 130, and what was finished in the folder."""
    folder = tmp_path / "out"
    words = ["compare", table, "--task", "Rate it.", "--scale", "1-5", "--max-calls", 4000, "--out", folder]
    process = Command(*words, "--judge-model", "embedded", "--optimizers", "fixed", cwd=tmp_path)
    process.until((folder / "results.json").exists)
    process.send_signal(signal.SIGINT)
    assert (process.wait(), process.stdout) == (130, "")
    assert process.stderr.splitlines() == [f"Interrupted: the same call or command resumes from {folder}."]
