import pytest

from providers import rate_limits
from providers.rate_limits import OPENAI, QuotaHeaders, QuotaState

DATE = "Thu, 01 Jan 2026 00:00:00 GMT"
DATE_SECONDS = 1_767_225_600.0
RESET = "anthropic-ratelimit-input-tokens-reset"
INPUT = QuotaHeaders(
    "input_tokens", "anthropic-ratelimit-input-tokens-limit", "anthropic-ratelimit-input-tokens-remaining", RESET
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("6m0s", 360.0),
        ("12ms", 0.012),
        ("1h2m3s", 3_723.0),
        ("2m59.56s", 179.56),
        ("1d", 86_400.0),
        ("250us", 0.00025),
        ("250µs", 0.00025),
        ("0s", 0.0),
        (" 7 ", 7.0),
        ("59", 59.0),
        ("0.75", 0.75),
        ("2026-01-01T00:01:30Z", 90.0),
        ("2026-01-01T02:01:30.5+02:00", 90.5),
        ("1767225642", 42.0),
        ("1767225642.5", 42.5),
        ("1767225642500", 42.5),
    ],
)
def test_every_vendor_s_clock_is_told_by_its_look(text: str, seconds: float) -> None:
    assert rate_limits.reset_seconds(text, now=DATE_SECONDS) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "-1", "soon", "6m0", "m", "1e9", "5 minutes", "6m 0s", "NaN", "inf", "12parsecs"])
def test_nonsense_is_no_time(text: str) -> None:
    assert rate_limits.reset_seconds(text, now=DATE_SECONDS) is None


@pytest.mark.parametrize("text", ["2026-01-01T00:01:30Z", "1767225642", "1767225642500"])
def test_a_moment_is_nothing_without_the_date_of_its_answer(text: str) -> None:
    assert rate_limits.reset_seconds(text, now=None) is None


def test_a_moment_that_is_over_is_now() -> None:
    assert rate_limits.reset_seconds("2025-12-31T23:59:59Z", now=DATE_SECONDS) == 0


def test_no_reset_is_further_away_than_a_month() -> None:
    assert rate_limits.reset_seconds("2100-01-01T00:00:00Z", now=DATE_SECONDS) == rate_limits.LONGEST_RESET
    assert rate_limits.reset_seconds("999d", now=None) == rate_limits.LONGEST_RESET


def test_both_quotas_of_openai_are_read() -> None:
    headers = {
        "x-ratelimit-limit-requests": "500",
        "x-ratelimit-remaining-requests": "499",
        "x-ratelimit-reset-requests": "120ms",
        "x-ratelimit-limit-tokens": "30000",
        "x-ratelimit-remaining-tokens": "28500",
        "x-ratelimit-reset-tokens": "3s",
    }
    assert rate_limits.read(headers, OPENAI) == {
        "requests": QuotaState(500.0, 499.0, 0.12),
        "tokens": QuotaState(30_000.0, 28_500.0, 3.0),
    }


def test_a_moment_counts_from_the_answer_s_own_date() -> None:
    headers = {INPUT.limit: "40000", INPUT.remaining: "10000", RESET: "2026-01-01T00:00:45Z"}
    assert rate_limits.read(headers, (INPUT,)) == {"input_tokens": QuotaState(40_000.0, 10_000.0, None)}
    assert rate_limits.read({**headers, "date": DATE}, (INPUT,))["input_tokens"].reset == 45.0
    assert rate_limits.read({**headers, "date": "yesterday"}, (INPUT,))["input_tokens"].reset is None


@pytest.mark.parametrize(
    ("limit", "remaining"), [("-1", "10"), ("10", "-1"), ("0", "0"), ("many", "10"), ("10", ""), ("1e3", "5")]
)
def test_unknown_and_senseless_values_tell_nothing(limit: str, remaining: str) -> None:
    assert rate_limits.read({INPUT.limit: limit, INPUT.remaining: remaining}, (INPUT,)) == {}


def test_a_limit_without_what_is_left_tells_nothing() -> None:
    assert rate_limits.read({INPUT.limit: "10"}, (INPUT,)) == rate_limits.read({INPUT.remaining: "10"}, (INPUT,)) == {}


def test_no_more_is_left_than_the_limit() -> None:
    assert rate_limits.read({INPUT.limit: "10", INPUT.remaining: "12"}, (INPUT,))["input_tokens"].remaining == 10


def test_a_dialect_without_a_reset_has_none() -> None:
    row = QuotaHeaders("requests_day", "l", "r")
    assert rate_limits.read({"l": "10", "r": "3"}, (row,)) == {"requests_day": QuotaState(10.0, 3.0, None)}
