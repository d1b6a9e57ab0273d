"""The server process: one per home. ``python -P -m api.server --host 127.0.0.1 --port 8000``.

It holds the home's lock, starts what the settings do not name elsewhere, serves until it is told to stop, and ends all.
"""

import argparse
import json
import logging
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from types import FrameType

import sqlalchemy
import uvicorn
from celery import Celery
from kombu.exceptions import OperationalError
from typing_extensions import override

from api import app, guard
from api.services import Services
from worker import catalog, celery_app, garbage, secret_file
from worker import settings as settings_module
from worker.catalog import Catalog
from worker.config import ConfigError
from worker.database import Database, DatabaseAway
from worker.doorbell import CeleryDoorbell
from worker.embedded import home
from worker.embedded.home import Home
from worker.embedded.supervisor import ChildUnstartable, Supervisor
from worker.embedded.valkey import ValkeyError
from worker.key_watch import KeyWatch
from worker.master_key import MasterKeyError
from worker.migrations import MigrationError
from worker.routes import RouteError
from worker.settings import Settings, SettingsError
from worker.store import api_keys, sealing
from worker.tables import API_KEY
from worker.wiring import Wiring, wire

log = logging.getLogger("gristmill.server")

BROKER_SECONDS = 2.0
KEY_SECONDS = 1.0
KEEP_ALIVE_SECONDS = 75
"""Longer than clients keep an idle connection, so that it is never closed under a request."""
SHUTDOWN_SECONDS = 5
"""Answers under way may end for so long."""
USAGE_ERROR = 2
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""How this machine reaches a server that listens on all addresses."""

EXPECTED = (
    SettingsError,
    ConfigError,
    RouteError,
    MasterKeyError,
    home.HomeError,
    ValkeyError,
    MigrationError,
    ChildUnstartable,
)
"""Failures that a person can mend; their message says how."""


class ServerError(Exception):
    """The server cannot listen there."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="gristmill-server")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one")
    parser.add_argument("--lifeline", action="store_true", help="end when standard input ends")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr)
    for library in ("alembic", "uvicorn"):
        logging.getLogger(library).setLevel(logging.WARNING)
    os.umask(0o077)
    if options.lifeline:
        threading.Thread(target=_end_with_parent, name="lifeline", daemon=True).start()
    try:
        serve(options.host, options.port)
    except (*EXPECTED, ServerError) as error:
        log.error("%s", error)
        return USAGE_ERROR
    return 0


def serve(host: str, port: int) -> None:
    """Serve until SIGTERM, SIGINT or SIGHUP. Raises ServerError or what the settings, home or children raise."""
    settings = settings_module.load()
    stop = _Stop()
    token = secrets.token_urlsafe(32)
    listener = listen(host, port, keyless=guard.is_loopback(host) or not _has_keys(settings))
    with listener, _home(settings) as place, _children(settings, place) as grown:
        wiring = wire(grown)
        _seal(wiring)
        broker = celery_app.make_app(grown)
        server = _Server(_uvicorn_config(services(wiring, broker, stop, token)))
        wiring.keys.look()
        _tell(wiring)
        with _announced(place, listener, token), _watching(wiring.keys):
            stop.call(server)
            garbage.collect_rarely()
            server.run(sockets=[listener])
        wiring.database.close()


def listen(host: str, port: int, *, keyless: bool = True) -> socket.socket:
    """Raises ServerError, before anything was started."""
    if keyless and not guard.is_loopback(host):
        raise ServerError(
            f"Without API keys the server listens on loopback addresses only (127.0.0.1, ::1), not on {host}: "
            "'gristmill keys create NAME' makes a key."
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except (OSError, OverflowError) as error:
        listener.close()
        raise ServerError(f"The server cannot listen on {host}:{port}: {error}. Choose another --port.") from None
    return listener


def _has_keys(settings: Settings) -> bool:
    """Whether a key was ever made; looked up before the database is migrated or even there."""
    path = sqlalchemy.make_url(settings.database).database
    if settings.database.startswith("sqlite") and not os.path.exists(path or ""):
        return False
    database = Database(settings.database)
    try:
        with database.read() as session:
            has_table = sqlalchemy.inspect(session.connection()).has_table(API_KEY.name)
            return has_table and api_keys.any_ever(session)
    except DatabaseAway as error:
        raise ServerError(f"Whether there are API keys is not known: {error}.") from None
    finally:
        database.close()


def services(wiring: Wiring, broker: Celery, stop: "_Stop", token: str) -> Services:
    return Services(
        database=wiring.database,
        blobs=wiring.blobs,
        routes=wiring.catalog,
        doorbell=CeleryDoorbell(broker),
        broker_answers=lambda: _answers(broker),
        slice_jobs=lambda route: _slice_jobs(wiring.catalog, route),
        token_prices=wiring.catalog.token_prices,
        limits_of=wiring.catalog.limits_of,
        configuration=wiring.configuration,
        day_window_seconds=wiring.settings.day_window_seconds,
        lease_seconds=wiring.settings.lease_seconds,
        local_token=token,
        openai_limits=wiring.config.limits == "openai",
        webhook_private=wiring.settings.webhook_allow_private,
        is_stopping=lambda: stop.was_called,
    )


@contextmanager
def _home(settings: Settings) -> Iterator[Home]:
    place = home.prepare(settings.home, needs_local_disk=settings.database.startswith("sqlite"))
    with place.lock():
        yield place


@contextmanager
def _children(settings: Settings, place: Home) -> Iterator[Settings]:
    """The settings with which one reaches them."""
    supervisor = Supervisor(settings, place)
    try:
        yield supervisor.start()
    finally:
        supervisor.stop()


@contextmanager
def _announced(place: Home, listener: socket.socket, token: str) -> Iterator[None]:
    """server.json says where we are and what opens to this machine's user, from when we listen until we stop."""
    address, port = listener.getsockname()[:2]
    address = EVERYWHERE.get(address, address)
    url = f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"
    state = {"pid": os.getpid(), "url": url, "version": version("gristmill"), "token": token}
    home.write_private(place.server_state, json.dumps(state).encode())
    log.info("Gristmill %s serves %s/v1 (docs: %s/docs), home %s", version("gristmill"), url, url, place.path)
    try:
        yield
    finally:
        place.server_state.unlink(missing_ok=True)


@contextmanager
def _watching(keys: KeyWatch) -> Iterator[None]:
    """Keys that are set, changed or removed meanwhile count within a second or two."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(KEY_SECONDS):
            try:
                keys.look()
            except DatabaseAway as error:
                log.warning("%s; new keys are not seen", error)
            except Exception:
                log.exception("new keys were not seen and will be looked for again")

    thread = threading.Thread(target=watch, name="keys", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _uvicorn_config(services: Services) -> uvicorn.Config:
    return uvicorn.Config(
        app.create_app(services, version=version("gristmill")),
        access_log=False,
        log_config=None,
        lifespan="off",
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )


def _seal(wiring: Wiring) -> None:
    """What older versions stored in plain text is encrypted. Raises MasterKeyUnusable."""
    vault = wiring.vault
    if not vault.can_seal:
        log.warning("without GRISTMILL_MASTER_KEY the secrets of webhooks are in the database as they are")
    elif count := wiring.database.write(lambda session: sealing.seal_plain(session, vault)):
        log.info("%d secrets in the database are encrypted now", count)
    path = vault.master_key.file
    if path is not None and secret_file.is_open_to_others(path):
        log.warning("other users may read the master key: chmod 600 %s", path)


def _tell(wiring: Wiring) -> None:
    config = wiring.settings.config
    log.info("configuration: %s", config or "none (no gristmill.yaml in the working directory)")
    if _has_keys(wiring.settings):
        log.info("every request needs an API key")
    else:
        log.info("without API keys: loopback only, and pages of other origins are refused")
    for note in wiring.routes.notes():
        log.info("%s", note)


def _answers(broker: Celery) -> bool:
    try:
        with broker.connection_for_read(connect_timeout=BROKER_SECONDS) as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=BROKER_SECONDS)
        return True
    except (OperationalError, OSError):
        return False


def _slice_jobs(routes: Catalog, route: str) -> int:
    try:
        return routes.slice_jobs(route)
    except RouteError:
        return catalog.SLICE_JOBS  # its key or its alias is gone; the line will say so itself


class _Server(uvicorn.Server):
    @override
    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Ours are set before anything starts, and must not be raised again before everything has stopped."""
        yield


class _Stop:
    """The first signal stops in order, the second at once; both may come before there is a server."""

    def __init__(self) -> None:
        self._count = 0
        self._server: uvicorn.Server | None = None
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._receive)

    @property
    def was_called(self) -> bool:
        return self._count > 0

    def call(self, server: uvicorn.Server) -> None:
        self._server = server
        self._apply()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
        self._apply()

    def _apply(self) -> None:
        if self._server is not None and self._count:
            self._server.should_exit = True
            self._server.force_exit = self._count > 1


def _end_with_parent() -> None:
    """The parent holds the other end of our standard input; when it dies, however it dies, we end in order."""
    with suppress(OSError):
        while os.read(sys.stdin.fileno(), 1024):
            continue
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
