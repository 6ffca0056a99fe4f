"""The notebook runs from data to report, and shows tables and a bar instead of walls of text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.wheel, pytest.mark.xdist_group("notebook")]  # it is run once

NOTEBOOK = Path(__file__).parents[2] / "examples" / "notebook.ipynb"
LONGEST = 1500  # characters of an output


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """The folder that the notebook ran in, and all of its outputs."""
    folder = tmp_path_factory.mktemp("notebook")
    book = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(book, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    return folder, [output for cell in book.cells for output in cell.get("outputs", [])]


def test_it_leaves_a_judge_and_a_report(outputs: tuple[Path, list[Any]]) -> None:
    """As its last cell says."""
    folder, _ = outputs
    assert (folder / "judge.json").is_file()
    assert "<html" in (folder / "report.html").read_text(encoding="utf-8")


def test_it_shows_tables_and_a_bar(outputs: tuple[Path, list[Any]]) -> None:
    """Of splits, judge, estimate, alignment and measurement; the bar of the search is drawn in place."""
    shown = [output.data["text/html"] for output in outputs[1] if "text/html" in output.get("data", {})]
    assert sum("<table>" in html for html in shown) >= 6
    assert any("<progress" in html or "judging" in html for html in shown)
    assert not any("<script" in html or "http" in html for html in shown)


def test_nothing_it_shows_is_a_wall_of_text(outputs: tuple[Path, list[Any]]) -> None:
    """Neither plain text nor a stream; nothing went wrong."""
    for output in outputs[1]:
        assert output.output_type != "error"
        text = output.get("text", "") or output.get("data", {}).get("text/plain", "")
        assert len(text) < LONGEST, text[:300]
