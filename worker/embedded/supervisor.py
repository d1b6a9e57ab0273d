"""The embedded default: Valkey, the simulator and two Celery workers as children, restarted when they die."""

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from worker import TITLE, migrations
from worker.database import Database
from worker.embedded import logs
from worker.embedded.home import Home
from worker.embedded.valkey import Valkey, ValkeyError
from worker.settings import Settings

log = logging.getLogger("gristmill.supervisor")

WATCH_SECONDS = 0.5
ROTATE_SECONDS = 60.0
LONGEST_RESTART_SECONDS = 30.0
STEADY_SECONDS = 30.0
"""Who lived so long starts again at once."""


class ChildUnstartable(Exception):
    """A child process ended before it was ready; its log says why."""


@dataclass(slots=True)
class _Child:
    name: str
    arguments: list[str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    restarts: int = 0
    next_start: float = 0.0


@dataclass(slots=True)
class Supervisor:
    """``start`` gives the settings with which clients of the children work; ``stop`` ends all in order."""

    settings: Settings
    home: Home
    _valkey: Valkey | None = None
    _simulator: subprocess.Popen[bytes] | None = None
    _children: list[_Child] = field(default_factory=list)
    _environment: dict[str, str] = field(default_factory=dict)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> Settings:
        """Migrate, start what the settings do not name elsewhere, and watch. Raises ValkeyError, MigrationError."""
        self._migrate()
        changes: dict[str, str] = {}
        if self.settings.redis_url is None:
            self._valkey = Valkey(self.home)
            changes["GRISTMILL_REDIS_URL"] = self._valkey.start().url
        if self.settings.simulator_url is None:
            changes["GRISTMILL_SIMULATOR_URL"] = f"{self._start_simulator()}/v1"
        self._environment = self.settings.child_environment(**changes)
        for name, flags in (("control", ["--control"]), ("providers", [])):
            arguments = [sys.executable, "-P", "-m", "worker", TITLE, "--lifeline", *flags]
            self._children.append(_Child(name, arguments, self.home.logs / f"worker-{name}.log"))
        for child in self._children:
            self._launch(child)
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        self._thread.start()
        return self.settings.model_copy(
            update={key.removeprefix("GRISTMILL_").lower(): value for key, value in changes.items()}
        )

    def stop(self) -> None:
        """End the workers with their grace, then the rest."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        processes = [child.process for child in self._children if child.process is not None]
        for process in processes:
            _terminate(process)
        deadline = time.monotonic() + self.settings.drain_seconds + 15.0
        for process in processes:
            _end(process, deadline)
        if self._simulator is not None:
            _terminate(self._simulator)
            _end(self._simulator, time.monotonic() + 5.0)
        if self._valkey is not None:
            self._valkey.stop()

    def _migrate(self) -> None:
        database = Database(self.settings.database)
        try:
            migrations.upgrade(database)
        finally:
            database.close()

    def _start_simulator(self) -> str:
        arguments = [sys.executable, "-P", "-m", "providers.simulator", "--port", "0", "--lifeline"]
        with _log(self.home.logs / "simulator.log") as log_file:
            self._simulator = subprocess.Popen(
                arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log_file,
                cwd=self.home.path,
                start_new_session=True,
            )
        assert self._simulator.stdout is not None
        words = self._simulator.stdout.readline().decode().split()
        if len(words) != 2 or words[0] != "READY":
            raise ChildUnstartable(f"the simulator did not start; see {self.home.logs / 'simulator.log'}")
        return words[1]

    def _launch(self, child: _Child) -> None:
        with _log(child.log) as log_file:
            child.process = subprocess.Popen(
                child.arguments,
                stdin=subprocess.PIPE,
                stdout=log_file,
                stderr=log_file,
                cwd=self.home.path,
                env=self._environment,
                start_new_session=True,
            )
        child.started = time.monotonic()

    def _watch(self) -> None:
        rotated = 0.0
        while not self._stopping.wait(WATCH_SECONDS):
            try:
                if self._valkey is not None and self._valkey.ensure():
                    log.warning("valkey had died and was started again")
            except ValkeyError as error:
                log.error("%s", error)
            for child in self._children:
                self._look_after(child)
            if time.monotonic() > rotated + ROTATE_SECONDS:
                rotated = time.monotonic()
                self._rotate_logs()

    def _rotate_logs(self) -> None:
        try:
            logs.rotate(self.home.logs)
        except OSError as error:
            log.warning("logs cannot be shortened: %s", error)

    def _look_after(self, child: _Child) -> None:
        now = time.monotonic()
        if child.process is not None and child.process.poll() is not None:
            log.warning("the %s worker ended with %s; see %s", child.name, child.process.returncode, child.log)
            child.restarts = 0 if now - child.started > STEADY_SECONDS else child.restarts + 1
            child.next_start = now + (
                min(LONGEST_RESTART_SECONDS, 2.0 ** (child.restarts - 2)) if child.restarts > 1 else 0.0
            )
            child.process = None
        if child.process is None and now >= child.next_start:
            self._launch(child)

    def report(self) -> Mapping[str, int | None]:
        """The children's process ids; None for one that is down."""
        return {child.name: child.process.pid if child.process else None for child in self._children}


def _log(path: Path) -> IO[bytes]:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")


def _terminate(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()


def _end(process: subprocess.Popen[bytes], deadline: float) -> None:
    try:
        process.wait(max(0.1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdin is not None:
        process.stdin.close()
