"""OpenAI's answers: whole bodies and the chunks of a stream."""

import array
import base64
import hashlib
import json
from collections.abc import Iterator
from typing import Any

import orjson

from providers.simulator import answers, models
from providers.simulator.dialect import Reply

FINGERPRINT = "fp_gristmill1"
TIERS = {"flex": "flex", "priority": "priority", "fast": "priority", "scale": "scale"}


def whole(reply: Reply) -> bytes:
    render = {models.CHAT: _chat, models.TEXT: _text, models.EMBED: _embeddings}[reply.ask.endpoint]
    return _dumped(_with_usage(render(reply), reply.fault.usage))


def events(reply: Reply) -> Iterator[bytes]:
    """The usage chunk comes last, without choices, and only if it was asked for."""
    chat = reply.ask.endpoint == models.CHAT
    wanted = reply.ask.raw.get("stream_options") or {}
    head = _head(reply, "chat.completion.chunk" if chat else "text_completion")
    if wanted.get("include_usage"):
        head["usage"] = None
    for index, choice in enumerate(reply.answer.choices):
        for delta in _deltas(reply, choice, index) if chat else _text_deltas(reply, choice, index):
            chunk = {**head, "choices": [delta]}
            if chat and wanted.get("include_obfuscation", True):
                chunk["obfuscation"] = hashlib.md5(_dumped(delta), usedforsecurity=False).hexdigest()[:9]
            yield _event(chunk)
    if wanted.get("include_usage"):
        last = {**head, "choices": [], "usage": _usage(reply.answer.usage)}
        if chat and wanted.get("include_obfuscation", True):
            last["obfuscation"] = ""
        yield _event(_with_usage(last, reply.fault.usage))
    yield b"data: [DONE]\n\n"


def _head(reply: Reply, kind: str) -> dict[str, Any]:
    chat = reply.ask.endpoint == models.CHAT
    head: dict[str, Any] = {
        "id": ("chatcmpl-" if chat else "cmpl-") + reply.answer.id,
        "object": kind,
        "created": reply.created,
        "model": reply.ask.model,
        "system_fingerprint": FINGERPRINT,
    }
    if chat:
        head["service_tier"] = TIERS.get(reply.ask.raw.get("service_tier") or "", "default")
    return head


def _chat(reply: Reply) -> dict[str, Any]:
    choices = [
        {
            "index": index,
            "message": _message(reply, choice),
            "logprobs": _logprobs(reply, choice),
            "finish_reason": _finish(reply, choice),
        }
        for index, choice in enumerate(reply.answer.choices)
    ]
    return {**_head(reply, "chat.completion"), "choices": choices, "usage": _usage(reply.answer.usage)}


def _message(reply: Reply, choice: answers.Choice) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": choice.text, "refusal": choice.refusal}
    message["annotations"] = []
    if choice.calls and "functions" in reply.ask.raw:
        message["function_call"] = {"name": choice.calls[0].tool.name, "arguments": choice.calls[0].text}
    elif choice.calls:
        message["tool_calls"] = [_call(call) for call in choice.calls]
    return message


def _call(call: answers.ToolCall) -> dict[str, Any]:
    if call.tool.schema is None:
        return {"id": call.id, "type": "custom", "custom": {"name": call.tool.name, "input": call.text}}
    return {"id": call.id, "type": "function", "function": {"name": call.tool.name, "arguments": call.text}}


def _finish(reply: Reply, choice: answers.Choice) -> str:
    if choice.finish != "tool_calls":
        return choice.finish
    # A call that the caller forced by name ends with "stop".
    if isinstance(reply.ask.raw.get("tool_choice"), dict) and "allowed_tools" not in reply.ask.raw["tool_choice"]:
        return "stop"
    return "function_call" if "functions" in reply.ask.raw else "tool_calls"


def _logprobs(reply: Reply, choice: answers.Choice) -> dict[str, Any] | None:
    if not reply.ask.raw.get("logprobs"):
        return None
    listed = [_logprob(piece, reply.ask.raw.get("top_logprobs") or 0) for piece in choice.pieces]
    return {
        "content": None if choice.text is None else listed,
        "refusal": listed if choice.refusal is not None else None,
    }


def _logprob(piece: str, others: int) -> dict[str, Any]:
    top = [{**_token(name), "logprob": chance} for name, chance in _candidates(piece, others)]
    return {**_token(piece), "logprob": _chance(piece), "top_logprobs": top}


def _candidates(piece: str, count: int) -> list[tuple[str, float]]:
    """The piece itself first, the others ever less likely."""
    chance = _chance(piece)
    return [(piece if rank == 0 else f"{piece}{rank}", round(chance - rank * 0.75, 6)) for rank in range(count)]


def _chance(piece: str) -> float:
    return -(sum(piece.encode("utf-8", "replace")) % 997) / 1000


def _token(text: str) -> dict[str, Any]:
    return {"token": text, "bytes": list(text.encode("utf-8", "replace"))}


def _usage(usage: answers.Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _with_usage(body: dict[str, Any], how: str | None) -> dict[str, Any]:
    """As a fault asks: none null zero negative string."""
    if how == "none":
        body.pop("usage", None)
    elif how == "null":
        body["usage"] = None
    elif how is not None:
        names = [name for name, count in body["usage"].items() if isinstance(count, int)]
        body["usage"] = dict.fromkeys(names, {"zero": 0, "negative": -7, "string": "many"}[how])
    return body


def _deltas(reply: Reply, choice: answers.Choice, index: int) -> Iterator[dict[str, Any]]:
    def made(delta: dict[str, Any], piece: str | None = None, finish: str | None = None) -> dict[str, Any]:
        logprobs = None
        if reply.ask.raw.get("logprobs") and piece is not None:
            listed = [_logprob(piece, reply.ask.raw.get("top_logprobs") or 0)]
            refused = choice.refusal is not None
            logprobs = {"content": None if refused else listed, "refusal": listed if refused else None}
        return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}

    opening: dict[str, Any] = {"role": "assistant", "content": None if choice.calls else "", "refusal": None}
    yield made(opening)
    field = "content" if choice.refusal is None else "refusal"
    for piece in choice.pieces:
        yield made({field: piece}, piece)
    for place, call in enumerate(choice.calls):
        parts = answers.pieces(call.text)
        if "functions" in reply.ask.raw:
            yield made({"function_call": {"name": call.tool.name, "arguments": ""}})
            for part in parts:
                yield made({"function_call": {"arguments": part}})
            continue
        start = {"index": place, "id": call.id, "type": "function"}
        yield made({"tool_calls": [{**start, "function": {"name": call.tool.name, "arguments": ""}}]})
        for part in parts:
            yield made({"tool_calls": [{"index": place, "function": {"arguments": part}}]})
    yield made({}, finish=_finish(reply, choice))


def _text(reply: Reply) -> dict[str, Any]:
    choices = [
        {
            "index": index,
            "text": _echoed(reply, index) + (choice.text or ""),
            "logprobs": _text_logprobs(reply, choice.pieces),
            "finish_reason": choice.finish,
        }
        for index, choice in enumerate(reply.answer.choices)
    ]
    return {**_head(reply, "text_completion"), "choices": choices, "usage": _usage(reply.answer.usage)}


def _echoed(reply: Reply, index: int) -> str:
    prompt = reply.ask.inputs[index % len(reply.ask.inputs)] if reply.ask.inputs else ""
    return prompt if reply.ask.raw.get("echo") and isinstance(prompt, str) else ""


def _text_logprobs(reply: Reply, pieces: tuple[str, ...]) -> dict[str, Any] | None:
    count = reply.ask.raw.get("logprobs")
    if count is None:
        return None
    offsets = [0]
    for piece in pieces:
        offsets.append(offsets[-1] + len(piece))
    return {
        "tokens": list(pieces),
        "token_logprobs": [_chance(piece) for piece in pieces],
        "top_logprobs": [dict(_candidates(piece, count)) for piece in pieces],
        "text_offset": offsets[:-1],
    }


def _text_deltas(reply: Reply, choice: answers.Choice, index: int) -> Iterator[dict[str, Any]]:
    """The SDK's type demands a finish_reason that the wire sends as null until the last chunk."""
    for piece in (_echoed(reply, index), *choice.pieces):
        if piece:
            logprobs = _text_logprobs(reply, (piece,))
            yield {"index": index, "text": piece, "logprobs": logprobs, "finish_reason": None}
    yield {"index": index, "text": "", "logprobs": None, "finish_reason": choice.finish}


def _embeddings(reply: Reply) -> dict[str, Any]:
    ask = reply.ask
    packed = ask.raw.get("encoding_format") == "base64"
    data = []
    for index, given in enumerate(ask.inputs):
        vector: Any = answers.vector(given, ask.dimensions)
        if packed:
            vector = base64.b64encode(array.array("f", vector).tobytes()).decode()
        data.append({"object": "embedding", "index": index, "embedding": vector})
    used = reply.answer.usage.input_tokens
    usage = {"prompt_tokens": used, "total_tokens": used}
    return {"object": "list", "data": data, "model": ask.model, "usage": usage}


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + _dumped(chunk) + b"\n\n"


def _dumped(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:  # a lone surrogate, echoed
        return json.dumps(value).encode()
