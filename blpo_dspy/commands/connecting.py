"""The models that a command names: connected, with remarks on what is missing or has no effect."""

from __future__ import annotations

import os
import socket
import urllib.request
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from blpo_dspy.commands.screen import Screen
from blpo_dspy.errors import BlpoError, ModelError
from blpo_dspy.models import Models, is_embedded
from blpo_dspy.options import ModelNames

_SECONDS_TO_CONNECT = 10
_OWN_SERVER = "hosted_vllm/"


def connect(names: ModelNames) -> Models:
    """Returns the models, once it is clear that a server answers at their address.

    Raises:
        BlpoError: If a name or the address is none.
        ModelError: If no server answers at the address.
    """
    roles = names.by_role()
    homeless = [name for name in roles.values() if name.startswith(_OWN_SERVER)]
    if homeless and names.api_base is None and not os.environ.get("HOSTED_VLLM_API_BASE"):
        raise BlpoError(f"{homeless[0]} has no address: give --api-base, such as http://localhost:8000/v1")
    models = Models.named(**roles, **names.connection())
    if names.api_base is not None and not all(map(is_embedded, roles.values())):
        _check_server(names.api_base)
    # The offline engine answers as fast as DSPy's cache, and its calls are to be seen in the count.
    anew = [role for role, name in roles.items() if is_embedded(name) or not names.cache]
    own = {role: getattr(models, role).copy(cache=False) for role in anew}
    return replace(models, **own)


def _check_server(address: str) -> None:
    parts = urlsplit(address)
    host = parts.hostname or ""
    if parts.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(host):
        return  # only the proxy can reach it
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise BlpoError(f"--api-base: {error}; correct the port") from error
    try:
        socket.create_connection((host, port), timeout=_SECONDS_TO_CONNECT).close()
    except OSError as error:
        reason = error.strerror or error
        raise ModelError(f"no server answers at {host}:{port} ({reason}); start it, or correct --api-base") from error


def note_offline(names: ModelNames, screen: Screen, option: str) -> None:
    """Remarks that no model was named."""
    if names.judge is None:
        screen.note(
            "no model is named, so `embedded` is used: the offline engine, which sees eight technical flaws of "
            f"photographs and nothing else. Name a multimodal model with --{option}."
        )


def note_prices(prices: Mapping[str, Any], names: ModelNames, screen: Screen) -> None:
    """Remarks on prices of models that are not asked."""
    asked = sorted(set(names.by_role().values()))
    for name in sorted(set(prices).difference(asked)):
        screen.note(f"--price {name} has no effect: the models are {', '.join(asked)}")
