"""gristmill.yaml while we run: an edit that is right takes effect, one that is not changes nothing."""

import logging
import time
from pathlib import Path

from worker import config, secret_file
from worker.config import Config, ConfigError

log = logging.getLogger("gristmill.config")

SETTLE_SECONDS = 0.5
"""A file that was changed must stay as it is for so long: editors write in steps, and half a file may be right."""
FIXED = frozenset({"kind", "base_url", "account", "accounts", "auth", "api_key", "api_key_file", "headers"})
"""Whom a provider is and with what one gets in: from the next start on, which says every foreign address."""


class LiveConfig:
    """The configuration in force, and why the file's newest version is not. Asked by one thread at a time."""

    def __init__(self, path: Path | None) -> None:
        """Raises ConfigError."""
        self.path = path
        self._judged = self._stamp()
        self._pending = self._judged
        self._pending_since = 0.0
        self.config = config.load(path)
        self.fault: str | None = None
        """What is wrong with the file as it is now."""
        self.postponed: tuple[str, ...] = ()
        """What the file says and only the next start takes."""

    def look(self) -> Config | None:
        """What is in force from now on, if the file was edited; None if nothing is new. One ``stat``."""
        stamp = self._stamp()
        if stamp == self._judged:
            return None
        if stamp != self._pending:
            self._pending, self._pending_since = stamp, time.monotonic()
        if time.monotonic() < self._pending_since + SETTLE_SECONDS:
            return None
        self._judged = stamp
        try:
            return self._take(config.load(self.path))
        except ConfigError as error:
            self._refuse(str(error))
            return None

    def _take(self, said: Config) -> Config | None:
        self.fault = None
        before, (self.config, self.postponed) = self.config, _merged(self.config, said)
        log.info("the configuration %s was read again", self.path)
        for name in self.postponed:
            log.warning("%s: %s counts from the next start on", self.path, name)
        return None if self.config == before else self.config

    def _refuse(self, reason: str) -> None:
        self.fault = reason
        log.error("%s\nWhat was in force before stays in force.", reason)

    def _stamp(self) -> tuple[int, ...] | None:
        return None if self.path is None else secret_file.stamp(self.path)


def _merged(now: Config, said: Config) -> tuple[Config, tuple[str, ...]]:
    """What may change at once of what the file says, and the names of what may not."""
    providers, postponed = dict(said.providers), []
    for name, section in now.providers.items():
        new = said.providers.get(name)
        if new is None:
            providers[name] = section
            postponed.append(f"providers.{name}, which was removed,")
            continue
        fixed = {field: getattr(section, field) for field in FIXED & set(type(section).model_fields)}
        changed = sorted(field for field, value in fixed.items() if value != getattr(new, field))
        postponed += [f"providers.{name}.{field}" for field in changed]
        providers[name] = new.model_copy(update={field: fixed[field] for field in changed})
    postponed += [f"providers.{name}" for name in said.providers if name not in now.providers]
    if said.limits != now.limits:
        postponed.append("limits")
    return said.model_copy(update={"providers": providers, "limits": now.limits}), tuple(postponed)
