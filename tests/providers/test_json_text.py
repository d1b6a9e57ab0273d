import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers import json_text

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def test_lone_surrogates_are_taken_as_the_standard_library_takes_them():
    assert json_text.loads(b'"\\ud800"') == "\ud800"


@pytest.mark.parametrize(
    "text", [b"NaN", b'{"a": -Infinity}', b"[" * 100_000, b"{", b"", b"\xff", b'"\x01"', b"'a'", b"01"]
)
def test_what_is_not_json_is_refused(text):
    with pytest.raises(ValueError):
        json_text.loads(text)


def test_giant_numbers_do_not_break_the_reader():
    assert json_text.loads(b'["\\ud800", %s]' % (b"9" * 10_000))


@given(values, st.sampled_from([None, 0, 2, "\t", "\r\n"]))
def test_one_line_changes_nothing_but_line_breaks(value, indent):
    text = json.dumps(value, indent=indent).encode()
    line = json_text.one_line(text)
    assert b"\n" not in line
    assert b"\r" not in line
    assert json.loads(line) == value


def test_one_line_keeps_digits_and_escapes():
    text = b'\xef\xbb\xbf\n{\n  "a": 1.10e+05,\r\n\t"b": 12345678901234567890.0,\n  "c": "\\n\\u00e9  x"\n}\n'
    assert json_text.one_line(text) == b'{"a": 1.10e+05,"b": 12345678901234567890.0,"c": "\\n\\u00e9  x"}'


@given(st.dictionaries(st.text(), values, max_size=4), st.sampled_from([None, 0, 3]))
def test_members_are_the_object_as_written(value, indent):
    found = json_text.members(json.dumps(value, indent=indent))
    assert {name: json.loads(text) for name, text in found.items()} == value


def test_defaults_are_added_and_never_override():
    own = b' { "seed" : 1.50e1 , "n":12345678901234567890, "a\\"b": [1, 2] } '
    merged = json_text.with_defaults(own, {"n": 2, "top_k": 5})
    assert merged == b'{"seed":1.50e1,"n":12345678901234567890,"a\\"b":[1, 2],"top_k":5}'


@given(st.text())
def test_storable_text_can_be_stored(text):
    stored = json_text.storable(text + "\ud800\0")
    assert stored is not None
    assert "\0" not in stored
    assert len(stored.encode()) <= 200 * 4


def test_what_is_no_text_is_not_storable():
    assert json_text.storable(5) is None
