"""Log probabilities as plain data, whichever of DSPy's engines gave them."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from blpo_dspy.models.logprobs import plain_logprobs, tokens_of

TOKEN = {"token": "Safe", "logprob": -0.1, "bytes": [83]}


@pytest.mark.parametrize(
    "logprobs",
    [{"content": [{**TOKEN, "top_logprobs": []}]}, SimpleNamespace(content=[{**TOKEN, "top_logprobs": [TOKEN]}])],
)
def test_tokens_are_plain_data(logprobs: Any) -> None:
    """A journal can hold them, without the tokens that were not chosen."""
    output = plain_logprobs({"text": "Safe", "logprobs": logprobs})
    assert json.loads(json.dumps(output)) == {"text": "Safe", "logprobs": {"content": [TOKEN]}}
    assert tokens_of(output["logprobs"]) == [TOKEN]


@pytest.mark.parametrize("output", ["Safe", None, {"text": "Safe"}, {"text": "Safe", "logprobs": None}])
def test_an_output_without_them_stays_as_it_is(output: Any) -> None:
    """Most outputs are texts."""
    assert plain_logprobs(output) is output


@pytest.mark.parametrize("logprobs", [None, {}, {"content": None}, {"content": []}, SimpleNamespace(content=None)])
def test_none_are_no_tokens(logprobs: Any) -> None:
    """As servers leave them out."""
    assert tokens_of(logprobs) == []
