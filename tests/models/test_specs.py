"""Models as plain data for other processes."""

from __future__ import annotations

import pickle
from typing import Any

import dspy
import pytest
from engines import scripted_lm

from blpo_dspy.errors import ModelError
from blpo_dspy.models.lm import Models, identity, make_lm
from blpo_dspy.models.specs import LMSpec, ModelSpecs


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("embedded?seed=3", {}),
        ("embedded:bold", {}),
        ("openai/gpt-4o", {"api_base": "http://127.0.0.1:1/v1"}),
        ("openai/gpt-5", {}),
        ("openai/o3", {"reasoning_effort": "low"}),
        ("anthropic/claude-sonnet-4-5", {"temperature": 0.5, "timeout": 7, "max_tokens": None}),
        ("ollama_chat/llava", {"api_base": "http://127.0.0.1:1"}),
    ],
)
def test_another_process_builds_an_equal_model(name: str, options: dict[str, Any]) -> None:
    """With the same identity, connection, cache and retries, whatever the name."""
    lm = make_lm(name, role="judge", **options).copy(cache=False, num_retries=5)
    built = pickle.loads(pickle.dumps(LMSpec.of(lm))).build()
    assert identity(built) == identity(lm)
    assert built.kwargs == lm.kwargs
    assert (built.cache, built.num_retries) == (False, 5)


def test_a_key_goes_by_the_name_of_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The spec holds no key, and a process without the variable says which one it lacks."""
    monkeypatch.setenv("OUR_GATEWAY_KEY", "sk-secret-of-ours")
    models = Models.named("openai/gpt-4o", api_key="sk-secret-of-ours")
    data = pickle.dumps(ModelSpecs.of(models))
    assert b"sk-secret" not in data
    assert pickle.loads(data).build().judge.kwargs["api_key"] == "sk-secret-of-ours"
    monkeypatch.delenv("OUR_GATEWAY_KEY")
    with pytest.raises(ModelError, match=r"'openai/gpt-4o': OUR_GATEWAY_KEY is not set where this process runs"):
        pickle.loads(data).build()


@pytest.mark.parametrize("options", [{"api_key": "sk-nowhere"}, {"extra_headers": {"X-Auth": "sk-nowhere"}}])
def test_a_key_that_no_variable_holds_is_refused(options: dict[str, Any]) -> None:
    """The error doesn't show it."""
    with pytest.raises(ModelError, match="is not the value of an environment variable") as refused:
        LMSpec.of(dspy.LM("openai/gpt-4o", **options))
    assert "sk-nowhere" not in str(refused.value)


def test_a_model_that_cannot_be_built_elsewhere_is_refused() -> None:
    """With what to do instead."""
    with pytest.raises(ModelError, match=r"cannot be built in another process .*without workers= and cluster="):
        LMSpec.of(scripted_lm(lambda seen: "hi"))
