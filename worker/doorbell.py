"""Rings: best-effort messages that something waits in SQL. Whoever misses one is rung again by the control process."""

import logging
from collections.abc import Sequence
from typing import Any, Protocol

from celery import Celery
from kombu.exceptions import OperationalError

from worker import celery_app
from worker.celery_app import CONTROL_QUEUE, HELD_QUEUE, HELD_TASK, INTAKE_TASK, SLICE_TASK, provider_queue

log = logging.getLogger("gristmill.doorbell")


class Doorbell(Protocol):
    """Never raises because the broker is away; False says that nobody heard it."""

    def ring_intake(self, batch: int) -> bool: ...

    def ring_slice(
        self, *, provider: str, batch_id: str, slice: int, epoch: int, jobs: int, probe: str | None
    ) -> bool: ...

    def ring_held(self, slices: Sequence[tuple[int, int]], probe: str | None = None) -> bool: ...


class CeleryDoorbell:
    """Rings by sending Celery tasks with readable names and arguments."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def ring_intake(self, batch: int) -> bool:
        return self._send(INTAKE_TASK, CONTROL_QUEUE, f"intake-{batch}", f"batch={batch}", {"batch": batch})

    def ring_slice(self, *, provider: str, batch_id: str, slice: int, epoch: int, jobs: int, probe: str | None) -> bool:
        return self._send(
            SLICE_TASK,
            provider_queue(provider),
            f"{batch_id}-s{slice}-e{epoch}",
            f"batch={batch_id} slice={slice} jobs={jobs}",
            {"slice": slice, "epoch": epoch, "probe": probe},
        )

    def ring_held(self, slices: Sequence[tuple[int, int]], probe: str | None = None) -> bool:
        """One message for the (slice, epoch) pairs of any number of held jobs."""
        slice, epoch = slices[0]
        return self._send(
            HELD_TASK,
            HELD_QUEUE,
            f"held-s{slice}-e{epoch}",
            f"jobs={len(slices)}",
            {"slices": [list(pair) for pair in slices], "probe": probe},
        )

    def _send(self, task: str, queue: str, task_id: str, shown: str, arguments: dict[str, Any]) -> bool:
        try:
            self._app.send_task(
                task,
                kwargs=arguments,
                task_id=task_id,
                queue=celery_app.queue(queue),
                kwargsrepr=shown,
                ignore_result=True,
                retry=False,
            )
        except (OperationalError, OSError) as error:
            log.warning("the broker did not take %s: %s", task_id, type(error).__name__)
            return False
        return True
