"""A process that delivers webhooks and dies (kill -9) after it has sent one, before it stores what came of it.

``python -m tests.fakes.mortal_deliverer DATABASE_URL``
"""

import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from sqlmodel import Session
from typing_extensions import override

from worker.database import Database
from worker.store import deliveries
from worker.webhooks import deliverer

T = TypeVar("T")


class MortalDatabase(Database):
    @override
    def write(self, change: Callable[[Session], T]) -> T:
        if isinstance(change, partial) and change.func is deliveries.record:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().write(change)


if __name__ == "__main__":
    deliverer.LEASE_GRACE = 0.2
    one = deliverer.Deliverer(
        MortalDatabase(sys.argv[1]), leads=lambda: True, private=True, scale=0.001, timeout=1.0, tick=0.02
    )
    one.start()
    threading.Event().wait()
