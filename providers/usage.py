"""Tokens that a call spent."""

import dataclasses

STANDARD = "standard"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """Tokens in OpenAI's inclusive meaning: cached and cache_write lie inside input, reasoning inside output."""

    input_tokens: int
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    billing: str = STANDARD  # the rates that apply: "flex", "priority", "audio" ...; without such rates cost is unknown
