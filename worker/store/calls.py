"""What the engine tells the store of calls, and what it is answered."""

from dataclasses import dataclass, field

from providers.usage import Usage
from worker import result_line
from worker.states import Kind, Outcome


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """Jobs of a leased slice whose calls are about to begin, each with its estimated cost in pico-USD."""

    slice: int
    epoch: int
    batch: int
    route: str
    jobs: tuple[int, ...]
    costs: tuple[int, ...]
    is_unpriced: bool = False
    """Whether the price of the fallback that serves them is unknown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """One call's end. ``line`` and ``kind`` are set when it gives the job its result, ``trail`` when it hands it on."""

    job: int
    attempt: int
    slice: int
    epoch: int
    batch: int
    route: str
    owner: str
    generation: int
    deployment: str
    seconds: float
    outcome: Outcome
    reserved: int = 0
    status_code: int | None = None
    error_code: str | None = None
    request_id: str | None = None
    model: str | None = None
    fingerprint: str | None = None
    ending: str | None = None
    usage: Usage | None = None
    cost: int | None = 0
    cost_source: str | None = None
    kind: str | None = None
    line: bytes = b""
    batch_kind: str = Kind.BATCH
    fallback: str | None = None
    trail: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchView:
    """What a worker must know of a batch: no call may start when ``stop`` is set or it is ``held``."""

    stop: bool
    held: bool


@dataclass(frozen=True, slots=True)
class Granted:
    """The first ``count`` calls may begin. ``closed``: no other call of the slice will be granted in this lease."""

    count: int
    closed: bool


@dataclass(kw_only=True, slots=True)
class Recorded:
    """What each start was granted, in the order asked, how the batches stand, and which slices have no open job."""

    granted: list[Granted] = field(default_factory=list)
    batches: dict[int, BatchView] = field(default_factory=dict)
    done: set[int] = field(default_factory=set)


def refused(start: Start, owner: str, generation: int, custom_id: str | None, code: str, message: str) -> Ended:
    """The end of a held job that may not be called again: no attempt was made."""
    return Ended(
        job=start.jobs[0],
        attempt=0,
        slice=start.slice,
        epoch=start.epoch,
        batch=start.batch,
        route=start.route,
        owner=owner,
        generation=generation,
        deployment="",
        seconds=0.0,
        outcome=Outcome.FAILED,
        error_code=code,
        kind="error",
        line=result_line.not_executed(Kind.HELD, start.jobs[0], custom_id, code, message),
        batch_kind=Kind.HELD,
    )
