"""The report of a comparison: its data in the folder, and the page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from blpo_dspy.comparison.compare import Comparison, load_comparison
from blpo_dspy.comparison.view import About, comparison_page
from blpo_dspy.errors import BlpoError
from blpo_dspy.files import RESULTS, write_json
from blpo_dspy.optimizers.bench.cards import versions
from blpo_dspy.report.html import REPORT_DATA, command_line, fill, relative_paths, today, write_page
from blpo_dspy.report.run.page import damage_named

_FORMAT = "blpo-dspy comparison report data"
PAGE = "report.html"


def is_comparison(folder: Path) -> bool:
    """Whether a folder holds what `blpo compare` wrote."""
    return (folder / RESULTS).is_file()


def report_comparison(comparison: Comparison, folder: Path, how: str, command: Sequence[str]) -> Path:
    """Writes the report of a comparison into its folder, with the data to make it again, and returns its path.

    Raises:
        BlpoError: If a file cannot be written.
    """
    source = {"how": relative_paths(how, folder), "command": command_line(command, folder)}
    data = {"format": _FORMAT, **source, "on": today(), "versions": versions()}
    write_json(folder / REPORT_DATA, data)
    return write_comparison_report(folder, folder / PAGE)


def write_comparison_report(folder: Path, file: Path) -> Path:
    """Writes the report of the comparison in a folder to a file and returns its path.

    Raises:
        BlpoError: If the folder holds no comparison, its record is damaged, or the file cannot be written.
    """
    return write_page(file, render_comparison(load_comparison(folder), _about(folder), folder))


def render_comparison(comparison: Comparison, about: About, folder: Path = Path()) -> str:
    """Returns a comparison's report as one HTML page that loads nothing and runs no script.

    Raises:
        BlpoError: If its record is damaged.
    """
    with damage_named(folder / RESULTS):
        return fill("comparison.html", comparison_page(comparison, about))


def _about(folder: Path) -> About:
    """What the folder of a comparison holds besides its rows; one made in Python has nothing."""
    file = folder / REPORT_DATA
    if not file.exists():
        return About()
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        versions_then = tuple((name, str(version)) for name, version in data["versions"].items())
        return About(str(data["how"]), str(data["command"]), versions_then, str(data.get("on", "")))
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise BlpoError(f"{file}: not the report data of a comparison ({error}); run `blpo compare` again") from error
