"""Chat completions as Messages: what the official SDK's model reads of them, strictly."""

import json

import pytest
from anthropic.types import Message
from hypothesis import given
from hypothesis import strategies as st

from providers import usage
from providers.messages import answer, conversation, fields

SPENT = usage.Usage(input_tokens=100, cached_tokens=60, cache_write_tokens=10, output_tokens=40, reasoning_tokens=25)


def call(name="weather", arguments='{"city": "Ulm"}', **changes):
    return {"id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}, **changes}


def translated(finish="stop", spent=SPENT, choice=None, **message):
    said = {"message": message, "finish_reason": finish, **(choice or {})}
    chat = {"id": "chatcmpl-1", "model": "served", "choices": [said]}
    raw = answer.translated(chat, "asked", spent)
    assert b"\n" not in raw
    return Message.model_validate_json(raw, strict=True)


def test_a_plain_answer():
    message = translated(content="Hello")
    assert (message.id, message.type, message.role, message.model) == (
        "msg_chatcmpl-1", "message", "assistant", "served"
    )  # fmt: skip
    assert [block.to_dict() for block in message.content] == [{"type": "text", "text": "Hello"}]
    assert (message.stop_reason, message.stop_sequence) == ("end_turn", None)


@pytest.mark.parametrize(
    ("finish", "message", "choice", "means"),
    [
        ("stop", {"content": "x"}, {}, ("end_turn", None)),
        (None, {"content": "x"}, {}, ("end_turn", None)),
        ("eos", {"content": "x"}, {}, ("end_turn", None)),
        ("stop", {"content": "x"}, {"stop_reason": "END"}, ("stop_sequence", "END")),
        ("stop", {"content": "x"}, {"stop_reason": 128009}, ("end_turn", None)),
        ("length", {"content": "x"}, {}, ("max_tokens", None)),
        ("tool_calls", {"tool_calls": [call()]}, {}, ("tool_use", None)),
        ("stop", {"tool_calls": [call()]}, {}, ("tool_use", None)),
        ("length", {"tool_calls": [call()]}, {}, ("max_tokens", None)),
        ("content_filter", {"content": ""}, {}, ("refusal", None)),
        ("stop", {"content": None, "refusal": "No."}, {}, ("refusal", None)),
    ],
)
def test_stop_reasons(finish, message, choice, means):
    found = translated(finish, choice=choice, **message)
    assert (found.stop_reason, found.stop_sequence) == means


def test_usage_leaves_the_cache_out_of_the_input():
    spent = translated(content="x").usage
    assert (spent.input_tokens, spent.cache_read_input_tokens, spent.cache_creation_input_tokens) == (30, 60, 10)
    assert spent.output_tokens == 40 and spent.output_tokens_details.thinking_tokens == 25
    assert translated(content="x", spent=None).usage.output_tokens == 0


def test_thoughts_texts_and_calls_in_their_order():
    said = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    blocks = translated(reasoning_content="hm", content=said, tool_calls=[call(), call(id=None, arguments="")]).content
    assert [block.type for block in blocks] == ["thinking", "text", "text", "tool_use", "tool_use"]
    assert blocks[3].to_dict() == {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Ulm"}}
    assert (blocks[4].id, blocks[4].input) == ("call_1", {})


def test_a_refusal_is_its_text():
    assert translated(content=None, refusal="No.").content[0].text == "No."
    assert translated(content="").content == []


@pytest.mark.parametrize("arguments", ['{"city": "Ul', "[1]", "Ulm", '"\ud800"'])
def test_arguments_that_are_no_object_are_kept_as_they_came(arguments):
    raw = answer.translated({"choices": [{"message": {"tool_calls": [call(arguments=arguments)]}}]}, "asked", None)
    assert json.loads(raw)["content"][0]["input"] == {"raw_arguments": arguments}


def test_an_answer_without_names_has_them_all_the_same():
    raw = answer.translated({"choices": [{"message": {"content": "x"}}]}, "asked", None)
    message = Message.model_validate_json(raw, strict=True)
    assert message.model == "asked" and message.id.startswith("msg_") and len(message.id) > 20
    assert raw == answer.translated({"choices": [{"message": {"content": "x"}}]}, "asked", None)


_word = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
_value = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | _word,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_word, inner, max_size=3),
    max_leaves=8,
)
_text = st.builds(lambda text: {"type": "text", "text": text}, _word)
_use = st.builds(
    lambda id, name, input: {"type": "tool_use", "id": id, "name": name, "input": input},
    _word,
    _word,
    st.dictionaries(_word, _value, max_size=4),
)


@given(st.lists(_text, max_size=3), st.lists(_use, max_size=3))
def test_what_an_assistant_said_comes_back_as_it_was(texts, uses):
    said = [{"role": "assistant", "content": texts + uses}, {"role": "user", "content": "go on"}]
    message = conversation.translated(fields.Fields({"messages": said}))[0]
    raw = answer.translated({"choices": [{"message": message}]}, "asked", None)
    assert json.loads(raw)["content"] == texts + uses
