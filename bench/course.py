"""What happens around the work while it runs: limits that change, and looks at how many calls were let through."""

import contextlib
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from bench.case import Case
from bench.rival import Rival
from bench.server import Server

LOOK_SECONDS = 1.0
STRIDE = 5
"""Looks over which a rate is taken."""
RECOVERED = 0.95

Look = tuple[float, int]
"""Seconds since the start of the work, and calls let through until then."""


class Course:
    """Begins where the work begins; ``looks`` are taken only where the case changes something."""

    def __init__(self, case: Case, server: Server) -> None:
        self._case, self._server = case, server
        self.looks: list[Look] = []
        self.rival = Rival(server, case.rival) if case.rival else None
        self._around = contextlib.ExitStack()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._go, name="course", daemon=True)

    def __enter__(self) -> Self:
        if self.rival:
            self._around.enter_context(self.rival)
        if self._case.changes:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._case.changes:
            self._thread.join()
        self._around.close()

    def figures(self) -> dict[str, float]:
        found = {}
        if self.rival:
            found["rival_share"] = self.rival.share
        if self._case.changes:
            last = self._case.changes[-1]
            found["recovery"] = recovery(self.looks, last.at, last.rpm / 60)
        return found

    def _go(self) -> None:
        began, due = time.monotonic(), list(self._case.changes)
        while not self._ended.is_set():
            now = time.monotonic() - began
            while due and due[0].at <= now:
                self._server.control(rpm=due.pop(0).rpm)
            self.looks.append((now, self._server.seen().accepted))
            following = min([now + LOOK_SECONDS, *(change.at for change in due[:1])])
            self._ended.wait(max(0.01, began + following - time.monotonic()))


def recovery(looks: Sequence[Look], since: float, per_second: float) -> float:
    """Seconds from ``since`` until calls go at the full rate again; infinite if they never do."""
    for first, last in zip(looks, looks[STRIDE:], strict=False):
        rate = (last[1] - first[1]) / (last[0] - first[0])
        if first[0] >= since and rate >= RECOVERED * per_second:
            return first[0] - since
    return float("inf")
