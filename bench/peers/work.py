"""What every peer does alike: it says that it is ready, waits for the work, does it, and tells what it has cost."""

import asyncio
import dataclasses
import json
import resource
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

ATTEMPTS = 9
"""Of those who try again: once and eight times more."""


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """A line of the batch file."""

    id: str
    body: dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Given:
    """What the user said, and where everything is; limits are per minute, None is not told."""

    url: str
    key: str
    at_once: int
    rpm: int | None
    tpm: int | None
    path: Path
    output: TextIO

    def jobs(self) -> Iterator[Job]:
        with self.path.open() as file:
            for line in file:
                row = json.loads(line)
                yield Job(row["custom_id"], row["body"])

    def keep(self, job: Job, body: Any) -> None:
        """An answer, or None if there will be none."""
        response = None if body is None else {"status_code": 200, "body": body}
        self.output.write(json.dumps({"custom_id": job.id, "response": response}) + "\n")


def main(work: Callable[[Given], Awaitable[None]]) -> None:
    told = json.loads(sys.stdin.readline())
    print("READY", flush=True)
    line = sys.stdin.readline()
    if not line:
        return
    where = json.loads(line)
    startup, began = _cpu_seconds(), time.monotonic()
    with open(where["answers"], "w") as output:
        given = Given(**told, path=Path(where["lines"]), output=output)
        overdue = asyncio.run(_within(work(given), where["patience"]))
    cost = {
        "seconds": time.monotonic() - began,
        "cpu_seconds": _cpu_seconds() - startup,
        "startup_cpu": startup,
        "peak": _peak(),
        "overdue": overdue,
    }
    print(json.dumps(cost), flush=True)


async def _within(work: Awaitable[None], seconds: float) -> bool:
    """Whether it took longer, and was ended."""
    try:
        await asyncio.wait_for(work, seconds)
    except TimeoutError:
        return True
    return False


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _peak() -> int:
    """Bytes; macOS counts in them, Linux in kilobytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
