"""How many files and connections a process may hold open."""

import logging
import resource

WANTED = 16_384

log = logging.getLogger("gristmill.worker")


def allow(calls: int) -> None:
    """As many as the system lets us, up to ``WANTED``; a call in flight needs one. Says so if that is too few."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = WANTED if hard == resource.RLIM_INFINITY else min(hard, WANTED)
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    if max(soft, most) < calls + 256:
        log.warning(
            "only %d open files are allowed (ulimit -Hn): too few for %d calls in flight", max(soft, most), calls
        )
