import pytest

from bench import measure
from bench.audit import Account
from bench.case import Behaviour, Case
from bench.client import Done
from bench.server import Seen

CASE = Case(name="some", title="some", lines=1_000, behaviour=Behaviour(latency=0.5, rpm=600, burst=1.0), aims=())
SEEN = Seen(
    calls=1_050,
    accepted=1_010,
    answered=1_000,
    refused=40,
    injected=10,
    early_retries=0,
    calls_after_ok=0,
    max_in_flight=30,
    tokens=5_000,
    span=100.0,
)


def test_figures_are_by_line_and_by_call() -> None:
    done = Done(
        seconds=110.0, cpu_seconds=2.0, peaks={"a": 5_000_000, "b": 90_000_000}, startup_cpu=3.0, marked_empty=1
    )
    found = measure.figures(CASE, done, SEEN, Account(answered=997, lost=3, empty=2, twice=1, wrong=1))
    assert found["cpu_ms"] == 2.0
    assert found["rss_mb"] == 90.0
    assert found["rate"] == 10.0
    assert found["refused_share"] == pytest.approx(40 / 1_050)
    assert found["calls_per_line"] == 1.05
    assert found["ideal"] == 99.5
    assert found["over_ideal"] == pytest.approx(110 / 99.5)
    assert (found["lost"], found["wrong"], found["empty_unmarked"]) == (3, 2, 1)


def test_the_middle_of_runs_is_their_median_but_the_worst_of_what_must_be_nothing() -> None:
    runs = [{"seconds": 3.0, "lost": 0.0}, {"seconds": 1.0, "lost": 2.0}, {"seconds": 9.0, "lost": 0.0, "ideal": 1.0}]
    assert measure.middle(runs) == {"seconds": 3.0, "lost": 2.0, "ideal": 1.0}
