"""docs/benchmarks.md: what was measured, how, and what came out."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from bench import cases, environment, peer, plot
from bench.result import MILL, Result, number

COLUMNS = {
    "seconds": "wall s",
    "ideal": "ideal s",
    "quota_used": "ideal / wall",
    "rate": "calls/s",
    "cpu_ms": "CPU ms a line",
    "wall_times": "wall, times",
    "cpu_times": "CPU, times",
    "rss_mb": "peak MB",
    "in_flight": "in flight",
    "refused": "429s",
    "lost": "lost",
    "calls_after_ok": "paid twice",
    "early_retries": "early retries",
    "alone": "alone s",
}
NEVER_ZERO = frozenset({"refused", "lost", "calls_after_ok", "early_retries"})
"""Columns that belong to every table: their nothing is the point."""

PART = "rss_mb_"
"""The memory of one of Gristmill's processes."""

HEAD = """\
# Benchmarks

Written by `./bench/run`, which anyone can run: it makes the environments it needs, starts everything itself, and takes
one case by `--case NAME` (`--list` shows them), without the others by `--peers none`.

Every client is a process of its own (Gristmill: all of its processes), started and idle before the clock runs, against
the same server on the same machine; each run has a fresh server. The clock runs from the first upload byte to the last
output byte, for peers from reading the input file to closing the output file. **CPU** is user + system of all processes
of the client, Gristmill's embedded Valkey included, over the lines; start-up is apart. **Peak MB** is the largest
process. **Ideal** is the time that the limit or the latency alone costs. **429s**, **paid twice** (calls for a line
after its answer) and **early retries** (before the wait that the server had told was over) were counted by the server,
**lost** are lines without an answer of their own at the end; *times* are multiples of Gristmill's. Gristmill's figures
are medians, of counts that should be zero the worst. None of the others keeps its state anywhere but in memory.

![CPU a line, and how much of a quota is used](benchmarks.svg)
"""


def write(folder: Path, results: Mapping[str, Result]) -> None:
    ordered = [results[case.name] for case in cases.every() if case.name in results]
    (folder / "benchmarks.md").write_text("\n".join([HEAD, *_clients(), *(_section(one) for one in ordered)]))
    (folder / "benchmarks.svg").write_text(plot.draw(results))


def _clients() -> Iterator[str]:
    yield "| client | what it is |\n|---|---|\n| gristmill | this project |"
    for program in peer.PROGRAMS.values():
        yield f"| {program.module} | {program.title} ({_version(program.requirements)}) |"
    yield ""


def _version(requirements: str) -> str:
    pins = (environment.HERE / "requirements" / f"{requirements}.txt").read_text().splitlines()
    return next(pin for pin in pins if pin.startswith(f"{requirements}==")).replace("==", " ")


def _section(result: Result) -> str:
    return "\n".join([f"## {result.title}\n", *_table(result), "", *_notes(result), ""])


def _table(result: Result) -> Iterator[str]:
    rows = {client: figures | _times(figures, _mine(result)) for client, figures in _rows(result)}
    names = [name for name in COLUMNS if _belongs(name, rows.values())]
    yield "| client | " + " | ".join(COLUMNS[name] for name in names) + " |"
    yield "|---" * (len(names) + 1) + "|"
    for client, figures in rows.items():
        cells = " | ".join(number(figures.get(name)) for name in names)
        yield f"| {client} | {cells} |"
    for client in result.failures.keys() - result.figures.keys():
        yield f"| {client} | did not end |" + " |" * (len(names) - 1)


def _rows(result: Result) -> Iterator[tuple[str, dict[str, float | None]]]:
    return ((client, dict(figures)) for client, figures in result.figures.items())


def _mine(result: Result) -> Mapping[str, float | None]:
    return result.figures.get(MILL, {})


def _times(figures: Mapping[str, float | None], mine: Mapping[str, float | None]) -> dict[str, float | None]:
    """Wall and CPU in multiples of Gristmill's, where there is somebody to compare."""
    found: dict[str, float | None] = {}
    for name, figure in (("wall_times", "seconds"), ("cpu_times", "cpu_ms")):
        theirs, ours = figures.get(figure), mine.get(figure)
        if theirs and ours and figures != mine:
            found[name] = theirs / ours
    return found


def _belongs(name: str, rows: Iterable[Mapping[str, float | None]]) -> bool:
    values = [figures.get(name) for figures in rows]
    return any(value is not None for value in values) and (name in NEVER_ZERO or any(values))


def _notes(result: Result) -> Iterator[str]:
    aims = "; ".join(f"{aim}: {verdict}" for aim, verdict in result.verdicts.items())
    yield f"Aims: {aims}.\n"
    for client, reason in result.failures.items():
        yield f"Runs of {client} that did not end well: {reason}.\n"
    parts = {name.removeprefix(PART): value for name, value in _mine(result).items() if name.startswith(PART)}
    if parts:
        yield (
            "Gristmill's processes, peak MB: " + ", ".join(f"{k} {number(v)}" for k, v in sorted(parts.items())) + ".\n"
        )
    yield (
        f"`--case {result.case}`: {result.lines:,} lines, {result.runs} run{'s' if result.runs > 1 else ''} of "
        f"Gristmill, server {result.server}{_busy(result)}, {result.measured_at}, {result.machine}."
    )


def _busy(result: Result) -> str:
    """How near the server itself came to be what was measured."""
    shares = [figures["server_busy"] or 0.0 for figures in result.figures.values() if "server_busy" in figures]
    return f" (at most {max(shares):.0%} of a core)" if shares else ""
