"""Cases measured one after the other; within a case the clients take turns, so that all meet the same machine."""

import dataclasses
import datetime
import os
import platform
import subprocess
import tempfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import httpx

from bench import cases, company, lines, measure, result
from bench.case import Case
from bench.client import ClientError
from bench.environment import KEPT, EnvironmentFault
from bench.measure import Figures, Start
from bench.result import MILL, Result
from bench.server import Kind

FLOOR = "aiohttp_retries"
TRIALS = {"five": company.five, "beside": company.beside}

FAILURES = (ClientError, EnvironmentFault, httpx.HTTPError, subprocess.SubprocessError)
"""What ends a run, but not the suite."""

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Suite:
    """``peers`` None: those that each case names. ``say`` hears each run as it ends."""

    kind: Kind
    runs: int
    peer_runs: int
    peers: Collection[str] | None
    lines: int | None
    say: Say
    _done: dict[str, Result] = dataclasses.field(default_factory=dict)

    @property
    def results(self) -> tuple[Result, ...]:
        """Of all cases so far, those that others were compared with among them."""
        return tuple(self._done.values())

    def measure(self, case: Case) -> Result:
        """Once for each case; a later call has the same result."""
        if case.name not in self._done:
            if self.lines and case.name != "beside":
                case = dataclasses.replace(case, lines=self.lines)
            self._done[case.name] = self._measured(case)
        return self._done[case.name]

    def _measured(self, case: Case) -> Result:
        self.say(f"\n{case.name}: {case.title}; {case.lines:,} lines")
        runs: dict[str, list[Figures]] = {}
        failures: dict[str, str] = {}
        KEPT.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=KEPT, prefix="run-") as name:
            for number, client in self._turns(case):
                folder = Path(name) / f"{client}-{number}"
                folder.mkdir()
                try:
                    found = self._run(case, client, folder)
                except FAILURES as error:
                    failures[client] = _reason(error)
                    self.say(f"  {client}: {error}")
                    continue
                runs.setdefault(client, []).append(found)
                self.say(f"  {client}: {told(found)}")
        return self._result(case, {client: measure.middle(each) for client, each in runs.items()}, failures)

    def _turns(self, case: Case) -> Iterator[tuple[int, str]]:
        """(which run, whose): Gristmill and a floor that it is compared with as often as each other."""
        wanted = case.peers if self.peers is None else tuple(name for name in case.peers if name in self.peers)
        is_compared = any(aim.figure == "floor_ratio" for aim in case.aims)
        runs = self._runs(case)
        for number in range(max(runs, self.peer_runs)):
            if number < runs:
                yield number, MILL
            if is_compared and number < runs:
                yield number, FLOOR
            for name in wanted:
                if number < self.peer_runs and not (is_compared and name == FLOOR):
                    yield number, name

    def _runs(self, case: Case) -> int:
        return 1 if case.is_slow else self.runs

    def _run(self, case: Case, client: str, folder: Path) -> Figures:
        if case.trial in TRIALS:
            return TRIALS[case.trial](case, self.kind, folder)
        source = folder.parent / "in.jsonl"
        if not source.exists():
            lines.write(source, case.lines, case.sizes, self.kind.model)
        start: Start = measure.gristmill(case, self.kind) if client == MILL else measure.peer(case, client)
        return measure.run(case, self.kind, start, source, folder)

    def _result(self, case: Case, middles: dict[str, Figures], failures: dict[str, str]) -> Result:
        if mine := middles.get(MILL):
            mine |= self._compared(case, mine, middles)
            _align(middles, mine.get("ideal"))
        return Result(
            case=case.name,
            title=case.title,
            lines=case.lines,
            runs=self._runs(case),
            server=self.kind.name,
            measured_at=datetime.datetime.now(datetime.UTC).date().isoformat(),
            machine=f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, "
            f"Python {platform.python_version()}",
            figures=middles,
            failures=failures,
            verdicts=result.verdicts(case, mine or {}),
        )

    def _compared(self, case: Case, mine: Figures, middles: dict[str, Figures]) -> Figures:
        """Ratios to another client, or to another case."""
        found: Figures = {}
        if floor := middles.get(FLOOR):
            found["floor_ratio"] = mine["seconds"] / floor["seconds"]
        if case.against:
            other = self.measure(next(one for one in cases.every() if one.name == case.against))
            if cpu := other.figures.get(MILL, {}).get("cpu_ms"):
                found["cpu_ratio"] = mine["cpu_ms"] / cpu
        return found


def _align(middles: dict[str, Figures], best: float | None) -> None:
    """The ideal is that of all lines, also for whoever lost some and so used fewer tokens."""
    if best:
        for figures in middles.values():
            seconds = figures["seconds"]
            figures |= {"ideal": best, "over_ideal": seconds / best, "quota_used": best / seconds}


def _reason(error: Exception) -> str:
    """For the page: without what logs say of this machine."""
    is_ours = isinstance(error, (ClientError, EnvironmentFault))
    return str(error).partition("\n")[0].rstrip(":") if is_ours else type(error).__name__


SHOWN = {
    "seconds": "s",
    "span": "s of calls",
    "ideal": "s ideal",
    "rate": "calls/s",
    "cpu_ms": "CPU-ms a line",
    "rss_mb": "MB",
    "in_flight": "in flight",
    "refused": "refused",
    "lost": "lost",
    "early_retries": "early",
    "calls_after_ok": "after ok",
    "company_ratio": "times alone",
    "rival_share": "of the other's calls",
    "recovery": "s to recover",
    "server_busy": "server busy",
}


def told(figures: Figures) -> str:
    """A run in one line."""
    return ", ".join(f"{result.number(figures[name])} {unit}" for name, unit in SHOWN.items() if name in figures)
