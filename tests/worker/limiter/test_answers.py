import time

import pytest

from providers.rate_limits import OPENAI, QuotaState
from worker.limiter.answers import ALARM, MOST_REMEMBERED, Answers, Refusal

NOW = 1_000.0


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: NOW)


@pytest.fixture
def answers() -> Answers:
    return Answers(OPENAI)


def headers(remaining: int, limit: int = 600) -> dict[str, str]:
    return {"x-ratelimit-limit-requests": str(limit), "x-ratelimit-remaining-requests": str(remaining)}


def fine(answers: Answers, **more: float) -> None:
    answers.accepted(seconds=more.get("seconds", 1.0), tokens=10, headers={}, sent_at=NOW)


def test_no_news(answers: Answers) -> None:
    news = answers.take()
    assert (news.answers, news.accepted, news.cause, news.seconds, news.floor, news.force) == (
        "",
        0,
        "",
        0.0,
        0.0,
        False,
    )
    assert news.seen == {}


def test_everything_is_told_once(answers: Answers) -> None:
    fine(answers, seconds=1.0)
    answers.accepted(seconds=3.0, tokens=5, broken=True, headers=headers(7), sent_at=NOW - 3)
    answers.refused(Refusal(cause="tokens", floor=2.0), headers={}, sent_at=NOW)
    news = answers.take()
    assert (news.answers, news.accepted, news.refused, news.tokens, news.broken) == ("001", 2, 1, 15, 1)
    assert (news.seconds, news.floor, news.force) == (2.0, 2.0, False)
    assert news.seen == {"requests": QuotaState(600.0, 7.0, None)} and news.seen_age == 3.0
    again = answers.take()
    assert (again.answers, again.accepted, again.refused, again.tokens, again.broken) == ("", 0, 0, 0, 0)
    assert again.floor == 0.0
    assert again.seen == {} and again.cause == ""


def test_the_headers_of_the_call_that_was_sent_last_count(answers: Answers) -> None:
    answers.accepted(seconds=1, headers=headers(5), sent_at=NOW - 1)
    answers.accepted(seconds=9, headers=headers(99), sent_at=NOW - 9)
    answers.accepted(seconds=0.5, headers={}, sent_at=NOW - 0.5)
    news = answers.take()
    assert news.seen["requests"].remaining == 5 and news.seen_age == 1


def test_headers_older_than_those_that_were_told_are_none(answers: Answers) -> None:
    answers.accepted(seconds=1, headers=headers(5), sent_at=NOW - 1)
    answers.take()
    answers.accepted(seconds=9, headers=headers(99), sent_at=NOW - 9)
    assert answers.take().seen == {}


def test_the_headers_of_a_refusal_count_too(answers: Answers) -> None:
    answers.refused(Refusal(), headers=headers(0), sent_at=NOW)
    assert answers.take().seen["requests"].remaining == 0


def test_not_all_answers_are_remembered_but_all_are_counted(answers: Answers) -> None:
    for _ in range(3 * MOST_REMEMBERED):
        fine(answers)
    news = answers.take()
    assert news.answers == "0" * MOST_REMEMBERED and news.accepted == 3 * MOST_REMEMBERED


def test_a_few_refusals_among_the_last_answers_alarm_until_they_are_told(answers: Answers) -> None:
    for refused in range(ALARM):
        assert not answers.alarming, refused
        answers.refused(Refusal(), headers={}, sent_at=NOW)
        fine(answers)
    assert answers.alarming
    answers.take()
    assert not answers.alarming


def test_an_alarm_lasts_until_it_is_told_whatever_comes_after_it(answers: Answers) -> None:
    for _ in range(ALARM):
        answers.refused(Refusal(), headers={}, sent_at=NOW)
    for _ in range(20):
        fine(answers)
    assert answers.alarming


def test_refusals_among_many_good_answers_do_not_alarm(answers: Answers) -> None:
    for _ in range(5 * ALARM):
        answers.refused(Refusal(), headers={}, sent_at=NOW)
        for _ in range(9):
            fine(answers)
    assert not answers.alarming


def test_the_longest_wait_and_any_force_are_kept(answers: Answers) -> None:
    answers.refused(Refusal(floor=9.0), headers={}, sent_at=NOW)
    answers.refused(Refusal(floor=2.0, force=True), headers={}, sent_at=NOW)
    answers.refused(Refusal(floor=1.0), headers={}, sent_at=NOW)
    news = answers.take()
    assert (news.floor, news.force) == (9.0, True)
    answers.keep(floor=news.floor, force=news.force)
    assert (answers.take().floor, answers.take().floor) == (9.0, 0.0)


def test_a_refusal_that_names_nothing_is_unnamed(answers: Answers) -> None:
    answers.refused(Refusal(), headers={}, sent_at=NOW)
    assert answers.take().cause == "unnamed"


@pytest.mark.parametrize(
    ("remaining", "cause"), [(300, "concurrency"), (13, "concurrency"), (12, "tokens"), (0, "tokens")]
)
def test_where_all_quotas_have_room_left_concurrency_was_refused(answers: Answers, remaining: int, cause: str) -> None:
    answers.refused(Refusal(cause="tokens"), headers=headers(remaining), sent_at=NOW)
    assert answers.take().cause == cause


def test_room_without_a_refusal_is_no_cause(answers: Answers) -> None:
    answers.accepted(seconds=1, headers=headers(300), sent_at=NOW)
    assert answers.take().cause == ""


@pytest.mark.parametrize(("remaining", "floor", "force"), [(0, 40.0, True), (0, 1.0, False), (50, 40.0, False)])
def test_a_spent_window_rests_the_scope_at_once(answers: Answers, remaining: int, floor: float, force: bool) -> None:
    """A bucket that refills names a moment only; a window of a minute names its end."""
    answers.refused(Refusal(floor=floor), headers=headers(remaining), sent_at=NOW)
    assert answers.take().force is force


def test_the_mean_length_of_calls_follows_slowly(answers: Answers) -> None:
    assert answers.latency == 0
    fine(answers, seconds=2.0)
    assert answers.latency == 2.0
    fine(answers, seconds=4.0)
    assert 2.0 < answers.latency < 2.5
    for _ in range(200):
        fine(answers, seconds=4.0)
    assert answers.latency == pytest.approx(4.0, abs=0.1)
