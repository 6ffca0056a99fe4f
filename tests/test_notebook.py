"""What objects show in a notebook and in an interactive session."""

from __future__ import annotations

import inspect
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

import pytest
from judges import SAFETY
from photographs import FIVE, photographs, student
from workspaces import shared

import blpo_dspy
from blpo_dspy import align, calibrate, draw_to_label, estimate_population, measure, measure_drift, predict
from blpo_dspy.agreement.bradley_terry import Comparison as Compared
from blpo_dspy.agreement.bradley_terry import bradley_terry
from blpo_dspy.agreement.measure import measure_agreement
from blpo_dspy.comparison.compare import Comparison
from blpo_dspy.comparison.rows import ComparisonRow
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.splits import split_examples
from blpo_dspy.embedded.engine import embedded_lm
from blpo_dspy.models.lm import Models
from blpo_dspy.notebook import LONGEST, html_table, one_line, share
from blpo_dspy.optimizers import BLPO, JudgeOptimizer
from blpo_dspy.optimizers.estimate import estimate
from blpo_dspy.programs import VisualJudge

EVIL = "<script>alert(1)</script> & ‘x’"
ROOT = Path(__file__).resolve().parent.parent
IMPORTS = r"from (blpo_dspy(?!\.integrations)[\w.]*) import ([\w, ]+)"  # of integrations, many are not installed
PAGES = ("README.md", "examples/README.md", "examples/notebook.ipynb")
NO_RESULTS = {
    **dict.fromkeys(("Budget", "Columns", "Confidence", "Guards", "LabelSpace", "Models"), "an option of a job"),
    **dict.fromkeys(("PixelPolicy", "Rater", "Traits"), "an option of a job"),
    **dict.fromkeys(("LM", "BothOrders", "Cascade", "VisualJudge"), "what a job is done with"),
    **dict.fromkeys(("DatasetPaths", "RatedEdit", "RatedPair", "RatedPhotograph", "open_source"), "data for a job"),
    **dict.fromkeys(("Batch", "Instructions", "Judgement", "Rejection", "Round", "Trial"), "a part of a BLPOResult"),
    "Validation": "a part of a BLPOResult",
    **dict.fromkeys(("Flips", "Interval", "Ledger"), "a figure of a result, which shows it"),
    **dict.fromkeys(("Chunk", "ChunkPlan", "ChunkReport"), "what the processes of a job send each other"),
    "LabelPage": "a page that is served, shown in tests/labelling/test_notebook_page.py",
    "RunFolder": "the files of a run, which Alignment shows",
}
"""Names that are exported, or returned by what is, and are no result that people look at, each with the reason."""


class Cells(HTMLParser):
    """The cells of a table."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.cells: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes a tag."""
        self.tags.add(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        """Adds to the last cell."""
        if self.cells:
            self.cells[-1] += data


def test_every_cell_of_a_table_is_escaped() -> None:
    """Text of data and models is no markup."""
    table = Cells(html_table([["a", EVIL], [EVIL, 1.5]]))
    assert table.tags == {"table", "tr", "th", "td"}
    assert table.cells == ["a", EVIL, EVIL, "1.5"]
    assert (share(None), share(0.125)) == ("–", "0.12")


def exported() -> Iterator[Any]:
    """What the package and its sub-packages export, and what the guide imports from elsewhere."""
    packages = [info.name for info in pkgutil.walk_packages(blpo_dspy.__path__, "blpo_dspy.") if info.ispkg]
    for module in map(import_module, ["blpo_dspy", *packages]):
        yield from (getattr(module, name) for name in getattr(module, "__all__", ()))
    for page in PAGES:
        for name, names in re.findall(IMPORTS, (ROOT / page).read_text()):
            yield from (getattr(import_module(name), each.strip()) for each in names.split(","))


def returned(function: Callable[..., Any]) -> set[type]:
    """Our own types that a function returns itself, not in a list."""
    if function.__name__ in NO_RESULTS or "return" not in function.__annotations__:
        return set()
    hint = eval(function.__annotations__["return"], vars(sys.modules[function.__module__]))
    found = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    types = {get_origin(each) or each for each in found}
    return {each for each in types if getattr(each, "__module__", "").startswith("blpo_dspy.")}


def result_types() -> dict[str, type]:
    """The types of results by name: public dataclasses, and what public functions and results return."""
    left, found = set[type](), dict[str, type]()
    for each in exported():
        left |= returned(each) if inspect.isfunction(each) else {each} if is_dataclass(each) else set()  # type: ignore[arg-type]
    while left:
        kind = left.pop()
        if kind.__name__ in NO_RESULTS or kind.__name__ in found or issubclass(kind, JudgeOptimizer):
            continue
        found[kind.__name__] = kind
        for member in vars(kind).values():
            of = member.fget if isinstance(member, property) else getattr(member, "func", None)
            left |= set() if of is None else returned(of)
    return found


def collection() -> list[dict[str, Any]]:
    """Verdicts on pictures that nothing opens."""
    return [{"image": f"{i}.png", "label": "Unsafe" if i % 3 else "Safe"} for i in range(40)]


def shown(folder: Path) -> dict[str, object]:
    """Objects that people look at."""
    sets, lm = photographs(), embedded_lm()
    models = Models(lm, lm, lm)
    optimizer = BLPO(prompt_model=lm, task_model=lm, rounds=1, inner_steps=1)
    compiled = optimizer.compile(student(), trainset=sets["trainset"], valset=sets["valset"])
    done = shared(
        align,
        student(),
        **{name.removesuffix("set"): examples for name, examples in sets.items()},
        models=models,
        rounds=1,
        inner_steps=1,
        progress=False,
        run_dir=folder / ("run" * 70),
    )
    draw = draw_to_label(collection(), n=12, out=folder / "to_label.csv")
    people = [{**row, "inclusion_probability": 1} for row in collection()]
    return {
        "judge": VisualJudge(SAFETY, instruction=EVIL),
        "compiled": compiled,
        "splits": split_examples([*sets["trainset"], *sets["testset"]], labels=FIVE),
        "estimate": estimate(optimizer, student(), trainset=sets["trainset"], valset=sets["valset"]),
        "comparison": Comparison((ComparisonRow("blpo", 0, error=EVIL),), {"max_calls": 100}),
        "agreement": measure_agreement(FIVE, [1, 2, 3], [1, 2, 4]),
        "scores": measure_agreement(LabelSpace.scores(0, 100), [1.5, 20, 30], [1, 2, 90]),
        "result": compiled.detailed_results,
        "alignment": done,
        "sets": done.after,
        "measurement": shared(measure, compiled, sets["testset"], against=student(), models=models, progress=False),
        "calibrated": shared(
            calibrate,
            student().confident("votes", votes=2),
            [example for part in sets.values() for example in part],
            agreement=0.5,
            models=models,
            progress=False,
        ),
        "progress": shared(
            predict,
            student(),
            [example.image for example in sets["testset"]],
            out=folder / "predictions.csv",
            models=models,
        ),
        "ranking": bradley_terry([Compared(EVIL * 9, f"model {i}", 0.5) for i in range(9)], resamples=20),
        "draw": draw,
        "population": estimate_population(collection(), people),
        "drift": measure_drift(VisualJudge(SAFETY, instruction="Is it safe?"), collection(), collection()[:20]),
    }


@pytest.mark.slow
def test_what_people_look_at_is_short(tmp_path: Path) -> None:
    """Every type of result, in text one line; in a notebook a table without files or scripts of its own."""
    things = shown(tmp_path)
    missing = result_types().keys() - {type(thing).__name__ for thing in things.values()}
    assert not missing, f"show {sorted(missing)} in a notebook, and add one of each to `shown`"
    for name, thing in things.items():
        assert len(repr(thing)) <= LONGEST, name
        assert "\n" not in repr(thing), name
        page = thing._repr_html_()  # type: ignore[attr-defined]
        assert Cells(page).tags <= {"table", "tr", "th", "td", "p", "b"}, name
        assert "http" not in page


def test_a_long_text_about_an_object_ends_with_dots() -> None:
    """On one line; a short one is whole."""
    assert one_line(1.5, "a\nb") == "float(a b)"
    cut = one_line(1.5, "word " * 100)
    assert cut.endswith("word …)")
    assert len(cut) <= LONGEST
