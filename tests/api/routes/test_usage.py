import datetime
from typing import Any

import pytest
from click.testing import CliRunner

from api.cli import usage
from tests import grist
from tests.api.conftest import Server
from tests.grist import Worker

DAY = 86_400 * 10**9
MONDAY = 20_000 * DAY
"""A day's first nanosecond."""


def used(server: Server, **query: str) -> list[Any]:
    answer = server.http.get("/v1/usage", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]  # type: ignore[no-any-return]


def called(server: Server, *attempts: int, owner: str = "local", **facts: Any) -> str:
    """A batch with a line for each of these moments."""
    number = grist.add(server.database, len(attempts), owner=owner)
    worker = Worker(server.database)
    claim = worker.begin(grist.slices_of(server.database, number)[0].id)
    for job, attempt in zip(claim.jobs, attempts, strict=True):
        worker.record(grist.end(claim, job, attempt=attempt, **facts))
    return grist.batch(server.database, number).id


def day(number: int) -> str:
    return datetime.datetime.fromtimestamp((MONDAY + number * DAY) / 1e9, datetime.UTC).date().isoformat()


def test_sums_by_each_word(server: Server) -> None:
    first = called(server, MONDAY, MONDAY + DAY)
    second = called(server, MONDAY + DAY)
    assert [(row["key"], row["attempts"], row["input_tokens"]) for row in used(server)] == [
        (day(0), 1, 11),
        (day(1), 2, 22),
    ]
    assert {row["key"]: row["cost_usd"] for row in used(server, by="batch")} == {first: 50e-12, second: 25e-12}
    assert [row["key"] for row in used(server, by="model")] == ["mill/flour"]
    assert [row["key"] for row in used(server, by="provider")] == ["mill"]


def test_both_ends_belong_to_the_days_asked_for(server: Server) -> None:
    called(server, MONDAY - 1, MONDAY, MONDAY + 2 * DAY - 1, MONDAY + 2 * DAY)
    assert [row["key"] for row in used(server, **{"from": day(0), "to": day(1)})] == [day(0), day(1)]


def test_unknown_cost_is_null_and_counted(server: Server) -> None:
    called(server, MONDAY, cost=None, usage=None)
    [row] = used(server)
    assert (row["cost_usd"], row["unknown_cost"], row["input_tokens"]) == (None, 1, None)


def test_another_owner_is_not_in_it(server: Server) -> None:
    called(server, MONDAY, owner="other")
    assert used(server) == []


@pytest.mark.parametrize("query", [{"by": "planet"}, {"from": "yesterday"}])
def test_wrong_words_are_refused(server: Server, query: dict[str, str]) -> None:
    assert server.http.get("/v1/usage", params=query).status_code == 400


def test_the_command_shows_a_table(server: Server) -> None:
    called(server, MONDAY)
    done = CliRunner().invoke(usage.usage, ["--by", "model", "--from", day(0), "--server", server.url])
    assert [line.split()[:3] for line in done.stdout.splitlines()] == [
        ["model", "calls", "input"],
        ["mill/flour", "1", "11"],
    ]
