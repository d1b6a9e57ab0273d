"""What a process of ours is made of: the one place where settings become objects."""

from dataclasses import dataclass

from providers.pricing import PriceBook
from worker import config
from worker.blobs import Blobs
from worker.catalog import Catalog
from worker.config import Config
from worker.database import Database
from worker.routes import Routes
from worker.settings import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Wiring:
    """Settings, configuration, and what stands on them. Opening connections is left to the first use."""

    settings: Settings
    config: Config
    routes: Routes
    catalog: Catalog
    database: Database
    blobs: Blobs


def wire(settings: Settings) -> Wiring:
    """Raises ConfigError and RouteError."""
    configuration = config.load(settings.config)
    routes = Routes(configuration, settings)
    prices = PriceBook({name: section.model_dump() for name, section in configuration.prices.items()})
    return Wiring(
        settings=settings,
        config=configuration,
        routes=routes,
        catalog=Catalog(configuration, routes, prices, settings),
        database=Database(settings.database),
        blobs=Blobs(settings.home / "files"),
    )
