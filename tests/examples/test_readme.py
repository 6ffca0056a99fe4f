"""Code and commands of the README and the guide work as written, and what they name exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from blpo_dspy.cli.app import app
from blpo_dspy.data.sources.photographs import RATERS, write_dataset

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / name / "README.md" for name in ("", "examples", "examples/paper", "examples/benchmarks")]
README = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)


@pytest.fixture(params=[(40, 10, 20)])
def with_demo(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what `make demo` leaves, in small; it is the current one."""
    train, val, test = request.param
    write_dataset(tmp_path / "demo", RATERS["colour"], train=train, val=val, test=test)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def blocks(language: str) -> list[str]:
    """The code blocks in a language, of the README and then of the guide."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_python_of_the_readme_runs_as_written(
    with_demo: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One block after the other; the first is the quickstart, eight lines long, and leaves a judge."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (with_demo / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    first, *others = blocks("python")
    assert len([line for line in first.splitlines() if line.strip()]) <= 9, "the import and eight lines"
    names: dict[str, Any] = {}
    exec(first, names)
    assert (with_demo / "judge.json").is_file()
    assert "test after" in capsys.readouterr().out
    for block in others:
        exec(block, names)
    label, accuracy = capsys.readouterr().out.split()[:2]
    assert label in "12345"
    assert 0 <= float(accuracy) <= 1
    assert 0 <= names["mean"] <= 1
    assert 0 <= names["rewards"][0] <= 1


def commands() -> list[list[str]]:
    """The `blpo` commands of the README's console blocks, as words."""
    lines = "\n".join(blocks("console")).replace("\\\n", " ").splitlines()
    return [shlex.split(line[2:], comments=True)[1:] for line in lines if line.startswith("$ blpo ")]


@pytest.mark.parametrize("with_demo", [(20, 5, 5)], indirect=True)
def test_the_commands_of_the_readme_work_as_written(with_demo: Path) -> None:
    """Those on the offline engine run; all others state options that exist."""
    offline = 0
    for words in commands():
        command = typer.main.get_command(app).commands[words[0]]  # type: ignore[attr-defined]
        command.make_context(words[0], list(words[1:]))  # raises on an option that is none
        if "embedded" in words:
            done = CliRunner().invoke(app, words, catch_exceptions=False)
            assert (done.exit_code, done.stderr) == (0, ""), words
            offline += 1
    assert offline == 5
    for left in ("runs/first/result.json", "runs/first/report.html", "predictions.parquet"):
        assert (with_demo / left).is_file()


def headings(page: Path) -> set[str]:
    """The headings of a page, as links name them."""
    lines = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in lines}


def test_the_readme_names_files_and_options_that_exist() -> None:
    """Links lead to files and to headings of these pages; options mentioned in the text are some command's."""
    for page in PAGES:
        for target, heading in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", page.read_text(encoding="utf-8")):
            file = (page.parent / target) if target else page
            assert file.exists(), target
            assert not heading or heading in headings(file), (page, target, heading)
    names = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    helped = "".join(CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "300"}).stdout for name in names)
    elsewhere = {
        "--calls",
        "--caps",
        "--describing-noise",
        "--forms",
        "--kills",
        "--help",
        "--label-noise",
        "--methods",
        "--test",
        "--limit-mm-per-prompt",
        "--mmproj",
        "--moments",
        "--port",
        "--raters",
        "--rare-labels",
        "--raw",
        "--smoke",
        "--start",
        "--sweeps",
        "--temperaments",
        "--train",
        "--variants",
        "--yes",
    }
    mentioned = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README)) - elsewhere
    assert mentioned <= set(re.findall(r"--[a-z][a-z-]+", helped))
