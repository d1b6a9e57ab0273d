"""What a caller asks of a provider."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ProviderRequest:
    """One request. The body goes out byte for byte; only the token of its "model" value is replaced."""

    endpoint: str  # "chat/completions" | "embeddings" | "completions" | "messages": the path below /v1/
    model: str  # the upstream name to send, without "provider/"
    body: bytes  # the caller's JSON object, raw
    model_offset: int  # where the string token of the top-level "model" value starts in body, quotes included
    model_length: int
