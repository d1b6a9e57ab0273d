import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers import usage
from providers.wire import openai_usage

GOOD = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


def read(changes=None, **top):
    return openai_usage.read({"usage": GOOD | (changes or {}), **top})


def test_all_parts_are_read():
    details = {"cached_tokens": 4, "cache_write_tokens": 3, "audio_tokens": 0}
    got = read({"prompt_tokens_details": details, "completion_tokens_details": {"reasoning_tokens": 2}})
    assert got == usage.Usage(
        input_tokens=10, cached_tokens=4, cache_write_tokens=3, output_tokens=5, reasoning_tokens=2
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt_tokens": -1},
        {"prompt_tokens": 0, "total_tokens": 5},
        {"prompt_tokens": "10"},
        {"prompt_tokens": 10.0},
        {"prompt_tokens": True},
        {"prompt_tokens": None, "total_tokens": None},
        {"prompt_tokens": 10**15, "total_tokens": None},
        {"completion_tokens": -5},
        {"completion_tokens": [5]},
        {"total_tokens": 40},
        {"prompt_tokens_details": {"cached_tokens": 11}},
        {"prompt_tokens_details": {"cached_tokens": -1}},
        {"prompt_tokens_details": {"cached_tokens": 6, "cache_write_tokens": 6}},
        {"prompt_tokens_details": "many"},
        {"prompt_tokens_details": [1]},
        {"completion_tokens_details": {"reasoning_tokens": 6}},
    ],
)
def test_what_cannot_be_believed_is_unknown(changes):
    if changes.get("prompt_tokens", 0) is None:
        assert openai_usage.read({"usage": {"completion_tokens": 5}}) is None
    else:
        assert read(changes) is None


@pytest.mark.parametrize("data", [{}, {"usage": None}, {"usage": []}, {"usage": "x"}, {"usage": {}}])
def test_absent_usage_is_unknown(data):
    assert openai_usage.read(data) is None


def test_null_details_are_zero():
    assert read({"prompt_tokens_details": None, "completion_tokens_details": {"reasoning_tokens": None}})


@pytest.mark.parametrize(
    ("tier", "billing"),
    [("default", "standard"), (None, "standard"), ("flex", "flex"), ("priority", "priority"), (5, "5")],
)
def test_the_tier_decides_the_billing(tier, billing):
    assert read(service_tier=tier).billing == billing


def test_audio_tokens_have_rates_of_their_own():
    assert read({"completion_tokens_details": {"audio_tokens": 2}}).billing == "audio"


@given(st.dictionaries(st.sampled_from(list(GOOD)), st.integers() | st.floats() | st.text() | st.none()))
def test_numbers_are_never_negative_or_inconsistent(changes):
    got = read(changes)
    assert got is None or min(got.input_tokens, got.output_tokens) >= 0


@pytest.mark.parametrize(
    ("said", "picousd"),
    [(0.00012, 120_000_000), (0, 0), (1e-7, 100_000), (-1, None), ("1", None), (True, None), (1e9, None)],
)
def test_the_providers_own_cost(said, picousd):
    got = openai_usage.cost({"usage": GOOD | {"cost": said}}, "cost")
    assert (got.picousd if got else None) == picousd


def test_no_cost_is_read_where_the_provider_says_none():
    assert openai_usage.cost({"usage": GOOD | {"cost": 1}}, None) is None
    assert openai_usage.cost({"usage": None}, "cost") is None
