"""How a run goes, live on a terminal and as plain lines elsewhere."""

import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

import click
from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from api import schemas
from api.cli import columns

WINDOW_SECONDS = 60.0
PLAIN_SECONDS = 5.0


class Display(Protocol):
    """Shown on stderr; results and totals go to stdout. A terminal that is gone stops no run: SIGHUP does."""

    def show(self, batch: schemas.Batch) -> None: ...

    def note(self, text: str) -> None: ...


@dataclass(frozen=True, slots=True)
class _Moment:
    at: float
    done: int
    tokens: int


class Rates:
    """Requests and tokens a minute over the last minute."""

    def __init__(self) -> None:
        self._moments: deque[_Moment] = deque()

    def add(self, batch: schemas.Batch, *, at: float) -> None:
        tokens = sum(model.input_tokens + model.output_tokens for model in batch.gristmill.models)
        self._moments.append(_Moment(at, done(batch), tokens))
        while len(self._moments) > 2 and self._moments[1].at <= at - WINDOW_SECONDS:
            self._moments.popleft()

    @property
    def requests(self) -> float:
        return self._per_minute("done")

    @property
    def tokens(self) -> float:
        return self._per_minute("tokens")

    def _per_minute(self, name: str) -> float:
        if len(self._moments) < 2:
            return 0.0
        first, last = self._moments[0], self._moments[-1]
        grown: int = getattr(last, name) - getattr(first, name)
        return max(grown, 0) * 60.0 / (last.at - first.at) if last.at > first.at else 0.0


def done(batch: schemas.Batch) -> int:
    return batch.request_counts.completed + batch.request_counts.failed


def line(batch: schemas.Batch, rates: Rates, *, limit: int | None) -> str:
    """All that changes, in one line."""
    extension, counts = batch.gristmill, batch.request_counts
    if batch.status == "validating":
        return "checking the lines"
    parts = [
        f"{columns.count(done(batch))}/{columns.count(wanted(batch, limit))} done",
        f"{columns.count(counts.failed)} failed",
        f"{columns.count(extension.in_flight)} in flight",
        f"{columns.count(rates.requests)} requests/min",
        f"{columns.count(rates.tokens)} tokens/min",
        columns.cost(extension.cost_usd, extension.unknown_cost),
        f"ETA {eta(batch)}",
    ]
    return ", ".join([*parts, *blocks(batch)])


def eta(batch: schemas.Batch) -> str:
    """How long it will still take, as the server sees it."""
    left = batch.gristmill.eta_seconds
    return "-" if left is None else columns.duration(left)


def wanted(batch: schemas.Batch, limit: int | None) -> int:
    return batch.request_counts.total if limit is None else min(limit, batch.request_counts.total)


def blocks(batch: schemas.Batch) -> list[str]:
    """Why lines wait."""
    found = [
        f"{block.scope or block.model or 'all'} waits ({block.reason}{f': {block.detail}' if block.detail else ''})"
        for block in batch.gristmill.blocked_by
    ]
    return ["paused", *found] if batch.gristmill.paused else found


@contextmanager
def display(*, limit: int | None = None) -> Iterator[Display]:
    if not sys.stderr.isatty():
        yield _Plain(limit)
        return
    live = Live(console=Console(stderr=True), refresh_per_second=4)
    try:
        live.start()
        yield _Live(live, limit)
    finally:
        with suppress(OSError):
            live.stop()


class _Plain:
    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._rates = Rates()
        self._printed_at = float("-inf")
        self._printed = ""
        self._blocks: list[str] = []

    def show(self, batch: schemas.Batch) -> None:
        now = time.monotonic()
        self._rates.add(batch, at=now)
        text = line(batch, self._rates, limit=self._limit)
        news = blocks(batch) != self._blocks or done(batch) == wanted(batch, self._limit) > 0
        if (news or now - self._printed_at >= PLAIN_SECONDS) and text != self._printed:
            self._printed_at, self._printed, self._blocks = now, text, blocks(batch)
            self.note(text)

    def note(self, text: str) -> None:
        with suppress(OSError):
            click.echo(text, err=True)


class _Live:
    def __init__(self, live: Live, limit: int | None) -> None:
        self._live = live
        self._limit = limit
        self._rates = Rates()

    def show(self, batch: schemas.Batch) -> None:
        self._rates.add(batch, at=time.monotonic())
        rows = Table.grid()
        rows.add_row(ProgressBar(total=max(wanted(batch, self._limit), 1), completed=done(batch)))
        rows.add_row(Text(line(batch, self._rates, limit=self._limit)))
        with suppress(OSError):
            self._live.update(rows)

    def note(self, text: str) -> None:
        with suppress(OSError):
            self._live.console.print(text, highlight=False, markup=False)
