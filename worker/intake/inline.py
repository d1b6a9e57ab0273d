"""A request that came inline: checked as a line of a file is, and made into a job without one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from worker.intake import estimate, line
from worker.intake.line import Line
from worker.routes import Route
from worker.store.intake import NewJob


@dataclass(frozen=True, kw_only=True, slots=True)
class Inline:
    """``body`` is what goes out; ``streamed`` and ``with_usage`` are how its client wants to read the answer."""

    url: str
    body: bytes | bytearray
    job: NewJob
    prices: tuple[int | None, int | None]
    model: str
    streamed: bool = False
    with_usage: bool = False


def take(
    resolve: Callable[[str], Route],
    token_prices: Callable[[str], tuple[int | None, int | None]],
    url: str,
    raw: bytes | bytearray,
    *,
    custom_id: str | None = None,
    may_stream: bool = False,
) -> Inline:
    """Check the request and look up its route. Raises LineProblem or RouteError."""
    endpoint = line.ENDPOINTS[url]
    options: dict[str, Any] = {}
    if may_stream and b'"stream' in raw:
        raw, options = line.without(raw, ("stream", "stream_options"))
    found = line.parse_body(endpoint, raw)
    said = options.get("stream_options")
    return Inline(
        url=url,
        body=raw[found.offset : found.offset + found.length] if len(raw) != found.length else raw,
        job=_job(found, resolve(found.model).name, custom_id),
        prices=token_prices(found.model),
        model=found.model,
        streamed=options.get("stream") is True,
        with_usage=isinstance(said, dict) and said.get("include_usage") is True,
    )


def _job(found: Line, route: str, custom_id: str | None) -> NewJob:
    return NewJob(
        line=1,
        route=route,
        custom_id=custom_id,
        endpoint=found.endpoint,
        offset=0,
        length=found.length,
        model_offset=found.model_offset,
        model_length=found.model_length,
        input_tokens=estimate.input_tokens(found.body, found.length),
        output_tokens=estimate.output_tokens(found.endpoint, found.body),
    )
