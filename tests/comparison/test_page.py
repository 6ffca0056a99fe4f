"""The report of a comparison: what it says, that data stays text, and how a browser shows it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from browser import PAGE_COLOURS, Page, browse, in_chromium, requested, width_needed
from PIL import Image
from typer.testing import CliRunner

from blpo_dspy.agreement.intervals import BETTER, NO_CHANGE
from blpo_dspy.cli.app import app
from blpo_dspy.comparison.compare import Comparison
from blpo_dspy.comparison.page import is_comparison, render_comparison, report_comparison
from blpo_dspy.comparison.rows import ComparisonRow
from blpo_dspy.comparison.view import About
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import BlpoError
from blpo_dspy.files import write_json

pytestmark = pytest.mark.slow

HOSTILE = "<script>alert(1)</script>"
ROLES = ("judge", "verbalizer", "optimizer")
SCALE = LabelSpace.ordinal(1, 5)
ABOUT = {
    "max_calls": 400,
    "train": "a" * 64,
    "val": "b" * 64,
    "test": "c" * 64,
    "student": {
        "judge": f"Rate this. {HOSTILE}",
        "verbalizer": "Describe it.",
        "labels": SCALE.to_dict(),
        "evidence": "both",
        "context": [HOSTILE],
    },
    "models": {role: {"model": f"acme/{HOSTILE}"} for role in ROLES},
}


TRUTH = [1, 2, 3, 4, 5] * 8


def row(method: str, seed: int, f1: float | None, verdict: str = "", **options: Any) -> ComparisonRow:
    """A finished row with what a page shows; the judge is right about the first share `f1` of images, else says 1."""
    interval = None if f1 is None else {"low": f1 - 0.1, "high": f1 + 0.1}
    change = {"change": 0.25, "interval": {"low": 0.1, "high": 0.4}}
    paired = {"p_value": 0.0004, "verdict": verdict, "differences": {"macro_f1": change}} if verdict else None
    given: dict[str, Any] = {
        "val": {"macro_f1": f1, "invalid": 1, "failed": 0},
        "test": {"macro_f1": f1, "invalid": 2, "failed": 0, "intervals": {"macro_f1": interval}},
        "paired": paired,
        "calls": {"judge": 200, "verbalizer": 100 + seed, "optimizer": 5, "cached": 9} if verdict else None,
        "images": 3,
        "tokens": 123456,
        "lm_seconds": 12.4,
        "capped": True,
        "predicted": [t if i < (f1 or 0) * len(TRUTH) else 1 for i, t in enumerate(TRUTH)],
        "instructions": {"judge": f"{method} says {HOSTILE}", "verbalizer": "Report all."},
        "curve": [[0.0, 0.5], [100.0, 0.6], [305.0, 0.75]] if verdict else (),
        **options,
    }
    return ComparisonRow(method, seed, **given)


COMPARISON = Comparison(
    (
        row("none", 0, 0.2),
        row("blpo", 0, 0.5, BETTER),
        row("opro", 0, 0.3, NO_CHANGE),
        ComparisonRow("gepa", 0, error=f"ValueError: {HOSTILE}"),
        row("none", 1, 0.2),
        row("blpo", 1, 0.6, BETTER),
        row("opro", 1, 0.4, BETTER),
        row("gepa", 1, None, NO_CHANGE),
    ),
    ABOUT,
    TRUTH,
)


def of(*rows: ComparisonRow) -> Comparison:
    """A comparison of these rows."""
    return Comparison(rows, ABOUT, TRUTH)


@pytest.fixture
def page() -> Page:
    """The page of a comparison that is full of markup."""
    return Page(render_comparison(COMPARISON, About(HOSTILE, f"blpo compare {HOSTILE}", (("python", "3.11"),))))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison's folder."""
    made = tmp_path_factory.mktemp("comparison")
    write_json(made / "results.json", COMPARISON.to_dict())
    report_comparison(COMPARISON, made, HOSTILE, ["blpo", "compare", "t.csv", "--api-base", "http://u:secret@h/v1"])
    return made


def test_the_headline_counts_what_is_better_in_the_mean_over_seeds(page: Page) -> None:
    """By one test for each method; that none is corrected is said."""
    assert "2 of 3 methods agree with people better than no optimization, in the mean over 2 seeds" in page.text
    assert "Better on the sealed test images: blpo, opro." in page.text
    assert "Worse: gepa." in page.text
    assert "No test is corrected for the number of methods." in page.text


def test_the_table_has_means_and_every_seed(page: Page) -> None:
    """Mean ± sd with one interval, difference and p; then both seeds; calls by role, what was invalid or failed."""
    text = " ".join(page.text.split())
    lead = r"blpo 0\.55 ± 0\.07 0\.55 ± 0\.070\.\d\d to 0\.\d\d \+0\.\d\d\+0\.\d\d to \+0\.\d\d < 0\.001 better "
    assert re.search(lead + "306 ± 1200 / 100 / 5 123,4563 images 12 6 / 0", text)
    assert (
        "seed 1 0.60 0.600.50 to 0.70 +0.25+0.10 to +0.40 < 0.001 better 306200 / 101 / 5 123,4563 images 12 3 / 0"
        in text
    )
    assert "gepa (1 of 2 failed) –" in text


def test_methods_are_compared_with_blpo_too(page: Page) -> None:
    """Which one is better than another is what a reader wants to know; without blpo there is no such table."""
    text = " ".join(page.text.split())
    section = text[text.index("Each method versus blpo") : text.index("What each method returned")]
    assert re.search(r"opro−0\.\d\d−0\.\d\d to −0\.\d\d0\.00\dworse", section)
    assert "blpo +" not in section
    assert "versus blpo" not in Page(render_comparison(of(COMPARISON.rows[0], COMPARISON.rows[2]), About())).text


def test_the_page_says_what_its_figures_are_no_evidence_of() -> None:
    """Where a model is the offline engine; and which searches ended before the cap."""
    models = {**ABOUT["models"], "judge": {"model": "embedded/1?seed=0"}}
    rows = (COMPARISON.rows[0], row("blpo", 0, 0.5, BETTER, capped=False))
    text = Page(render_comparison(Comparison(rows, {**ABOUT, "models": models}, TRUTH), About())).text
    assert "not a multimodal LLM" in text
    assert "no evidence about real models" in text
    assert "305†" in text
    assert "† ended by itself before the cap" in text
    assert "no evidence" not in Page(render_comparison(COMPARISON, About())).text


def test_all_methods_are_in_one_plot_with_intervals(page: Page) -> None:
    """The best mean first, on a desk and on a phone; what is undefined has no dot."""
    dots = page.text[page.text.index("Agreement on the sealed") : page.text.index("Agreement on the validation")]
    assert [dots.index(name) for name in ("blpo", "opro", "none")] == sorted(
        dots.index(name) for name in ("blpo", "opro", "none")
    )
    assert dots.count("blpo, seed 1: 0.60, 95% interval 0.50 to 0.70") == 4  # on the dot and on its interval, twice
    assert page.tags.count("svg") == 4
    assert "gepa" not in dots


def test_one_seed_needs_no_means() -> None:
    """Each method is one row, with its interval and p."""
    text = " ".join(Page(render_comparison(of(*COMPARISON.rows[:3]), About())).text.split())
    assert "1 of 2 methods agree with people better than no optimization Better on" in text
    assert "1 of 2: not distinguishable from no change." in text
    assert re.search(r"blpo 0\.50 0\.500\.\d\d to 0\.\d\d \+0\.\d\d\+0\.\d\d to \+0\.\d\d (< )?0\.\d+ better", text)
    assert "seed 0" not in text[text.index("All methods") :]


def test_markup_in_data_shows_as_text_and_makes_no_tag(page: Page) -> None:
    """Instructions, models, context names, errors and the command line are all hostile here."""
    assert page.text.count(HOSTILE) >= 10
    assert "script" not in page.tags
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert {value[0] for name, value in page.attributes if name in ("src", "href")} == {"#"}


def test_nothing_compared_is_said_so() -> None:
    """No optimization alone, or all methods failed."""
    text = Page(render_comparison(of(COMPARISON.rows[0], COMPARISON.rows[3]), About())).text
    assert "No method was compared with no optimization" in text
    assert f"gepa, seed 0, failed: ValueError: {HOSTILE}" in text
    assert "Agreement on the sealed test images" not in Page(render_comparison(of(COMPARISON.rows[3]), About())).text


def test_the_report_command_makes_it_again(folder: Path, tmp_path: Path) -> None:
    """The same bytes from what the folder holds; an address in the command line is left out."""
    written = (folder / "report.html").read_text()
    out = tmp_path / "again.html"
    done = CliRunner().invoke(app, ["report", str(folder), "--out", str(out), "--json"])
    assert (done.exit_code, json.loads(done.stdout)["report"]) == (0, str(out))
    assert out.read_text() == written
    assert "secret" not in written
    assert "--api-base URL" in written
    assert is_comparison(folder)
    assert not is_comparison(tmp_path)


def test_a_comparison_made_in_python_has_a_report_too(tmp_path: Path) -> None:
    """Without a command line."""
    write_json(tmp_path / "results.json", COMPARISON.to_dict())
    done = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert done.exit_code == 0
    assert "How to reproduce" in (tmp_path / "report.html").read_text()


def test_a_damaged_record_is_refused_in_one_message(folder: Path, tmp_path: Path) -> None:
    """Rows without figures, and report data of something else."""
    broken = of(row("blpo", 0, 0.5, BETTER, test={}))
    with pytest.raises(BlpoError, match=r"results\.json: the record is damaged"):
        render_comparison(broken, About())
    write_json(tmp_path / "results.json", COMPARISON.to_dict())
    (tmp_path / "report.json").write_text("[]")
    assert CliRunner().invoke(app, ["report", str(tmp_path)]).exit_code == 2


@in_chromium
def test_chromium_opens_it_without_a_complaint_or_a_request(folder: Path, tmp_path: Path) -> None:
    """Nothing on the console, nothing from the network; markup shows as text."""
    log = tmp_path / "net.json"
    flags = ("--enable-logging=stderr", f"--log-net-log={log}", "--dump-dom")
    done = browse(folder / "report.html", *flags, away=tmp_path)
    assert "CONSOLE" not in done.stderr
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in done.stdout
    assert not requested(log)


@in_chromium
@pytest.mark.parametrize("width", [390, 1280])
def test_chromium_shows_it_in_both_schemes_on_both_widths(width: int, folder: Path, tmp_path: Path) -> None:
    """The page takes the scheme's background, and never needs to be scrolled sideways."""
    for scheme, colour in PAGE_COLOURS.items():
        prefers = f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}"
        picture = tmp_path / f"{scheme}.png"
        page = folder / "report.html"
        browse(page, prefers, f"--window-size={width},900", f"--screenshot={picture}", away=tmp_path)
        with Image.open(picture) as shown:
            assert shown.convert("RGB").getpixel((2, 2)) == colour
    assert width_needed(folder / "report.html", width, tmp_path) == width
