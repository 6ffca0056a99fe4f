"""What a built distribution holds: the folders of the repository, under the names that the code imports."""

from __future__ import annotations

import ast
import importlib.util
import itertools
import re
import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

import blpo_dspy

ROOT = Path(__file__).resolve().parents[1]
HOUSES = {"blpo_dspy": "blpo_dspy", "programs": "blpo_dspy/programs", "optimizers": "blpo_dspy/optimizers"}


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the sdist, built from the repository, and the wheel built from that sdist alone."""
    if importlib.util.find_spec("build") is None:
        pytest.skip("`build` is not installed")
    out = tmp_path_factory.mktemp("dist")
    # --no-isolation takes setuptools from the test dependencies, so that building needs no network.
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def on_disk() -> set[str]:
    """Every file that the package should ship, by its path once installed."""
    files = set()
    for folder, home in HOUSES.items():
        for path in (ROOT / folder).rglob("*"):
            inner = path.relative_to(ROOT / folder)
            linked = folder == "blpo_dspy" and inner.parts[0] in ("programs", "optimizers")
            if path.is_file() and not linked and "__pycache__" not in inner.parts:
                files.add(f"{home}/{inner.as_posix()}")
    return files


def in_wheel(built: Path) -> set[str]:
    """Every file of the wheel."""
    (wheel,) = built.glob("*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_folders_and_nothing_else(built: Path) -> None:
    """A sub-package that [tool.setuptools] does not name, or a kind of file that package-data does not, shows here."""
    shipped = {name for name in in_wheel(built) if ".dist-info/" not in name}
    assert shipped == on_disk()


@pytest.mark.slow
def test_nothing_named_programs_or_optimizers_reaches_site_packages(built: Path) -> None:
    """The wheel brings one package and its metadata."""
    tops = {name.partition("/")[0] for name in in_wheel(built)}
    assert tops == {"blpo_dspy", f"blpo_dspy-{blpo_dspy.__version__}.dist-info"}


@pytest.mark.slow
def test_the_sdist_holds_the_repository_as_it_is(built: Path) -> None:
    """The two mapped folders are at its top and not a second time inside the package; the tests come whole."""
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "LICENSE", "programs/__init__.py", "optimizers/__init__.py", "tests/conftest.py"} <= names
    assert not [name for name in names if name.startswith(("blpo_dspy/programs", "blpo_dspy/optimizers"))]


@pytest.mark.wheel
def test_the_version_is_stated_once() -> None:
    """What pip knows is what the package says."""
    assert metadata.version("blpo-dspy") == blpo_dspy.__version__


@pytest.mark.wheel
def test_the_command_is_installed() -> None:
    """`blpo` leads to the command line's entry point."""
    (script,) = metadata.entry_points(group="console_scripts", name="blpo")
    assert callable(script.load())


@pytest.mark.wheel
def test_the_package_is_typed() -> None:
    """Type checkers read our annotations."""
    assert (Path(blpo_dspy.__file__).parent / "py.typed").is_file()


@pytest.mark.wheel
def test_the_mapped_folders_import_by_one_name_only(tmp_path: Path) -> None:
    """A second import path would make a second class object; an editable install must not open one either."""
    code = (
        "import importlib.util as find\n"
        "print([find.find_spec(name) is not None for name in\n"
        "       ('programs', 'optimizers', 'blpo_dspy.programs', 'blpo_dspy.optimizers')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.strip() == "[False, False, True, True]"


# What a requirement brings along: datasets pandas, pydantic its core; type checkers bring their own stubs.
BROUGHT = {"pandas", "pydantic-core", "typeshed"}


@pytest.mark.wheel
def test_every_package_that_is_imported_is_a_requirement() -> None:
    """At the top of a module or within; what only an extra needs is part of an extra."""

    def normal(name: str) -> str:
        return re.sub(r"[-_.]+", "-", name).strip("-").lower()

    folder = Path(blpo_dspy.__file__).parent
    modules: set[str] = set()
    for node in itertools.chain.from_iterable(ast.walk(ast.parse(path.read_text())) for path in folder.rglob("*.py")):
        if isinstance(node, ast.Import):
            modules |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules.add(node.module.partition(".")[0])
    providers = metadata.packages_distributions()
    imported = {
        normal(providers.get(module, [module])[0]) for module in modules - sys.stdlib_module_names - {"blpo_dspy"}
    }
    required = {normal(re.split(r"[^\w.-]", one)[0]) for one in metadata.requires("blpo-dspy") or ()}
    assert imported - required == BROUGHT
