"""Each field and block of a Messages request: said in OpenAI's words, or refused by name."""

import json

import pytest

from providers.messages import fields, request
from providers.simulator.dialects import openai_requests

HELLO = [{"role": "user", "content": "Hello"}]
PIXEL = {"type": "base64", "media_type": "image/png", "data": "aGk="}
TOOL = {"name": "weather", "description": "Tells", "input_schema": {"type": "object", "properties": {}}}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Ulm", "days": 3}}


def translated(limit="max_tokens", **params):
    """What OpenAI itself would accept, whatever the request."""
    body = {"model": "alias", "max_tokens": 64, "messages": HELLO, **params}
    chat = json.loads(request.translated(json.dumps(body).encode(), "real", limit=limit))
    openai_requests.check(openai_requests.CHAT, chat)
    return chat


def messages(*said, **params):
    return translated(messages=[{"role": role, "content": content} for role, content in said], **params)["messages"]


def user(*blocks):
    [message] = messages(("user", list(blocks)))
    return message["content"]


def refused(**params):
    with pytest.raises(fields.Refused) as caught:
        translated(**params)
    assert str(caught.value).startswith(caught.value.where)
    return caught.value.where


def refused_block(block, role="user"):
    said = [{"role": role, "content": [block]}, *HELLO]
    return refused(messages=said)


def test_the_least_request():
    assert translated() == {"model": "real", "max_tokens": 64, "messages": HELLO}
    assert translated(limit="max_completion_tokens")["max_completion_tokens"] == 64


@pytest.mark.parametrize(
    ("params", "means"),
    [
        ({"temperature": 0.7}, {"temperature": 0.7}),
        ({"temperature": 0}, {"temperature": 0}),
        ({"top_p": 0.9}, {"top_p": 0.9}),
        ({"stop_sequences": ["a", "b"]}, {"stop": ["a", "b"]}),
        ({"stop_sequences": []}, {}),
        ({"metadata": {"user_id": "u1"}}, {"user": "u1"}),
        ({"metadata": {"user_id": None}}, {}),
        ({"service_tier": "auto"}, {}),
        ({"service_tier": "standard_only"}, {"service_tier": "default"}),
        ({"speed": "standard"}, {}),
        ({"stream": False}, {}),
        ({"cache_control": {"type": "ephemeral"}}, {}),
        ({"container": None, "thinking": None, "tools": None}, {}),
        ({"thinking": {"type": "disabled"}}, {}),
        ({"thinking": {"type": "adaptive"}}, {}),
        *(
            ({"output_config": {"effort": effort}}, {"reasoning_effort": effort})
            for effort in ("low", "medium", "high", "xhigh", "max")
        ),
        (
            {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}},
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": True},
                }
            },
        ),
    ],
)
def test_parameters(params, means):
    assert translated(**params) == translated() | means


@pytest.mark.parametrize(
    ("choice", "means"),
    [
        ({"type": "auto"}, {"tool_choice": "auto"}),
        ({"type": "any"}, {"tool_choice": "required"}),
        ({"type": "none"}, {"tool_choice": "none"}),
        ({"type": "tool", "name": "weather"}, {"tool_choice": {"type": "function", "function": {"name": "weather"}}}),
        (
            {"type": "any", "disable_parallel_tool_use": True},
            {"tool_choice": "required", "parallel_tool_calls": False},
        ),
        ({"type": "auto", "disable_parallel_tool_use": False}, {"tool_choice": "auto"}),
    ],
)
def test_tools(choice, means):
    plain = translated(tools=[TOOL])
    function = {"name": "weather", "description": "Tells", "parameters": TOOL["input_schema"]}
    assert plain["tools"] == [{"type": "function", "function": function}]
    assert translated(tools=[TOOL], tool_choice=choice) == plain | means


def test_what_does_not_concern_the_answer_is_taken_off_a_tool():
    more = {"type": "custom", "cache_control": {"type": "ephemeral"}, "eager_input_streaming": True}
    quiet = {"defer_loading": False, "allowed_callers": ["direct"]}
    assert translated(tools=[TOOL | more | quiet]) == translated(tools=[TOOL])
    assert translated(tools=[TOOL | {"strict": True}])["tools"][0]["function"]["strict"] is True


def test_the_system_prompt():
    assert translated(system="Be brief")["messages"] == [{"role": "system", "content": "Be brief"}, *HELLO]
    one = [{"type": "text", "text": "Be brief", "cache_control": {"type": "ephemeral"}}]
    assert translated(system=one) == translated(system="Be brief")
    two = [{"type": "text", "text": "Be brief"}, {"type": "text", "text": "Be kind"}]
    assert translated(system=two)["messages"][0] == {"role": "system", "content": two}
    assert translated(system="")["messages"] == HELLO
    assert messages(("user", "a"), ("system", "b"), ("user", "c"))[1] == {"role": "system", "content": "b"}


def test_blocks_of_a_user():
    text = {"type": "text", "text": "Look"}
    assert user(text) == "Look"
    assert user(text, {**text, "citations": None}) == [text, text]
    data = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
    assert user(text, {"type": "image", "source": PIXEL}) == [text, data]
    linked = {"type": "image", "source": {"type": "url", "url": "https://h/x.png"}}
    assert user(linked) == [{"type": "image_url", "image_url": {"url": "https://h/x.png"}}]


def test_a_round_of_tools():
    ok = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "sunny"}]}
    bad = {"type": "tool_result", "tool_use_id": "toolu_2", "content": "no city", "is_error": True}
    both = {
        "type": "tool_result",
        "tool_use_id": "toolu_3",
        "is_error": True,
        "content": [{"type": "text", "text": "a"}] * 2,
    }
    none = {"type": "tool_result", "tool_use_id": "toolu_4"}
    asked, said, *results, last = messages(
        ("user", "Weather?"),
        ("assistant", [{"type": "text", "text": "I look"}, CALL, {**CALL, "id": "toolu_2", "input": {}}]),
        ("user", [ok, bad, both, none, {"type": "text", "text": "Well?"}]),
    )
    assert asked == {"role": "user", "content": "Weather?"}
    first, second = said.pop("tool_calls")
    assert said == {"role": "assistant", "content": "I look"}
    assert json.loads(first["function"].pop("arguments")) == {"city": "Ulm", "days": 3}
    assert first == {"id": "toolu_1", "type": "function", "function": {"name": "weather"}}
    assert second["function"]["arguments"] == "{}"
    assert [(one["role"], one["tool_call_id"], one["content"]) for one in results] == [
        ("tool", "toolu_1", "sunny"),
        ("tool", "toolu_2", "Error: no city"),
        ("tool", "toolu_3", [{"type": "text", "text": text} for text in ("Error: ", "a", "a")]),
        ("tool", "toolu_4", ""),
    ]
    assert last == {"role": "user", "content": "Well?"}


def test_only_results_are_no_empty_message():
    [_, said, result] = messages(
        ("user", "x"), ("assistant", [CALL]), ("user", [{"type": "tool_result", "tool_use_id": "toolu_1"}])
    )
    assert said["content"] is None and result["role"] == "tool"


def test_thoughts_of_earlier_turns_are_left_out():
    thought = {"type": "thinking", "thinking": "hm", "signature": "s"}
    hidden = {"type": "redacted_thinking", "data": "x"}
    said = messages(("user", "a"), ("assistant", [thought, hidden, {"type": "text", "text": "b"}]), ("user", "c"))
    assert said[1] == {"role": "assistant", "content": "b"}


@pytest.mark.parametrize(
    ("params", "where"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "64"}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": "Hello"}, "messages"),
        ({"messages": ["Hello"]}, "messages.0"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [{"content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": "x", "name": "y"}]}, "messages.0.name"),
        ({"messages": [*HELLO, {"role": "assistant", "content": "The answer is ("}]}, "messages"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_k": 5}, "top_k"),
        ({"stop_sequences": [1]}, "stop_sequences"),
        ({"stream": True}, "stream"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking"),
        ({"output_config": {"effort": "extreme"}}, "output_config.effort"),
        ({"output_config": {"task_budget": {}}}, "output_config.task_budget"),
        ({"output_config": {"format": {"type": "xml"}}}, "output_config.format.type"),
        ({"metadata": {"team": "x"}}, "metadata.team"),
        ({"service_tier": "gold"}, "service_tier"),
        ({"speed": "fast"}, "speed"),
        ({"container": "c1"}, "container"),
        ({"mcp_servers": []}, "mcp_servers"),
        ({"system": [{"type": "image", "source": PIXEL}]}, "system.0.type"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools.0.type"),
        ({"tools": [{"name": "x"}]}, "tools.0.input_schema"),
        ({"tools": [TOOL | {"input_examples": [{}]}]}, "tools.0.input_examples"),
        ({"tools": [TOOL | {"defer_loading": True}]}, "tools.0.defer_loading"),
        ({"tools": [TOOL | {"allowed_callers": ["code_execution_20250825"]}]}, "tools.0.allowed_callers"),
        ({"tool_choice": {}}, "tool_choice.type"),
        ({"tool_choice": {"type": "some"}}, "tool_choice.type"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"tool_choice": {"type": "auto", "name": "x"}}, "tool_choice.name"),
    ],
)
def test_what_cannot_be_said_is_refused_by_name(params, where):
    assert refused(**params) == where


@pytest.mark.parametrize(
    ("block", "where"),
    [
        ("text", ""),
        ({"text": "x"}, ".type"),
        ({"type": "text"}, ".text"),
        ({"type": "text", "text": "x", "citations": [{}]}, ".citations"),
        ({"type": "document", "source": {}}, ".type"),
        ({"type": "search_result"}, ".type"),
        ({"type": "image"}, ".source"),
        ({"type": "image", "source": {"type": "file", "file_id": "f"}}, ".source.type"),
        ({"type": "image", "source": {"type": "base64", "data": "aGk="}}, ".source.media_type"),
        ({"type": "image", "source": PIXEL | {"media_type": "image/tiff"}}, ".source.media_type"),
        ({"type": "image", "source": PIXEL, "transformations": {}}, ".transformations"),
        ({"type": "tool_result"}, ".tool_use_id"),
        (
            {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image", "source": PIXEL}]},
            ".content.0.type",
        ),
    ],
)
def test_blocks_that_cannot_be_said_are_refused_by_their_place(block, where):
    assert refused_block(block) == f"messages.0.content.0{where}"


def test_results_come_before_what_is_said_about_them():
    blocks = [{"type": "text", "text": "x"}, {"type": "tool_result", "tool_use_id": "t"}]
    assert refused(messages=[{"role": "user", "content": blocks}]) == "messages.0.content.1.type"


def test_calls_of_others_than_the_model_are_refused():
    assert refused_block(CALL | {"caller": {"type": "code_execution_20250825"}}, "assistant").endswith(".caller")
    assert refused_block({"type": "image", "source": PIXEL}, "assistant").endswith(".type")


def test_numbers_and_texts_that_orjson_refuses_are_kept():
    call = CALL | {"input": {"big": 2**70, "half": "\ud800"}}
    said = messages(("user", "x"), ("assistant", [call]), ("user", [{"type": "tool_result", "tool_use_id": "toolu_1"}]))
    assert json.loads(said[1]["tool_calls"][0]["function"]["arguments"]) == call["input"]
