"""API keys: their secret is shown once and stored as a digest. Rows are never deleted.

ApiKeyError
 ├ NameTaken
 ├ NoSuchKey
 └ SeveralKeys
"""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict, Unpack

from sqlalchemy import exists, or_, select, update
from sqlmodel import Session, col
from sqlmodel import select as select_model

from worker import allowed_models, clock, ids
from worker.allowed_models import AllowedModels
from worker.tables import API_KEY, ApiKey

PREFIX = "gm-"
SECRET_BYTES = 32
HINT_LENGTH = 4
USED_SECONDS = 60.0
"""How exact ``last_used_at`` is."""


class ApiKeyError(Exception):
    """The message says which key is meant."""


class NameTaken(ApiKeyError):
    """A key that still works has this name."""


class NoSuchKey(ApiKeyError):
    """No key has this id or name."""


class SeveralKeys(ApiKeyError):
    """Several keys have this name."""


class Rules(TypedDict, total=False):
    """What can be changed of a key. Money is pico-USD, None is no limit."""

    models: list[str] | None
    budget_day: int | None
    budget_month: int | None
    budget_batch: int | None
    over_budget: str
    allow_unknown_cost: bool
    expires_at: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Holder:
    """What a secret stands for. ``refused`` says in a word why it does not work any more."""

    id: str
    name: str
    owner: str
    refused: str | None = None


def create(session: Session, name: str, owner: str, **rules: Unpack[Rules]) -> tuple[ApiKey, str]:
    """The key, and its secret, which is known only now. Raises NameTaken."""
    if session.exec(select_model(ApiKey).where(ApiKey.name == name, col(ApiKey.revoked_at).is_(None))).first():
        raise NameTaken(f"A key named '{name}' exists: take another name, or revoke that one first.")
    secret = PREFIX + secrets.token_hex(SECRET_BYTES)
    key = ApiKey(
        id=ids.new_api_key(),
        owner=owner,
        name=name,
        hash=_digest(secret),
        hint=secret[-HINT_LENGTH:],
        created_at=_now(session),
        **rules,
    )
    session.add(key)
    session.flush()
    return key, secret


def find(session: Session, secret: str) -> Holder | None:
    """Whose secret that is; None if nobody's."""
    columns = (API_KEY.c.id, API_KEY.c.name, API_KEY.c.owner, API_KEY.c.revoked_at)
    expired = (API_KEY.c.expires_at <= clock.now()).label("expired")
    statement = select(*columns, expired).where(API_KEY.c.hash == _digest(secret))
    row = session.connection().execute(statement).one_or_none()
    if row is None:
        return None
    refused = "revoked" if row.revoked_at is not None else "expired" if row.expired else None
    return Holder(id=row.id, name=row.name, owner=row.owner, refused=refused)


def is_use_noted(session: Session, id: str) -> bool:
    """Whether its use in the last minute stands in its row."""
    statement = select(API_KEY.c.last_used_at > clock.now() - USED_SECONDS).where(API_KEY.c.id == id)
    return bool(session.connection().execute(statement).scalar_one())


def note_use(session: Session, id: str) -> None:
    session.connection().execute(update(API_KEY).where(API_KEY.c.id == id).values(last_used_at=clock.now()))


def any_ever(session: Session) -> bool:
    """Whether a key was ever made, revoked ones included."""
    return bool(session.connection().execute(select(exists(select(API_KEY.c.id)))).scalar_one())


def all_keys(session: Session) -> Sequence[ApiKey]:
    """Oldest first."""
    return session.exec(select_model(ApiKey).order_by(col(ApiKey.created_at), col(ApiKey.id))).all()


def get(session: Session, id_or_name: str) -> ApiKey:
    """Of several keys with one name, the one that still works. Raises NoSuchKey or SeveralKeys."""
    named = or_(col(ApiKey.id) == id_or_name, col(ApiKey.name) == id_or_name)
    found = session.exec(select_model(ApiKey).where(named).with_for_update()).all()
    working = [key for key in found if key.revoked_at is None]
    if not found:
        raise NoSuchKey(f"No key has the id or name '{id_or_name}': 'gristmill keys list' shows all.")
    if len(found) > 1 and len(working) != 1:
        raise SeveralKeys(
            f"{len(found)} keys have the name '{id_or_name}': name the id, as 'gristmill keys list' shows."
        )
    return working[0] if working else found[0]


def revoke(session: Session, id_or_name: str) -> ApiKey:
    """It works no more, within two seconds. Its batches go on. Raises NoSuchKey or SeveralKeys."""
    key = get(session, id_or_name)
    key.revoked_at = key.revoked_at or _now(session)
    session.flush()
    return key


def change(session: Session, id_or_name: str, **rules: Unpack[Rules]) -> ApiKey:
    """Rules that are not named stay. Raises NoSuchKey or SeveralKeys."""
    key = get(session, id_or_name)
    for name, value in rules.items():
        setattr(key, name, value)
    session.flush()
    return key


def allowed(session: Session, id: str | None) -> AllowedModels:
    """The models that the holder of this key may ask for; all without a key."""
    if id is None:
        return allowed_models.EVERYTHING
    row = session.connection().execute(select(API_KEY.c.name, API_KEY.c.models).where(API_KEY.c.id == id)).one()
    return AllowedModels(row.name, row.models)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def _now(session: Session) -> float:
    return float(session.connection().execute(select(clock.now())).scalar_one())
