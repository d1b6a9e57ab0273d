"""What a process of ours is made of: the one place where settings become objects."""

from dataclasses import dataclass

from worker import catalog as catalogs
from worker.blobs import Blobs
from worker.catalog import Catalog
from worker.config import Config
from worker.database import Database
from worker.key_watch import KeyWatch
from worker.live_config import LiveConfig
from worker.routes import Routes
from worker.settings import Settings
from worker.vault import Vault


@dataclass(frozen=True, kw_only=True, slots=True)
class Wiring:
    """Settings, configuration, and what stands on them. Opening connections is left to the first use."""

    settings: Settings
    catalog: Catalog
    database: Database
    blobs: Blobs
    vault: Vault
    configuration: LiveConfig
    keys: KeyWatch
    """Whoever works must ``look`` before the first job, and then every second or so."""

    @property
    def config(self) -> Config:
        return self.catalog.config

    @property
    def routes(self) -> Routes:
        """As they are now: who keeps them misses new keys; ``catalog`` does not."""
        return self.catalog.routes


def wire(settings: Settings) -> Wiring:
    """Raises ConfigError and RouteError."""
    configuration = LiveConfig(settings.config)
    said = configuration.config
    catalog = Catalog(said, Routes(said, settings), catalogs.price_book(said), settings)
    vault = Vault(settings)
    database = Database(settings.database, vault)
    return Wiring(
        settings=settings,
        catalog=catalog,
        database=database,
        blobs=Blobs(settings.home / "files"),
        vault=vault,
        configuration=configuration,
        keys=KeyWatch(settings, database, vault, catalog, configuration),
    )
