"""What a test can learn about its client."""

from typing import Any


def body(text: str) -> dict[str, Any]:
    return {"model": "tiny", "messages": [{"role": "system", "content": "nonce:no"}, {"role": "user", "content": text}]}


def test_calls_are_counted_by_nonce_and_money_spent_twice_is_seen(ask: Any) -> None:
    for text in ("nonce:a.1 x", "nonce:a.1 y", "nonce:b tag:red", "plain", "plain"):
        ask("/v1/chat/completions", body(text))
    stats = ask("/stats?nonces").json
    assert stats["answered"] == 5
    assert stats["nonces"] == 3
    assert (stats["answered_twice"], stats["calls_after_answer"], stats["repeats"]) == (2, 2, 2)
    assert stats["by_nonce"]["a.1"]["answered"] == 2
    assert stats["tags"] == {"red": 1}


def test_the_last_mark_of_the_last_user_message_is_the_nonce(ask: Any) -> None:
    messages = [
        {"role": "user", "content": "nonce:old"},
        {"role": "assistant", "content": "nonce:mine"},
        {"role": "user", "content": [{"type": "text", "text": "nonce:x and nonce:new."}]},
        {"role": "assistant", "content": "so"},
    ]
    ask("/v1/chat/completions", {"model": "tiny", "messages": messages})
    assert list(ask("/stats?nonces").json["by_nonce"]) == ["new"]


def test_an_input_of_an_embedding_has_a_nonce_too(ask: Any) -> None:
    ask("/v1/embeddings", {"model": "embed", "input": ["a", "b nonce:deep"]})
    assert list(ask("/stats?nonces").json["by_nonce"]) == ["deep"]


def test_the_mark_can_be_another_one(make: Any) -> None:
    ask = make(marker="id=")
    ask("/v1/chat/completions", body("nonce:a id=7"))
    assert list(ask("/stats?nonces").json["by_nonce"]) == ["7"]


def test_a_retry_after_a_failure_is_no_repeat(ask: Any) -> None:
    for _ in range(3):
        ask("/v1/chat/completions", body("nonce:a [[status=500 times=2]]"))
    stats = ask("/stats").json
    assert (stats["repeats"], stats["answered_twice"], stats["answered"]) == (0, 0, 1)
    assert stats["injected"] == {"status=500": 2}


def test_who_comes_back_before_the_told_wait_is_early(ask: Any) -> None:
    for _ in range(2):
        ask("/v1/chat/completions", body("nonce:a [[status=429 retry_after=30 times=1]]"))
    ask("/v1/chat/completions", body("nonce:b [[status=429 times=1]]"))
    ask("/v1/chat/completions", body("nonce:b"))
    assert ask("/stats").json["early_retries"] == 1


def test_refusals_by_limits_tell_a_wait_too(make: Any) -> None:
    ask = make(rpm=1)
    for _ in range(3):
        ask("/v1/chat/completions", body("nonce:a"))
    stats = ask("/stats").json
    assert (stats["early_retries"], stats["rejected"]) == (1, {"requests": 2})


def test_each_key_has_its_own_counts(ask: Any) -> None:
    ask("/v1/chat/completions", body("a"), key="sk-a")
    ask("/v1/chat/completions", {"model": "nope"}, key="sk-b")
    keys = ask("/stats").json["keys"]
    assert (keys["sk-a"]["answered"], keys["sk-a"]["models"]) == (1, {"tiny": 1})
    assert keys["sk-b"]["rejected"] == {"invalid": 1}


def test_usage_adds_up(ask: Any) -> None:
    answers = [ask("/v1/chat/completions", body(f"{n}")).json["usage"] for n in range(5)]
    stats = ask("/stats").json
    assert stats["input_tokens"] == sum(usage["prompt_tokens"] for usage in answers)
    assert stats["output_tokens"] == sum(usage["completion_tokens"] for usage in answers)


def test_reset_forgets_counts_nonces_and_limits(make: Any) -> None:
    ask = make(rpm=1)
    assert [ask("/v1/chat/completions", body("a")).status for _ in range(2)] == [200, 429]
    ask("/reset", {})
    assert ask("/stats").json["arrived"] == 0
    assert ask("/v1/chat/completions", body("a")).status == 200


def test_the_last_requests_are_kept_on_demand(make: Any) -> None:
    ask = make(record=2)
    for text in ("a", "b", "c"):
        ask("/v1/chat/completions", body(text))
    kept = ask("/requests").json
    assert [each["body"].count('"c"') for each in kept] == [0, 1]
    assert kept[0]["headers"]["authorization"] == "Bearer sk-test"
