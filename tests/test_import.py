"""What importing the package costs, and that its public names are there."""

from __future__ import annotations

import ast
import functools
import json
import os
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import blpo_dspy

pytestmark = pytest.mark.wheel

HEAVY = {"datasets", "litellm", "matplotlib", "numpy", "openai", "pandas", "pyarrow", "scipy", "sklearn"}
HEAVY |= {"dask", "deepeval", "distributed", "inspect_ai", "mlflow", "trl"}


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs code in a fresh interpreter, in another folder than this one."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LITELLM_")}
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        cwd=Path(sys.executable).parent,
        env={**clean, **environment},
    )


def imported_by(code: str) -> set[str]:
    """The top-level modules that are loaded after running the code."""
    loaded = run(f"{code}\nimport json, sys; print(json.dumps([m.partition('.')[0] for m in sys.modules]))").stdout
    return set(json.loads(loaded))


def test_importing_the_package_loads_nothing_heavy() -> None:
    """Not even DSPy, so that the command line can answer at once."""
    assert not imported_by("import blpo_dspy") & (HEAVY | {"dspy", "PIL"})


@pytest.mark.slow
def test_importing_the_package_beside_dspy_adds_nothing_heavy() -> None:
    """What a user pays over `import dspy` is our own few modules."""
    assert imported_by("import dspy, blpo_dspy") - imported_by("import dspy") == {"blpo_dspy"}


@pytest.mark.slow
def test_naming_models_and_errors_loads_no_dataset_and_no_statistics_library() -> None:
    """Each public name loads its own module only."""
    ours = imported_by("from blpo_dspy import LabelSpace, make_lm, DataError")
    assert not (ours - imported_by("import dspy")) & HEAVY


@pytest.mark.parametrize("package", ["blpo_dspy", "blpo_dspy.optimizers"])
def test_a_type_checker_sees_every_public_name(package: str) -> None:
    """`typing_api.py`, which mypy checks, imports exactly the names of `__all__`."""
    tree = ast.parse(Path(__file__).with_name("typing_api.py").read_text(encoding="utf-8"))
    imported = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == package]
    names = {name.name for node in imported for name in node.names}
    if package == "blpo_dspy.optimizers":
        names.add("BLPO")  # the same class, imported from the package itself
    assert names == set(import_module(package).__all__)


@pytest.mark.parametrize("name", blpo_dspy.__all__)
def test_every_public_name_is_there(name) -> None:
    """Each name of `__all__` loads on first use, is listed, and stays the same object."""
    assert name in dir(blpo_dspy)
    assert getattr(blpo_dspy, name) is getattr(blpo_dspy, name)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """The message is Python's own."""
    with pytest.raises(AttributeError, match="module 'blpo_dspy' has no attribute 'nonsense'"):
        blpo_dspy.nonsense  # noqa: B018


@pytest.mark.slow
def test_litellm_asks_the_network_for_nothing_when_it_is_imported_after_us() -> None:
    """Neither it nor DSPy fetches its price list, and nothing is printed."""
    code = (
        "import sys\n"
        "asked = []\n"
        "sys.addaudithook(lambda event, arguments: asked.append(event) if event.startswith('socket.get') else None)\n"
        "import blpo_dspy, litellm\n"
        "from dspy.clients import model_metadata\n"
        "assert litellm.model_cost['gpt-4o'] and model_metadata.model_info('openai-chat', 'gpt-4o')\n"
        "assert model_metadata.source_info()['source'] == 'local'\n"
        "assert not [event for event in asked if event == 'socket.getaddrinfo'], asked\n"
    )
    done = run(code)
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.parametrize(
    ("variable", "value"),
    [("LITELLM_LOCAL_MODEL_COST_MAP", "False"), ("LITELLM_MODEL_COST_MAP_URL", "http://127.0.0.1:9/prices.json")],
)
def test_a_users_choice_of_price_list_stands(variable, value) -> None:
    """Whoever sets either variable gets what they asked for."""
    shown = run(
        "import os, blpo_dspy; print({k: v for k, v in os.environ.items() if k.startswith('LITELLM')})",
        **{variable: value},
    )
    assert shown.stdout.strip() == str({variable: value})


# The house: a room imports from rooms on lower floors only, and no files import each other in a circle

# Lowest first. A room is a folder or file directly in the package; "blpo_dspy" is the package's own file.
FLOORS = (
    {"errors", "log", "notebook", "text"},
    {"embedded", "files"},
    {"data", "models"},
    {"agreement", "programs", "workspace"},
    {"optimizers", "population", "predictions"},
    {"integrations", "report", "serving"},
    {"comparison", "labelling", "runs"},
    {"cli", "blpo_dspy"},
)
PACKAGE = Path(blpo_dspy.__file__).parent


def imports(package: Path) -> dict[str, set[str]]:
    """Our own modules that each module imports, by name; the links are followed, imports for types alone count."""
    files = {}
    for folder, _, names in os.walk(package, followlinks=True):
        for path in (Path(folder, name) for name in names if name.endswith(".py")):
            module = ".".join(("blpo_dspy", *path.relative_to(package).with_suffix("").parts))
            files[module.removesuffix(".__init__")] = path
    return {module: imported(path, module, set(files)) - {module} for module, path in files.items()}


def imported(path: Path, module: str, known: set[str]) -> set[str]:
    """The modules that a source imports: at its top, in functions, and for type checkers."""
    found = set()
    for node in import_nodes(path.read_text(encoding="utf-8")):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        else:
            assert not node.level, f"{module}: an import by a relative name"
            found |= {
                whole if (whole := f"{node.module}.{name.name}") in known else str(node.module) for name in node.names
            }
    return found & known


@functools.cache
def import_nodes(source: str) -> list[ast.Import | ast.ImportFrom]:
    """The import statements of a source; copies of the package differ in one file."""
    return [node for node in ast.walk(ast.parse(source)) if isinstance(node, (ast.Import, ast.ImportFrom))]


def room(module: str) -> str:
    """The room of a module."""
    return module.split(".")[1] if "." in module else module


def arrows_up(graph: dict[str, set[str]]) -> list[tuple[str, str]]:
    """Imports from a room of the same floor or of a higher one."""
    floor = {name: number for number, rooms in enumerate(FLOORS) for name in rooms}
    arrows = ((module, other) for module, others in graph.items() for other in others)
    return [(m, o) for m, o in arrows if room(m) != room(o) and floor[room(m)] <= floor[room(o)]]


def circle(graph: dict[str, set[str]]) -> set[str]:
    """Modules that lie on a circle of imports or between two; none if there is none."""
    left = set(graph)
    while True:
        ends = {m for m in left if not graph[m] & left} | {m for m in left if not any(m in graph[o] for o in left)}
        if not ends:
            return left
        left -= ends


@pytest.mark.slow
def test_imports_point_down() -> None:
    """Every room stands on one of eight floors and imports from lower ones; no two files import each other."""
    graph = imports(PACKAGE)
    assert {room(module) for module in graph} == set().union(*FLOORS)
    assert arrows_up(graph) == []
    assert circle(graph) == set()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "line", "up"),
    [
        ("errors.py", "if TYPE_CHECKING:\n    from blpo_dspy.files import replacing", True),
        ("data/labels/parsing.py", "if TYPE_CHECKING:\n    from blpo_dspy.data.labels.space import LabelSpace", False),
        ("optimizers/options.py", "def later():\n    from blpo_dspy.runs import jobs", True),
        ("workspace/meter.py", "import blpo_dspy.programs.visual_judge", True),
        ("embedded/engine.py", "from blpo_dspy import data", True),
        ("report/html.py", "from blpo_dspy import __version__", True),
    ],
)
def test_an_arrow_up_or_a_circle_is_found(file: str, line: str, up: bool, tmp_path: Path) -> None:
    """A copy of the package in which one file imports one thing too many."""
    copy = tmp_path / "blpo_dspy"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    with (copy / file).open("a", encoding="utf-8") as source:
        source.write(f"\n\n{line}\n")
    graph = imports(copy)
    module = ".".join(("blpo_dspy", *Path(file).with_suffix("").parts))
    assert [m for m, _ in arrows_up(graph)] == [module] * up
    assert up or module in circle(graph)
