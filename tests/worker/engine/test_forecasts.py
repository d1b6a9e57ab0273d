from worker.engine import forecasts
from worker.engine.forecasts import ENOUGH, Forecasts


def test_a_batch_that_writes_little_is_expected_to() -> None:
    found = Forecasts()
    for _ in range(ENOUGH - 1):
        found.note(1, "a/b", 4000, 200)
    assert found.output_tokens(1, "a/b", 4000) == 4000
    found.note(1, "a/b", 4000, 200)
    assert found.output_tokens(1, "a/b", 4000) == 240
    assert found.output_tokens(1, "a/b", 1000) == 60
    assert found.output_tokens(2, "a/b", 4000) == 4000
    assert found.output_tokens(1, "a/c", 4000) == 4000


def test_it_follows_what_changes_and_never_exceeds_the_estimate() -> None:
    found = Forecasts()
    for _ in range(ENOUGH):
        found.note(1, "a/b", 100, 1)
    for _ in range(200):
        found.note(1, "a/b", 100, 150)
    assert found.output_tokens(1, "a/b", 100) == 100
    found.note(1, "a/b", 0, 0)
    assert found.output_tokens(1, "a/b", 0) == 0


def test_the_oldest_are_forgotten() -> None:
    found = Forecasts()
    for batch in range(forecasts.MOST_FORECASTS + 1):
        for _ in range(ENOUGH):
            found.note(batch, "a/b", 100, 10)
    assert found.output_tokens(0, "a/b", 100) == 100
    assert found.output_tokens(1, "a/b", 100) == 12
