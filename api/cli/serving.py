"""``gristmill serve`` and ``gristmill worker``: this process becomes the server or the worker.

Both start in GRISTMILL_HOME with a safe import path, so that no module of the user's working directory shadows ours.
"""

import os
import sys

import click

from api.cli import server_link


@click.command()
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Any other needs an API key first: gristmill keys create."
)
@click.option("--port", type=click.IntRange(0, 65_535), default=8000, show_default=True, help="0 takes a free one.")
def serve(host: str, port: int) -> None:
    """Serve the API, with everything it needs, until it is stopped."""
    _become("api.server", "--host", host, "--port", str(port))


@click.command()
@click.option("--control", is_flag=True, help="Serve the control queue instead of providers.")
@click.option("--providers", metavar="NAMES", help="Comma-separated; all that are known if left out.")
@click.option("--slots", type=click.IntRange(min=1), help="Slices at work at once.")
@click.option("--name", help="Shown in Flower before the host's name.")
def worker(control: bool, providers: str | None, slots: int | None, name: str | None) -> None:
    """Run one more worker process; GRISTMILL_DATABASE_URL and GRISTMILL_REDIS_URL say for which server."""
    wanted = {"--providers": providers, "--slots": slots, "--name": name}
    options = [part for option, value in wanted.items() if value is not None for part in (option, str(value))]
    _become("worker", "gristmill-worker", *(["--control"] if control else []), *options)


def _become(module: str, *arguments: str) -> None:
    """Signals then reach it directly, and its command line tells what it is."""
    settings = server_link.load_settings()
    server_link.check_config(settings)
    place = server_link.open_home(settings)
    sys.stdout.flush()
    sys.stderr.flush()
    os.chdir(place.path)
    os.umask(0o077)
    os.execve(sys.executable, [sys.executable, "-P", "-m", module, *arguments], settings.child_environment())
