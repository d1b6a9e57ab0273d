"""What OpenAI accepts: the shapes of its requests, and its words for what it refuses.

Fields, types and bounds are those of the official SDK's request types; wordings are as seen on the wire.
"""

from typing import Any

from providers.simulator import shapes
from providers.simulator.dialect import Refusal
from providers.simulator.shapes import (
    Fields,
    Tagged,
    anything,
    array,
    boolean,
    either,
    integer,
    mapping,
    nullable,
    number,
    one_of,
    string,
)

INVALID = "invalid_request_error"
NAME = string(most=64, pattern="[a-zA-Z0-9_-]+")

_breakpoint = {"prompt_cache_breakpoint": Fields({"mode": one_of("explicit")}, {"ttl": one_of("30m", "12h")})}
_any_object = mapping(anything)
_text_part = Fields({"type": one_of("text"), "text": string()}, _breakpoint)
_image = Fields({"url": string()}, {"detail": one_of("auto", "low", "high", "original")})
_audio = Fields({"data": string(), "format": one_of("wav", "mp3")})
_file = Fields({}, {"file_data": string(), "file_id": string(), "filename": string()})
USER_PARTS = Tagged(
    "type",
    {
        "text": _text_part,
        "image_url": Fields({"type": anything, "image_url": _image}, _breakpoint),
        "input_audio": Fields({"type": anything, "input_audio": _audio}, _breakpoint),
        "file": Fields({"type": anything, "file": _file}, _breakpoint),
    },
)
ASSISTANT_PARTS = Tagged("type", {"text": _text_part, "refusal": Fields({"type": anything, "refusal": string()})})
TEXT_PARTS = Tagged("type", {"text": _text_part})


def _content(part: shapes.Check) -> shapes.Check:
    return either("one of a string or array of objects", {str: anything, list: array(part, least=1)})


_call_function = Fields({"name": string(), "arguments": string()})
_calls = Tagged(
    "type",
    {
        "function": Fields({"id": string(), "type": anything, "function": _call_function}),
        "custom": Fields({"id": string(), "type": anything, "custom": Fields({"name": string(), "input": string()})}),
    },
)
_named = {"role": anything, "content": _content(TEXT_PARTS)}
MESSAGE = Tagged(
    "role",
    {
        "developer": Fields(_named, {"name": string()}),
        "system": Fields(_named, {"name": string()}),
        "user": Fields({"role": anything, "content": _content(USER_PARTS)}, {"name": string()}),
        "assistant": Fields(
            {"role": anything},
            {
                "content": nullable(_content(ASSISTANT_PARTS)),
                "refusal": nullable(string()),
                "name": string(),
                "audio": nullable(Fields({"id": string()})),
                "tool_calls": array(_calls, least=1),
                "function_call": nullable(_call_function),
            },
        ),
        "tool": Fields({**_named, "tool_call_id": string()}),
        "function": Fields({"role": anything, "content": nullable(string()), "name": string()}),
    },
)
_function = Fields({"name": NAME}, {"description": string(), "parameters": _any_object, "strict": nullable(boolean)})
_grammar = Fields({"definition": string(), "syntax": one_of("lark", "regex")})
_custom_format = Tagged(
    "type", {"text": Fields({"type": anything}), "grammar": Fields({"type": anything, "grammar": _grammar})}
)
TOOL = Tagged(
    "type",
    {
        "function": Fields({"type": anything, "function": _function}),
        "custom": Fields(
            {"type": anything, "custom": Fields({"name": NAME}, {"description": string(), "format": _custom_format})}
        ),
    },
)
_allowed = Fields({"mode": one_of("auto", "required"), "tools": array(_any_object, least=1)})
_tool_choice = either(
    "one of 'none', 'auto', 'required' or an object",
    {
        str: one_of("none", "auto", "required"),
        dict: Tagged(
            "type",
            {
                "function": Fields({"type": anything, "function": Fields({"name": string()})}),
                "custom": Fields({"type": anything, "custom": Fields({"name": string()})}),
                "allowed_tools": Fields({"type": anything, "allowed_tools": _allowed}),
            },
        ),
    },
)
_json_schema = Fields({"name": NAME}, {"description": string(), "schema": _any_object, "strict": nullable(boolean)})
_response_format = Tagged(
    "type",
    {
        "text": Fields({"type": anything}),
        "json_object": Fields({"type": anything}),
        "json_schema": Fields({"type": anything, "json_schema": _json_schema}),
    },
)
_stop = nullable(either("a string or an array of strings", {str: anything, list: array(string(), least=1, most=4)}))
_voice = either("a string or an object", {str: anything, dict: Fields({"id": string()})})
_place = Fields({}, {"city": string(), "country": string(), "region": string(), "timezone": string()})
_web_search = Fields(
    {},
    {
        "search_context_size": one_of("low", "medium", "high"),
        "user_location": nullable(Fields({"type": one_of("approximate"), "approximate": _place})),
    },
)
_judged = nullable(Fields({"mode": one_of("score", "block")}))
_moderation = Fields({"model": string()}, {"policy": nullable(Fields({}, {"input": _judged, "output": _judged}))})
_sampling = {
    "frequency_penalty": nullable(number(-2, 2)),
    "presence_penalty": nullable(number(-2, 2)),
    "temperature": nullable(number(0, 2)),
    "top_p": nullable(number(0, 1)),
    "logit_bias": nullable(mapping(integer(-100, 100))),
    "max_tokens": nullable(integer(1)),
    "n": nullable(integer(1, 128)),
    "seed": nullable(integer(-(2**63), 2**63 - 1)),
    "stop": _stop,
    "stream": nullable(boolean),
    "stream_options": nullable(Fields({}, {"include_usage": boolean, "include_obfuscation": boolean})),
    "user": string(),
}
CHAT = Fields(
    {"model": string(), "messages": array(MESSAGE, least=1)},
    {
        **_sampling,
        "audio": nullable(Fields({"format": one_of("wav", "aac", "mp3", "flac", "opus", "pcm16"), "voice": _voice})),
        "function_call": either(
            "'none', 'auto' or an object", {str: one_of("none", "auto"), dict: Fields({"name": string()})}
        ),
        "functions": array(Fields({"name": NAME}, {"description": string(), "parameters": _any_object}), least=1),
        "logprobs": nullable(boolean),
        "max_completion_tokens": nullable(integer(1)),
        "metadata": nullable(mapping(string(most=512), most=16, key=64)),
        "modalities": nullable(array(one_of("text", "audio"), least=1)),
        "moderation": nullable(_moderation),
        "parallel_tool_calls": boolean,
        "prediction": nullable(Fields({"type": one_of("content"), "content": _content(TEXT_PARTS)})),
        "prompt_cache_key": nullable(string()),
        "prompt_cache_options": Fields({}, {"mode": one_of("implicit", "explicit"), "ttl": one_of("30m")}),
        "prompt_cache_retention": nullable(one_of("in_memory", "24h")),
        "reasoning_effort": nullable(one_of("none", "minimal", "low", "medium", "high", "xhigh", "max")),
        "response_format": _response_format,
        "safety_identifier": nullable(string(most=128)),
        "service_tier": nullable(one_of("auto", "default", "flex", "scale", "priority", "fast")),
        "store": nullable(boolean),
        "tool_choice": _tool_choice,
        "tools": array(TOOL, least=1, most=128),
        "top_logprobs": nullable(integer(0, 20)),
        "verbosity": nullable(one_of("low", "medium", "high")),
        "web_search_options": _web_search,
    },
)


def _text_or_tokens(value: Any) -> None:
    """A string, an array of strings, an array of tokens, or an array of arrays of tokens."""
    if type(value) is list and value:
        kinds = {str: string(), int: integer(0), list: array(integer(0), least=1)}
        array(kinds.get(type(value[0]), string()), least=1, most=2048)(value)
    elif type(value) is list:
        raise shapes.Mismatch("empty", 1, value, of="array")
    elif type(value) is not str:
        raise shapes.Mismatch("type", "a string or an array", value)


TEXT = Fields(
    {"model": string(), "prompt": nullable(_text_or_tokens)},
    {
        **_sampling,
        "best_of": nullable(integer(1, 20)),
        "echo": nullable(boolean),
        "logprobs": nullable(integer(0, 5)),
        "suffix": nullable(string()),
    },
)
EMBEDDINGS = Fields(
    {"model": string(), "input": _text_or_tokens},
    {"dimensions": integer(1), "encoding_format": one_of("float", "base64"), "user": string()},
)


def check(shape: shapes.Fields, body: dict[str, Any]) -> None:
    """Raises Refusal in OpenAI's words."""
    if "model" not in body:
        raise Refusal(400, "you must provide a model parameter", type=INVALID)
    try:
        shape(body)
    except shapes.Mismatch as mismatch:
        raise _worded(mismatch) from None


def _worded(mismatch: shapes.Mismatch) -> Refusal:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in mismatch.path).removeprefix(".")
    expected, got = mismatch.expected, mismatch.got
    if mismatch.kind == "unknown" and len(mismatch.path) == 1:
        return Refusal(400, f"Unrecognized request argument supplied: {path}", type=INVALID)
    but = f"but got {got} instead."
    of = "array" if mismatch.of == "array" else "string"
    words = {
        "unknown": (f"Unknown parameter: '{path}'.", "unknown_parameter"),
        "missing": (f"Missing required parameter: '{path}'.", "missing_required_parameter"),
        "type": (f"Invalid type for '{path}': expected {expected}, but got {_kind(got)} instead.", "invalid_type"),
        "low": (
            f"Invalid '{path}': {mismatch.of} below minimum value. Expected a value >= {expected}, {but}",
            f"{mismatch.of}_below_min_value",
        ),
        "high": (
            f"Invalid '{path}': {mismatch.of} above maximum value. Expected a value <= {expected}, {but}",
            f"{mismatch.of}_above_max_value",
        ),
        "empty": (
            f"Invalid '{path}': empty array. Expected an array with minimum length 1, but got an empty array instead.",
            "empty_array",
        ),
    }
    if mismatch.kind == "value":
        message, code = f"Invalid value: '{got}'. Supported values are: {shapes.listed(expected)}.", "invalid_value"
    elif mismatch.kind == "pattern":
        message = f"Invalid '{path}': string does not match pattern. Expected a string that matches the pattern "
        message, code = f"{message}'^{expected}$'.", "invalid_value"
    elif mismatch.kind in ("long", "short"):
        how, bound = ("long", "maximum") if mismatch.kind == "long" else ("short", "minimum")
        message = (
            f"Invalid '{path}': {of} too {how}. Expected {'an' if of == 'array' else 'a'} {of} with {bound} length "
        )
        message += f"{expected}, but got {'an' if of == 'array' else 'a'} {of} with length {len(got)} instead."
        code = f"{of}_{'above_max' if how == 'long' else 'below_min'}_length"
    elif mismatch.kind == "many":
        message = f"Invalid '{path}': too many properties. Expected an object with at most {expected} properties, "
        message, code = f"{message}but got an object with {len(got)} properties instead.", "object_above_max_properties"
    else:
        message, code = words[mismatch.kind]
    return Refusal(400, message, type=INVALID, code=code, param=path)


def _kind(value: Any) -> str:
    names = {str: "a string", int: "an integer", float: "a decimal number", bool: "a boolean", list: "an array"}
    return "null" if value is None else names.get(type(value), "an object")
