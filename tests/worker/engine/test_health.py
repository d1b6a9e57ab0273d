"""When failures in a row are an outage, and when they are not."""

from dataclasses import dataclass

from worker.engine.health import OUTAGE_LINES, Health


@dataclass
class Job:
    id: int
    failures: int = 0

    def refund(self) -> None:
        self.failures -= 1


def fails(health: Health, *jobs: Job) -> bool:
    """Whether the last of these failures makes it an outage."""
    found = False
    for job in jobs:
        job.failures += 1
        found = health.failed(job)
    return found


def test_many_lines_that_fail_in_a_row_are_an_outage_and_get_their_attempts_back() -> None:
    health, jobs = Health(), [Job(number) for number in range(OUTAGE_LINES)]
    assert not fails(health, *jobs[:-1], *jobs[:-1])
    assert fails(health, jobs[-1])
    assert [job.failures for job in jobs] == [0] * OUTAGE_LINES


def test_a_few_lines_that_fail_for_ever_are_not() -> None:
    health, jobs = Health(), [Job(number) for number in range(OUTAGE_LINES - 1)]
    assert not fails(health, *(jobs * 10))
    assert {job.failures for job in jobs} == {10}


def test_any_answer_ends_the_row() -> None:
    health, jobs = Health(), [Job(number) for number in range(OUTAGE_LINES)]
    fails(health, *jobs[:-1])
    health.fine()
    assert not fails(health, jobs[-1])
    assert jobs[0].failures == 1
