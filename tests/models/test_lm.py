"""Models by name: what reaches DSPy, and what is refused before any call."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import dspy
import pytest
from dspy.utils.exceptions import LMTimeoutError, LMTransportError

from blpo_dspy.embedded import embedded_lm
from blpo_dspy.embedded.server.faults import Faults
from blpo_dspy.embedded.server.http import Options, start_server
from blpo_dspy.errors import BlpoError
from blpo_dspy.models.lm import Models, check_models, is_embedded, make_lm
from blpo_dspy.workspace.workspace import Workspace


def test_a_name_with_no_role_keeps_the_providers_defaults() -> None:
    """Without a role neither temperature nor token limit is set."""
    lm = make_lm("openai/gpt-4o")
    assert lm.model == "openai/gpt-4o"
    assert (lm.kwargs["temperature"], lm.kwargs["max_tokens"]) == (None, None)


@pytest.mark.parametrize(
    ("role", "temperature", "max_tokens"), [("judge", 0.0, 4000), ("verbalizer", 0.0, 4000), ("optimizer", 1.0, None)]
)
def test_each_role_has_its_settings(role, temperature, max_tokens) -> None:
    """Judging and describing are repeatable and bounded, proposing is varied and free."""
    lm = make_lm("ollama_chat/llava", role=role)
    assert (lm.kwargs["temperature"], lm.kwargs["max_tokens"]) == (temperature, max_tokens)


@pytest.mark.parametrize(
    "name", ["openai/gpt-5", "openai/gpt-5.1-mini", "openai/o3", "openrouter/openai/gpt-5-mini", "azure/o4-mini"]
)
@pytest.mark.parametrize("role", ["judge", "verbalizer", "optimizer"])
def test_a_reasoning_model_gets_the_only_settings_it_takes(name, role) -> None:
    """OpenAI's reasoning models refuse temperature 0 and small token limits, whatever the role."""
    kwargs = make_lm(name, role=role).kwargs
    assert kwargs["temperature"] == 1.0
    assert kwargs["max_completion_tokens"] is None
    assert kwargs["timeout"] == 300


@pytest.mark.parametrize(
    "name",
    [
        "openrouter/deepseek/deepseek-r1",
        "deepseek/deepseek-reasoner",
        "bedrock/us.deepseek.r1-v1:0",
        "gemini/gemini-2.5-pro",
        "gemini/gemini-flash-latest",
        "openai/QwQ-32B",
        "ollama_chat/qwen3-vl",
        "hosted_vllm/Qwen/Qwen3-VL-8B-Thinking",
        "hosted_vllm/zai-org/GLM-4.5V",
    ],
)
def test_a_model_that_reasons_within_its_limit_gets_room_and_time_for_it(name) -> None:
    """A judge that is cut off while it reasons never answers; as optimizer it has no limit anyway."""
    judge, optimizer = (make_lm(name, role=role).kwargs for role in ("judge", "optimizer"))
    assert (judge["temperature"], judge["max_tokens"], judge["timeout"]) == (0.0, 16_000, 300)
    assert (optimizer["temperature"], optimizer["max_tokens"], optimizer["timeout"]) == (1.0, None, 300)


@pytest.mark.parametrize("name", ["hosted_vllm/Qwen/Qwen3-VL-8B-Instruct", "ollama_chat/qwen2.5vl", "openai/gpt-4.1"])
def test_a_model_that_answers_at_once_is_cut_off_early(name) -> None:
    """One that repeats itself would else do so for long."""
    assert make_lm(name, role="judge").kwargs["max_tokens"] == 4000


def test_a_hung_call_ends_in_time_for_its_role() -> None:
    """A judge's answer is short; an optimizer's may follow on long reasoning. A given timeout wins, None included."""
    assert [make_lm("openai/m", role=role).kwargs["timeout"] for role in ("judge", "verbalizer")] == [120, 120]
    assert [make_lm("openai/m", role=role).kwargs["timeout"] for role in ("optimizer", None)] == [300, 300]
    assert make_lm("openai/m", role="judge", timeout=7).kwargs["timeout"] == 7
    assert make_lm("openai/m", role="judge", timeout=None).kwargs["timeout"] is None
    models = Models.named("openai/m", "embedded", timeout=9)
    assert (models.judge.kwargs["timeout"], models.optimizer.kwargs["timeout"]) == (9, 9)
    assert "timeout" not in models.verbalizer.kwargs


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), "long"])
def test_a_timeout_that_is_none_is_refused(timeout) -> None:
    """When the model is made, not at its first call."""
    with pytest.raises(BlpoError, match="timeout must be a"):
        make_lm("openai/m", role="judge", timeout=timeout)


@pytest.mark.parametrize("engine", ["lm15", "litellm"])
def test_a_hung_server_is_given_up_by_either_engine(engine) -> None:
    """As a failure that a retry may mend."""
    with start_server(Options(faults=Faults(ptimeout=1.0))) as address:
        lm = make_lm(
            "openai/embedded", api_base=address, role="judge", engine=engine, timeout=0.3, num_retries=0, cache=False
        )
        with pytest.raises((LMTransportError, LMTimeoutError)) as caught:
            lm("Describe the image.")
    assert dspy.is_retryable_lm_error(caught.value)


def test_options_win_over_the_role() -> None:
    """A given option replaces the role's, None included."""
    lm = make_lm("openai/gpt-4o", role="judge", temperature=None, max_tokens=50, cache=False, num_retries=1)
    assert (lm.kwargs["temperature"], lm.kwargs["max_tokens"]) == (None, 50)
    assert (lm.cache, lm.num_retries) == (False, 1)


@pytest.mark.parametrize("name", ["", "   "])
def test_an_empty_name_is_refused(name) -> None:
    """The message says what a name looks like."""
    with pytest.raises(BlpoError, match="model name is empty; write one such as openai/gpt-4o"):
        make_lm(name)


@pytest.mark.parametrize(("name", "lacking"), [("openai/", "model"), ("/gpt-4o", "provider"), ("/", "provider")])
def test_half_a_name_is_refused(name, lacking) -> None:
    """A provider without a model, and the reverse, are found before any call."""
    with pytest.raises(BlpoError, match=f"{name!r} lacks its {lacking}; write PROVIDER/MODEL"):
        make_lm(name)


def test_an_address_without_a_scheme_is_refused_with_what_to_write() -> None:
    """`localhost:8000` looks like a scheme to a URL parser; the message spells the address out."""
    with pytest.raises(BlpoError, match="no scheme; write http://localhost:8000/v1 or https://localhost:8000/v1"):
        make_lm("openai/m", api_base="localhost:8000/v1")


@pytest.mark.parametrize("api_base", ["", "ftp://host/v1", "http://", "http:///v1"])
def test_what_is_no_http_address_is_refused(api_base) -> None:
    """Only http(s) addresses with a host are taken."""
    with pytest.raises(BlpoError, match="not an http address; write one such as"):
        make_lm("openai/m", api_base=api_base)


def test_a_bare_name_at_a_server_of_ones_own_is_refused_with_what_to_write() -> None:
    """LiteLLM would fail at the first call, for want of a provider."""
    with pytest.raises(BlpoError, match="write openai/qwen for an OpenAI-compatible server"):
        make_lm("qwen", api_base="http://localhost:8000/v1")


def test_a_typing_error_in_the_name_of_the_offline_engine_is_told() -> None:
    """Which is not a model of a server."""
    with pytest.raises(BlpoError, match=r"lacks its provider; .* did you mean embedded\?"):
        make_lm("embeded")


@pytest.mark.parametrize("base", ["http://localhost:8000/v1", None])
def test_the_bare_id_of_a_model_on_the_hub_is_refused_with_what_to_write(base) -> None:
    """Its owner is not a provider, which LiteLLM would say at the first call only."""
    with pytest.raises(BlpoError, match=r"don't know, 'Qwen'; write openai/Qwen/Qwen2\.5-VL-32B-Instruct for"):
        make_lm("Qwen/Qwen2.5-VL-32B-Instruct", api_base=base)


def test_a_provider_that_only_litellm_knows_is_let_through() -> None:
    """Bedrock, say; an engine that can't reach it is named."""
    assert make_lm("bedrock/us.meta.llama4-scout-17b-instruct-v1:0", role="judge").kwargs["max_tokens"] == 4000
    with pytest.raises(BlpoError, match="cannot be reached with these options"):
        make_lm("bedrock/us.meta.llama4-scout-17b-instruct-v1:0", engine="lm15")


@pytest.mark.parametrize(
    ("given", "engine", "used"),
    [
        ("http://localhost:11434", "auto", "http://localhost:11434/v1"),
        ("http://localhost:11434/v1", "lm15", "http://localhost:11434/v1"),
        ("http://localhost:11434/v1/", "litellm", "http://localhost:11434"),
        ("https://host/ollama/v1", "auto", "https://host/ollama/v1"),
    ],
)
def test_the_address_of_ollama_suits_the_engine(given, engine, used) -> None:
    """One engine speaks its OpenAI-compatible protocol, below /v1, and the other its own; a longer path is left."""
    assert make_lm("ollama_chat/llava", api_base=given, engine=engine).kwargs["api_base"] == used


def test_the_address_of_one_service_is_refused_with_the_servers() -> None:
    """As it stands in many a tutorial."""
    with pytest.raises(BlpoError, match="write http://localhost:8000/v1, which it is below"):
        make_lm("openai/m", api_base="http://localhost:8000/v1/chat/completions")


def test_a_server_of_ones_own_needs_no_key(monkeypatch) -> None:
    """DSPy refuses an `openai/` model without a key; a given key, or the environment's, stands."""
    base = "http://localhost:8000/v1"
    assert make_lm("openai/m", api_base=base).kwargs["api_key"] == "EMPTY"
    assert make_lm("openai/m", api_base=base, api_key="mine").kwargs["api_key"] == "mine"
    assert "api_key" not in make_lm("openai/m").kwargs
    assert "api_key" not in make_lm("anthropic/m", api_base=base).kwargs
    monkeypatch.setenv("OPENAI_API_KEY", "from the environment")
    assert "api_key" not in make_lm("openai/m", api_base=base).kwargs


@pytest.mark.parametrize("key", [None, "secret"])
def test_a_server_of_ones_own_answers_over_http(key) -> None:
    """The address and the key, or none, are what the wire needs; the answers are the engine's own."""
    with start_server(Options(api_key=key)) as address:
        served = make_lm("openai/embedded", api_base=address, api_key=key, role="judge", num_retries=0)
        assert served("Describe the image.") == make_lm("embedded", role="judge")("Describe the image.")


def test_one_name_serves_all_roles() -> None:
    """The judge's model stands in, with each role's settings and the same server."""
    models = Models.named("openai/m", api_base="http://localhost:8000/v1", api_key="k")
    assert [lm.kwargs["temperature"] for lm in (models.judge, models.verbalizer, models.optimizer)] == [0.0, 0.0, 1.0]
    assert {lm.kwargs["api_base"] for lm in (models.judge, models.verbalizer, models.optimizer)} == {
        "http://localhost:8000/v1"
    }
    assert repr(models) == "Models(judge='openai/m', verbalizer='openai/m', optimizer='openai/m')"
    with pytest.raises(dataclasses.FrozenInstanceError):
        models.judge = models.optimizer


def test_an_empty_name_of_one_role_is_not_the_judges() -> None:
    """Only a name that is not given falls back."""
    with pytest.raises(BlpoError, match="model name is empty"):
        Models.named("openai/m", verbalizer="")


@pytest.mark.parametrize(
    ("name", "expected"), [("embedded", True), ("embedded?seed=3", True), ("embedded:bold", True), ("embedded2", False)]
)
def test_the_offline_engine_is_known_by_its_name(name, expected) -> None:
    """Nothing else begins with its name and a question mark or a colon."""
    assert is_embedded(name) is expected


def test_the_offline_engine_answers_alike_under_the_same_name() -> None:
    """Two models made from one name give one answer; so does a copy."""
    question = "Describe the image."
    first = make_lm("embedded?seed=3", role="optimizer", cache=False)
    second = make_lm("embedded?seed=3", role="optimizer", cache=False)
    assert first is not second
    assert first(question) == second(question) == copy.deepcopy(first)(question)


def test_a_name_chooses_the_temperament_of_the_offline_engine() -> None:
    """With a seed or without one; an unknown one is refused with those there are."""
    assert make_lm("embedded:bold?seed=3").model == embedded_lm(3, temperament="bold").model
    assert make_lm("embedded:careful").model == make_lm("embedded").model
    with pytest.raises(BlpoError, match="temperament='brave' is not one of careful, bold, bold-deaf"):
        make_lm("embedded:brave")


def test_the_offline_engine_takes_part_beside_a_server() -> None:
    """The address and the key go to the other roles only."""
    models = Models.named("openai/m", verbalizer="embedded", api_base="http://localhost:8000/v1")
    assert models.judge.kwargs["api_base"] == "http://localhost:8000/v1"
    assert "api_base" not in models.verbalizer.kwargs
    assert isinstance(models.verbalizer, dspy.LM)


@pytest.mark.parametrize("name", ["embedded?seed=", "embedded?seed=-1", "embedded?sed=3", "embedded?seed=3&x=1"])
def test_a_misspelt_seed_is_refused(name) -> None:
    """It never silently means seed 0."""
    with pytest.raises(BlpoError, match=r"write embedded, or embedded\?seed=3"):
        make_lm(name)


@pytest.mark.parametrize("connection", [{"api_base": "http://localhost:8000/v1"}, {"api_key": "k"}])
def test_the_offline_engine_has_no_address_and_no_key(connection) -> None:
    """It would go nowhere, so it is refused."""
    with pytest.raises(BlpoError, match="runs inside this process; leave out its address and key"):
        make_lm("embedded", **connection)


@pytest.mark.parametrize(
    ("given", "instead"),
    [
        ("openai/gpt-4o", "models='openai/gpt-4o' is not a Models object; write models=Models.named('openai/gpt-4o')"),
        (dspy.LM("openai/x", api_key="x"), "write models=Models(judge=lm, verbalizer=lm, optimizer=lm)"),
        (7, "models=7 is not a Models object"),
    ],
)
def test_what_is_given_in_place_of_models_is_one_error(given: Any, instead: str) -> None:
    """By the check that a workspace makes, too."""
    for check in (check_models, lambda models: Workspace(models=models)):
        with pytest.raises(BlpoError) as caught:
            check(given)
        assert instead in str(caught.value)
