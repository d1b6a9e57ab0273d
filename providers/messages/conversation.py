"""The system prompt and the messages of a request."""

from providers import json_text
from providers.messages import content
from providers.messages.fields import Fields, Json, Refused

ERROR = "Error: "
"""Begins the result of a tool that failed: OpenAI's dialect has no other mark for it."""

_THOUGHTS = ("thinking", "redacted_thinking")


def translated(request: Fields) -> list[Json]:
    """In OpenAI's roles. Raises Refused."""
    made: list[Json] = []
    system = request.take("system", str, list)
    if system:
        made.append({"role": "system", "content": content.texts(system, "system")})
    messages = [Fields(one, f"messages.{place}") for place, one in enumerate(request.need("messages", list))]
    if not messages:
        raise Refused("messages", "at least one message is required")
    for message in messages:
        made += _message(message)
    if made[-1]["role"] == "assistant":
        raise Refused(
            "messages", "the last message must be the user's: this provider cannot continue an assistant's message"
        )
    return made


def _message(message: Fields) -> list[Json]:
    role = message.need_one_of("role", "user", "assistant", "system")
    said = message.need("content", str, list)
    message.close()
    where = message.at("content")
    match role:
        case "system":
            return [{"role": role, "content": content.texts(said, where)}]
        case _ if isinstance(said, str):
            return [{"role": role, "content": said}]
        case "user":
            return _user(content.blocks(said, where))
    return [_assistant(content.blocks(said, where))]


def _user(blocks: list[Fields]) -> list[Json]:
    """Results of tools are messages of their own, and stand first in both dialects."""
    results: list[Json] = []
    parts: list[Json] = []
    for block in blocks:
        kind = content.kind(block)
        if kind != "tool_result":
            parts.append(content.part(block, kind))
        elif parts:
            raise block.refused("type", "tool_result blocks must come before all others of a message")
        else:
            results.append(_tool_result(block))
    return results + ([{"role": "user", "content": content.folded(parts)}] if parts or not results else [])


def _assistant(blocks: list[Fields]) -> Json:
    """Thoughts are left out, as Anthropic leaves out those of earlier turns."""
    parts: list[Json] = []
    calls: list[Json] = []
    for block in blocks:
        kind = content.kind(block)
        if kind == "tool_use":
            calls.append(_tool_use(block))
        elif kind not in _THOUGHTS:
            parts.append(content.part(block, kind, images=False))
    made: Json = {"role": "assistant", "content": content.folded(parts) if parts or not calls else None}
    return made | {"tool_calls": calls} if calls else made


def _tool_use(block: Fields) -> Json:
    caller = block.take("caller", dict)
    if caller is not None and caller.get("type") != "direct":
        raise block.refused("caller", "only tools that the model calls directly can be passed on")
    arguments = json_text.dumps(block.need("input", dict)).decode()
    made = {
        "id": block.need("id", str),
        "type": "function",
        "function": {"name": block.need("name", str), "arguments": arguments},
    }
    block.close()
    return made


def _tool_result(block: Fields) -> Json:
    id, failed = block.need("tool_use_id", str), block.take("is_error", bool)
    said = block.take("content", str, list)
    block.close()
    made = content.texts(said or "", block.at("content"))
    return {"role": "tool", "tool_call_id": id, "content": _marked(made) if failed else made}


def _marked(said: content.Content) -> content.Content:
    if isinstance(said, str):
        return ERROR + said
    return [{"type": "text", "text": ERROR}, *said]
