"""Who is asking: the holder of an API key, or this machine's own user."""

import hmac
import time
from dataclasses import dataclass, field

from sqlmodel import Session
from starlette.datastructures import Headers

from api import errors
from worker import allowed_models
from worker.allowed_models import AllowedModels
from worker.database import Database
from worker.store import api_keys
from worker.store.api_keys import Holder

FRESH_SECONDS = 1.5
"""For so long a key that was looked up is not looked up again: a revoked one may still get in."""
STALE_SECONDS = 0.5
"""For so much longer, while one request looks it up again and the others must not wait for that."""
LOCAL_OWNER = "local"


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """Everything that a query touches belongs to this owner."""

    owner: str
    api_key: str | None = None
    """Id of the API key that was shown; None: this machine's own user, without a key."""
    allowed: AllowedModels = field(default=allowed_models.EVERYTHING, compare=False)


LOCAL = Caller(owner=LOCAL_OWNER)


@dataclass(slots=True)
class _Sighting:
    """A key that got in. ``looked_up_until``: until then somebody else finds out whether it still does."""

    caller: Caller
    until: float
    looked_up_until: float = 0.0

    def caller_at(self, now: float) -> Caller | None:
        """None for the one who has to look it up again."""
        if now < self.until or now < min(self.looked_up_until, self.until + STALE_SECONDS):
            return self.caller
        self.looked_up_until = now + STALE_SECONDS
        return None


class Keyring:
    """Knows keys by their secrets. ``local_token`` is what the command line on this machine shows instead of one."""

    def __init__(self, database: Database, local_token: str | None) -> None:
        self._database = database
        self._local_token = local_token
        self._known: dict[str, _Sighting] = {}
        self._keyless = _Sighting(LOCAL, float("-inf"))
        self._is_keyless = True

    @property
    def is_keyless(self) -> bool | None:
        """Whether no key was ever made; None for the one who has to look that up again."""
        if self._is_keyless and self._keyless.caller_at(time.monotonic()) is None:
            return None
        return self._is_keyless

    def look_for_keys(self) -> bool:
        """``is_keyless`` by the database. Raises DatabaseAway."""
        with self._database.read() as session:
            self._is_keyless = not api_keys.any_ever(session)
        self._keyless = _Sighting(LOCAL, time.monotonic() + FRESH_SECONDS)
        return self._is_keyless

    def recent(self, secret: str) -> Caller | None:
        """Whoever showed this within the last two seconds; None for the one who has to look it up again."""
        seen = self._known.get(secret)
        return None if seen is None else seen.caller_at(time.monotonic())

    def caller(self, secret: str) -> Caller:
        """Whose secret that is. Raises Unauthorized or DatabaseAway."""
        if self._local_token is not None and hmac.compare_digest(secret.encode(), self._local_token.encode()):
            return LOCAL
        with self._database.read() as session:
            holder = api_keys.find(session, secret)
            allowed = allowed_models.EVERYTHING if holder is None else api_keys.allowed(session, holder.id)
        if holder is None or holder.refused is not None:
            self._known.pop(secret, None)
            raise _unauthorized(holder)
        caller = Caller(owner=holder.owner, api_key=holder.id, allowed=allowed)
        self._known[secret] = _Sighting(caller, time.monotonic() + FRESH_SECONDS)
        self._note_use(holder.id)
        return caller

    def _note_use(self, key: str) -> None:
        with self._database.read() as session:
            if api_keys.is_use_noted(session, key):
                return

        def note(session: Session) -> None:
            api_keys.note_use(session, key)

        self._database.write(note)


def secret_in(headers: Headers) -> str:
    """From ``Authorization: Bearer`` or, as Anthropic's clients do, ``x-api-key``. Raises Unauthorized."""
    scheme, _, secret = headers.get("authorization", "").partition(" ")
    shown = secret.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "").strip()
    if not shown:
        raise errors.Unauthorized(
            "You didn't provide an API key. Send it as 'Authorization: Bearer gm-...'; "
            "'gristmill keys create' on the server's machine makes one."
        )
    return shown


def _unauthorized(holder: Holder | None) -> errors.Unauthorized:
    if holder is None:
        message = "Incorrect API key provided: this server knows no such key."
    else:
        message = f"The API key '{holder.name}' is {holder.refused}: ask this server's operator for a new one."
    return errors.Unauthorized(message, code="invalid_api_key")
