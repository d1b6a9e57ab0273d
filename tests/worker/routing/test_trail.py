from worker.alias_config import Fallback
from worker.routing import trail


def test_a_line_begins_with_what_it_asked_for() -> None:
    assert (
        trail.serving("judge", "") == "judge" and trail.reason("") is None and trail.visited("judge", "") == {"judge"}
    )


def test_each_step_is_remembered_and_the_last_one_serves() -> None:
    first = trail.onward("", Fallback.CONTEXT_WINDOW, "long")
    second = trail.onward(first, Fallback.GENERAL, "openai/gpt-4o")
    assert second == "context_window long\ngeneral openai/gpt-4o"
    assert (trail.serving("judge", second), trail.reason(second)) == ("openai/gpt-4o", "general")
    assert trail.visited("judge", second) == {"judge", "long", "openai/gpt-4o"}
