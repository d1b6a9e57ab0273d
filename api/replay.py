"""A stored answer as the stream that its client asked for: server-sent events as OpenAI sends them."""

import json
from collections.abc import Iterator
from typing import Any

from providers import json_text

KIND = "text/event-stream"
HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}
"""No proxy may hold events back."""
KEEP_ALIVE = b": waiting\n\n"
DONE = b"data: [DONE]\n\n"

_COMMON = ("id", "created", "model", "system_fingerprint", "service_tier")


def events(body: bytes, *, with_usage: bool) -> Iterator[bytes]:
    """Of a successful chat completion or completion."""
    answer = json_text.loads(body)
    common = {name: answer[name] for name in _COMMON if name in answer}
    is_chat = answer.get("object") != "text_completion"
    common["object"] = "chat.completion.chunk" if is_chat else "text_completion"
    nothing: dict[str, Any] = {"usage": None} if with_usage else {}
    for choice in answer.get("choices") or ():
        for part in _chat_parts(choice) if is_chat else (choice,):
            yield _event({**common, "choices": [part], **nothing})
    if with_usage:
        yield _event({**common, "choices": [], "usage": answer.get("usage")})
    yield DONE


def failure(body: bytes) -> Iterator[bytes]:
    """An error that comes when the stream has already begun."""
    yield _event(json_text.loads(body))


def _chat_parts(choice: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The role, then everything that was said, then how it ended."""
    message = dict(choice.get("message") or {})
    index = choice.get("index", 0)
    rest = {name: value for name, value in choice.items() if name not in ("message", "index", "finish_reason")}
    role = message.pop("role", "assistant")
    yield {"index": index, "delta": {"role": role, "content": ""}, "finish_reason": None}
    if message.get("tool_calls"):
        message["tool_calls"] = [{"index": place, **call} for place, call in enumerate(message["tool_calls"])]
    said = {name: value for name, value in message.items() if value is not None and value != []}
    yield {"index": index, "delta": said, **rest, "finish_reason": None}
    yield {"index": index, "delta": {}, "finish_reason": choice.get("finish_reason")}


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"
