import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers import retry_after

NOW = datetime.datetime(2026, 11, 1, 12, 0, 0, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({}, None),
        ({"retry-after": "20"}, 20.0),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": "-1"}, 0.0),
        ({"retry-after": "9" * 500}, retry_after.MAX_WAIT),
        ({"retry-after": "86401"}, retry_after.MAX_WAIT),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e3"}, None),
        ({"retry-after": "٣"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Sun, 01 Nov 2026 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Sun, 01 Nov 2026 11:00:00 GMT"}, 0.0),
        ({"retry-after": "Sun, 01 Nov 2099 11:00:00 GMT"}, retry_after.MAX_WAIT),
        ({"retry-after": "Sun, 01 Nov 2026 12:00:30 GMT", "date": "Sun, 01 Nov 2026 12:00:10 GMT"}, 20.0),
        ({"retry-after": "Sun, 99 Nov 2026 12:00:30 GMT"}, None),
    ],
)
def test_wait(headers, wait):
    assert retry_after.seconds(headers, NOW) == wait


@given(
    st.text()
    | st.from_regex(r"[+-]?\d+(\.\d*)?")
    | st.datetimes().map(lambda t: t.strftime("%a, %d %b %Y %H:%M:%S %z"))
)
def test_any_value_gives_none_or_a_wait_within_a_day(value):
    for name in ("retry-after", "retry-after-ms"):
        wait = retry_after.seconds({name: value, "date": value})
        assert wait is None or 0 <= wait <= retry_after.MAX_WAIT
