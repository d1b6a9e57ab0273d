"""What a caller wants, in no dialect: read by a dialect, answered by `answers`."""

import dataclasses
from typing import Any

from providers.simulator import models


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Tool:
    """`schema` is None for a tool that takes plain text."""

    name: str
    schema: dict[str, Any] | None


@dataclasses.dataclass(kw_only=True, slots=True)
class Ask:
    """One valid request. `text` is the last user message or input: nonce and faults stand there."""

    endpoint: str  # models.CHAT | models.TEXT | models.EMBED
    model: str
    family: models.Model
    body: bytes
    raw: dict[str, Any]
    text: str
    input_tokens: int
    cached_tokens: int = 0
    stream: bool = False
    choices: int = 1
    max_tokens: int | None = None
    stops: tuple[str, ...] = ()
    format: str | dict[str, Any] = "text"  # "text" | "json" | a JSON schema
    tools: tuple[Tool, ...] = ()
    calls: int = 0  # tool calls to make: 0, 1, or 2 for "some"
    effort: float = 1.0
    verbosity: float = 1.0
    inputs: tuple[str | list[int], ...] = ()
    dimensions: int = 0
    nonce: str = ""
    marked: bool = False
