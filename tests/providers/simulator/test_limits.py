"""Limits are exact: by a clock of our own, and over HTTP where time does not matter."""

import asyncio
from typing import Any

import httpx
import hypothesis
import pytest
from hypothesis import strategies

from providers.simulator import limits, options, process


def admitted(quota: limits.Quota, settings: options.Settings, times: list[float], tokens: int = 1) -> int:
    return sum(quota.admit(tokens, settings, now) is None for now in times)


@pytest.mark.parametrize("mode", ["bucket", "window", "sliding"])
def test_a_minute_lets_exactly_its_requests_through(mode: str) -> None:
    settings = options.Settings(rpm=60, mode=mode)
    assert admitted(limits.Quota(), settings, [100.0] * 75) == 60


def test_a_bucket_refills_by_the_second_and_not_beyond_its_burst() -> None:
    quota, settings = limits.Quota(), options.Settings(rpm=60, burst=10)
    assert admitted(quota, settings, [0.0] * 20) == 10
    assert admitted(quota, settings, [0.999] * 5) == 0
    assert admitted(quota, settings, [1.0] * 5) == 1
    assert admitted(quota, settings, [500.0] * 20) == 10


def test_a_window_is_fixed_from_the_first_request() -> None:
    quota, settings = limits.Quota(), options.Settings(rpm=60, mode="window", window=10)
    assert admitted(quota, settings, [5.0, 14.9] * 8) == 10
    assert admitted(quota, settings, [15.0] * 12) == 10


@hypothesis.given(strategies.lists(strategies.floats(0, 30), min_size=40, max_size=120).map(sorted))
def test_a_sliding_limit_holds_in_every_window(times: list[float]) -> None:
    quota, settings = limits.Quota(), options.Settings(rpm=60, mode="sliding", window=5)
    passed = [now for now in times if quota.admit(1, settings, now) is None]
    assert all(sum(start <= now < start + 5 - 1e-9 for now in passed) <= 5 for start in passed)


@pytest.mark.parametrize("mode", ["bucket", "window", "sliding"])
@hypothesis.given(data=strategies.data())
def test_the_told_wait_is_enough_and_no_less_would_be(mode: str, data: Any) -> None:
    quota, now = limits.Quota(), 0.0
    settings = options.Settings(tpm=600, mode=mode, burst=10, window=10)
    for tokens in data.draw(strategies.lists(strategies.integers(1, 100), min_size=1, max_size=30)):
        denial = quota.admit(tokens, settings, now)
        if denial is not None:
            assert denial.wait is not None
            if denial.wait > 0.01:
                assert quota.admit(tokens, settings, now + denial.wait - 0.01) is not None
            now += denial.wait + 1e-6
            assert quota.admit(tokens, settings, now) is None


def test_nothing_is_taken_where_one_limit_refuses() -> None:
    quota, settings = limits.Quota(), options.Settings(rpm=60, tpm=100)
    assert quota.admit(90, settings, 0.0) is None
    denial = quota.admit(20, settings, 0.0)
    assert denial is not None and denial.reason == "tokens"
    assert quota.gauges(0.0)["requests"].remaining == 59


def test_a_refused_call_counts_where_the_vendor_counts_it() -> None:
    quota, settings = limits.Quota(), options.Settings(rpm=60, tpm=100, count_rejected=True)
    assert quota.admit(90, settings, 0.0) is None
    assert quota.admit(20, settings, 0.0) is not None
    assert quota.gauges(0.0)["requests"].remaining == 58


def test_a_request_larger_than_the_limit_never_succeeds() -> None:
    denial = limits.Quota().admit(101, options.Settings(tpm=100), 0.0)
    assert denial is not None and (denial.reason, denial.wait) == ("size", None)


def test_concurrency_is_given_back() -> None:
    quota, settings = limits.Quota(), options.Settings(concurrency=2)
    assert admitted(quota, settings, [0.0] * 3) == 2
    quota.release()
    assert admitted(quota, settings, [0.0] * 3) == 1


def test_a_day_has_its_own_limit() -> None:
    quota, settings = limits.Quota(), options.Settings(rpd=3, day=100)
    assert admitted(quota, settings, [0.0] * 5) == 3
    denial = quota.admit(1, settings, 40.0)
    assert denial is not None and (denial.reason, denial.wait) == ("day", 60.0)
    assert admitted(quota, settings, [100.0] * 5) == 3


def test_changed_figures_keep_what_was_used() -> None:
    quota = limits.Quota()
    assert admitted(quota, options.Settings(rpm=100), [0.0] * 90) == 90
    assert admitted(quota, options.Settings(rpm=20), [0.0] * 30) == 10


def test_a_bucket_tells_its_burst_by_its_headers() -> None:
    """capacity = remaining + reset * limit / 60"""
    quota, settings = limits.Quota(), options.Settings(rpm=600, burst=10)
    quota.admit(1, settings, 0.0)
    gauge = quota.gauges(0.0)["requests"]
    assert gauge.limit == 600
    assert gauge.remaining + gauge.reset * gauge.limit / 60 == pytest.approx(100)


CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "Hello there"}]}


@pytest.mark.parametrize("mode", ["bucket", "window", "sliding"])
def test_each_key_and_model_has_its_own_quota(make: Any, mode: str) -> None:
    ask = make(rpm=60, mode=mode, burst=4, window=4)
    statuses = [ask("/v1/chat/completions", CHAT).status for _ in range(6)]
    assert statuses == [200] * 4 + [429] * 2
    assert ask("/v1/chat/completions", CHAT, key="sk-other").status == 200
    assert ask("/v1/chat/completions", {**CHAT, "model": "large"}).status == 200


def test_a_key_can_be_one_scope_for_all_models(make: Any) -> None:
    ask = make(rpm=60, burst=4, scope="key")
    models = ["tiny", "large"] * 3
    statuses = [ask("/v1/chat/completions", {**CHAT, "model": model}).status for model in models]
    assert statuses == [200] * 4 + [429] * 2


def test_keys_and_models_may_differ(make: Any) -> None:
    ask = make(rpm=1, keys={"sk-rich": {"rpm": 1000}}, models={"large*": {"rpm": 3}})
    assert [ask("/v1/chat/completions", CHAT).status for _ in range(2)] == [200, 429]
    assert {ask("/v1/chat/completions", CHAT, key="sk-rich").status for _ in range(50)} == {200}
    large = {**CHAT, "model": "large-2"}
    assert [ask("/v1/chat/completions", large).status for _ in range(4)] == [200] * 3 + [429]


def test_tokens_are_reserved_by_max_tokens_or_counted_by_usage(make: Any) -> None:
    body = {**CHAT, "max_tokens": 90}
    used = make()("/v1/chat/completions", body).json["usage"]
    reserve = make(tpm=3 * (used["prompt_tokens"] + 90), mode="window")
    assert [reserve("/v1/chat/completions", body).status for _ in range(4)] == [200] * 3 + [429]
    usage = make(tpm=3 * used["total_tokens"], mode="window", charge="usage")
    assert [usage("/v1/chat/completions", body).status for _ in range(4)] == [200] * 3 + [429]


def test_calls_in_flight_are_limited_over_http(simulator: process.Process) -> None:
    """Twenty at once, four may be in flight: four are answered, the others come back at once."""
    simulator.control(keys={"sk-narrow": {"concurrency": 4, "latency": 0.5}})

    async def run() -> list[int]:
        async with httpx.AsyncClient(headers={"authorization": "Bearer sk-narrow"}, timeout=20) as client:
            url = f"{simulator.base_url}/chat/completions"
            answers = await asyncio.gather(*(client.post(url, json=CHAT) for _ in range(20)))
        return [answer.status_code for answer in answers]

    try:
        statuses = asyncio.run(run())
    finally:
        simulator.control(keys={"sk-narrow": None})
    assert (statuses.count(200), statuses.count(429)) == (4, 16)
    stats = simulator.stats()
    assert stats["keys"]["sk-narrow"]["max_in_flight"] == 4
    assert stats["rejected"] == {"concurrency": 16}
