"""From a model's name to a `dspy.LM`, with the settings that suit its role."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
from dataclasses import dataclass
from typing import Any, Literal, get_args
from urllib.parse import urlsplit, urlunsplit

import dspy
from dspy.lm15 import LM15Error
from dspy.utils.exceptions import LMConfigurationError

from blpo_dspy.errors import BlpoError, check_kind
from blpo_dspy.models.credentials import SECRET_NAME
from blpo_dspy.models.seams import CLIENT_KEYS, litellm_module, select_backend

Role = Literal["judge", "verbalizer", "optimizer"]

# A judge and a verbalizer answer alike every time, and a small model that repeats itself is cut off. An optimizer has
# to propose different instructions, possibly after long reasoning.
_DEFAULTS: dict[Role, dict[str, Any]] = {
    "judge": {"temperature": 0.0, "max_tokens": 4000},
    "verbalizer": {"temperature": 0.0, "max_tokens": 4000},
    "optimizer": {"temperature": 1.0},
}
_TIMEOUT, _LONG_TIMEOUT = 120.0, 300.0
# Families that reason within the token limit before they answer; DSPy knows OpenAI's own. Of others its table, which it
# fetches, states whether they can reason, not whether they do by default.
_REASONING = re.compile(
    r"(.*\.)?(deepseek[.-]r\d|deepseek-reasoner|qwq|qvq|qwen3(?!.*instruct)|magistral|gpt-oss|grok-[4-9]|glm-4\.[5-9]v|"
    r"gemini-(2\.5|[3-9]|(flash|pro)-latest)|.*\bthinking\b)",
    re.I,
)
_REASONING_TOKENS = 16_000
_EMBEDDED = re.compile(r"embedded(?::([a-z-]+))?(?:\?seed=(\d+))?")
_OLLAMA = ("ollama/", "ollama_chat/")


def _checked_name(name: str) -> str:
    check_kind("name", name, str, "string", "one such as 'openai/gpt-4o'")
    if not name.strip():
        raise BlpoError("the model name is empty; write one such as openai/gpt-4o, or embedded for the offline engine")
    return name.strip()


def is_embedded(name: str) -> bool:
    """Whether a model name means the offline engine: `embedded`, `embedded:bold?seed=3`, or what its LMs are called."""
    return name == "embedded" or name.startswith(("embedded?", "embedded:", "embedded/"))


def make_lm(
    name: str, *, api_base: str | None = None, api_key: str | None = None, role: Role | None = None, **options: Any
) -> dspy.LM:
    """A DSPy language model by name.

    Args:
        name: Any DSPy or LiteLLM model string, such as `openai/gpt-4o` or `ollama_chat/llava`; or `embedded`
            (`embedded?seed=3`), the offline engine, for which the same name always gives the same answers. As an
            optimizer it changes little at a time; `embedded:bold` learns all that it is shown by heart where the prompt
            does not ask for rules that several mistakes share, `embedded:bold-deaf` even then.
        api_base: The http(s) address of a server of your own, such as `http://localhost:8000/v1`. An `openai/…` model
            there needs no key: without one, and with none in OPENAI_API_KEY, a placeholder is sent. Ollama's address
            may be given with or without its `/v1`.
        api_key: The key; by default the one in the provider's environment variable.
        role: What the model is for. `judge` and `verbalizer` get temperature 0 and at most 4000 tokens an answer
            (16,000 where the model is known to reason first), `optimizer` temperature 1 and the provider's own limit.
            OpenAI's reasoning models, which take nothing else, get temperature 1 and their own limit in every role.
            With no role the provider's defaults hold.
        **options: Options of `dspy.LM`, which win over those of the role; None leaves one to the provider. `timeout` is
            how many seconds an answer may take before the call counts as failed: 120 for a judge and a verbalizer,
            300 for models that reason first and for all else.

    Raises:
        BlpoError: The name is empty or incomplete or has no provider, the address is not one, or the role is unknown.
    """
    name = _checked_name(name)
    if role is not None and role not in get_args(Role):
        raise BlpoError(f"role={role!r} is unknown; choose one of {', '.join(get_args(Role))}")
    if is_embedded(name):
        return _embedded(name, api_base, api_key, options)
    provider, slash, model = name.partition("/")
    if slash and not (provider and model):
        raise BlpoError(f"model {name!r} lacks its {'model' if provider else 'provider'}; write PROVIDER/MODEL in full")
    connection = _connection(name, api_base, api_key, options)
    lm = dspy.LM(name, **{**_role_options(name, role), **connection, **options})
    _check_provider(lm, api_base)
    return lm


@dataclass(frozen=True)
class Models:
    """The language models of a run, one for each role; they are used as they are, never changed.

    Attributes:
        judge: Labels images.
        verbalizer: Describes images.
        optimizer: Writes instructions; it never sees an image.
    """

    judge: dspy.LM
    verbalizer: dspy.LM
    optimizer: dspy.LM

    def __repr__(self) -> str:
        return f"Models({', '.join(f'{role}={getattr(self, role).model!r}' for role in get_args(Role))})"

    @classmethod
    def named(
        cls,
        judge: str,
        verbalizer: str | None = None,
        optimizer: str | None = None,
        *,
        api_base: str | None = None,
        api_key: str | None = None,
        **options: Any,
    ) -> Models:
        """The three models by name; the judge's stands in for one that is not given.

        Args:
            judge: A model name as for `make_lm`.
            verbalizer: Likewise.
            optimizer: Likewise.
            api_base: The server of all of them, `embedded` excepted.
            api_key: The key of all of them, `embedded` excepted.
            **options: Options of all of them, `embedded` excepted, such as `timeout`; as for `make_lm`.

        Raises:
            BlpoError: As `make_lm`.
        """

        def make(name: str, role: Role) -> dspy.LM:
            if is_embedded(_checked_name(name)):
                return make_lm(name, role=role)
            return make_lm(name, api_base=api_base, api_key=api_key, role=role, **options)

        return cls(
            judge=make(judge, "judge"),
            verbalizer=make(judge if verbalizer is None else verbalizer, "verbalizer"),
            optimizer=make(judge if optimizer is None else optimizer, "optimizer"),
        )


def check_models(models: object) -> None:
    """Refuses what is given instead of `Models`, such as a name or an LM."""
    named = f"Models.named({models!r})" if isinstance(models, str) else "Models.named('openai/gpt-4o')"
    if isinstance(models, dspy.BaseLM):
        named = "Models(judge=lm, verbalizer=lm, optimizer=lm)"
    check_kind("models", models, Models, "Models object", f"models={named}")


def rollout_seed(lm: dspy.BaseLM, rollout: int) -> dict[str, int]:
    """Returns the seed by which a custom engine distinguishes the rollouts of a request; nothing for providers.

    Rollout ids end before the engine, so one that is deterministic would answer every rollout alike; providers draw by
    themselves, and some refuse a seed.
    """
    if isinstance(getattr(lm, "engine", "auto"), str):
        return {}
    return {"seed": (lm.kwargs.get("seed") or 0) + rollout}


def identity(lm: dspy.BaseLM) -> dict[str, Any]:
    """Returns what an LM's answers depend on, as plain data: neither its connection nor what may be a secret."""
    options = {k: v for k, v in sorted(lm.kwargs.items()) if k not in CLIENT_KEYS and not SECRET_NAME.search(k)}
    return {"model": lm.model, "type": lm.model_type, **{k: _described(v) for k, v in options.items()}}


def _described(option: Any) -> Any:
    """A plain option as it is; of any other a hash, as secrets may be in it, that is the same in every process."""
    if option is None or isinstance(option, (bool, int, float, str)):
        return option
    text = json.dumps(option, sort_keys=True, default=lambda value: type(value).__qualname__)
    return f"sha256 {hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _embedded(name: str, api_base: str | None, api_key: str | None, options: dict[str, Any]) -> dspy.LM:
    match = _EMBEDDED.fullmatch(name)
    if match is None:
        raise BlpoError(
            f"model {name!r} is not a name of the offline engine; write embedded, or embedded?seed=3, or "
            "embedded:bold?seed=3"
        )
    if api_base is not None or api_key is not None:
        raise BlpoError(f"model {name!r} runs inside this process; leave out its address and key")
    from blpo_dspy.embedded.engine import embedded_lm  # noqa: PLC0415 - NumPy and the photographs only where needed

    lm = embedded_lm(int(match[2] or 0), temperament=match[1] or "careful")
    return lm.copy(**options) if options else lm


def _connection(name: str, api_base: str | None, api_key: str | None, options: dict[str, Any]) -> dict[str, str]:
    connection = {}
    if api_base is not None:
        connection["api_base"] = _address(name, api_base, options.get("engine", "auto"))
        if "/" not in name and "custom_llm_provider" not in options:
            raise _no_provider(name, api_base)
        if api_key is None and name.startswith("openai/") and not os.environ.get("OPENAI_API_KEY"):
            api_key = "EMPTY"
    if api_key is not None:
        connection["api_key"] = api_key
    return connection


def _address(name: str, api_base: str, engine: str) -> str:
    parts = urlsplit(api_base)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        if "://" in api_base or not api_base.strip():
            raise BlpoError(f"api_base {api_base!r} is not an http address; write one such as http://localhost:8000/v1")
        raise BlpoError(f"api_base {api_base!r} has no scheme; write http://{api_base} or https://{api_base}")
    path = parts.path.rstrip("/")
    if path.endswith("/chat/completions"):
        shorter = urlunsplit(parts._replace(path=path.removesuffix("/chat/completions")))
        raise BlpoError(f"api_base {api_base!r} is one service of the server; write {shorter}, which it is below")
    if name.startswith(_OLLAMA) and path in ("", "/v1"):
        # LiteLLM speaks Ollama's own protocol, DSPy's lm15 engine its OpenAI-compatible one.
        return urlunsplit(parts._replace(path="" if engine == "litellm" else "/v1"))
    return api_base


def _check_provider(lm: dspy.LM, api_base: str | None) -> None:
    """Refuses a name that no engine can route, such as the bare id of a model on the Hugging Face Hub."""
    if not isinstance(lm.engine, str) or "custom_llm_provider" in lm.kwargs:
        return
    try:
        if select_backend(lm).native:
            return
    except (LM15Error, TypeError, ValueError) as error:
        raise BlpoError(f"model {lm.model!r} cannot be reached with these options: {error}") from error
    litellm = litellm_module()
    try:
        litellm.get_llm_provider(lm.model)
    except litellm.BadRequestError:
        raise _no_provider(lm.model, api_base) from None


def _no_provider(name: str, api_base: str | None) -> BlpoError:
    at = f" at {api_base}" if api_base else ""
    meant = "; or did you mean embedded?" if difflib.get_close_matches(name, ["embedded"]) else ""
    provider, slash, _ = name.partition("/")
    why = f"names a provider that DSPy and LiteLLM don't know, {provider!r}" if slash else "lacks its provider"
    return BlpoError(f"model {name!r}{at} {why}; write openai/{name} for an OpenAI-compatible server{meant}")


def _role_options(name: str, role: Role | None) -> dict[str, Any]:
    if role is None:
        return {"timeout": _LONG_TIMEOUT}
    if _only_its_own_sampling(name):
        return {"temperature": 1.0, "timeout": _LONG_TIMEOUT}
    if role == "optimizer":
        return {**_DEFAULTS[role], "timeout": _LONG_TIMEOUT}
    if _REASONING.match(name.rpartition("/")[2]):
        return {**_DEFAULTS[role], "max_tokens": _REASONING_TOKENS, "timeout": _LONG_TIMEOUT}
    return {**_DEFAULTS[role], "timeout": _TIMEOUT}


def _only_its_own_sampling(name: str) -> bool:
    """Whether DSPy knows the model as one that takes no temperature but 1 and no small token limit."""
    try:
        dspy.LM(name, temperature=0.5)
    except LMConfigurationError:
        return True
    return False
