"""The reaper: takes back slices whose worker is dead, or whose lease expired while the database could be renewed in."""

import logging
import time
from functools import partial

from worker.database import Database
from worker.owner import is_dead
from worker.store import reaping

log = logging.getLogger("gristmill.reaper")

GAP = 5.0
"""Seconds without a sweep after which the reaper no longer knows whether the others could renew: it, too, was away."""


class Reaper:
    """A lease expires for good only if the database answered throughout it: nobody can renew while it is away."""

    def __init__(self, database: Database, lease_seconds: float) -> None:
        self._database = database
        self._lease_seconds = lease_seconds
        self._answering_since = time.monotonic()
        self._last = self._answering_since

    def sweep(self) -> int:
        """Free what is to be freed; how many slices. Raises DatabaseAway, after which it waits for a whole lease."""
        started = time.monotonic()
        if started - self._last > GAP:
            self._answering_since = started
        try:
            freed = self._sweep(time.monotonic() - self._answering_since >= self._lease_seconds)
        except Exception:
            self._answering_since = time.monotonic() + GAP
            raise
        finally:
            self._last = time.monotonic()
        return freed

    def _sweep(self, may_expire: bool) -> int:
        with self._database.read() as session:
            leases = reaping.leased(session)
        dead = {owner for owner in {lease.lease_owner for lease in leases} if is_dead(owner)}
        freed = 0
        for lease in leases:
            if lease.lease_owner in dead or (lease.expired and may_expire):
                repeats = self._database.write(
                    partial(reaping.take, slice=lease.id, epoch=lease.epoch, crashed=lease.lease_owner in dead)
                )
                if repeats is not None:
                    freed += 1
                    log.warning(
                        "slice %d taken from %s: at most %d calls repeated", lease.id, lease.lease_owner, repeats
                    )
        if dead:
            self._database.write(lambda session: reaping.forget_dead(session, sorted(dead)))
        return freed
