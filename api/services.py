"""What the routes work with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from worker.blobs import Blobs
from worker.catalog import ScopeLimits
from worker.database import Database
from worker.live_config import LiveConfig
from worker.routes import Route


class Doorbell(Protocol):
    """Tells the workers that something waits (worker/doorbell.py); SQL rings again for whatever gets lost."""

    def ring_intake(self, batch: int) -> bool: ...

    def ring_held(self, slices: Sequence[tuple[int, int]]) -> bool: ...


class Routes(Protocol):
    """Where models lead (worker/catalog.py): asked anew each time, since keys change."""

    def resolve(self, model: str) -> Route: ...

    def names(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Services:
    database: Database
    blobs: Blobs
    routes: Routes
    doorbell: Doorbell
    broker_answers: Callable[[], bool]
    slice_jobs: Callable[[str], int]
    """How many lines of a route make a slice."""
    token_prices: Callable[[str], tuple[int | None, int | None]] = lambda route: (None, None)
    """Pico-USD of an input and an output token; None is unknown."""
    limits_of: Callable[[str], ScopeLimits | None] = lambda scope: None
    """As configured, of a scope; None if its provider is not."""
    configuration: LiveConfig | None = None
    day_window_seconds: float
    """What ``24h`` means."""
    lease_seconds: float
    """A worker that was not seen for so long is gone."""
    local_token: str | None = None
    """What the command line of this machine shows instead of an API key."""
    openai_limits: bool = False
    stall_seconds: float = 60.0
    """An upload, or any body, that brings no byte for so long is given up."""
    is_stopping: Callable[[], bool] = lambda: False
    """Whatever streams without an end ends now."""
    webhook_private: bool = False
    """Webhooks may go to loopback and private networks."""
