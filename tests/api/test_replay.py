import json
from typing import Any

import pytest
from openai.types.chat import ChatCompletionChunk
from openai.types.completion import Completion

from api import replay

CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
ANSWER: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "tiny",
    "system_fingerprint": "fp",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Ground.", "refusal": None, "tool_calls": [CALL, CALL]},
            "logprobs": {"content": [], "refusal": None},
            "finish_reason": "tool_calls",
        },
        {"index": 1, "message": {"role": "assistant", "content": None}, "finish_reason": "stop"},
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
}


def chunks(answer: dict[str, Any], *, with_usage: bool = False) -> list[dict[str, Any]]:
    events = list(replay.events(json.dumps(answer).encode(), with_usage=with_usage))
    assert events[-1] == b"data: [DONE]\n\n" and all(event.endswith(b"\n\n") for event in events)
    return [json.loads(event.removeprefix(b"data: ")) for event in events[:-1]]


@pytest.mark.parametrize("with_usage", [False, True])
def test_a_chat_completion_is_told_in_chunks_that_the_sdk_takes(with_usage: bool) -> None:
    told = chunks(ANSWER, with_usage=with_usage)
    for chunk in told:
        ChatCompletionChunk.model_validate(chunk, strict=True)
        assert (chunk["id"], chunk["model"], chunk["system_fingerprint"]) == ("chatcmpl-1", "tiny", "fp")
    first = [chunk["choices"][0] for chunk in told if chunk["choices"] and chunk["choices"][0]["index"] == 0]
    assert first[0]["delta"] == {"role": "assistant", "content": ""}
    assert first[1]["delta"]["content"] == "Ground." and first[1]["logprobs"] == {"content": [], "refusal": None}
    assert [call["index"] for call in first[1]["delta"]["tool_calls"]] == [0, 1]
    assert [part["finish_reason"] for part in first] == [None, None, "tool_calls"]
    last = told[-1]
    assert (last["choices"] == [] and last["usage"] == ANSWER["usage"]) is with_usage


def test_a_completion_keeps_its_choices() -> None:
    choice = {"index": 0, "text": "Ground.", "logprobs": None, "finish_reason": "stop"}
    [chunk] = chunks({**ANSWER, "object": "text_completion", "choices": [choice]})
    assert Completion.model_validate(chunk).choices[0].text == "Ground."
    assert chunk["object"] == "text_completion" and chunk["choices"] == [choice]


def test_a_failure_is_an_event_with_the_error() -> None:
    [event] = replay.failure(b'{"error":{"message":"no"}}')
    assert event == b'data: {"error":{"message":"no"}}\n\n'
