"""How OpenAI reads a request: what it refuses beyond its shape, and what is asked."""

import json
from typing import Any

import orjson

from providers.simulator import answers, models
from providers.simulator.ask import Ask, Tool
from providers.simulator.dialect import Refusal, Route
from providers.simulator.dialects import openai_requests
from providers.simulator.dialects.openai_requests import INVALID

UNSUPPORTED = "unsupported_parameter"
UNPARSED = (
    "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP library "
    "correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON.)"
)
EFFORTS = {"none": 0.0, "minimal": 0.25, "low": 0.5, "medium": 1.0, "high": 3.0, "xhigh": 6.0, "max": 12.0}
VERBOSITIES = {"low": 0.5, "medium": 1.0, "high": 2.0}


def read(route: Route, body: bytes) -> Ask:
    raw = _parsed(body)
    shapes = {models.CHAT: openai_requests.CHAT, models.TEXT: openai_requests.TEXT}
    openai_requests.check(shapes.get(route.endpoint, openai_requests.EMBEDDINGS), raw)
    family = models.find(raw["model"])
    if family is None:
        raise unknown(raw["model"])
    if route.endpoint not in family.endpoints:
        raise _misused(raw["model"], route.endpoint)
    read = {models.CHAT: _read_chat, models.TEXT: _read_text, models.EMBED: _read_embeddings}[route.endpoint]
    return read(raw, body, family)


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        raw = orjson.loads(body)
    except ValueError:
        # The standard library accepts what orjson does not: lone surrogates, huge integers.
        try:
            raw = json.loads(body, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            raise Refusal(400, UNPARSED, type=INVALID) from None
    if not isinstance(raw, dict):
        raise Refusal(400, UNPARSED, type=INVALID)
    return raw


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def unknown(model: str) -> Refusal:
    message = f"The model `{model}` does not exist or you do not have access to it."
    return Refusal(404, message, type=INVALID, code="model_not_found", reason="model")


def _misused(model: str, endpoint: str) -> Refusal:
    if endpoint == models.EMBED:
        message = "You are not allowed to generate embeddings from this model"
        return Refusal(403, message, type=INVALID, reason="model")
    if endpoint == models.CHAT:
        message = "This is not a chat model and thus not supported in the v1/chat/completions endpoint. "
        message += "Did you mean to use v1/completions?"
    else:
        message = "This is a chat model and not supported in the v1/completions endpoint. "
        message += "Did you mean to use v1/chat/completions?"
    return Refusal(404, message, type=INVALID, param="model", reason="model")


def _bad(message: str, param: str, code: str | None = None) -> Refusal:
    return Refusal(400, message, type=INVALID, param=param, code=code)


def _read_chat(raw: dict[str, Any], body: bytes, family: models.Model) -> Ask:
    _check_sampling(raw, family)
    _check_messages(raw["messages"])
    form = _format(raw)
    tools, calls = _tools(raw)
    counts = [_count_message(message) for message in raw["messages"]]
    used = sum(counts) + 3 + sum(answers.tokens(orjson.dumps(tool).decode()) for tool in raw.get("tools") or ())
    most = raw.get("max_completion_tokens") or raw.get("max_tokens")
    _check_length(raw, family, used, most)
    stop = raw.get("stop")
    earlier = sum(counts[:-1])
    return Ask(
        endpoint=models.CHAT,
        model=raw["model"],
        family=family,
        body=body,
        raw=raw,
        text=_last_text(raw["messages"]),
        input_tokens=used,
        cached_tokens=earlier // 128 * 128 if used >= 1024 else 0,
        stream=bool(raw.get("stream")),
        choices=raw.get("n") or 1,
        max_tokens=most,
        stops=(stop,) if isinstance(stop, str) else tuple(stop or ()),
        format=form,
        tools=tools,
        calls=calls,
        effort=EFFORTS[raw.get("reasoning_effort") or "medium"],
        verbosity=VERBOSITIES[raw.get("verbosity") or "medium"],
    )


def _check_sampling(raw: dict[str, Any], family: models.Model) -> None:
    if raw.get("stream_options") is not None and not raw.get("stream"):
        raise _bad("The 'stream_options' parameter is only allowed when 'stream' is enabled.", "stream_options")
    if raw.get("top_logprobs") is not None and not raw.get("logprobs"):
        raise _bad("The 'logprobs' parameter must be enabled when 'top_logprobs' is used.", "top_logprobs")
    if raw.get("max_tokens") and raw.get("max_completion_tokens"):
        message = "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported."
        raise _bad(message, "max_tokens", "invalid_parameter_combination")
    for name in ("moderation", "web_search_options", "audio"):
        if raw.get(name) is not None:
            raise _bad(f"Unsupported parameter: '{name}' is not supported with this model.", name, UNSUPPORTED)
    if "audio" in (raw.get("modalities") or ()):
        raise _bad("Invalid value: 'audio'. Supported values are: 'text'.", "modalities[0]", "invalid_value")
    if family.reasons:
        _check_reasoner(raw)
    elif raw.get("reasoning_effort") is not None:
        raise Refusal(400, "Unrecognized request argument supplied: reasoning_effort", type=INVALID)


def _check_reasoner(raw: dict[str, Any]) -> None:
    if raw.get("max_tokens") is not None:
        message = "Unsupported parameter: 'max_tokens' is not supported with this model. "
        raise _bad(f"{message}Use 'max_completion_tokens' instead.", "max_tokens", UNSUPPORTED)
    for name, only in (("temperature", 1), ("top_p", 1), ("presence_penalty", 0), ("frequency_penalty", 0)):
        if raw.get(name) is not None and raw[name] != only:
            message = f"Unsupported value: '{name}' does not support {raw[name]} with this model. "
            raise _bad(f"{message}Only the default ({only}) value is supported.", name, "unsupported_value")
    for name in ("stop", "logprobs", "top_logprobs", "logit_bias", "prediction"):
        if raw.get(name):
            raise _bad(f"Unsupported parameter: '{name}' is not supported with this model.", name, UNSUPPORTED)


def _check_messages(messages: list[dict[str, Any]]) -> None:
    """Each call of a tool has its answer, and each answer its call."""
    open_calls: dict[str, int] = {}
    for at, message in enumerate(messages):
        if message["role"] == "tool":
            if open_calls.pop(message["tool_call_id"], None) is None:
                words = "Invalid parameter: messages with role 'tool' must be a response to a preceeding message "
                raise _bad(f"{words}with 'tool_calls'.", f"messages.[{at}].role")
            continue
        if open_calls:
            break
        if message["role"] == "assistant":
            open_calls = {call["id"]: at for call in message.get("tool_calls") or ()}
            if not open_calls and all(message.get(name) is None for name in ("content", "refusal", "function_call")):
                words = "Invalid value for 'content': expected a string, got null."
                raise _bad(words, f"messages.[{at}].content")
    if open_calls:
        words = "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
        words += f"'tool_call_id'. The following tool_call_ids did not have response messages: {', '.join(open_calls)}"
        raise _bad(words, f"messages.[{min(open_calls.values()) + 1}].role")


def _format(raw: dict[str, Any]) -> str | dict[str, Any]:
    given = raw.get("response_format") or {"type": "text"}
    if given["type"] == "json_object":
        if "json" not in json.dumps(raw["messages"]).lower():
            words = (
                "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'."
            )
            raise _bad(words, "messages")
        return "json"
    if given["type"] != "json_schema":
        return "text"
    name, schema = given["json_schema"]["name"], given["json_schema"].get("schema", {})
    if given["json_schema"].get("strict"):
        _check_strict(schema, f"Invalid schema for response_format '{name}'", "response_format", ())
        if schema.get("type") != "object":
            words = f"Invalid schema for response_format '{name}': schema must be a JSON Schema of 'type: \"object\"', "
            raise _bad(f"{words}got 'type: \"{schema.get('type')}\"'.", "response_format")
    return dict(schema)


def _check_strict(schema: Any, opening: str, param: str, at: tuple[str, ...]) -> None:
    """Strict schemas close every object and require every property."""
    if not isinstance(schema, dict):
        return
    if schema.get("type") == "object":
        properties = schema.get("properties") or {}
        if schema.get("additionalProperties") is not False:
            raise _bad(
                f"{opening}: In context={at}, 'additionalProperties' is required to be supplied and to be false.", param
            )
        missing = [name for name in properties if name not in (schema.get("required") or ())]
        if missing:
            words = "'required' is required to be supplied and to be an array including every key in properties. "
            raise _bad(f"{opening}: In context={at}, {words}Missing '{missing[0]}'.", param)
        for name, inner in properties.items():
            _check_strict(inner, opening, param, (*at, "properties", name))
    _check_strict(schema.get("items"), opening, param, (*at, "items"))
    for group in ("$defs", "definitions"):
        for name, inner in (schema.get(group) or {}).items():
            _check_strict(inner, opening, param, (*at, group, name))
    for index, inner in enumerate(schema.get("anyOf") or ()):
        _check_strict(inner, opening, param, (*at, "anyOf", str(index)))


def _tools(raw: dict[str, Any]) -> tuple[tuple[Tool, ...], int]:
    """The tools that may be called, and 0, 1 or 2 for how many calls to make."""
    if "functions" in raw:
        return _functions(raw)
    choice = raw.get("tool_choice", "auto" if raw.get("tools") else None)
    if "tools" not in raw:
        for name in ("tool_choice", "parallel_tool_calls"):
            if name in raw:
                words = f"Invalid value for '{name}': '{name}' is only allowed when 'tools' are specified."
                raise _bad(words, name)
        return (), 0
    found = {}
    for at, tool in enumerate(raw["tools"]):
        inner = tool[tool["type"]]
        found[inner["name"]] = Tool(
            name=inner["name"], schema=None if tool["type"] == "custom" else inner.get("parameters", {"type": "object"})
        )
        if inner.get("strict"):
            opening = f"Invalid schema for function '{inner['name']}'"
            _check_strict(inner.get("parameters"), opening, f"tools[{at}].function.parameters", ())
    names, mode = list(found), choice
    if isinstance(choice, dict) and choice["type"] == "allowed_tools":
        mode = choice["allowed_tools"]["mode"]
        names = [_name_of(tool) for tool in choice["allowed_tools"]["tools"]]
    elif isinstance(choice, dict):
        mode, names = "required", [_name_of(choice)]
    for name in names:
        if name not in found:
            raise _bad(f"Invalid value for 'tool_choice': tool '{name}' not found in 'tools'.", "tool_choice")
    usable = [found[name] for name in names if found[name].schema is not None or not raw.get("stream")]
    answered = raw["messages"][-1]["role"] in ("tool", "function")
    if mode == "none" or not usable or (mode == "auto" and answered):
        return (), 0
    return tuple(usable), 1 if raw.get("parallel_tool_calls") is False or isinstance(choice, dict) else 2


def _name_of(tool: dict[str, Any]) -> str:
    inner = tool.get(str(tool.get("type")))
    return str(inner.get("name")) if isinstance(inner, dict) else "?"


def _functions(raw: dict[str, Any]) -> tuple[tuple[Tool, ...], int]:
    choice = raw.get("function_call", "auto")
    found = [Tool(name=each["name"], schema=each.get("parameters", {"type": "object"})) for each in raw["functions"]]
    if isinstance(choice, dict):
        found = [tool for tool in found if tool.name == choice["name"]]
        if not found:
            raise _bad(f"Invalid value for 'function_call': no function named '{choice['name']}'.", "function_call")
    elif choice == "none" or raw["messages"][-1]["role"] == "function":
        return (), 0
    return tuple(found), 1


def _count_message(message: dict[str, Any]) -> int:
    content = message.get("content")
    used = 4 + (answers.tokens(content) if isinstance(content, str) else 0)
    if isinstance(content, list):
        for part in content:
            if part["type"] == "image_url":
                used += 85 if part["image_url"].get("detail") == "low" else 765
            else:
                used += answers.tokens(part.get("text") or part.get("refusal") or "")
    for name in ("tool_calls", "function_call"):
        if message.get(name):
            used += answers.tokens(json.dumps(message[name]))
    return used


def _last_text(messages: list[dict[str, Any]]) -> str:
    for message in reversed(messages):
        if message["role"] == "user":
            content = message["content"]
            if isinstance(content, str):
                return content
            return "\n".join(part["text"] for part in content if part["type"] == "text")
    return ""


def _check_length(raw: dict[str, Any], family: models.Model, used: int, most: int | None) -> None:
    if used > family.context:
        words = f"This model's maximum context length is {family.context} tokens. However, your messages resulted in "
        words += f"{used} tokens. Please reduce the length of the messages."
        raise _bad(words, "messages", "context_length_exceeded")
    if most is not None and most > family.max_output:
        name = "max_completion_tokens" if raw.get("max_completion_tokens") else "max_tokens"
        words = f"{name} is too large: {most}. This model supports at most {family.max_output} completion tokens, "
        raise _bad(f"{words}whereas you provided {most}.", name, "invalid_value")


def _read_text(raw: dict[str, Any], body: bytes, family: models.Model) -> Ask:
    if raw.get("stream_options") is not None and not raw.get("stream"):
        raise _bad("The 'stream_options' parameter is only allowed when 'stream' is enabled.", "stream_options")
    if raw.get("best_of") is not None and raw["best_of"] < (raw.get("n") or 1):
        raise _bad("You requested that the server return more choices than it will generate.", "best_of")
    prompts = _inputs(raw["prompt"] if raw["prompt"] is not None else "")
    counts = [_count_input(prompt) for prompt in prompts]
    most = raw["max_tokens"] if raw.get("max_tokens") is not None else 16
    if max(counts) + most > family.context:
        words = f"This model's maximum context length is {family.context} tokens, however you requested "
        words += f"{max(counts) + most} tokens ({max(counts)} in your prompt; {most} for the completion). "
        raise _bad(f"{words}Please reduce your prompt; or completion length.", "prompt", "context_length_exceeded")
    stop = raw.get("stop")
    return Ask(
        endpoint=models.TEXT,
        model=raw["model"],
        family=family,
        body=body,
        raw=raw,
        text="\n".join(prompt for prompt in prompts if isinstance(prompt, str)),
        input_tokens=sum(counts),
        stream=bool(raw.get("stream")),
        choices=(raw.get("n") or 1) * len(prompts),
        max_tokens=most,
        stops=(stop,) if isinstance(stop, str) else tuple(stop or ()),
        inputs=prompts,
    )


def _read_embeddings(raw: dict[str, Any], body: bytes, family: models.Model) -> Ask:
    inputs = _inputs(raw["input"])
    if any(not given for given in inputs):
        raise _bad("'input' cannot be an empty string.", "input")
    counts = [_count_input(given) for given in inputs]
    if max(counts) > family.context:
        words = f"This model's maximum context length is {family.context} tokens, however you requested {max(counts)} "
        words += f"tokens ({max(counts)} in your prompt; 0 for the completion). Please reduce your prompt; or "
        raise _bad(f"{words}completion length.", "input", "context_length_exceeded")
    if sum(counts) > 300_000:
        words = f"Requested {sum(counts)} tokens, max 300000 tokens per request"
        raise Refusal(400, words, type="max_tokens_per_request", code="max_tokens_per_request")
    if raw.get("dimensions", 1) > family.dimensions:
        words = f"Invalid value for 'dimensions' = {raw['dimensions']}. Must be less than or equal to "
        raise _bad(f"{words}{family.dimensions}.", "dimensions")
    return Ask(
        endpoint=models.EMBED,
        model=raw["model"],
        family=family,
        body=body,
        raw=raw,
        text="\n".join(given for given in inputs if isinstance(given, str)),
        input_tokens=sum(counts),
        inputs=inputs,
        dimensions=raw.get("dimensions", family.dimensions),
    )


def _inputs(given: Any) -> tuple[str | list[int], ...]:
    if isinstance(given, str) or (given and isinstance(given[0], int)):
        return (given,)
    return tuple(given)


def _count_input(given: str | list[int]) -> int:
    return answers.tokens(given) if isinstance(given, str) else len(given)
