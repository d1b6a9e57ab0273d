import json
import types
import typing

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers import answer, errors, request, result
from providers.wire import openai
from tests.providers import faulty_server

TO = faulty_server.deployed("http://h/v1")
ENDPOINTS = ("chat/completions", "completions", "embeddings")


def read(body, endpoint="chat/completions", status=200, headers=types.MappingProxyType({})):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return openai.read(answer.Answer(status, headers, raw), faulty_server.asking(endpoint=endpoint), TO)


def ending(*choices, endpoint="chat/completions"):
    return read(faulty_server.chat(choices=list(choices)), endpoint).ending


def choice(finish, **message):
    return {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}


def built(body: bytes, model: str = "real", extra: dict[str, typing.Any] | None = None) -> bytes:
    start = body.index(b'"alias"')
    asked = request.ProviderRequest(
        endpoint="completions", model=model, body=body, model_offset=start, model_length=len(b'"alias"')
    )
    return openai.body(asked, faulty_server.deployed("http://h/v1", extra_params=extra))


def test_only_the_model_token_is_replaced():
    body = b'{ "a": 1.0e+10, "model" :"alias", "x": "\\ud800 \\u00e9 \xc3\xa9", "big": 123456789012345678901234567890 }'
    assert built(body) == body.replace(b'"alias"', b'"real"')
    assert built(body, 'a"b\u00e9\ud800') == body.replace(b'"alias"', rb'"a\"b\u00e9\ud800"')


def test_extra_params_keep_the_digits_of_the_rest():
    body = b'{"model": "alias", "temperature": 0.70, "big": 123456789012345678901234567890}'
    assert built(body, extra={"temperature": 1, "template": {"thinking": False}}) == (
        b'{"model":"real","temperature":0.70,"big":123456789012345678901234567890,"template":{"thinking": false}}'
    )


@pytest.mark.parametrize(
    ("given_choice", "means"),
    [
        (choice("stop", content="x"), "complete"),
        (choice(None, content="x"), "complete"),
        (choice("eos", content="x"), "complete"),
        (choice("stop", content=[{"type": "text", "text": "x"}]), "complete"),
        (choice("tool_calls", content=None, tool_calls=[{}]), "complete"),
        (choice("stop", content=None, tool_calls=[{}]), "complete"),
        (choice("function_call", content=None, function_call={"name": "f"}), "complete"),
        (choice("stop", content=None, audio={"id": "a"}), "complete"),
        (choice("length", content="x"), "truncated"),
        (choice("length", content=None), "truncated"),
        (choice("content_filter", content="x"), "filtered"),
        (choice("stop", content=None, refusal="no"), "refused"),
        (choice("stop", content=""), "empty"),
        (choice("stop", content=None), "empty"),
        (choice("stop", content=None, tool_calls=[]), "empty"),
        (choice("stop", content=None, reasoning_content="thought"), "empty"),
    ],
)
def test_endings(given_choice, means):
    assert ending(given_choice) == means


def test_the_least_complete_of_several_choices_decides():
    assert ending(choice("stop", content="x"), choice("length", content="x")) == "truncated"
    assert ending(choice("stop", content=""), choice("stop", content="x")) == "empty"


def test_completions_and_embeddings():
    assert ending({"text": "x", "finish_reason": "length"}, endpoint="completions") == "truncated"
    assert ending({"text": "", "finish_reason": "stop"}, endpoint="completions") == "empty"
    assert read({"data": [{"embedding": "AAAA"}]}, "embeddings").ending == "complete"


@pytest.mark.parametrize("reason", ["error", "insufficient_system_resource"])
def test_a_choice_that_broke_off_is_a_server_error_with_its_usage(reason):
    with pytest.raises(errors.ServerError) as caught:
        read(faulty_server.chat(choices=[choice(reason, content="x")]))
    assert caught.value.may_be_billed
    assert caught.value.usage is not None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"<html>",
        b'{"choices": [NaN]}',
        b'{"a": Infinity}',
        {},
        {"choices": None},
        {"choices": []},
        {"choices": {}},
        {"choices": "x"},
        {"choices": [None]},
        {"choices": ["x"]},
        {"choices": [{}]},
        {"choices": [{"message": None}]},
        {"choices": [{"message": "x"}]},
        {"choices": [{"message": []}]},
        {"choices": [{"message": {"content": 5}}]},
        {"choices": [{"message": {"content": {"a": 1}}}]},
        {"choices": [{"message": {"content": "x"}, "finish_reason": 1}]},
        {"choices": [{"message": {"content": "x"}, "finish_reason": []}]},
    ],
)
def test_what_cannot_be_read_is_a_bad_response_that_may_be_billed(body):
    with pytest.raises(errors.BadResponseError) as caught:
        read(body)
    assert caught.value.may_be_billed


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        ("completions", {"choices": [{"text": None}]}),
        ("completions", {"choices": [{}]}),
        ("embeddings", {"data": []}),
        ("embeddings", {"data": [{"embedding": None}]}),
        ("embeddings", {"data": [{"embedding": []}]}),
        ("embeddings", {"data": [[]]}),
    ],
)
def test_other_endpoints_are_checked_too(endpoint, body):
    with pytest.raises(errors.BadResponseError):
        read(body, endpoint)


def test_a_bad_response_keeps_what_was_spent():
    with pytest.raises(errors.BadResponseError) as caught:
        read(faulty_server.chat(choices=[]))
    assert caught.value.usage is not None
    assert caught.value.usage.input_tokens == 10


def test_a_streamed_answer_says_what_to_do():
    with pytest.raises(errors.InvalidRequestError, match="stream"):
        read(b"data: {}\n\n", headers={"content-type": "text/event-stream"})


def test_the_standard_library_decides_where_orjson_refuses():
    body = json.dumps(faulty_server.chat(choices=[choice("stop", content="\ud83d")])).encode()
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(body)
    assert read(body).body == body


def test_a_pretty_answer_comes_back_on_one_line_with_its_digits():
    body = json.dumps(faulty_server.chat(), indent=2).replace("13", "1.30e1", 1).encode()
    got = read(body)
    assert b"\n" not in got.body
    assert b"1.30e1" in got.body
    assert json.loads(got.body) == json.loads(body)


@pytest.mark.parametrize("given_choice", [choice("stop", content="x"), choice("tool_calls", tool_calls=[{}])])
def test_words_without_output_tokens_are_a_wrong_count(given_choice):
    assert read(faulty_server.chat(choices=[given_choice], usage={"prompt_tokens": 5})).usage is None


def test_an_empty_answer_may_cost_no_output_tokens():
    assert read(faulty_server.chat(choices=[choice("stop", content="")], usage={"prompt_tokens": 5})).usage


def test_fields_of_a_wrong_type_are_unknown():
    got = read(faulty_server.chat(model=5, system_fingerprint=["x"], usage="lots"))
    assert (got.model, got.fingerprint, got.usage) == (None, None, None)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
names = st.sampled_from(
    "choices data usage error message content finish_reason embedding text object model refusal".split()
)
near_answers = st.recursive(
    json_values,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(names, inner, max_size=5),
    max_leaves=12,
)


@given(
    st.binary() | near_answers.map(lambda value: json.dumps(value).encode()),
    st.sampled_from(ENDPOINTS),
    st.integers(100, 599),
    st.dictionaries(st.sampled_from(["retry-after", "x-request-id", "content-type"]), st.text(max_size=20)),
)
def test_garbage_gives_a_result_or_a_provider_error_and_nothing_else(body, endpoint, status, headers):
    try:
        got = read(body, endpoint, status, headers)
    except errors.ProviderError as error:
        public = json.loads(error.public_body())["error"]
        assert isinstance(public["message"], str)
        assert isinstance(public["code"], str | None)
        assert b"\n" not in error.public_body()
        assert error.message.encode()
    else:
        assert isinstance(got, result.ProviderResult)
        assert b"\n" not in got.body
        assert json.loads(got.body) is not None


def asking_messages(**params: typing.Any) -> request.ProviderRequest:
    body = json.dumps({"model": "alias", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}], **params})
    return request.ProviderRequest(
        endpoint="messages", model="real", body=body.encode(), model_offset=0, model_length=0
    )


def test_messages_are_asked_as_chat():
    to = faulty_server.deployed("http://h/v1", extra_params={"seed": 1})
    assert openai.path("messages") == "chat/completions" and openai.path("embeddings") == "embeddings"
    assert json.loads(openai.body(asking_messages(), to)) == {
        "model": "real", "messages": [{"role": "user", "content": "x"}], "max_completion_tokens": 9, "seed": 1
    }  # fmt: skip


def test_messages_that_cannot_be_asked_as_chat_are_wrong_requests():
    with pytest.raises(errors.InvalidRequestError) as caught:
        openai.body(asking_messages(top_k=4), TO)
    assert caught.value.param == "top_k" and not caught.value.may_be_billed


def test_an_answer_to_messages_is_a_message_and_is_counted_as_chat():
    got = answer.Answer(200, {}, json.dumps(faulty_server.chat()).encode())
    read_back = openai.read(got, asking_messages(), TO)
    assert json.loads(read_back.body)["content"] == [{"type": "text", "text": "Hello!"}]
    assert read_back.usage is not None and read_back.usage.input_tokens == 10
    assert (read_back.ending, read_back.model) == (result.Ending.COMPLETE, "m")


def test_a_call_of_a_tool_without_a_function_is_no_answer():
    message: typing.Any = {"role": "assistant", "content": None, "tool_calls": [{}]}
    choices = [{"index": 0, "message": message, "finish_reason": "tool_calls"}]
    got = answer.Answer(200, {}, json.dumps(faulty_server.chat(choices=choices)).encode())
    with pytest.raises(errors.BadResponseError) as caught:
        openai.read(got, asking_messages(), TO)
    assert caught.value.usage is not None
