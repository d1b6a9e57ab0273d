"""Who holds a lease: a process named so that a neighbour in the same PID namespace can tell whether it still lives."""

import os
import socket
from pathlib import Path

from psutil import NoSuchProcess, Process

PROC = Path("/proc")
GONE = "gone"
STATE, START = 0, 19
"""Places in /proc/<pid>/stat behind the name of the program."""


def myself() -> str:
    """``boot id/PID namespace/pid/start time``: no two processes of the world share it, not even over a reboot."""
    pid = os.getpid()
    return f"{_boot()}/{_namespace()}/{pid}/{_started(pid)}"


def is_dead(owner: str) -> bool:
    """True only if the process certainly is no more: same boot, same namespace, no such pid and start time."""
    boot, namespace, pid, started = owner.split("/")
    if (boot, namespace) != (_boot(), _namespace()):
        return False
    return _started(int(pid)) != started and not _is_hidden(int(pid))


def _is_hidden(pid: int) -> bool:
    """Whether it lives, but as another user's, of whom a hardened /proc shows nothing."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return not os.access(PROC / str(pid) / "stat", os.R_OK)
    except OSError:
        return False
    return False


def _boot() -> str:
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else socket.gethostname()


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid").strip("pid:[]")
    except OSError:
        return socket.gethostname()


def _started(pid: int) -> str:
    """When the process started, or ``gone``; a zombie is gone."""
    if (PROC / "self" / "stat").exists():
        return _started_since_boot(pid)
    try:
        process = Process(pid)
        return GONE if process.status() == "zombie" else str(round(process.create_time() * 100))
    except NoSuchProcess:
        return GONE


def _started_since_boot(pid: int) -> str:
    """In the kernel's ticks: a start time of the day would move whenever somebody sets the clock."""
    try:
        facts = (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return GONE
    return GONE if facts[STATE] in "ZX" else facts[START]
