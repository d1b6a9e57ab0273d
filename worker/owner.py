"""Who holds a lease: a process named so that a neighbour in the same PID namespace can tell whether it still lives."""

import os
import socket
from pathlib import Path

from psutil import NoSuchProcess, Process


def myself() -> str:
    """``boot id/PID namespace/pid/start time``: no two processes of the world share it, not even over a reboot."""
    pid = os.getpid()
    return f"{_boot()}/{_namespace()}/{pid}/{_started(pid)}"


def is_dead(owner: str) -> bool:
    """True only if the process certainly is no more: same boot, same namespace, no such pid and start time."""
    boot, namespace, pid, started = owner.split("/")
    if (boot, namespace) != (_boot(), _namespace()):
        return False
    return _started(int(pid)) != started


def _boot() -> str:
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else socket.gethostname()


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid").strip("pid:[]")
    except OSError:
        return socket.gethostname()


def _started(pid: int) -> str:
    """The start time in hundredths of a second, or ``gone``; a zombie is gone."""
    try:
        process = Process(pid)
        if process.status() == "zombie":
            return "gone"
        return str(round(process.create_time() * 100))
    except NoSuchProcess:
        return "gone"
