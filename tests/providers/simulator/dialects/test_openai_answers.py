"""Every kind of answer is what the official SDK's types say, with no field more."""

import base64
import json
import math
import struct
from typing import Any

import openai.types
import openai.types.chat
import pytest

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "unit": {"type": "string", "enum": ["c", "f"]},
                "days": {"type": "integer", "minimum": 1, "maximum": 7},
            },
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}
TIME = {"type": "function", "function": {"name": "time"}}
SHELL = {"type": "custom", "custom": {"name": "shell"}}
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer"},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}


def schema(strict: bool = True) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "person", "strict": strict, "schema": PERSON}}


def chat(text: Any = "Say something as json nonce:q1", **more: Any) -> dict[str, Any]:
    return {"model": "tiny", "messages": [{"role": "user", "content": text}], **more}


KINDS: dict[str, dict[str, Any]] = {
    "text": chat(),
    "parts": chat([{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": "data:,"}}]),
    "tool": chat(tools=[WEATHER]),
    "tools": chat(tools=[WEATHER, TIME]),
    "forced": chat(tools=[WEATHER, TIME], tool_choice={"type": "function", "function": {"name": "time"}}),
    "required": chat(tools=[WEATHER, TIME], tool_choice="required", parallel_tool_calls=False),
    "not a tool": chat(tools=[WEATHER], tool_choice="none"),
    "custom tool": chat(tools=[SHELL]),
    "function": chat(functions=[{"name": "f", "parameters": {"type": "object"}}]),
    "json": chat(response_format={"type": "json_object"}),
    "schema": chat(response_format=schema()),
    "many": chat(n=4),
    "logprobs": chat(logprobs=True, top_logprobs=3, max_tokens=7),
    "short": chat(max_tokens=3),
    "stopped": chat(stop=["q1"]),
    "refused": chat("[[refusal]]", logprobs=True),
    "empty": chat("[[empty]]"),
    "filtered": chat("[[filter=finish]]"),
    "reasoned": chat(model="reasoner", reasoning_effort="high", max_completion_tokens=4000),
    "out of thoughts": chat(model="reasoner", max_completion_tokens=5),
    "flex": chat(service_tier="flex"),
    "long": chat("x" * 9000),
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_is_a_chat_completion(ask: Any, judged: Any, kind: str) -> None:
    response = ask("/v1/chat/completions", KINDS[kind])
    assert response.status == 200, response.body
    made = judged(openai.types.chat.ChatCompletion, response.json)
    usage = made.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.completion_tokens_details.reasoning_tokens <= usage.completion_tokens
    assert usage.prompt_tokens_details.cached_tokens <= usage.prompt_tokens


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "custom tool"])
def test_a_stream_is_chunks_that_add_up_to_the_answer(ask: Any, judged: Any, kind: str) -> None:
    body = {**KINDS[kind], "stream": True, "stream_options": {"include_usage": True}}
    events = ask("/v1/chat/completions", body).body.decode().split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    chunks = [
        judged(openai.types.chat.ChatCompletionChunk, json.loads(event.removeprefix("data: "))) for event in events[:-2]
    ]
    assert [chunk.usage is None for chunk in chunks] == [True] * (len(chunks) - 1) + [False]
    assert chunks[-1].choices == []
    whole: dict[int, str] = {}
    finishes: dict[int, str] = {}
    for chunk in chunks[:-1]:
        (choice,) = chunk.choices
        whole[choice.index] = whole.get(choice.index, "") + (choice.delta.content or "")
        if choice.finish_reason:
            finishes[choice.index] = choice.finish_reason
    assert len(finishes) == KINDS[kind].get("n", 1)
    # The body differs from that of the unstreamed request, so the words do; their number does not.
    assert set(whole) == set(finishes)


def test_the_same_request_gets_the_same_answer(ask: Any) -> None:
    first, second = (ask("/v1/chat/completions", chat(n=3)).json for _ in range(2))
    assert first["choices"] == second["choices"]
    assert len({choice["message"]["content"] for choice in first["choices"]}) == 3
    assert ask("/v1/chat/completions", chat("Other words")).json["choices"] != first["choices"][:1]


def test_an_answer_names_its_nonce(ask: Any) -> None:
    assert choice(ask, chat())["message"]["content"].startswith("ack nonce:q1.")


def choice(ask: Any, body: dict[str, Any]) -> dict[str, Any]:
    first: dict[str, Any] = ask("/v1/chat/completions", body).json["choices"][0]
    return first


def test_tool_calls_have_arguments_that_fit(ask: Any) -> None:
    made = choice(ask, KINDS["tool"])
    assert made["finish_reason"] == "tool_calls"
    (call,) = made["message"]["tool_calls"]
    arguments = json.loads(call["function"]["arguments"])
    assert 1 <= arguments["days"] <= 7
    assert arguments["unit"] in ("c", "f")
    assert choice(ask, KINDS["forced"])["message"]["tool_calls"][0]["function"]["name"] == "time"
    assert len(choice(ask, KINDS["required"])["message"]["tool_calls"]) == 1
    assert "tool_calls" not in choice(ask, KINDS["not a tool"])["message"]


def test_a_tool_that_was_answered_is_not_called_again(ask: Any) -> None:
    call = choice(ask, KINDS["tool"])["message"]["tool_calls"][0]
    messages = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call["id"], "content": "sunny"},
    ]
    made = choice(ask, {**KINDS["tool"], "messages": messages})
    assert made["finish_reason"] == "stop"
    assert made["message"]["content"]


def test_structured_answers_fit_their_schema(ask: Any) -> None:
    made = json.loads(choice(ask, KINDS["schema"])["message"]["content"])
    assert set(made) == {"name", "age", "tags"}
    assert isinstance(made["age"], int)
    assert json.loads(choice(ask, KINDS["json"])["message"]["content"])["nonce"] == "q1"


@pytest.mark.parametrize("most", [1, 3, 10])
def test_max_tokens_ends_an_answer(ask: Any, most: int) -> None:
    body = chat(max_tokens=most, logprobs=True)
    made = choice(ask, body)
    assert made["finish_reason"] == "length"
    assert len(made["logprobs"]["content"]) == most
    assert "".join(token["token"] for token in made["logprobs"]["content"]) == made["message"]["content"]


def test_a_reasoner_may_use_up_its_tokens_before_it_speaks(ask: Any) -> None:
    made = ask("/v1/chat/completions", KINDS["out of thoughts"]).json
    assert made["choices"][0]["finish_reason"] == "length"
    assert made["choices"][0]["message"]["content"] == ""
    assert made["usage"]["completion_tokens_details"]["reasoning_tokens"] == 5


def test_a_stop_sequence_is_not_in_the_answer(ask: Any) -> None:
    made = choice(ask, KINDS["stopped"])
    assert (made["message"]["content"], made["finish_reason"]) == ("ack nonce:", "stop")


def test_a_long_beginning_is_cached(ask: Any) -> None:
    messages = [{"role": "system", "content": "rules " * 2000}, {"role": "user", "content": "go"}]
    usage = ask("/v1/chat/completions", {"model": "tiny", "messages": messages}).json["usage"]
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    assert cached > 0 and cached % 128 == 0


@pytest.mark.parametrize(
    "body",
    [
        {"model": "tiny", "prompt": "Once"},
        {"model": "instruct", "prompt": ["Once", "Twice"], "n": 2, "logprobs": 2, "echo": True},
        {"model": "tiny", "prompt": [1, 2, 3], "max_tokens": 4, "stop": "x"},
        {"model": "tiny", "prompt": [[1, 2], [3]]},
        {"model": "tiny", "prompt": None},
    ],
)
def test_a_completion_is_a_completion(ask: Any, judged: Any, body: dict[str, Any]) -> None:
    made = judged(openai.types.Completion, ask("/v1/completions", body).json)
    prompts = len(body["prompt"]) if isinstance(body["prompt"], list) and not isinstance(body["prompt"][0], int) else 1
    assert len(made.choices) == body.get("n", 1) * prompts


def test_a_streamed_completion_is_completions(ask: Any) -> None:
    body = {"model": "tiny", "prompt": "x", "stream": True, "stream_options": {"include_usage": True}}
    events = ask("/v1/completions", body).body.decode().split("\n\n")
    chunks = [json.loads(event.removeprefix("data: ")) for event in events[:-2]]
    assert chunks[-1]["usage"]["completion_tokens"] == len([chunk for chunk in chunks if chunk["choices"]]) - 1
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]][-1] in ("stop", "length")


def test_embeddings_are_unit_vectors_in_both_encodings(ask: Any, judged: Any) -> None:
    body = {"model": "embed", "input": ["one", "two", "one"]}
    plain = judged(openai.types.CreateEmbeddingResponse, ask("/v1/embeddings", body).json)
    vectors = [each.embedding for each in plain.data]
    assert [math.hypot(*vector) for vector in vectors] == pytest.approx([1.0] * 3)
    assert vectors[0] == vectors[2] != vectors[1]
    packed = ask("/v1/embeddings", {**body, "encoding_format": "base64"}).json
    unpacked = [struct.unpack("<256f", base64.b64decode(each["embedding"])) for each in packed["data"]]
    assert unpacked[1] == pytest.approx(vectors[1], abs=1e-7)


@pytest.mark.parametrize("given", ["text", [1, 2, 3], [[1, 2], [3]]])
def test_embeddings_take_texts_and_tokens(ask: Any, judged: Any, given: Any) -> None:
    response = ask("/v1/embeddings", {"model": "embed-large", "input": given, "dimensions": 8})
    made = judged(openai.types.CreateEmbeddingResponse, response.json)
    assert {len(each.embedding) for each in made.data} == {8}


def test_models_are_listed_and_found_by_name(ask: Any, judged: Any) -> None:
    listed = ask("/any/prefix/v1/models").json
    assert {judged(openai.types.Model, each).id for each in listed["data"]} >= {"tiny", "large", "reasoner", "embed"}
    assert judged(openai.types.Model, ask("/v1/models/tiny-2").json).id == "tiny-2"
    assert ask("/v1/models/gpt").error["code"] == "model_not_found"


def test_rate_headers_are_in_the_vendors_clock(make: Any) -> None:
    ask = make(rpm=10, tpm=30_000)
    headers = ask("/v1/chat/completions", chat(max_tokens=100)).headers
    assert headers["x-ratelimit-limit-requests"] == "10"
    assert headers["x-ratelimit-remaining-requests"] == "9"
    assert headers["x-ratelimit-reset-requests"].endswith("s")
    assert headers["x-ratelimit-limit-tokens"] == "30000"
    assert headers["x-request-id"].startswith("req_")
    assert "x-ratelimit-limit-requests" not in make()("/v1/chat/completions", chat()).headers


def test_lone_surrogates_and_big_numbers_are_taken(ask: Any) -> None:
    raw = b'{"model": "tiny", "messages": [{"role": "user", "content": "\\ud83d"}], "seed": 9007199254740993}'
    assert ask("/v1/chat/completions", raw).status == 200
    echoed = ask("/v1/completions", b'{"model": "tiny", "prompt": "\\ud83d", "echo": true}')
    assert echoed.json["choices"][0]["text"].startswith("\ud83d")
