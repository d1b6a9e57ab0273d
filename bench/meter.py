"""CPU and memory of a set of processes, from outside: user + system seconds, and the most that each had resident."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable

import psutil

LOOK_SECONDS = 0.5
SETTLED = 0.05
"""CPU seconds that all together may use between two looks and count as idle."""


class Meter:
    """``processes`` names who belongs to it now; whoever ended still counts with what was last seen."""

    def __init__(self, processes: Callable[[], dict[str, psutil.Process]]) -> None:
        self._processes = processes
        self._used: dict[psutil.Process, float] = {}
        self.peaks: dict[str, int] = {}
        """Bytes by name."""
        self._ended = threading.Event()
        self._watch = threading.Thread(target=self._look_on, name="meter", daemon=True)
        self._watch.start()

    def cpu_seconds(self) -> float:
        self._look()
        return sum(self._used.values())

    def settle(self, seconds: float) -> None:
        """Return when all are idle, or after so long."""
        end, before = time.monotonic() + seconds, self.cpu_seconds()
        while time.monotonic() < end:
            time.sleep(LOOK_SECONDS)
            now = self.cpu_seconds()
            if now - before < SETTLED:
                return
            before = now

    def close(self) -> None:
        self._ended.set()
        self._watch.join()

    def _look_on(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            self._look()

    def _look(self) -> None:
        for name, process in self._processes().items():
            with contextlib.suppress(psutil.Error), process.oneshot():
                times = process.cpu_times()
                self._used[process] = times.user + times.system
                self.peaks[name] = max(self.peaks.get(name, 0), process.memory_info().rss)


def family(roots: Iterable[int]) -> list[psutil.Process]:
    """These processes that live, and all that they have started."""
    found: list[psutil.Process] = []
    for pid in roots:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            found += [process, *process.children(recursive=True)]
    return found
