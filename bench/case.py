"""A case: what the server is like, what clients are told of it, what goes in, and what Gristmill must reach."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from typing_extensions import override


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Behaviour:
    """Of the server. Seconds; limits per minute, None is no limit; ``faults`` by name with their chance."""

    latency: float = 0.0
    rpm: int | None = None
    tpm: int | None = None
    burst: float = 60.0
    """A bucket holds so many seconds of its limit: 60 lets a full minute through at once, 1 is smooth."""
    headers: bool = True
    faults: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """``500``, ``503``, ``429``, ``cut``, ``garbage``, ``reset``, ``empty``."""
    needs_key: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """What the user wrote into gristmill.yaml; None: nothing."""

    concurrency: int | None = None
    rpm: int | None = None
    tpm: int | None = None
    share: float | None = None

    def settings(self) -> dict[str, Any]:
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """So many seconds after the start of the work the server's limit becomes ``rpm``."""

    at: float
    rpm: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Aim:
    """One figure and its bound."""

    figure: str
    at_most: float | None = None
    at_least: float | None = None

    def is_met(self, value: float) -> bool:
        return (self.at_most is None or value <= self.at_most) and (self.at_least is None or value >= self.at_least)

    @override
    def __str__(self) -> str:
        bounds = [("≤", self.at_most), ("≥", self.at_least)]
        return f"{self.figure} " + " ".join(f"{sign} {bound:g}" for sign, bound in bounds if bound is not None)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """``at_once``: how many calls in flight the others are asked for; ``against``: a case whose CPU is compared."""

    name: str
    title: str
    lines: int
    behaviour: Behaviour
    aims: tuple[Aim, ...]
    told: Told = Told()
    workers: int = 1
    sizes: tuple[int, ...] = (900,)
    """Characters of a line's messages; lines take them in turn."""
    peers: tuple[str, ...] = ()
    at_once: int = 100
    ideal_at_once: int | None = None
    """What the ideal time is reckoned with where only latency bounds it."""
    changes: tuple[Change, ...] = ()
    rival: float | None = None
    """Calls a second that another client makes with the same key."""
    trial: str = "batch"
    """``batch``, or one with a course of its own: ``five`` providers, a small batch ``beside`` a large one."""
    against: str | None = None
    is_slow: bool = False
