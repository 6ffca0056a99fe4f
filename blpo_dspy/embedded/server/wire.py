"""The OpenAI chat format: a JSON body becomes an engine request, an engine response becomes JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dspy import lm15

from blpo_dspy.errors import BlpoError

_CHUNK = 64
_FINISH = {"stop": "stop", "length": "length"}


def to_request(body: Mapping[str, Any], *, sample: int = 0) -> lm15.Request:
    """Returns the request that a chat body states, the same that DSPy hands to an engine in process.

    From the second sample on, the choices differ by the seed.
    """
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(m, dict) for m in messages):
        raise BlpoError("'messages' must be a list of messages with role and content")
    system = [_text(m.get("content")) for m in messages if m.get("role") in ("system", "developer")]
    others = [m for m in messages if m.get("role") not in ("system", "developer")]
    if not others:
        raise BlpoError("'messages' holds no user message")
    seed = body.get("seed")
    if sample:
        seed = sample + (seed or 0)
    limit = body.get("max_completion_tokens", body.get("max_tokens"))
    for name, value in (("seed", seed), ("max_tokens", limit)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise BlpoError(f"{name!r} must be a whole number, got {value!r}")
    return lm15.Request(
        model=str(body.get("model") or "embedded"),
        system="\n".join(system) or None,
        messages=tuple(_message(m) for m in others),
        config=lm15.Config(seed=seed, max_tokens=limit, logprobs=0 if body.get("logprobs") else None),
    )


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.text for part in _parts(content) if part.type == "text")


def _message(message: Mapping[str, Any]) -> lm15.Message:
    parts = _parts(message.get("content"))
    if message.get("role") == "assistant":
        return lm15.Message.assistant(parts)
    if message.get("role") == "user":
        return lm15.Message.user(parts)
    raise BlpoError(f"role {message.get('role')!r} is not one of system, developer, user, assistant")


def _parts(content: Any) -> list[Any]:
    if isinstance(content, str):
        return [lm15.TextPart(content)]
    if not isinstance(content, list) or not content:
        raise BlpoError("a message's 'content' must be text or a list of parts")
    return [_part(part) for part in content]


def _part(part: Any) -> Any:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return lm15.TextPart(part["text"])
    if kind == "image_url":
        image = part.get("image_url")
        url = image.get("url") if isinstance(image, dict) else image
        if isinstance(url, str):
            return _image(url)
    raise BlpoError(f"content parts must be text or image_url, got {kind!r}")


def _image(url: str) -> Any:
    head, comma, data = url.partition(",")
    try:
        if not url.startswith("data:"):
            return lm15.ImagePart(url=url)
        if not comma or not head.endswith(";base64"):
            raise BlpoError("an image's data URI must read data:image/…;base64,…")
        return lm15.ImagePart(media_type=head[5:-7], data=data)
    except (ValueError, TypeError) as error:
        raise BlpoError(f"an image_url cannot be used: {error}") from error


def completion(responses: Sequence[lm15.Response], model: str) -> dict[str, Any]:
    """Returns the chat completion that holds one choice for each response."""
    return {
        "id": responses[0].id,
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [
            {
                "index": i,
                "message": {"role": "assistant", "content": _answer(response)},
                "finish_reason": _FINISH.get(response.finish_reason, "stop"),
                **({} if response.logprobs is None else {"logprobs": {"content": _tokens(response.logprobs)}}),
            }
            for i, response in enumerate(responses)
        ],
        "usage": usage_of(responses),
    }


def _tokens(logprobs: Sequence[lm15.TokenLogprob]) -> list[dict[str, Any]]:
    return [{**_token(token), "top_logprobs": [_token(top) for top in token.top]} for token in logprobs]


def _token(token: lm15.TokenLogprob | lm15.TopLogprob) -> dict[str, Any]:
    return {"token": token.token, "logprob": token.logprob, "bytes": list(token.bytes or ())}


def events(responses: Sequence[lm15.Response], model: str, *, usage: bool) -> Iterator[bytes]:
    """Yields the server-sent events of a streamed completion, the closing one included."""
    head = {"id": responses[0].id, "object": "chat.completion.chunk", "created": int(time.time()), "model": model}

    def event(choices: list[dict[str, Any]], **more: Any) -> bytes:
        return b"data: " + json.dumps({**head, "choices": choices, **more}).encode() + b"\n\n"

    for i, response in enumerate(responses):
        text = _answer(response)
        yield event([{"index": i, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}])
        for start in range(0, len(text), _CHUNK):
            delta = {"content": text[start : start + _CHUNK]}
            yield event([{"index": i, "delta": delta, "finish_reason": None}])
        yield event([{"index": i, "delta": {}, "finish_reason": _FINISH.get(response.finish_reason, "stop")}])
    if usage:
        yield event([], usage=usage_of(responses))
    yield b"data: [DONE]\n\n"


def error(message: str, kind: str) -> dict[str, Any]:
    """Returns an error body."""
    return {"error": {"message": message, "type": kind, "param": None, "code": kind}}


def _answer(response: lm15.Response) -> str:
    return "".join(part.text for part in response.message.parts if part.type == "text")


def contents_of(request: lm15.Request) -> dict[str, int]:
    """Returns how many images a request has, and the length of the longest word of its texts.

    Pixels in a text, rather than in an image, would be one very long word.
    """
    parts = [part for message in request.messages for part in message.parts]
    texts = [part.text for part in parts if part.type == "text"]
    texts += [request.system] if isinstance(request.system, str) else []
    longest = max((len(word) for text in texts for word in text.split()), default=0)
    return {"images": sum(part.type == "image" for part in parts), "longest_word": longest}


def usage_of(responses: Sequence[lm15.Response]) -> dict[str, int]:
    """Returns the tokens of the choices of one request."""
    sent = responses[0].usage.input_tokens or 0
    received = sum(response.usage.output_tokens or 0 for response in responses)
    return {"prompt_tokens": sent, "completion_tokens": received, "total_tokens": sent + received}
