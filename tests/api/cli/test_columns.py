import pytest

from api.cli import columns


@pytest.mark.parametrize(
    ("usd", "said"),
    [
        (None, "unknown"),
        (0.0, "$0.00"),
        (0.004, "$0.004"),
        (0.0317, "$0.032"),
        (0.5, "$0.50"),
        (1234.5, "$1,234.50"),
        (0.0000012, "$1.2e-06"),
    ],
)
def test_money_shows_what_there_is(usd: float | None, said: str):
    assert columns.money(usd) == said


def test_a_cost_that_is_not_whole_says_so():
    assert columns.cost(0.5, 0) == "$0.50"
    assert columns.cost(0.5, 3) == "$0.50 + unknown"
    assert columns.cost(None, 3) == "unknown"


@pytest.mark.parametrize(("seconds", "said"), [(0, "0:00"), (59.6, "1:00"), (3_600, "1:00:00"), (90_061, "25:01:01")])
def test_durations(seconds: float, said: str):
    assert columns.duration(seconds) == said


def test_a_table_is_aligned():
    said = columns.table(("model", "lines"), [("a", "1,000"), ("longer/name", "2")])
    assert said.splitlines() == ["model        lines", "a            1,000", "longer/name      2"]
