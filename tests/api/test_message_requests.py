"""The incremental splitter: equal lines for equal bodies, however they are cut, and every fault said at once."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api import errors, message_requests
from api.message_requests import Requests


def split(body: bytes, *cuts: int) -> list[dict[str, Any]]:
    """The lines of a body that came in these pieces."""
    requests = Requests()
    edges = [0, *sorted(cuts), len(body)]
    out = b"".join(requests.feed(body[a:b]) for a, b in itertools.pairwise(edges))
    requests.finish()
    lines = [json.loads(line) for line in out.splitlines()]
    assert len(lines) == requests.count
    return lines


def said(*requests: Any) -> bytes:
    return json.dumps({"requests": list(requests)}).encode()


def fault(body: bytes, kind: type[errors.ApiError] = errors.BadRequest) -> str:
    with pytest.raises(kind) as caught:
        split(body)
    return caught.value.message


def one(id: Any = "a", **params: Any) -> dict[str, Any]:
    return {"custom_id": id, "params": params}


def test_requests_become_lines_with_their_params_as_written() -> None:
    first, second = b'{ "model":"m", "x": 1.0e+10, "y": "\\u00e9]}" }', b'{\n "z": [{}]}'
    requests = Requests()
    lines = requests.feed(
        b'{ "requests" : [ {"custom_id":"a","params":%b} ,\n{"params":%b,"custom_id":"b"} ] }\n' % (first, second)
    )
    requests.finish()
    assert lines == message_requests.LINE % (b"a", first) + message_requests.LINE % (b"b", b'{"z": [{}]}')


_text = st.text(st.sampled_from('ab"\\{}[],:é\n\u2028😀'), max_size=12)
_value = st.recursive(
    st.none() | st.booleans() | st.integers() | _text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3),
    max_leaves=10,
)


@given(
    st.lists(st.dictionaries(_text, _value, max_size=4), min_size=1, max_size=4),
    st.booleans(),
    st.integers(0, 3),
    st.lists(st.integers(0, 400), max_size=8),
)
def test_any_cut_of_any_body_gives_the_same_lines(
    params: list[dict[str, Any]], is_ascii: bool, indent: int, cuts: list[int]
) -> None:
    requests = [{"custom_id": f"id-{place}", "params": one} for place, one in enumerate(params)]
    body = json.dumps({"requests": requests}, ensure_ascii=is_ascii, indent=indent or None).encode()
    found = split(body, *(min(cut, len(body)) for cut in cuts))
    assert [(line["custom_id"], line["body"]) for line in found] == [
        (request["custom_id"], request["params"]) for request in requests
    ]


def test_byte_by_byte() -> None:
    body = said(one(text='\\"}]{[\\\\'), one("b", n=[[{}]]))
    assert split(body, *range(len(body))) == split(body)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "The body must be"),
        (b"[]", "requests: Field required"),
        (b"{}", "requests: Field required"),
        (b'{"requests": {}}', "requests: Input should be a valid list"),
        (b'{"model": "m", "requests": []}', "Only 'requests'"),
        (b'{"requests": [], "model": "m"}', "Only 'requests'"),
        (b'{"requests": []}', "requests: List should have at least 1 item"),
        (b'{"requests": [', "not valid JSON"),
        (said(one())[:-1], "not valid JSON"),
        (said(one())[:-2], "not valid JSON"),
        (said(one())[:-5], "not valid JSON"),
        (said(one()) + b"x", "not valid JSON"),
        (b'{"requests": [{"custom_id": "a", "params": {}} {}]}', "not valid JSON"),
        (b'{"requests": [{"custom_id": "a", "params": {}},]}', "requests.1: Input should be an object"),
        (b'{"requests": ["x"]}', "requests.0: Input should be an object"),
        (b'{"requests": [{"custom_id": "a", "params": {]}}]}', "requests.0: The request is not valid JSON"),
        (b'{"requests": [{"custom_id": "a", "params": {"x": NaN}}]}', "requests.0: The request is not valid JSON"),
        (b'{"requests": [{"custom_id": "a", "params": {"x": "\xff"}}]}', "requests.0: The request is not valid JSON"),
        (
            b'{"requests": [{"custom_id": "a", "params": {"x":' + b"[" * 9_000 + b"]" * 9_000 + b"}}]}",
            "requests.0: The",
        ),
        (said({"params": {}}), "requests.0.custom_id: Field required"),
        (said({"custom_id": "a"}), "requests.0.params: Field required"),
        (said({"custom_id": "a", "params": None}), "requests.0.params: Input should be an object"),
        (said(one(), {**one("b"), "method": "POST"}), "requests.1.method: Extra inputs"),
        (said(one("")), "requests.0.custom_id: String should match"),
        (said(one("a" * 65)), "requests.0.custom_id: String should match"),
        (said(one("a b")), "requests.0.custom_id: String should match"),
        (said(one("ä")), "requests.0.custom_id: String should match"),
        (said(one(7)), "requests.0.custom_id: String should match"),
        (said(one(), one()), "requests.1.custom_id: 'a' is used by another request"),
    ],
)
def test_faults(body: bytes, says: str) -> None:
    assert says in fault(body)


def test_a_head_without_a_list_is_not_read_to_its_end() -> None:
    with pytest.raises(errors.BadRequest):
        Requests().feed(b'{"other": "' + b"x" * 2_000)


def test_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message_requests, "MOST_REQUESTS", 2)
    monkeypatch.setattr(message_requests, "LARGEST_REQUEST", 100)
    assert len(split(said(one(), one("b")))) == 2
    assert "at most 2 requests" in fault(said(one(), one("b"), one("c")), errors.PayloadTooLarge)
    assert "requests.1" in fault(said(one(), one("b", x="x" * 100)), errors.PayloadTooLarge)
    unending = said(one(x="x" * 200))[:150]
    with pytest.raises(errors.PayloadTooLarge):
        Requests().feed(unending)


def test_params_are_those_of_the_request_and_of_nothing_else_in_it() -> None:
    twice = b'{"requests": [{"params": {"x": 1}, "custom_id": {"y": 2}, "custom_id": "a"}]}'
    assert "params: Input should be an object" in fault(twice)
    assert "custom_id: String" in fault(said({"custom_id": {"a": 1}, "params": {"x": 1}}))
    assert "params: Input should be an object" in fault(said({"custom_id": "a", "params": [1]}))
