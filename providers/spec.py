"""What is known about a provider: data, no behaviour."""

import dataclasses
import typing

from providers import rate_limits

Auth = typing.Literal["bearer", "none"]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ProviderSpec:
    """One provider. Capability flags default to off; a provider opts in."""

    name: str  # the folder's name
    title: str
    docs_url: str
    wire: str  # a module of providers/wire
    base_url: str  # without a trailing slash, "/v1" included
    key_env: tuple[str, ...] = ()  # the first that is set holds the key
    base_url_env: str | None = None
    auth: Auth = "bearer"
    needs_key: bool = True
    endpoints: frozenset[str] = frozenset({"chat/completions"})
    known_models: tuple[str, ...] = ()  # fnmatch patterns of bare names that mean this provider
    output_limit: str = "max_tokens"  # its word for the most output tokens, where we choose it
    scope_of: typing.Literal["model", "account"] = "model"  # whose quota a call spends
    genai_prices: str | None = None  # its id in genai-prices; None: never priced from there
    cost_field: str | None = None  # the field of "usage" in which the provider says the cost in USD
    quota_headers: tuple[rate_limits.QuotaHeaders, ...] = rate_limits.OPENAI  # in which it tells its limits
    counts_maximum: bool = False  # its token quota is charged with the asked maximum, not with what was written
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None
