"""The body of a Messages request as a chat completion's."""

from providers import json_text
from providers.messages import conversation, tools
from providers.messages.fields import Fields, Json

_EFFORTS = ("low", "medium", "high", "xhigh", "max")


def translated(body: bytes, model: str, *, limit: str = "max_tokens") -> bytes:
    """``limit`` is the provider's word for the most output tokens. Raises Refused: nothing is dropped silently."""
    request = Fields(json_text.loads(body))
    request.take("model")
    made: Json = {"model": model, "messages": conversation.translated(request), limit: _most_tokens(request)}
    for name in ("temperature", "top_p"):
        value = request.take(name, int, float)
        if value is not None:
            made[name] = value
    if stops := request.strings("stop_sequences"):
        made["stop"] = stops
    made |= tools.translated(request) | _output(request) | _manners(request)
    _check_thinking(request)
    request.close()
    return json_text.dumps(made)


def _most_tokens(request: Fields) -> int:
    most = request.need("max_tokens", int)
    if most < 1:
        raise request.refused("max_tokens", "must be at least 1")
    return int(most)


def _output(request: Fields) -> Json:
    """How hard to think, and in which form to answer."""
    output = Fields(request.take("output_config", dict) or {}, "output_config")
    effort, form = output.one_of("effort", *_EFFORTS), output.take("format", dict)
    output.close()
    made: Json = {} if effort is None else {"reasoning_effort": effort}
    if form is not None:
        shape = Fields(form, "output_config.format")
        shape.need_one_of("type", "json_schema")
        schema = {"name": "answer", "schema": shape.need("schema", dict), "strict": True}
        made["response_format"] = {"type": "json_schema", "json_schema": schema}
        shape.close()
    return made


def _manners(request: Fields) -> Json:
    """Who asks, and on which tier. What only steers caching and streaming has no effect on the answer."""
    made: Json = {}
    metadata = Fields(request.take("metadata", dict) or {}, "metadata")
    user = metadata.take("user_id", str)
    metadata.close()
    if user is not None:
        made["user"] = user
    if request.one_of("service_tier", "auto", "standard_only") == "standard_only":
        made["service_tier"] = "default"
    request.one_of("speed", "standard")
    request.take("cache_control")
    if request.take("stream", bool):
        raise request.refused("stream", "a batch cannot stream; leave it out")
    return made


def _check_thinking(request: Fields) -> None:
    """``adaptive`` and ``disabled`` leave it to the model, as OpenAI's dialect does; a budget cannot be said in it."""
    thinking = request.take("thinking", dict)
    if thinking is not None and thinking.get("type") not in ("adaptive", "disabled"):
        raise request.refused("thinking", "a budget cannot be passed on to this provider; use output_config.effort")
