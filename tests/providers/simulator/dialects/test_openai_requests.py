"""What OpenAI would refuse is refused, and what is accepted is what the official SDK's request types allow."""

import copy
import json
from typing import Any

import hypothesis
import openai.types
import pytest
from hypothesis import strategies
from openai.types import chat, completion_create_params, embedding_create_params
from openai.types.chat import completion_create_params as chat_create_params

from providers.simulator import shapes
from providers.simulator.dialects import openai_requests

FULL: dict[str, Any] = {
    "model": "tiny",
    "messages": [
        {"role": "developer", "content": [{"type": "text", "text": "Rules"}], "name": "boss"},
        {"role": "system", "content": "More rules"},
        {"role": "user", "content": [{"type": "text", "text": "x", "prompt_cache_breakpoint": {"mode": "explicit"}}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                {"id": "c2", "type": "custom", "custom": {"name": "g", "input": "x"}},
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "1"},
        {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "2"}]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}], "refusal": None, "name": "a"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "y"},
                {"type": "image_url", "image_url": {"url": "https://example.com/x.png", "detail": "low"}},
                {"type": "file", "file": {"file_id": "file-1"}},
            ],
        },
    ],
    "frequency_penalty": 0.5,
    "presence_penalty": -0.5,
    "temperature": 0,
    "top_p": 1,
    "logit_bias": {"50256": -100},
    "logprobs": True,
    "top_logprobs": 2,
    "max_tokens": 20,
    "metadata": {"a": "b"},
    "modalities": ["text"],
    "n": 2,
    "parallel_tool_calls": False,
    "prediction": {"type": "content", "content": "x"},
    "prompt_cache_key": "k",
    "prompt_cache_options": {"mode": "implicit", "ttl": "30m"},
    "prompt_cache_retention": "24h",
    "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
    "safety_identifier": "s",
    "seed": 7,
    "service_tier": "default",
    "stop": ["a", "b"],
    "store": False,
    "stream": False,
    "tool_choice": "auto",
    "tools": [
        {"type": "function", "function": {"name": "f", "description": "d", "parameters": {}, "strict": None}},
        {
            "type": "custom",
            "custom": {"name": "g", "format": {"type": "grammar", "grammar": {"definition": "x", "syntax": "lark"}}},
        },
    ],
    "user": "u",
    "verbosity": "low",
}
SMALL: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "x"}]}
EMBED: dict[str, Any] = {
    "model": "embed",
    "input": ["a", "b"],
    "dimensions": 8,
    "encoding_format": "float",
    "user": "u",
}
TEXT: dict[str, Any] = {
    "model": "tiny",
    "prompt": "x",
    "best_of": 3,
    "echo": True,
    "frequency_penalty": 1,
    "logit_bias": {},
    "logprobs": 1,
    "max_tokens": 5,
    "n": 2,
    "presence_penalty": 1,
    "seed": 1,
    "stop": "x",
    "stream": False,
    "suffix": "y",
    "temperature": 1,
    "top_p": 0.5,
    "user": "u",
}
CHAT_TYPE = chat.CompletionCreateParams
TEXT_TYPE = openai.types.CompletionCreateParams
EMBED_TYPE = openai.types.EmbeddingCreateParams


@pytest.mark.parametrize(
    ("shape", "kinds"),
    [
        (
            openai_requests.CHAT,
            (chat_create_params.CompletionCreateParamsNonStreaming, chat_create_params.CompletionCreateParamsStreaming),
        ),
        (
            openai_requests.TEXT,
            (
                completion_create_params.CompletionCreateParamsNonStreaming,
                completion_create_params.CompletionCreateParamsStreaming,
            ),
        ),
        (openai_requests.EMBEDDINGS, (embedding_create_params.EmbeddingCreateParams,)),
    ],
)
def test_the_known_fields_are_those_of_the_sdk(shape: shapes.Fields, kinds: tuple[Any, ...]) -> None:
    assert set(shape.known) == {name for kind in kinds for name in kind.__annotations__} | inherited(kinds)


def inherited(kinds: tuple[Any, ...]) -> set[str]:
    return {name for kind in kinds for name in kind.__required_keys__ | kind.__optional_keys__}


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        ("/v1/chat/completions", FULL, CHAT_TYPE),
        ("/v1/chat/completions", SMALL, CHAT_TYPE),
        ("/v1/completions", TEXT, TEXT_TYPE),
        ("/v1/embeddings", EMBED, EMBED_TYPE),
    ],
)
def test_a_request_with_everything_is_accepted_by_both(
    ask: Any, accepts: Any, path: str, body: dict[str, Any], kind: Any
) -> None:
    assert accepts(kind, body)
    response = ask(path, body)
    assert response.status == 200, response.error


def test_the_judge_forbids_what_the_sdk_does_not_know(accepts: Any) -> None:
    assert not accepts(CHAT_TYPE, {**SMALL, "surprise": 1})
    assert not accepts(CHAT_TYPE, {**SMALL, "messages": [{"role": "user", "content": "x", "surprise": 1}]})
    assert not accepts(CHAT_TYPE, {**SMALL, "stop": 1})


PLACES: list[tuple[str, dict[str, Any], Any]] = [
    ("/v1/chat/completions", FULL, CHAT_TYPE),
    ("/v1/completions", TEXT, TEXT_TYPE),
]
PLACES += [("/v1/embeddings", EMBED, EMBED_TYPE)]
ODD = [None, True, False, 0, 1, -1, 1.5, "", "x", "auto", [], ["x"], [1], [[1]], {}, {"x": 1}, {"type": "text"}]


def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place inside a value, the names that could be added included."""
    found = [at] if at else []
    if isinstance(value, dict):
        for name, inner in value.items():
            found += paths(inner, (*at, name))
        found.append((*at, "surprise"))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            found += paths(inner, (*at, index))
    return found


@pytest.mark.parametrize(("path", "body", "kind"), PLACES)
@hypothesis.settings(max_examples=400, deadline=None)
@hypothesis.given(data=strategies.data())
def test_what_is_accepted_is_allowed_by_the_sdk(
    accepts: Any, make: Any, path: str, body: dict[str, Any], kind: Any, data: Any
) -> None:
    """One place of a full request changed to something odd, or left out."""
    changed = copy.deepcopy(body)
    place = data.draw(strategies.sampled_from(paths(body)))
    parent = changed
    for step in place[:-1]:
        parent = parent[step]
    if data.draw(strategies.booleans()) and place[-1] != "surprise":
        del parent[place[-1]]
    else:
        parent[place[-1]] = data.draw(strategies.sampled_from(ODD))
    response = make()(path, changed)
    assert response.status in (200, 400, 404), response.body
    if response.status == 200:
        assert accepts(kind, json.loads(json.dumps(changed))), (place, changed)


@pytest.mark.parametrize(
    ("change", "status", "param", "code"),
    [
        ({"surprise": 1}, 400, None, None),
        ({"model": None}, 400, "model", "invalid_type"),
        ({"messages": []}, 400, "messages", "empty_array"),
        ({"messages": "hello"}, 400, "messages", "invalid_type"),
        ({"messages": [{"role": "user"}]}, 400, "messages[0].content", "missing_required_parameter"),
        ({"messages": [{"role": "robot", "content": "x"}]}, 400, "messages[0].role", "invalid_value"),
        ({"messages": [{"role": "user", "content": "x", "y": 1}]}, 400, "messages[0].y", "unknown_parameter"),
        ({"messages": [{"role": "user", "content": None}]}, 400, "messages[0].content", "invalid_type"),
        ({"messages": [{"role": "assistant"}]}, 400, "messages.[0].content", None),
        ({"messages": [{"role": "tool", "tool_call_id": "x", "content": "y"}]}, 400, "messages.[0].role", None),
        ({"temperature": 2.1}, 400, "temperature", "decimal_above_max_value"),
        ({"temperature": "hot"}, 400, "temperature", "invalid_type"),
        ({"temperature": True}, 400, "temperature", "invalid_type"),
        ({"top_p": -0.1}, 400, "top_p", "decimal_below_min_value"),
        ({"n": 0}, 400, "n", "integer_below_min_value"),
        ({"n": 129}, 400, "n", "integer_above_max_value"),
        ({"n": 1.0}, 400, "n", "invalid_type"),
        ({"max_tokens": 0}, 400, "max_tokens", "integer_below_min_value"),
        ({"max_tokens": 1_000_000}, 400, "max_tokens", "invalid_value"),
        ({"max_tokens": 1, "max_completion_tokens": 1}, 400, "max_tokens", "invalid_parameter_combination"),
        ({"stop": ["a"] * 5}, 400, "stop", "array_above_max_length"),
        ({"metadata": {"a": "b" * 513}}, 400, "metadata.a", "string_above_max_length"),
        ({"metadata": {str(n): "b" for n in range(17)}}, 400, "metadata", "object_above_max_properties"),
        ({"top_logprobs": 2}, 400, "top_logprobs", None),
        ({"stream_options": {}}, 400, "stream_options", None),
        ({"tool_choice": "auto"}, 400, "tool_choice", None),
        ({"reasoning_effort": "low"}, 400, None, None),
        ({"model": "reasoner", "max_tokens": 5}, 400, "max_tokens", "unsupported_parameter"),
        ({"model": "reasoner", "temperature": 0.5}, 400, "temperature", "unsupported_value"),
        ({"model": "reasoner", "stop": "x"}, 400, "stop", "unsupported_parameter"),
        ({"response_format": {"type": "json_object"}}, 400, "messages", None),
        ({"response_format": {"type": "xml"}}, 400, "response_format.type", "invalid_value"),
        (
            {"tools": [{"type": "function", "function": {"name": "a b"}}]},
            400,
            "tools[0].function.name",
            "invalid_value",
        ),
        ({"web_search_options": {}}, 400, "web_search_options", "unsupported_parameter"),
        ({"modalities": ["text", "audio"]}, 400, "modalities[0]", "invalid_value"),
        ({"model": "gpt-4o"}, 404, None, "model_not_found"),
        ({"model": "embed"}, 404, "model", None),
        ({"messages": [{"role": "user", "content": "x" * 600_000}]}, 400, "messages", "context_length_exceeded"),
    ],
)
def test_a_refusal_names_the_place_and_the_reason(
    ask: Any, change: dict[str, Any], status: int, param: str | None, code: str | None
) -> None:
    response = ask("/v1/chat/completions", {**SMALL, **change})
    assert (response.status, response.error["param"], response.error["code"]) == (status, param, code)
    assert response.error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"input": ""}, 400, None),
        ({"input": []}, 400, "empty_array"),
        ({"input": ["a", ""]}, 400, None),
        ({"input": ["a"] * 2049}, 400, "array_above_max_length"),
        ({"input": "x" * 40_000}, 400, "context_length_exceeded"),
        ({"input": ["x" * 32_000] * 40}, 400, "max_tokens_per_request"),
        ({"input": {"text": "x"}}, 400, "invalid_type"),
        ({"dimensions": 9999}, 400, None),
        ({"dimensions": 0}, 400, "integer_below_min_value"),
        ({"encoding_format": "hex"}, 400, "invalid_value"),
        ({"model": "tiny"}, 403, None),
    ],
)
def test_embeddings_have_their_own_bounds(ask: Any, change: dict[str, Any], status: int, code: str | None) -> None:
    response = ask("/v1/embeddings", {"model": "embed", "input": "x", **change})
    assert (response.status, response.error["code"]) == (status, code)


@pytest.mark.parametrize(
    "raw", [b"", b"nothing", b"[]", b"null", b'{"model": NaN}', b"[" * 100_000, b'{"model":"tiny"', b"\xff\xfe{"]
)
def test_what_is_no_json_object_is_refused(ask: Any, raw: bytes) -> None:
    response = ask("/v1/chat/completions", raw)
    assert response.status == 400
    assert response.error["message"].startswith("We could not parse the JSON body")


def test_a_model_must_be_named(ask: Any) -> None:
    assert ask("/v1/chat/completions", {"messages": []}).error["message"] == "you must provide a model parameter"


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
        {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False},
        {"type": "array", "items": {"type": "string"}},
    ],
)
def test_a_strict_schema_must_be_closed_and_complete(ask: Any, schema: dict[str, Any]) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": schema}}
    response = ask("/v1/chat/completions", {**SMALL, "response_format": form})
    assert (response.status, response.error["param"]) == (400, "response_format")
    form["json_schema"]["strict"] = False  # type: ignore[index]
    assert ask("/v1/chat/completions", {**SMALL, "response_format": form}).status == 200


def test_calls_of_tools_need_their_answers(ask: Any) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "user", "content": "y"},
    ]
    response = ask("/v1/chat/completions", {**SMALL, "messages": messages})
    assert response.status == 400
    assert "c1" in response.error["message"]
