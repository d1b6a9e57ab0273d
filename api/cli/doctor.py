"""``gristmill doctor``: what is here, and what is wrong with it. It changes nothing and shows no key."""

import contextlib
import json
import os
import platform
import stat
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from api.cli import columns, faults, server_link
from worker import config, secret_file
from worker.embedded import filesystem, home
from worker.master_key import MasterKey, MasterKeyError
from worker.provider_key import Stored
from worker.settings import Settings

Facts = dict[str, Any]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
def doctor(as_json: bool) -> None:
    """Tell what is here and what is wrong; exit 1 if something is."""
    wrong: list[str] = []
    facts: Facts = {"gristmill": version("gristmill"), "python": f"{platform.python_version()} ({sys.executable})"}
    try:
        settings = server_link.load_settings()
    except faults.UsageFault as error:
        wrong.append(str(error))
    else:
        try:
            facts.update(_place(settings, wrong))
        except OSError as error:
            wrong.append(
                f"{settings.home} cannot be examined: {error.strerror}. Run as its owner, or set GRISTMILL_HOME."
            )
        facts["database"] = _database(settings, wrong)
        facts["master_key"] = _master_key(settings, wrong)
        facts["configuration"] = str(settings.config) if settings.config else None
        facts["retention"] = _retention(settings)
        facts["providers"] = _providers(settings, wrong)
    if as_json:
        click.echo(json.dumps({**facts, "wrong": wrong}))
    else:
        click.echo(
            "\n".join([*_lines(facts), *(f"WRONG: {fault}" for fault in wrong)] + ([] if wrong else ["All well."]))
        )
    if wrong:
        sys.exit(1)


def _place(settings: Settings, wrong: list[str]) -> Facts:
    path = settings.home
    if not path.is_dir():
        return {"home": str(path), "server": None, "sizes": {}, "free_bytes": None}
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        wrong.append(f"{path} is open to other users: chmod 700 {path}")
    free, kind = filesystem.free_bytes(path), filesystem.kind(path)
    if free < home.LEAST_FREE_BYTES:
        wrong.append(f"{path} has {free >> 20} MB of free disk space: make room, or set GRISTMILL_HOME elsewhere.")
    if settings.database.startswith("sqlite") and filesystem.is_network(kind):
        wrong.append(f"{path} is on a network file system ({kind}), where SQLite loses data: set GRISTMILL_HOME.")
    sizes = {entry.name: _size(entry) for entry in sorted(path.iterdir())}
    return {"home": str(path), "server": _server(path, wrong), "sizes": sizes, "free_bytes": free}


def _server(path: Path, wrong: list[str]) -> str | None:
    place = home.Home(path=path)
    if not place.server_lock.exists() or not place.is_locked:
        return None
    try:
        url = server_link.running_url(place)
    except faults.UsageFault as error:
        wrong.append(str(error))
        return None
    if url is None:
        wrong.append(f"a server holds {place.server_lock} and does not answer: see {place.logs / 'server.log'}")
    return url


def _database(settings: Settings, wrong: list[str]) -> Facts:
    from worker import migrations
    from worker.database import Database, DatabaseAway

    database = Database(settings.database)
    found: Facts = {"url": database.url.render_as_string(hide_password=True), "schema": None}
    try:
        if database.sqlite and not Path(database.url.database or "").exists():
            return found
        with database.read() as session:
            found["schema"] = migrations.current(session.connection())
    except DatabaseAway as error:
        wrong.append(f"{found['url']}: {error}")
    finally:
        database.close()
    if found["schema"] not in (None, *migrations.revisions()):
        wrong.append(
            f"the database has schema {found['schema']}, which this version does not know: install a newer one."
        )
    return found


def _retention(settings: Settings) -> dict[str, str] | None:
    """What is deleted by itself, and after how long; None: nothing."""
    try:
        kept = config.load(settings.config).retention.model_dump(exclude_none=True)
    except config.ConfigError:  # said with the providers
        return None
    return {name: columns.days(seconds) for name, seconds in kept.items()} or None


def _master_key(settings: Settings, wrong: list[str]) -> str | None:
    """Where it is."""
    master_key = MasterKey(settings)
    try:
        if not master_key.read():
            return None
    except MasterKeyError as error:
        wrong.append(str(error))
    path = master_key.file
    if path is not None and secret_file.is_open_to_others(path):
        wrong.append(f"other users may read the master key: chmod 600 {path}")
    return str(path or "GRISTMILL_MASTER_KEY")


def _providers(settings: Settings, wrong: list[str]) -> list[Facts]:
    from worker.routes import RouteError, Routes

    try:
        routes = Routes(config.load(settings.config), settings, _stored(settings))
    except (config.ConfigError, RouteError) as error:
        wrong.append(str(error))
        return []
    parts = [part for provider in routes.providers.values() for part in provider.parts]
    for part in parts:
        wrong.extend(f"the key of {part.label} cannot be read: {key.fault}" for key in part.keys if key.fault)
    return [
        {
            "name": part.label,
            "key": "present" if part.key and part.key.value else "absent",
            "key_from": part.key.where if part.key else None,
            "key_is_open": part.key is not None and part.key.is_open_to_others,
            "shadowed": [key.where for key in part.keys[1:]],
            "elsewhere": part.address if part.is_elsewhere else None,
        }
        for part in parts
    ]


def _stored(settings: Settings) -> Stored:
    """Keys in a database that is there and has the table; what is wrong with it is told elsewhere."""
    from sqlalchemy import inspect

    from worker.database import Database, DatabaseAway
    from worker.store import provider_keys
    from worker.tables import SECRET
    from worker.vault import Vault

    database = Database(settings.database)
    try:
        if database.sqlite and not Path(database.url.database or "").exists():
            return {}
        with database.read() as session:
            if not inspect(session.connection()).has_table(SECRET.name):
                return {}
            return provider_keys.opened(Vault(settings), provider_keys.rows(session))
    except DatabaseAway:
        return {}
    finally:
        database.close()


def _key(one: Facts) -> str:
    if one["key_from"] is None:
        return f"key {one['key']}"
    open_to_others = ", which other users may read" if one["key_is_open"] else ""
    shadowed = "".join(f", which hides the one from {where}" for where in one["shadowed"])
    return f"key {one['key']} (from {one['key_from']}{open_to_others}{shadowed})"


def _size(path: Path) -> int:
    """What a server removes meanwhile counts as nothing."""
    total = 0
    inside = (Path(folder, name) for folder, _, names in os.walk(path) for name in names)
    for file in inside if path.is_dir() else (path,):
        with contextlib.suppress(FileNotFoundError):
            total += file.lstat().st_size
    return total


def _lines(facts: Facts) -> Iterator[str]:
    for name, value in facts.items():
        if name == "sizes":
            yield from (f"  {part}: {size:,} bytes" for part, size in value.items())
        elif name == "database":
            yield f"database: {value['url']}, schema {value['schema'] or 'none yet'}"
        elif name == "providers":
            for one in value:
                yield f"provider {one['name']}: {_key(one)}" + (f", at {one['elsewhere']}" if one["elsewhere"] else "")
        elif name == "retention":
            kept = ", ".join(f"{what} {age}" for what, age in value.items()) if value else "everything is kept"
            yield f"retention: {kept}"
        else:
            yield f"{name.replace('_', ' ')}: {'none' if value is None else value}"
