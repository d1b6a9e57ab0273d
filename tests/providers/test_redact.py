import orjson
import pytest

from providers import redact

KEY = "sk-a/b+c"


@pytest.mark.parametrize(
    "body",
    [
        b'{"error": "bad sk-a/b+c"}',
        b'{"error": "bad sk-a\\/b+c"}',
        b'{"\\u0073k-a/b\\u002bc": 1}',
        b"plain sk-a/b+c",
        b"\\u0073k-a/b+c",
    ],
)
def test_no_form_of_the_key_stays(body):
    clean = redact.body(body, [KEY])
    assert b"sk-a" not in clean
    try:
        assert KEY not in str(orjson.loads(clean))
    except orjson.JSONDecodeError:
        assert b"\\u0073" not in clean


def test_other_bytes_stay():
    body = b'{"error": "caf\\u00e9 \xff"}'
    assert redact.body(body, []) == body
    assert redact.body(b'{"a": "\\n1.10"}', [KEY]) == b'{"a": "\\n1.10"}'
    assert redact.text("nothing", [KEY]) == "nothing"
