"""The versions that a result may depend on."""

from __future__ import annotations

import platform
from importlib import metadata

_LIBRARIES = ("blpo-dspy", "dspy", "litellm", "pillow", "scikit-learn", "numpy")


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the libraries that a result may depend on."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in _LIBRARIES}}
