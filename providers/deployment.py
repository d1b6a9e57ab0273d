"""One way to reach one model: provider, account, key, base URL."""

import collections.abc
import dataclasses
import functools
import json
import re
import typing

import httpx
import yarl

from providers import auth, secret
from providers import spec as specs

MAX_TIMEOUT = 1200.0  # seconds

_SECRET_HEADER = re.compile("auth|cookie|key|password|secret|token")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Deployment:
    """A (provider, model, account, base URL) that serves calls. A new key or URL makes a new Deployment."""

    provider: str  # the configured name
    spec: specs.ProviderSpec
    model: str
    base_url: str
    account: str = "default"
    api_key: secret.Secret | None = None
    headers: tuple[tuple[str, str], ...] = dataclasses.field(default=(), repr=False)  # may hold a gateway's key
    timeout: float = 600.0  # seconds for the whole call, reading the answer included
    # Defaults for the request's body; a line's own value wins, for an evaluation must get what it asked for.
    extra_params: collections.abc.Mapping[str, typing.Any] | None = dataclasses.field(default=None, hash=False)

    def __post_init__(self) -> None:
        url = _parsed(self.base_url, self.provider)
        if url.scheme not in ("http", "https") or not url.host or url.userinfo or url.query or url.fragment:
            raise ValueError(f"base_url of {self.provider}: want http(s)://host/path without user, query or fragment")
        if not 0 < self.timeout <= MAX_TIMEOUT:
            raise ValueError(f"timeout of {self.provider}: want more than 0 and at most {MAX_TIMEOUT:.0f} seconds")
        if not all(_is_sendable(name) and _is_sendable(value) for name, value in self.headers):
            raise ValueError(f"headers of {self.provider}: want printable ASCII")
        json.dumps(self.extra_params, allow_nan=False)  # raises here rather than in the middle of a batch

    @functools.cached_property
    def name(self) -> str:
        suffix = "" if self.account == "default" else f"@{self.account}"
        return f"{self.provider}/{self.model}{suffix}"

    @functools.cached_property
    def scope(self) -> str:
        """Whose quota a call spends."""
        account = f"{self.provider}/{self.account}"
        return account if self.spec.scope_of == "account" else f"{account}/{self.model}"

    @functools.cached_property
    def hidden(self) -> tuple[str, ...]:
        """What must be masked wherever a server echoes it: the key, and configured headers that hold another."""
        key = (self.api_key.reveal(),) if self.api_key else ()
        return key + tuple(value for name, value in self.headers if value and _SECRET_HEADER.search(name.lower()))

    @functools.cached_property
    def request_headers(self) -> httpx.Headers:
        """Made once per deployment. Holds the key: never print it."""
        basic = (
            ("content-type", "application/json"),
            ("accept", "application/json"),
            ("accept-encoding", "gzip"),
            ("user-agent", "gristmill"),
        )
        # Headers from the configuration come last and win, so that a gateway's own scheme can be spoken.
        return httpx.Headers(dict((*basic, *auth.headers(self.spec.auth, self.api_key), *_lower(self.headers))))

    @functools.cached_property
    def urls(self) -> collections.abc.Mapping[str, httpx.URL]:
        """The URL of each endpoint of the provider."""
        return {path: httpx.URL(f"{self.base_url.rstrip('/')}/{path}") for path in self.spec.endpoints}


def _parsed(base_url: str, provider: str) -> httpx.URL:
    try:
        yarl.URL(base_url)  # the transport's own reading must agree
        return httpx.URL(base_url)
    except (httpx.InvalidURL, ValueError):
        raise ValueError(f"base_url of {provider}: not a URL") from None


def _is_sendable(text: str) -> bool:
    return text.isascii() and text.isprintable()


def _lower(headers: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    return tuple((name.lower(), value) for name, value in headers)
