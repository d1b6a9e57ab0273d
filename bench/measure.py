"""One run of one client: a fresh server, a fresh client, the work, and the figures of both sides."""

import contextlib
import math
import statistics
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from bench import audit, ideal
from bench.case import Case
from bench.client import Client, Done
from bench.course import Course
from bench.mill import Mill
from bench.peer import PROGRAMS, Peer
from bench.server import Kind, Seen, Server

Figures = dict[str, float]
Start = Callable[[Path, Server], contextlib.AbstractContextManager[Client]]
"""How the client of a run is started, in this folder and for this server."""

PATIENCE_SECONDS = 300.0
WORST = frozenset({"lost", "wrong", "early_retries", "calls_after_ok", "empty_unmarked"})
"""Figures of which a median would hide something."""


def gristmill(case: Case, kind: Kind) -> Start:
    config = config_for(case, kind)
    return lambda folder, server: Mill(folder, server.base_url, config, workers=case.workers)


def config_for(case: Case, kind: Kind) -> dict[str, Any]:
    """gristmill.yaml: what the user told, if anything."""
    told = case.told.settings()
    return kind.config | ({"providers": {"openai": told}} if told else {})


def peer(case: Case, module: str) -> Start:
    options = {"at_once": case.at_once, "rpm": case.told.rpm, "tpm": case.told.tpm}
    return lambda folder, server: Peer(PROGRAMS[module], folder, server.base_url, options)


def run(case: Case, kind: Kind, start: Start, lines: Path, folder: Path) -> Figures:
    """Raises ClientError if the client does not come up or to an end."""
    answers = folder / "answers.jsonl"
    with Server(kind, case.behaviour) as server, start(folder, server) as client:
        before = server.cpu_seconds
        with Course(case, server) as course:
            done = client.work(lines, answers, patience=_patience(case))
        seen, server_cpu = server.seen(), server.cpu_seconds - before
    found = figures(case, done, seen, audit.audit(case.lines, answers))
    answers.unlink()
    return found | course.figures() | {"server_busy": server_cpu / done.seconds}


def figures(case: Case, done: Done, seen: Seen, account: audit.Account) -> Figures:
    """Times in seconds, CPU in milliseconds a line, memory in MB of 1,000,000 bytes."""
    found: dict[str, float | None] = {
        "seconds": done.seconds,
        "span": seen.span,
        "rate": case.lines / seen.span if seen.span else None,
        "cpu_ms": done.cpu_seconds * 1000 / case.lines,
        "startup_cpu": done.startup_cpu,
        "rss_mb": max(done.peaks.values(), default=0) / 1e6,
        "calls": seen.calls,
        "calls_per_line": seen.calls / case.lines,
        "refused": seen.refused,
        "refused_share": seen.refused / max(1, seen.calls),
        "in_flight": seen.max_in_flight,
        "lost": account.lost,
        "wrong": account.wrong + account.twice,
        "empty": account.empty,
        "early_retries": seen.early_retries,
        "calls_after_ok": seen.calls_after_ok,
    }
    best = ideal.seconds(case, seen.tokens / max(1, seen.accepted))
    if best:
        found |= {"ideal": best, "over_ideal": done.seconds / best, "quota_used": best / done.seconds}
    if done.marked_empty is not None:
        found["empty_unmarked"] = abs(account.empty - done.marked_empty)
    if len(done.peaks) > 1:
        found |= {f"rss_mb_{name}": peak / 1e6 for name, peak in done.peaks.items()}
    return {name: float(value) for name, value in found.items() if value is not None}


def middle(runs: Iterable[Mapping[str, float]]) -> Figures:
    """The median of each figure, and the worst of those that must be nothing."""
    all_runs = list(runs)
    names = dict.fromkeys(name for one in all_runs for name in one)
    return {name: _middle(name, [one[name] for one in all_runs if name in one]) for name in names}


def spread(runs: Iterable[Mapping[str, Any]], figure: str) -> float:
    """The greatest over the least."""
    values = [one[figure] for one in runs if one.get(figure)]
    return max(values) / min(values) if values else math.nan


def _middle(name: str, values: list[float]) -> float:
    return max(values) if name in WORST else statistics.median(values)


def _patience(case: Case) -> float:
    return max(PATIENCE_SECONDS, case.lines / 50, 5 * (ideal.seconds(case, 1000.0) or 0.0))
