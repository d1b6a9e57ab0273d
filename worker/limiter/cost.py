"""What one call takes of a scope's quotas and of the process."""

from dataclasses import dataclass

from providers.rate_limits import INPUT_TOKENS, OUTPUT_TOKENS, REQUESTS, REQUESTS_DAY


@dataclass(frozen=True, slots=True)
class Cost:
    """Estimated tokens, and the bytes of its body in memory."""

    input_tokens: int
    output_tokens: int
    bytes: int

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    def of(self, quota: str) -> int:
        """Requests or tokens of that quota."""
        if quota in (REQUESTS, REQUESTS_DAY):
            return 1
        if quota == INPUT_TOKENS:
            return self.input_tokens
        if quota == OUTPUT_TOKENS:
            return self.output_tokens
        return self.input_tokens + self.output_tokens
