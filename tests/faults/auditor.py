"""The auditor: what must hold of a batch at rest, whatever happened while it ran. One for all faults."""

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from providers.simulator.process import Process
from tests.faults.rig import Mill
from worker.states import JobState

SHOWN = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """The figures of a batch that has passed."""

    status: str
    lines: int
    completed: int
    failed: int
    attempts: int
    repeats: int
    answered_twice: int
    repeats_at_most: int
    codes: Counter[str] = field(default_factory=Counter)
    """Of the lines in the error file."""


Audit = Callable[..., Account]
"""``audit`` for a given simulator."""


def audit(mill: Mill, id: str, lines: Sequence[bytes], simulator: Process, *, most_repeats: int = 0) -> Account:
    """``lines``: what went in. ``most_repeats``: how many calls this fault may have made in vain at most.

    Fails with everything that is wrong at once.
    """
    names = [str(json.loads(line)["custom_id"]) for line in lines]
    books = _Books(mill, id, names, simulator)
    wrong = [fault for check in books.checks(most_repeats) for fault in check]
    assert not wrong, f"{id} is {books.row['status']}:\n" + "\n".join(wrong)
    return Account(
        status=books.row["status"],
        lines=books.row["total"],
        completed=books.row["completed"],
        failed=books.row["failed"],
        attempts=books.row["attempts"],
        repeats=books.repeats,
        answered_twice=books.answered_twice,
        repeats_at_most=books.row["repeats_at_most"],
        codes=Counter(map(_code, books.errors)),
    )


class _Books:
    """Everything that is known of the batch: its rows, its files, and what the simulator saw."""

    def __init__(self, mill: Mill, id: str, names: list[str], simulator: Process) -> None:
        self.names = names
        self.mill = mill
        self.shown = mill.batch(id)
        self.row = _row(mill, "batch", "id = ?", id)[0]
        number = self.row["number"]
        self.jobs = _row(mill, "job", "id >> 32 = ?", number)
        self.slices = _row(mill, "slice", "batch = ?", number)
        self.tallies = _row(mill, "tally", "batch = ?", number)
        self.attempts = _row(mill, "attempt", "job >> 32 = ?", number)
        self.attempts_of: dict[int, list[dict[str, Any]]] = {job["id"]: [] for job in self.jobs}
        for attempt in self.attempts:
            self.attempts_of[attempt["job"]].append(attempt)
        self.results = _row(mill, "result", "batch = ? AND superseded_in IS NULL", number)
        self.events = _row(mill, "event", "batch = ?", number)
        self.output_bytes = mill.content(self.shown["output_file_id"])
        self.error_bytes = mill.content(self.shown["error_file_id"])
        self.outputs = [json.loads(line) for line in self.output_bytes.splitlines()]
        self.errors = [json.loads(line) for line in self.error_bytes.splitlines()]
        self.seen = _seen(simulator, self.names)
        self.repeats = sum(self._repeats(job, "calls") for job in self.jobs)
        self.answered_twice = sum(self._repeats(job, "answered") for job in self.jobs)

    def _repeats(self, job: dict[str, Any], count: str) -> int:
        """Calls of the line beyond the first that no failure of the provider explains, seen by it or by us.

        ``answered`` ones are those among them that it believes to have answered; it marks no failed one so.
        """
        one = self.seen[job["custom_id"]]
        broken = sum(_is_broken(attempt) for attempt in self.attempts_of[job["id"]])
        explained = broken if count == "answered" else max(one["failed"], broken)
        return max(0, one[count] - explained - 1)

    def checks(self, most_repeats: int) -> Iterator[Iterator[str]]:
        yield self.at_rest()
        yield self.every_line_once()
        yield self.counters()
        yield self.money()
        yield self.nothing_moves()
        yield self.calls(most_repeats)

    def at_rest(self) -> Iterator[str]:
        status = self.row["status"]
        yield from _equal("status over HTTP", self.shown["status"], status)
        yield from _equal("events", [event["type"] for event in self.events], [f"batch.{status}"])
        yield from _equal("due_at", self.row["due_at"], None)

    def every_line_once(self) -> Iterator[str]:
        """In the database and in the files: one current result a line, and it is that line's."""
        wanted = Counter(self.names)
        yield from _same("jobs", Counter(job["custom_id"] for job in self.jobs), wanted)
        yield from _same("results", Counter(row["job"] for row in self.results), Counter(j["id"] for j in self.jobs))
        yield from _same("lines of both files", Counter(x["custom_id"] for x in self.outputs + self.errors), wanted)
        order = {name: place for place, name in enumerate(self.names)}
        for name, lines in (("output", self.outputs), ("error", self.errors)):
            places = [order.get(line["custom_id"], -1) for line in lines]
            yield from _equal(f"input order of the {name} file", places, sorted(places))
        strange = [line["custom_id"] for line in self.outputs if not _is_answer_to(line, line["custom_id"])]
        yield from _equal("lines with the answer of another one", strange[:SHOWN], [])

    def counters(self) -> Iterator[str]:
        done = sum(job["state"] == JobState.SUCCEEDED for job in self.jobs)
        failed = len(self.jobs) - done
        counted = {"total": len(self.names), "completed": done, "failed": failed}
        yield from _equal("request_counts", self.shown["request_counts"], counted)
        yield from _equal("lines of the files", (len(self.outputs), len(self.errors)), (done, failed))
        kinds = Counter(row["kind"] for row in self.results)
        yield from _equal("kinds of results", (kinds["output"], kinds["error"]), (done, failed))
        sizes = (len(self.output_bytes), len(self.error_bytes))
        yield from _equal("bytes of the files", (self.row["output_bytes"], self.row["error_bytes"]), sizes)
        outcomes = Counter(attempt["outcome"] for attempt in self.attempts)
        yield from self._sums("attempts", len(self.attempts), tallied=False)
        yield from self._sums("retries", outcomes["retry"])
        yield from self._sums("rate_limited", outcomes["rate_limited"])
        yield from self._sums("completed", done)
        yield from self._sums("failed", failed)

    def money(self) -> Iterator[str]:
        yield from self._sums("cost", sum(attempt["cost"] or 0 for attempt in self.attempts))
        yield from self._sums("unknown_cost", sum(attempt["cost"] is None for attempt in self.attempts))
        for name in ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens"):
            yield from self._sums(name, sum(attempt[name] or 0 for attempt in self.attempts))

    def nothing_moves(self) -> Iterator[str]:
        yield from _equal("open lines", self.row["open"], 0)
        yield from _equal("reserved", (self.row["reserved"], sum(s["reserved"] for s in self.slices)), (0, 0))
        states = Counter(s["state"] for s in self.slices)
        yield from _equal("states of slices", states, Counter(done=len(self.slices)))
        yield from _equal("started lines", {s["started"] for s in self.slices} - {""}, set())
        yield from _equal("open lines of slices", sum(s["open"] for s in self.slices), 0)
        yield from _equal("pending jobs", sum(job["state"] == JobState.PENDING for job in self.jobs), 0)

    def calls(self, most_repeats: int) -> Iterator[str]:
        """What the simulator saw against what the books say, and against what this fault may cost."""
        at_most = self.row["repeats_at_most"]
        unbooked = sum(
            max(0, self.seen[job["custom_id"]]["calls"] - len(self.attempts_of[job["id"]])) for job in self.jobs
        )
        unanswered = [x["custom_id"] for x in self.outputs if not self.seen[x["custom_id"]]["answered"]]
        yield from _equal("successes that nobody answered", unanswered[:SHOWN], [])
        yield from _at_most("repeated calls", self.repeats, at_most)
        yield from _at_most("lines answered twice", self.answered_twice, at_most)
        yield from _at_most("calls that are not in the books", unbooked, at_most)
        yield from _at_most("repeats_at_most", at_most, most_repeats)

    def _sums(self, name: str, counted: int, *, tallied: bool = True) -> Iterator[str]:
        """The counter of the batch and the sum over its models equal the counted rows."""
        yield from _equal(f"batch.{name}", self.row[name], counted)
        if tallied:
            yield from _equal(f"tally.{name}", sum(tally[name] for tally in self.tallies), counted)


def _row(mill: Mill, table: str, condition: str, *values: Any) -> list[dict[str, Any]]:
    columns = [row[1] for row in mill.rows(f"PRAGMA table_info({table})")]
    return [
        dict(zip(columns, row, strict=True)) for row in mill.rows(f"SELECT * FROM {table} WHERE {condition}", *values)
    ]


def _seen(simulator: Process, names: Collection[str]) -> dict[str, dict[str, int]]:
    """By nonce."""
    seen = simulator.stats(nonces=True)["by_nonce"]
    return {name: seen.get(name, {"calls": 0, "answered": 0, "failed": 0}) for name in names}


def _is_broken(attempt: dict[str, Any]) -> bool:
    """The connection broke, or the provider did not answer in time."""
    return attempt["status_code"] is None and attempt["outcome"] in ("retry", "paused", "failed")


def _is_answer_to(line: dict[str, Any], name: str) -> bool:
    return bool(f"nonce:{name}." in line["response"]["body"]["choices"][0]["message"]["content"])


def _code(line: dict[str, Any]) -> str:
    """Of both shapes of error lines."""
    error = line["error"] or line["response"]["body"]["error"]
    return str(error["code"])


def _equal(what: str, found: object, wanted: object) -> Iterator[str]:
    if found != wanted:
        yield f"  {what}: {found!r}, not {wanted!r}"


def _same(what: str, found: Counter[Any], wanted: Counter[Any]) -> Iterator[str]:
    if found != wanted:
        missing, spare = list((wanted - found).elements()), list((found - wanted).elements())
        yield f"  {what}: {len(missing)} missing {missing[:SHOWN]}, {len(spare)} too many {spare[:SHOWN]}"


def _at_most(what: str, found: int, most: int) -> Iterator[str]:
    if found > most:
        yield f"  {what}: {found}, more than {most}"
