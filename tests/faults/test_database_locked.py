"""Another process holds SQLite's write lock: answers are held and stored later, no call is repeated or begun."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from providers.simulator.process import Process
from tests.faults.auditor import Audit
from tests.faults.rig import Mill, last, requests

LOCKED_SECONDS = 12.0
"""Longer than a write waits for the lock before it gives up and is tried again."""

HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
"""


def test_a_locked_database(mill: Mill, calm: Process, audit: Audit) -> None:
    calm.control(latency=0.3)
    lines = requests("locked", 300)
    id = mill.submit(lines)
    mill.await_done(id, 100)
    with _locked(mill.home / "gristmill.db"):
        done = mill.field(id, "completed")
        last(LOCKED_SECONDS)
        assert mill.field(id, "completed") == done
    mill.await_rest(id)
    account = audit(mill, id, lines)
    assert (account.completed, account.attempts) == (300, 300)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        yield
        holder.communicate()
