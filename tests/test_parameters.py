"""How many parameters public functions have: at most ten, of which at most three name columns."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import blpo_dspy

MOST, MOST_COLUMNS = 10, 3
# What has more as yet, and how many: a number here only ever becomes smaller.
MORE = {
    "optimizers.bench.bench.Bench.__init__": 11,
}


def functions(body: list[ast.stmt], name: str) -> Iterator[tuple[str, list[str]]]:
    """Public functions, methods and constructors by name, with the names of their parameters."""
    for node in body:
        if not isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if node.name.startswith("_") and node.name != "__init__":
            continue
        if isinstance(node, ast.ClassDef):
            yield from functions(node.body, f"{name}.{node.name}")
        else:
            every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            yield f"{name}.{node.name}", [each.arg for each in every if each.arg not in ("self", "cls")]


def package_functions() -> dict[str, list[str]]:
    """Those of all public modules; the fields of dataclasses, which are options and results, are not counted."""
    package = Path(blpo_dspy.__file__).parent
    # `programs` and `optimizers` are links in the sources, which `rglob` does not follow.
    files = {
        file for folder in (package, package / "programs", package / "optimizers") for file in folder.rglob("*.py")
    }
    found: dict[str, list[str]] = {}
    for file in files:
        parts = file.relative_to(package).with_suffix("").parts
        if not any(part.startswith("_") for part in parts):
            found.update(functions(ast.parse(file.read_text(encoding="utf-8")).body, ".".join(parts)))
    return found


def too_many(found: dict[str, list[str]]) -> dict[str, int]:
    """The functions with more parameters than are usual, and how many."""
    return {name: len(parameters) for name, parameters in found.items() if len(parameters) > MOST}


def named_columns(parameters: list[str]) -> list[str]:
    """The parameters that name columns."""
    return [name for name in parameters if name.endswith(("_column", "_columns")) or name in ("images", "context")]


def test_no_public_function_has_more_than_ten_parameters() -> None:
    """But for those that are listed, with just as many; who takes some away lowers the number, or strikes it out."""
    found = package_functions()
    assert {"predictions.predict.predict", "programs.visual_judge.VisualJudge.__init__"} <= set(found)
    assert too_many(found) == MORE


def test_no_public_function_names_more_than_three_columns_one_by_one() -> None:
    """A reader of more takes `Columns`."""
    found = {name: named_columns(parameters) for name, parameters in package_functions().items()}
    assert {name: columns for name, columns in found.items() if len(columns) > MOST_COLUMNS} == {}


@pytest.mark.parametrize(
    ("code", "counted"),
    [
        ("def f(a, /, b, *c, d, e=1, **g): pass", {"m.f": ["a", "b", "d", "e"]}),
        ("class C:\n def __init__(self, a): pass\n def _m(self, a): pass", {"m.C.__init__": ["a"]}),
        ("class C:\n @classmethod\n async def m(cls, a): pass", {"m.C.m": ["a"]}),
        ("def _f(a): pass\nclass _C:\n def m(self): pass", {}),
    ],
)
def test_parameters_of_every_kind_are_counted(code: str, counted: dict[str, list[str]]) -> None:
    """Of what is public alone."""
    assert dict(functions(ast.parse(code).body, "m")) == counted
