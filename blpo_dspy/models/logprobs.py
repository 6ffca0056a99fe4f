"""The log probabilities of an answer's tokens as plain data, over DSPy's two kinds of response."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def plain_logprobs(output: Any) -> Any:
    """Returns an output of an LM with its log probabilities as plain data; LiteLLM's are objects, DSPy's own a dict."""
    if not isinstance(output, Mapping) or output.get("logprobs") is None:
        return output
    return {**output, "logprobs": {"content": tokens_of(output["logprobs"])}}


def tokens_of(logprobs: Any) -> list[dict[str, Any]]:
    """Returns the tokens with `token`, `logprob` and `bytes`, as a server gave them; none if it gave none."""
    content = logprobs.get("content") if isinstance(logprobs, Mapping) else getattr(logprobs, "content", None)
    tokens = [token if isinstance(token, Mapping) else dict(token) for token in content or ()]
    return [{name: token.get(name) for name in ("token", "logprob", "bytes")} for token in tokens]
