"""What a dialect is: one file in `dialects/` with one object named DIALECT."""

import dataclasses
import functools
import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from typing import Protocol

from providers.simulator import answers, dialects, faults, limits
from providers.simulator.ask import Ask

Headers = list[tuple[bytes, bytes]]


class Refusal(Exception):
    """An error answer in the dialect's own words; `reason` is what the statistics call it."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str,
        code: str | None = None,
        param: str | None = None,
        reason: str = "invalid",
        wait: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.type, self.code, self.param = status, message, type, code, param
        self.reason, self.wait = reason, wait


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """`endpoint` is one of models.CHAT, TEXT, EMBED, or "models"; `model` is set where the path names it."""

    endpoint: str
    model: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """How an answer to `ask` is to be rendered."""

    ask: Ask
    answer: answers.Answer
    fault: faults.Fault
    created: int


class Dialect(Protocol):
    name: str

    def route(self, method: str, path: str) -> Route | None:
        """None: no such path here. Raises Refusal where the path is known and the method is not."""

    def key(self, headers: Mapping[bytes, bytes], query: bytes) -> str | None: ...

    def read(self, route: Route, body: bytes) -> Ask:
        """Raises Refusal."""

    def models(self, route: Route) -> bytes:
        """Raises Refusal."""

    def whole(self, reply: Reply) -> bytes: ...

    def events(self, reply: Reply) -> Iterator[bytes]:
        """The server-sent events of a streamed answer; the first comes with the first token."""

    def denied(self, ask: Ask, denial: limits.Denial) -> Refusal: ...

    def failed(self, model: str, fault: faults.Fault) -> Refusal:
        """The error that a fault with a status, a code, `error` or `filter` asks for."""

    def lost(self, method: str, path: str) -> Refusal: ...

    def keyless(self) -> Refusal: ...

    def error(self, refusal: Refusal) -> bytes: ...

    def headers(self, gauges: Mapping[str, limits.Gauge], request_id: str, seconds: float) -> Headers: ...


@functools.cache
def every() -> dict[str, Dialect]:
    """By name, found by listing the folder."""
    found: dict[str, Dialect] = {}
    for entry in pkgutil.iter_modules(dialects.__path__):
        module = importlib.import_module(f"{dialects.__name__}.{entry.name}")
        if hasattr(module, "DIALECT"):
            found[module.DIALECT.name] = module.DIALECT
    return found
