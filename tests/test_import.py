"""What importing the package costs, and that its public names are there."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import blpo_dspy

HEAVY = {"datasets", "litellm", "matplotlib", "numpy", "openai", "pandas", "pyarrow", "scipy", "sklearn"}


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


def test_importing_the_package_beside_dspy_adds_nothing_heavy() -> None:
    """What a user pays over `import dspy` is our own few modules."""
    assert imported_by("import dspy, blpo_dspy") - imported_by("import dspy") == {"blpo_dspy"}


def test_naming_models_and_errors_loads_no_dataset_and_no_statistics_library() -> None:
    """Each public name loads its own module only."""
    ours = imported_by("from blpo_dspy import LabelSpace, make_lm, DataError")
    assert not (ours - imported_by("import dspy")) & HEAVY


@pytest.mark.parametrize("name", blpo_dspy.__all__)
def test_every_public_name_is_there(name) -> None:
    """Each name of `__all__` loads on first use, is listed, and stays the same object."""
    assert name in dir(blpo_dspy)
    assert getattr(blpo_dspy, name) is getattr(blpo_dspy, name)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """The message is Python's own."""
    with pytest.raises(AttributeError, match="module 'blpo_dspy' has no attribute 'nonsense'"):
        blpo_dspy.nonsense  # noqa: B018


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


# Layers: parts <- programs <- optimizers <- runs and commands


def imports() -> dict[str, set[str]]:
    """Our own modules that each module of the package needs, by name; what is for type checkers alone aside."""
    root = Path(blpo_dspy.__file__).parent
    found = {}
    for folder, _, files in os.walk(root, followlinks=True):
        for name in files:
            if name.endswith(".py"):
                path = Path(folder, name)
                module = ".".join(("blpo_dspy", *path.relative_to(root).with_suffix("").parts))
                found[module.removesuffix(".__init__")] = needed(ast.parse(path.read_text(encoding="utf-8")))
    return found


def needed(tree: ast.AST) -> set[str]:
    """The modules of the package that a source imports."""
    if isinstance(tree, ast.If) and getattr(tree.test, "id", "") == "TYPE_CHECKING":
        return set()
    if isinstance(tree, ast.ImportFrom) and (tree.module or "").startswith("blpo_dspy."):
        return {str(tree.module)}
    return set().union(*(needed(child) for child in ast.iter_child_nodes(tree)))


def test_imports_point_one_way() -> None:
    """Programs need parts and programs, optimizers these and optimizers; neither needs what runs them.

    Nothing but the command line needs its commands.
    """
    graph = imports()
    lower = {"blpo_dspy.programs": 1, "blpo_dspy.optimizers": 2}
    layer = {module: lower.get(".".join(module.split(".")[:2]), 0) for module in graph}
    assert set(layer.values()) == {0, 1, 2}
    above = [""]
    while above:
        above = [m for m, others in graph.items() if not layer[m] and any(layer.get(other) for other in others)]
        layer.update(dict.fromkeys(above, 3))
    wrong = [(m, o) for m, others in graph.items() for o in others if 0 < layer[m] < 3 and layer.get(o, 0) > layer[m]]
    assert wrong == []
    assert layer["blpo_dspy.data.labels.space"] == 0
    assert layer["blpo_dspy.runs.align"] == 3
    commands = {"blpo_dspy.cli.app", *(module for module in graph if module.startswith("blpo_dspy.cli"))}
    assert not [m for m, others in graph.items() if m not in commands and others & commands]
