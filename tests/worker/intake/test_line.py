import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.intake.line import CUSTOM_ID_LENGTH, LONGEST_NAME, LineProblem, parse

GOOD: dict[str, Any] = {
    "custom_id": "a",
    "method": "POST",
    "url": "/v1/chat/completions",
    "body": {"model": "openai/gpt-4o", "messages": []},
}
DEEP = 100_000


def line(**changes: Any) -> bytes:
    return json.dumps({key: value for key, value in {**GOOD, **changes}.items() if value is not ...}).encode()


def body(**changes: Any) -> bytes:
    merged = {**GOOD["body"], **changes}
    return line(body={key: value for key, value in merged.items() if value is not ...})


def problem(raw: bytes) -> LineProblem:
    with pytest.raises(LineProblem) as caught:
        parse(raw)
    return caught.value


def test_a_good_line_is_located_to_the_byte() -> None:
    raw = '{"custom_id": "ä", "body" : {"model":"o/é", "messages":["€"]} ,"method":"POST","url":"/v1/chat/completions"}'
    found = parse(raw.encode())
    text = raw.encode()[found.offset : found.offset + found.length]
    assert text.decode() == '{"model":"o/é", "messages":["€"]}'
    assert text[found.model_offset : found.model_offset + found.model_length].decode() == '"o/é"'
    assert (found.custom_id, found.model, found.endpoint) == ("ä", "o/é", "chat/completions")


@pytest.mark.parametrize(
    ("url", "field"), [("/v1/chat/completions", "messages"), ("/v1/embeddings", "input"), ("/v1/completions", "prompt")]
)
def test_every_endpoint_needs_its_input(url: str, field: str) -> None:
    good = {"model": "o/a", field: ["x"]}
    assert parse(line(url=url, body=good)).endpoint == url.removeprefix("/v1/")
    missing = problem(line(url=url, body={"model": "o/a"}))
    assert (missing.code, missing.param, missing.custom_id) == ("missing_required_parameter", f"body.{field}", "a")


@pytest.mark.parametrize("key", ["custom_id", "method", "url", "body"])
def test_a_missing_field_is_named(key: str) -> None:
    found = problem(line(**{key: ...}))
    assert (found.code, found.param) == ("missing_required_parameter", key)
    assert f"'{key}'" in found.message


@pytest.mark.parametrize(
    ("key", "near"), [("customid", "custom_id"), ("Body", "body"), ("metdata", "metadata"), ("uri", "url")]
)
def test_an_unknown_field_names_the_nearest(key: str, near: str) -> None:
    found = problem(line(**{key: 1}))
    assert (found.code, found.param) == ("unknown_parameter", key)
    assert f"Did you mean '{near}'" in found.message


def test_a_field_like_no_other_is_told_where_it_may_stand() -> None:
    assert "'metadata'" in problem(line(xyz=1)).message
    assert parse(line(metadata={"xyz": 1})).custom_id == "a"
    assert problem(line(metadata="x")).code == "invalid_metadata"


@pytest.mark.parametrize(
    ("raw", "code", "param"),
    [
        (line(method="GET"), "invalid_method", "method"),
        (line(method=["POST"]), "invalid_method", "method"),
        (line(url="/v1/images"), "invalid_url", "url"),
        (line(url={"a": 1}), "invalid_url", "url"),
        (line(body=[]), "invalid_body", "body"),
        (line(body=None), "invalid_body", "body"),
        (body(stream=True), "stream_not_supported", "body.stream"),
        (body(model=...), "missing_required_parameter", "body.model"),
        (body(model=""), "invalid_model", "body.model"),
        (body(model=7), "invalid_model", "body.model"),
        (body(model="a\0"), "invalid_model", "body.model"),
        (body(model="a\ud800"), "invalid_model", "body.model"),
        (body(model="a" * (LONGEST_NAME + 1)), "invalid_model", "body.model"),
        (body(messages="hello"), "invalid_body", "body.messages"),
        (line(custom_id=""), "invalid_custom_id", "custom_id"),
        (line(custom_id=7), "invalid_custom_id", "custom_id"),
        (line(custom_id="a" * (CUSTOM_ID_LENGTH + 1)), "invalid_custom_id", "custom_id"),
        (line(custom_id="a\0"), "invalid_custom_id", "custom_id"),
        (line(custom_id="\udc00"), "invalid_custom_id", "custom_id"),
    ],
)
def test_what_is_wrong_is_said_and_located(raw: bytes, code: str, param: str) -> None:
    found = problem(raw)
    assert (found.code, found.param) == (code, param)


@pytest.mark.parametrize("stream", [False, None])
def test_a_line_that_does_not_stream_is_good(stream: object) -> None:
    assert parse(body(stream=stream)).body["stream"] is stream


@pytest.mark.parametrize("text", ["\0", "\ud800", "😀", "a\\u0000"])
def test_the_prompt_may_hold_anything(text: str) -> None:
    raw = body(messages=[{"role": "user", "content": text}])
    found = parse(raw)
    assert raw[found.offset : found.offset + found.length] == json.dumps(found.body).encode()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"1",
        b'"a"',
        b"null",
        b"nonsense",
        b"{}{}",
        b'{"custom_id":"a"} x',
        b"{'custom_id':'a'}",
        b'{"custom_id":"a",}',
        b'{"custom_id" "a"}',
        b'{"custom_id":NaN}',
        b'{"custom_id":-Infinity}',
        b'{"custom_id":"a","custom_id":"b"}',
        b'{"custom_id":"a\nb"}',
        b'{"custom_id":"a',
        b'{"custom_id":"\\x"}',
        line()[:-1],
        line().replace(b'"messages"', b'"model": "x", "messages"'),
        b"[" * DEEP + b"]" * DEEP,
        b'{"a":' * DEEP + b"1" + b"}" * DEEP,
        line().replace(b'"messages": []', b'"messages": ' + b"[" * DEEP + b"]" * DEEP),
        line().replace(b'"messages": []', b'"messages": [' + b"9" * 10_000 + b"]"),
    ],
)
def test_what_is_no_json_is_said_and_no_more(raw: bytes) -> None:
    found = problem(raw)
    assert found.code == "invalid_json_line"
    assert found.message.startswith("This line is not parseable as valid JSON: ") and found.message.endswith(".")


@pytest.mark.parametrize("depth", range(800, 1_100, 7))
def test_at_no_depth_does_anything_else_happen(depth: int) -> None:
    raw = line().replace(b'"messages": []', b'"messages": ' + b"[" * depth + b"]" * depth)
    try:
        assert parse(raw).length > depth
    except LineProblem as found:
        assert found.code == "invalid_json_line"


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_another_encoding_is_named(encoding: str) -> None:
    raw = line().decode().replace("gpt", "gpté").encode(encoding)
    assert problem(raw).code == "invalid_utf8"


@pytest.mark.parametrize("ending", [b"\r", b" ", b"\t\r"])
def test_white_space_around_a_line_is_fine(ending: bytes) -> None:
    found = parse(b" " + line() + ending)
    assert found.offset == parse(line()).offset + 1


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
spaces = st.text(" \t\r", max_size=2)
models = st.text(st.characters(exclude_categories=["Cs"], min_codepoint=32), min_size=1, max_size=20)


@st.composite
def objects(draw: st.DrawFn, members: dict[str, str]) -> str:
    parts = []
    for key in draw(st.permutations(list(members))):
        name = json.dumps(key, ensure_ascii=draw(st.booleans()))
        parts.append(f"{draw(spaces)}{name}{draw(spaces)}:{draw(spaces)}{members[key]}{draw(spaces)}")
    return "{" + ",".join(parts) + "}"


@given(
    model=models,
    extra=st.dictionaries(st.text().filter(lambda key: key not in ("model", "messages", "stream")), json_values),
    custom_id=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20),
    data=st.data(),
)
def test_the_bytes_at_the_offsets_are_the_body_and_the_model(
    model: str, extra: dict[str, Any], custom_id: str, data: st.DataObject
) -> None:
    def written(value: Any) -> str:
        return json.dumps(value, ensure_ascii=True if _has_surrogates(value) else data.draw(st.booleans()))

    inner = {key: written(value) for key, value in extra.items() if not _has_surrogates(key)}
    inner |= {"model": written(model), "messages": "[]"}
    text = data.draw(objects(inner))
    outer = {"custom_id": written(custom_id), "method": '"POST"', "url": '"/v1/chat/completions"', "body": text}
    raw = data.draw(objects(outer)).encode()
    found = parse(raw)
    assert raw[found.offset : found.offset + found.length].decode() == text
    token = text.encode()[found.model_offset : found.model_offset + found.model_length].decode()
    assert token == inner["model"] and found.model == model and found.custom_id == custom_id


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")))
def test_garbage_is_never_anything_but_a_problem(raw: bytes) -> None:
    problem(raw)


@given(st.data())
def test_no_change_of_a_byte_escapes(data: st.DataObject) -> None:
    raw = bytearray(line())
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        parse(bytes(raw))
    except LineProblem as found:
        assert found.message


def _has_surrogates(value: Any) -> bool:
    return any("\ud800" <= sign <= "\udfff" for sign in json.dumps(value, ensure_ascii=False))


@pytest.mark.parametrize("field", ["messages", "max_tokens"])
def test_messages_need_a_limit_of_tokens_too(field: str) -> None:
    good = {"model": "o/a", "messages": [], "max_tokens": 9}
    assert parse(line(url="/v1/messages", body=good)).endpoint == "messages"
    del good[field]
    missing = problem(line(url="/v1/messages", body=good))
    assert (missing.code, missing.param) == ("missing_required_parameter", f"body.{field}")
