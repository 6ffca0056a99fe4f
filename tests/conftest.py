"""The environment of every test: its own caches, no key, no network beyond loopback, repeatable hypothesis examples."""

from __future__ import annotations

import functools
import gc
import importlib.util
import ipaddress
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import typer.testing
from hypothesis import settings

_CACHES = tempfile.TemporaryDirectory(prefix="blpo-tests-")

# Before DSPy and datasets are imported, which read these once; the programs that tests start inherit them.
os.environ.update(
    DSPY_CACHEDIR=os.path.join(_CACHES.name, "dspy"),
    HF_HOME=os.path.join(_CACHES.name, "huggingface"),
    HF_HUB_OFFLINE="1",
    HF_DATASETS_DISABLE_PROGRESS_BARS="1",
)
for _name in [name for name in os.environ if name.startswith(("OPENAI_", "LITELLM_"))]:
    del os.environ[_name]

# No test speaks TLS, but each HTTP client would load all certificates, which takes long; OpenSSL wants one at least.
if importlib.util.find_spec("certifi"):
    import certifi

    _first = Path(certifi.where()).read_text(encoding="utf-8").partition("-----END CERTIFICATE-----\n")[:2]
    os.environ["SSL_CERT_FILE"] = os.path.join(_CACHES.name, "certificate.pem")
    Path(os.environ["SSL_CERT_FILE"]).write_text("".join(_first), encoding="utf-8")

# Where no bytecode is written, each worker and each process that a test starts compiles package and tests again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Half as many examples as usual: as each run draws the same, more of them find nothing new the next time.
settings.register_profile("repeatable", derandomize=True, deadline=None, database=None, max_examples=50)
settings.load_profile("repeatable")

# A test that runs a command would build all commands again, which takes longer than most of them.
typer.testing._get_command = functools.cache(typer.main.get_command)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Three workers for two cores, since a third of the time is spent waiting for servers, browsers and processes."""
    return (os.cpu_count() or 1) * 3 // 2


_WHOLLY_SLOW = re.compile(r"^pytestmark = .*\bpytest\.mark\.slow\b", re.MULTILINE)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leaves files that are slow as a whole out of `-m "not slow"`, since importing them takes as long as the tests."""
    if config.getoption("markexpr") != "not slow" or not collection_path.match("test_*.py"):
        return None
    return True if _WHOLLY_SLOW.search(collection_path.read_text(encoding="utf-8")) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts files with slow tests first; with `--no-loadscope-reorder` the workers take them in this order."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_collection_finish() -> None:
    """Spares the collector the modules and tests, which stay; it would look at them with all that a test leaves."""
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)


def pytest_configure(config: pytest.Config) -> None:
    """Registers what prints failures; the workers of a parallel run leave that to the process that started them."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_FailuresAtOnce(config))


class _FailuresAtOnce:
    """Prints a failure as it happens, since a run that is cut off never gets to its summary."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Prints the test and its traceback."""
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        if report.failed and terminal is not None:
            terminal.ensure_newline()
            terminal.write_line(f"FAILED {report.nodeid} ({report.when})\n{report.longreprtext}")


_refused: list[str] = []


def _refuse_the_network(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook, since it also sees sockets that libraries open from C and look-ups of names."""
    if event == "socket.connect":
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else None
    elif event == "socket.getaddrinfo":
        host = arguments[0]
    else:
        return
    if not _is_loopback(host):
        _refused.append(str(host))
        raise PermissionError(f"tests reach no network; this one asked for {host}")


def _is_loopback(host: str | bytes | None) -> bool:
    if isinstance(host, bytes):
        host = host.decode()
    if host in (None, "", "localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


sys.addaudithook(_refuse_the_network)


@pytest.fixture(autouse=True)
def no_network() -> Iterator[None]:
    """Fails a test that asked for the network, even where a library caught the refusal."""
    _refused.clear()
    yield
    assert not _refused, f"asked for the network: {_refused}"


@pytest.fixture(autouse=True)
def own_cache() -> None:
    """Gives each test an empty memory cache and none on disk, so that no test reads the answers of another."""
    import dspy

    dspy.configure_cache(enable_disk_cache=False)
