"""A provider's batch endpoint: files of requests that are answered within a day, at a lower price.

LiteLLM makes the requests to it: it carries OpenAI's endpoint, servers with the same one, Azure, Vertex AI and xAI.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

import dspy
from dspy.lm15 import LM15Error

from blpo_dspy.errors import BlpoError, ModelError, brief
from blpo_dspy.models.credentials import secrets_of, without_secrets
from blpo_dspy.models.seams import CLIENT_KEYS, litellm_errors, litellm_module, select_backend

MOST_REQUESTS = 50_000
LARGEST_FILE = 200_000_000
"""What OpenAI takes in one file, in requests and bytes; no other provider takes more."""

# Providers whose list of batches LiteLLM carries: without it, a submission cut short could be made twice.
_LISTED = ("openai", "azure", "vertex_ai", "xai", "hosted_vllm", "litellm_proxy")
# Providers that take OpenAI's requests for single answers, and others for batches.
_OF_THEIR_OWN = ("xai",)
# The path of a single request where it is not OpenAI's.
_CHAT = {"azure": "/chat/completions"}
_OVER = ("completed", "failed", "expired", "cancelled")
_PATHS = ("/chat/completions", "/responses")
_PAGE = 100
_TIMEOUT = 600.0
_PASSING = (408, 409, 425, 429)
# Where the first requests to it meet such a status, there is no endpoint.
_FIRST, _MISSING = ("create_file", "create_batch"), (404, 405, 501)


class BatchEndpointError(ModelError):
    """A request to a batch endpoint that failed; its HTTP status is None where no answer came."""

    def __init__(self, text: str, status: int | None) -> None:
        super().__init__(text, option=("batch_api", "abandon"))
        self.status = status

    @property
    def passing(self) -> bool:
        """Whether the same request may succeed later."""
        return self.status is None or self.status in _PASSING or self.status >= 500

    @property
    def refused(self) -> bool:
        """Whether the request certainly had no effect."""
        return self.status is not None and self.status < 500 and self.status not in (408, 409)


@dataclass(frozen=True)
class BatchState:
    """Where a batch stands.

    Attributes:
        id: Its name at the provider.
        status: OpenAI's word for it.
        total: How many requests it has; 0 where the provider does not say so (yet).
        completed: How many of them were answered.
        failed: How many of them failed.
        files: The files with answers and with failures.
        problems: Why it failed as a whole, with the provider's codes.
    """

    id: str
    status: str
    total: int
    completed: int
    failed: int
    files: tuple[str, ...]
    problems: Mapping[str, str]

    @property
    def over(self) -> bool:
        """Whether nothing more will come of it."""
        return self.status in _OVER


@dataclass(frozen=True)
class BatchEndpoint:
    """The batch endpoint behind a model: LiteLLM's name of its provider, and the options of the connection.

    The path is that of a single request, such as "/v1/chat/completions".
    """

    model: str
    provider: str
    path: str
    options: Mapping[str, Any]

    def upload(self, name: str, file: IO[bytes]) -> str:
        """Uploads a file of requests and returns its name at the provider."""
        uploaded = self._ask("create_file", file=(name, file, "application/jsonl"), purpose="batch")
        return self._text(uploaded, "id")

    def create(self, file: str, name: str) -> BatchState:
        """Submits the requests of a file, under a name in the metadata of the batch.

        Raises:
            BatchEndpointError: If that fails, or no answer came: then the batch may be there all the same.
        """
        named = {"input_file_id": file, "metadata": {"name": name}}
        return self._state(self._ask("create_batch", completion_window="24h", endpoint=self.path, **named))

    def find(self, file: str, name: str, since: float) -> BatchState | None:
        """Returns the batch that was made of a file at a time (in seconds since 1970) or later, None if there is none.

        It is found by its name, too, as not every provider lists the file.
        """
        for batch in self._listed():
            named = (getattr(batch, "metadata", None) or {}).get("name")
            if name == named or file == getattr(batch, "input_file_id", None):
                return self._state(batch)
            if (getattr(batch, "created_at", None) or since) < since:
                return None
        return None

    def _listed(self) -> Iterator[Any]:
        after: dict[str, str] = {}
        while True:
            page = self._ask("list_batches", limit=_PAGE, **after)
            found = getattr(page, "data", None)
            if not isinstance(found, list):  # else what is there would be taken for what isn't
                raise self._unreadable(page)
            yield from found
            if not found or not getattr(page, "has_more", False):
                return
            after = {"after": found[-1].id}

    def state(self, batch: str) -> BatchState:
        """Returns where a batch stands."""
        return self._state(self._ask("retrieve_batch", batch_id=batch))

    def content(self, file: str) -> bytes:
        """Returns the content of a file."""
        found = self._ask("file_content", file_id=file)
        content = found if isinstance(found, bytes) else getattr(found, "content", None)
        if not isinstance(content, bytes):
            raise self._unreadable(found)
        return content

    def _ask(self, function: str, **arguments: Any) -> Any:
        litellm = litellm_module()
        import openai  # noqa: PLC0415 - slow to import, and LiteLLM has imported it by now

        options = {"timeout": _TIMEOUT, **self.options, **arguments, "custom_llm_provider": self.provider}
        try:
            with litellm_errors(model=self.model):
                return getattr(litellm, function)(**options, max_retries=0)
        except (LM15Error, openai.OpenAIError) as error:
            without_secrets(error, secrets_of(self.options))
            status = getattr(error, "status", None) or getattr(error, "status_code", None)
            text = getattr(error, "message", None) or str(error)
            problem = f"the batch endpoint of {self.model} failed: {brief(text, 500)}"
            if function in _FIRST and status in _MISSING:
                problem = (
                    f"{self.model}: there is no batch endpoint at {self.options.get('api_base') or self.provider} (it "
                    f"answers {status}); leave out batch_api=True, or name a model of a provider that has one"
                )
            raise BatchEndpointError(problem, status) from error
        except (AttributeError, TypeError, ValueError) as error:  # LiteLLM reads an answer of another shape unchecked
            raise self._unreadable(error) from error

    def _unreadable(self, answer: object) -> BatchEndpointError:
        text = f"the answer of the batch endpoint of {self.model} cannot be read: {brief(repr(answer))}"
        return BatchEndpointError(text, None)

    def _text(self, answer: Any, part: str) -> str:
        text = getattr(answer, part, None)
        if not isinstance(text, str) or not text:
            raise self._unreadable(answer)
        return text

    def _state(self, batch: Any) -> BatchState:
        counts, errors = getattr(batch, "request_counts", None), getattr(batch, "errors", None)
        problems = getattr(errors, "data", None) or ()
        names = (getattr(batch, part, None) for part in ("output_file_id", "error_file_id"))
        return BatchState(
            id=self._text(batch, "id"),
            status=self._text(batch, "status"),
            total=getattr(counts, "total", None) or 0,
            completed=getattr(counts, "completed", None) or 0,
            failed=getattr(counts, "failed", None) or 0,
            files=tuple(str(name) for name in names if name),
            problems={str(getattr(one, "code", "")): str(getattr(one, "message", "")) for one in problems},
        )


def endpoint_at(lm: dspy.LM, url: str, headers: Mapping[str, str]) -> BatchEndpoint | None:
    """Returns the endpoint beside the address to which a request of DSPy's own engine goes.

    None where requests to it are not those of OpenAI, or batches aren't. Names of headers are in lower case.
    """
    if lm.model.partition("/")[0] in _OF_THEIR_OWN:
        return None
    for path in _PATHS:
        if url.endswith(path):
            key = headers.get("authorization", "").partition(" ")[2]
            options = {"api_base": url.removesuffix(path), "api_key": key or "EMPTY"}
            return BatchEndpoint(lm.model, "openai", f"/v1{path}", options)
    return None


def endpoint_of(lm: dspy.LM) -> tuple[BatchEndpoint, str]:
    """Returns the endpoint that LiteLLM carries for a model, and what it calls the model."""
    litellm = litellm_module()
    name, provider, *_ = litellm.get_llm_provider(lm.model)
    if provider not in _LISTED or lm.model_type != "chat":
        raise BlpoError(
            f"{lm.model}: {provider} has no batch endpoint for such requests that LiteLLM carries with a list of "
            f"batches, which is needed to resume (it does for {', '.join(_LISTED)}); leave out batch_api=True",
            option="batch_api",
        )
    options = {name: value for name, value in lm.kwargs.items() if name in CLIENT_KEYS and value is not None}
    return BatchEndpoint(lm.model, provider, _CHAT.get(provider, "/v1/chat/completions"), options), name


def check_batched(lm: dspy.BaseLM) -> bool:
    """Returns whether DSPy's own engine makes the requests of a model."""
    # A subclass may send requests by itself, an engine of its own answers them.
    if type(lm) is not dspy.LM or not isinstance(lm.engine, str) or lm.model_type == "text":
        raise BlpoError(
            f"{lm.model}: a model that makes its own connection, or answers in this process, has no batch endpoint; "
            "leave out batch_api=True, or name a model of a provider that has one",
            option="batch_api",
        )
    return bool(select_backend(lm).native)


def body_of(arguments: Mapping[str, Any]) -> bytes:
    """Returns the body of a request with these arguments of LiteLLM, as OpenAI's endpoint takes it."""
    left_out = CLIENT_KEYS | {"cache", "n", "num_retries"}
    kept = {name: value for name, value in arguments.items() if name not in left_out and value is not None}
    return json.dumps(kept, ensure_ascii=False).encode()
