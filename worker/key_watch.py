"""Keys, configuration and quotas that change while we run."""

import logging
import threading
from pathlib import Path

from worker import catalog as catalogs
from worker import secret_file
from worker.catalog import Catalog, NotedQuotas
from worker.database import Database
from worker.live_config import LiveConfig
from worker.routes import Routes
from worker.settings import Settings
from worker.store import provider_keys, scope_reports, scopes
from worker.store.provider_keys import Rows
from worker.vault import Vault

log = logging.getLogger("gristmill.keys")

Stamps = dict[Path, tuple[int, ...] | None]


class KeyWatch:
    """Compares keys in the database and in files, and gristmill.yaml, with those in use; gives the catalog new ones."""

    def __init__(
        self, settings: Settings, database: Database, vault: Vault, catalog: Catalog, configuration: LiveConfig
    ) -> None:
        self._settings = settings
        self._database = database
        self._vault = vault
        self._catalog = catalog
        self._configuration = configuration
        self._lock = threading.Lock()
        self._rows: Rows = ()
        self._stamps = _stamps(catalog.routes)

    def look(self) -> bool:
        """Whether keys or configuration are new. Three queries of a few rows, so at most every second.

        Raises DatabaseAway.
        """
        with self._lock:
            with self._database.read() as session:
                rows = provider_keys.rows(session)
                quotas = NotedQuotas(shares=scopes.shares(session), learned=scope_reports.learned(session))
            self._catalog.note(quotas)
            stamps = {path: secret_file.stamp(path) for path in self._stamps}
            edited = self._configuration.look()
            if edited is None and rows == self._rows and stamps == self._stamps:
                return False
            stored = provider_keys.opened(self._vault, rows)
            before, routes = self._catalog.routes, Routes(edited or self._catalog.config, self._settings, stored)
            self._catalog.replace(
                routes=routes, config=edited, prices=None if edited is None else catalogs.price_book(edited)
            )
            self._rows, self._stamps = rows, {**_stamps(routes), **stamps}
            _tell(before, routes)
            return True


def _stamps(routes: Routes) -> Stamps:
    return {path: secret_file.stamp(path) for path in routes.key_files}


def _tell(before: Routes, now: Routes) -> None:
    """What is new, by name and place."""
    for name, provider in now.providers.items():
        key = provider.key
        if name not in before.providers or key == before.providers[name].key:
            continue
        if key is None:
            log.warning("the key of %s is no more", name)
        elif key.fault is not None:
            log.error("the key of %s cannot be read: %s", name, key.fault)
        else:
            log.info("the key of %s is from %s", name, key.where)
