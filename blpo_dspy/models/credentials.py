"""Keys: what to do when a provider refuses one, and how they are kept out of what is stored or shown."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import dspy
from dspy.utils.exceptions import LMAuthError, LMError, LMNotConfiguredError

from blpo_dspy.errors import shown

# Providers whose variables are not NAME_API_KEY.
_SETTINGS = {
    "azure": "AZURE_API_KEY, AZURE_API_BASE and AZURE_API_VERSION",
    "bedrock": "what the AWS command line takes (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION_NAME)",
}
_BY_NAME = ("anthropic", "deepseek", "gemini", "groq", "hosted_vllm", "mistral", "openai", "openrouter", "xai")

CREDENTIAL_ERRORS = (LMAuthError, LMNotConfiguredError)


def described(error: LMError, model: str) -> str:
    """Returns an error over a key or other setting in a line, with what to export for this model's provider."""
    line, *_ = str(error).splitlines()
    provider = model.partition("/")[0]
    settings = _SETTINGS.get(provider) or (f"{provider.upper()}_API_KEY" if provider in _BY_NAME else None)
    if settings is None:
        return line
    if isinstance(error, LMNotConfiguredError):  # the rest names settings of DSPy's, of which there are others
        line = line.partition("; ")[0].partition(". ")[0]
    valid = " with what it accepts" if isinstance(error, LMAuthError) else ""
    return f"{line.rstrip('.')}. Export {settings}{valid}."


SECRET_NAME = re.compile(
    r"key|secret|password|credential|auth|header|(?<!max_)(?<!max_completion_)tokens?$", re.IGNORECASE
)
_IN_ENVIRONMENT = re.compile(r"_(API_KEY|ACCESS_KEY|SECRET|TOKEN|PASSWORD)$")
_BEARER = re.compile(r"(?<=\bbearer)(\s+|%20)[^\s\"',;<>]+", re.IGNORECASE)
_MASK = "***"
# Shorter values are placeholders such as "EMPTY", which also occur in harmless texts.
_SHORTEST = 8
# More of a gateway's error page does not help.
_LONGEST_TEXT = 500


@contextmanager
def fit_to_show(lm: dspy.BaseLM | None) -> Iterator[None]:
    """Makes errors of calls to an LM inside the block fit to be shown; see `without_secrets`.

    Raises:
        LMError: Each error of a server, also one with another value instead of its text, over which DSPy stumbles.
    """
    options = {} if lm is None else lm.kwargs
    try:
        yield
    except LMError as error:
        without_secrets(error, secrets_of(options))
        raise
    except TypeError as error:  # DSPy looks for a hint in the text, which here is none
        refused = error.__context__
        if not isinstance(refused, LMError) or isinstance(refused.message, str):
            raise
        refused.message = str(refused.message)
        without_secrets(refused, secrets_of(options))
        raise refused from None


def secrets_of(options: Mapping[str, Any]) -> frozenset[str]:
    """Returns the keys that an LM's options and the environment hold."""
    found = {value for name, value in os.environ.items() if _IN_ENVIRONMENT.search(name)}
    found.update(_keys(options))
    return frozenset(text for text in found if len(text) >= _SHORTEST)


def _keys(options: Mapping[Any, Any]) -> Iterator[str]:
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from _keys(value)
        elif isinstance(value, str) and SECRET_NAME.search(str(name)):
            yield value.rpartition(" ")[2]  # of a header "Bearer …"


def without_secrets(error: BaseException, secrets: Collection[str]) -> None:
    """Masks keys in the texts of an error and of those behind it, which a server may have repeated.

    Characters that could reach a terminal as commands are escaped. A long text is cut, and so is the traceback that
    LiteLLM puts into some, which does not help a user.
    """
    seen: set[int] = set()
    behind: BaseException | None = error
    while behind is not None and id(behind) not in seen:
        seen.add(id(behind))
        behind.args = tuple(_masked(part, secrets) if isinstance(part, str) else part for part in behind.args)
        message = getattr(behind, "message", None)
        if isinstance(message, str):
            behind.message = _masked(message, secrets)  # type: ignore[attr-defined]
        behind = behind.__cause__ or behind.__context__


def _masked(text: str, secrets: Collection[str]) -> str:
    text = text.partition("\nTraceback (most recent call last):")[0]
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, _MASK)
    text = _BEARER.sub(f" {_MASK}", text)
    text = shown(text, lines=True)
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}… ({len(text):,} characters)"
