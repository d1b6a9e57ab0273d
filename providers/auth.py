"""How a key is shown to a provider: always in a header, never in the URL."""

import collections.abc

from providers import secret

Headers = tuple[tuple[str, str], ...]


def headers(style: str, key: secret.Secret | None) -> Headers:
    """The headers of one auth style; none where there is no key."""
    return _STYLES[style](key) if key is not None else ()


def _bearer(key: secret.Secret) -> Headers:
    return (("authorization", f"Bearer {key.reveal()}"),)


def _none(key: secret.Secret) -> Headers:
    return ()


_STYLES: dict[str, collections.abc.Callable[[secret.Secret], Headers]] = {"bearer": _bearer, "none": _none}
