"""The settings of a process: the only reader of the environment."""

import os
from pathlib import Path
from typing import Annotated, Any, Self

import platformdirs
import pydantic
import pydantic_settings

from worker import secret_file

DAY = 86_400.0
LONGEST_CALL_SECONDS = 1_200.0
BROKER_SCHEMES = ("redis", "rediss", "redis+socket", "unix", "amqp", "amqps")
REDIS_SCHEMES = ("redis", "rediss", "unix")

Seconds = Annotated[float, pydantic.Field(gt=0)]
Count = Annotated[int, pydantic.Field(gt=0)]


class SettingsError(Exception):
    """A setting is unusable or unsafe. The message names the variable, its value and the reason."""


class Settings(pydantic_settings.BaseSettings):
    """Every setting is a variable ``GRISTMILL_<NAME>``; none is needed."""

    model_config = pydantic_settings.SettingsConfigDict(
        env_prefix="GRISTMILL_", env_ignore_empty=False, frozen=True, validate_default=True
    )

    home: Path = pydantic.Field(default_factory=lambda: platformdirs.user_data_path("gristmill", appauthor=False))
    """All state: database, files, logs, the embedded Valkey."""
    database_url: str = pydantic.Field(default="", repr=False)
    """``sqlite:///...`` or ``postgresql://...``; empty: ``gristmill.db`` in home."""
    redis_url: str | None = pydantic.Field(default=None, repr=False)
    """The limiter's Redis or Valkey, and the broker unless ``broker_url`` says otherwise; none: an embedded Valkey."""
    broker_url: str | None = pydantic.Field(default=None, repr=False)
    config: Path | None = Path("gristmill.yaml")
    """Read if it exists in the working directory; a path that was set must exist; empty: none."""
    master_key: pydantic.SecretStr | None = None
    """Encrypts the secrets in the database; two with a comma between, the newer first, while it is being changed."""
    master_key_file: Path | None = None
    """A file that holds it; none, and SQLite: ``master.key`` in home."""
    url: str | None = None
    """The server that the command line talks to; none: the one of this machine."""
    api_key: pydantic.SecretStr | None = None
    """What the command line shows to the server that it was named."""
    simulator_url: str | None = None
    """Where ``simulator/*`` models are served; the embedded server sets it for its workers."""

    lease_seconds: Seconds = 45.0
    """After this long without a heartbeat another worker may take a slice: then calls in flight may be repeated."""
    heartbeat_seconds: Seconds = 10.0
    cancel_grace_seconds: Annotated[float, pydantic.Field(ge=0)] = 600.0
    """How long calls in flight may still end after a cancel or an expiry."""
    drain_seconds: Annotated[float, pydantic.Field(ge=0)] = 5.0
    """How long calls in flight may still end after SIGTERM."""
    flush_gap_seconds: Annotated[float, pydantic.Field(ge=0, le=1)] = 0.01
    """Least time between two commits of finished calls; what is finished but not committed may be bought twice."""
    flush_rows: Count = 500

    call_timeout_seconds: Annotated[float, pydantic.Field(gt=0, le=LONGEST_CALL_SECONDS)] = 600.0
    """Total deadline of one call, unless the provider's ``timeout`` says otherwise."""
    max_retries: Annotated[int, pydantic.Field(ge=0)] = 5
    """Repeats of a line after transient failures, unless the provider's ``max_retries`` says otherwise."""
    max_in_flight: Count = 2_000
    """Calls in flight per process, whatever the scopes bear."""
    max_body_bytes: Count = 64 * 1024 * 1024
    """Request bodies held in memory per process."""
    worker_slots: Count = 16
    """Slices at work per process (Celery's threads)."""

    webhook_allow_private: bool = False
    """True: webhooks may go to loopback and private networks, and over http."""
    webhook_time_scale: Annotated[float, pydantic.Field(gt=0, le=1)] = 1.0
    """Shortens the schedule of webhook retries, for rehearsals."""

    window_seconds: Seconds = 7 * DAY
    """What an OpenAI client's ``24h`` means, since it can say nothing else."""
    strict_window: bool = False
    """True: ``24h`` means 24 hours."""

    @pydantic.field_validator(
        "redis_url", "broker_url", "simulator_url", "config", "master_key", "master_key_file", mode="before"
    )
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return None if value == "" else value

    @pydantic.field_validator("home")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return Path(os.path.abspath(value.expanduser()))

    @pydantic.field_validator("config")
    @classmethod
    def _only_if_there(cls, value: Path | None) -> Path | None:
        if value is None or (value == Path("gristmill.yaml") and not value.exists()):
            return None
        return Path(os.path.abspath(value.expanduser()))

    @pydantic.field_validator("database_url")
    @classmethod
    def _known_database(cls, value: str) -> str:
        for plain in ("postgres://", "postgresql://"):
            if value.startswith(plain):
                return "postgresql+psycopg://" + value.removeprefix(plain)
        if value and not value.startswith(("sqlite:///", "postgresql+psycopg://")):
            raise ValueError("is neither sqlite:///<absolute path> nor postgresql://<user>:<password>@<host>/<name>")
        if value.startswith("sqlite:///") and not os.path.isabs(value.removeprefix("sqlite:///")):
            raise ValueError("needs an absolute path (sqlite:////data/gristmill.db): several processes open it")
        return value

    @pydantic.field_validator("redis_url")
    @classmethod
    def _known_redis(cls, value: str | None) -> str | None:
        return _with_scheme(value, REDIS_SCHEMES)

    @pydantic.field_validator("broker_url")
    @classmethod
    def _known_broker(cls, value: str | None) -> str | None:
        return _with_scheme(value, BROKER_SCHEMES)

    @pydantic.model_validator(mode="after")
    def _safe(self) -> Self:
        if self.heartbeat_seconds > self.lease_seconds / 2:
            raise ValueError(
                f"GRISTMILL_HEARTBEAT_SECONDS={self.heartbeat_seconds:g} is more than half of "
                f"GRISTMILL_LEASE_SECONDS={self.lease_seconds:g}: one late heartbeat would lose the lease, "
                "and every call in flight would be bought twice"
            )
        if self.strict_window and self.window_seconds != 7 * DAY:
            raise ValueError(
                "GRISTMILL_STRICT_WINDOW=true and GRISTMILL_WINDOW_SECONDS exclude each other: 24h is one thing"
            )
        return self

    @property
    def database(self) -> str:
        """The database's URL, the default filled in."""
        return self.database_url or f"sqlite:///{self.home / 'gristmill.db'}"

    @property
    def broker(self) -> str | None:
        """Celery's broker: ``broker_url``, else Redis in Celery's way of writing a unix socket."""
        if self.broker_url is not None or self.redis_url is None:
            return self.broker_url
        return self.redis_url.replace("unix://", "redis+socket://", 1)

    @property
    def day_window_seconds(self) -> float:
        """How long a batch with the window ``24h`` may run."""
        return DAY if self.strict_window else self.window_seconds

    def child_environment(self, **changes: str) -> dict[str, str]:
        """The environment of a child that shall read the same settings from any working directory."""
        mine = {
            "GRISTMILL_HOME": str(self.home),
            "GRISTMILL_CONFIG": str(self.config or ""),
        }
        return {**os.environ, **mine, **changes}


def load() -> Settings:
    """Read the environment. Raises SettingsError with every fault in one message."""
    try:
        return Settings(**_from_files())
    except (pydantic.ValidationError, pydantic_settings.SettingsError) as error:
        raise SettingsError(_explain(error)) from None


def environment_value(name: str) -> str | None:
    """A variable that a provider or the configuration names, such as ``OPENAI_API_KEY``; empty counts as not set."""
    return os.environ.get(name, "").strip() or None


def secret_path(name: str) -> Path | None:
    """The file that ``<name>_FILE`` says holds the variable's value."""
    path = environment_value(f"{name}_FILE")
    return Path(path) if path else None


def _from_files() -> dict[str, Any]:
    """URLs with passwords, from the files that ``GRISTMILL_<NAME>_FILE`` name, unless the variable itself is set."""
    found = {}
    for name in ("database_url", "redis_url", "broker_url"):
        variable = f"GRISTMILL_{name.upper()}"
        path = secret_path(variable)
        if path is not None and environment_value(variable) is None:
            try:
                found[name] = secret_file.read(path)
            except secret_file.SecretFileError as error:
                raise SettingsError(f"{variable}_FILE: {error}") from None
    return found


def _with_scheme(value: str | None, schemes: tuple[str, ...]) -> str | None:
    if value is not None and value.partition("://")[0] not in schemes:
        raise ValueError(f"does not start with one of {', '.join(f'{scheme}://' for scheme in schemes)}")
    return value


def _explain(error: Exception) -> str:
    if not isinstance(error, pydantic.ValidationError):
        return str(error)
    return "\n".join(
        _line(fault["loc"], fault["msg"]) for fault in error.errors(include_url=False, include_input=False)
    )


def _line(location: tuple[int | str, ...], message: str) -> str:
    """URLs may hold passwords, so values are not repeated."""
    reason = message.removeprefix("Value error, ")
    return f"GRISTMILL_{str(location[0]).upper()} {reason[:1].lower()}{reason[1:]}" if location else reason
