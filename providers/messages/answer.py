"""A chat completion as a Message."""

import hashlib
import typing

from providers import json_text
from providers import usage as usages
from providers.messages.fields import Json

_REASONS = {
    "length": "max_tokens",
    "max_tokens": "max_tokens",
    "content_filter": "refusal",
    "refusal": "refusal",
}


def translated(data: Json, model: str, usage: usages.Usage | None) -> bytes:
    """One line. ``model`` stands where the provider names none. Raises TypeError, KeyError or AttributeError."""
    choice = data["choices"][0]
    message = choice["message"]
    calls = enumerate(message.get("tool_calls") or ())
    reason, sequence = _stop(choice, message)
    return json_text.dumps(
        {
            "id": _id(data),
            "type": "message",
            "role": "assistant",
            "model": data["model"] if isinstance(data.get("model"), str) else model,
            "content": [*_thoughts(message), *_texts(message), *(_tool_use(*call) for call in calls)],
            "stop_reason": reason,
            "stop_sequence": sequence,
            "usage": _usage(usage),
        }
    )


def _id(data: Json) -> str:
    said = data.get("id")
    if isinstance(said, str) and said:
        return said if said.startswith("msg_") else f"msg_{said}"
    return f"msg_{hashlib.sha256(json_text.dumps(data)).hexdigest()[:24]}"


def _stop(choice: Json, message: Json) -> tuple[str, str | None]:
    """Which sequence ended the answer is told by few servers (vLLM: the choice's stop_reason)."""
    said, matched = choice.get("finish_reason"), choice.get("stop_reason")
    if reason := _REASONS.get(said or ""):
        return reason, None
    if message.get("refusal") and not message.get("content"):
        return "refusal", None
    if message.get("tool_calls"):
        return "tool_use", None
    return ("stop_sequence", matched) if isinstance(matched, str) and matched else ("end_turn", None)


def _thoughts(message: Json) -> list[Json]:
    said = message.get("reasoning_content") or message.get("reasoning")
    return [{"type": "thinking", "thinking": said, "signature": ""}] if isinstance(said, str) else []


def _texts(message: Json) -> list[Json]:
    said = message.get("content") or message.get("refusal") or ()
    parts = [{"type": "text", "text": said}] if isinstance(said, str) else said
    return [{"type": "text", "text": part["text"]} for part in parts if part["type"] == "text"]


def _tool_use(place: int, call: Json) -> Json:
    function = call["function"]
    return {
        "type": "tool_use",
        "id": str(call.get("id") or f"call_{place}"),
        "name": str(function["name"]),
        "input": _input(function.get("arguments") or "{}"),
    }


def _input(arguments: typing.Any) -> Json:
    """Arguments that are no object, or were cut off, are kept as the text that came."""
    try:
        read = json_text.loads(arguments.encode()) if isinstance(arguments, str) else arguments
    except ValueError:
        read = None
    return read if isinstance(read, dict) else {"raw_arguments": arguments}


def _usage(usage: usages.Usage | None) -> Json:
    """In Anthropic's meaning: what was read from or written to a cache is not part of input_tokens."""
    if usage is None:
        return {"input_tokens": 0, "output_tokens": 0}
    return {
        "input_tokens": usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"thinking_tokens": usage.reasoning_tokens},
    }
