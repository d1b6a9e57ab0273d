"""The server behind a command: the one that already runs here, one that is named, or one of our own.

A server of our own reads a pipe that only we hold, its lifeline: when we end, in whatever way, it drains and ends too.
"""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from api.cli import faults
from api.cli.client import Client
from worker import config
from worker import settings as settings_module
from worker.embedded import home
from worker.settings import Settings

SERVER = "api.server"
START_SECONDS = 90.0
STOP_SECONDS = 20.0
PAUSE_SECONDS = 0.1
LOG_LINES = 20
QUICK_DEATH_SECONDS = 60.0
"""A server of ours that ended sooner than this is not started again."""


class Link:
    """Raises UsageFault if nothing can be started here, and ServerGone if a server was and does not come up."""

    def __init__(self, place: home.Home | None, settings: Settings, *, url: str | None, with_lifeline: bool) -> None:
        self._url = url or settings.url
        self._place = place if self._url is None else None
        self._settings = settings
        self._with_lifeline = with_lifeline
        self._own: subprocess.Popen[bytes] | None = None
        self._started_at = float("-inf")
        self._client: Client | None = None

    @property
    def client(self) -> Client:
        """Opened at first use."""
        if self._client is None:
            self._client = self._open()
        return self._client

    @property
    def is_own(self) -> bool:
        return self._own is not None

    def recover(self) -> None:
        """After ServerGone: find the server again, or start one where we may. Returns when it answers."""
        if self._place is None:
            self._await_named()
        elif not self.client.is_alive():
            self._bury()
            self.client.close()
            self._client = self._open()

    def release(self, *, keep: bool = False) -> None:
        """Let go of the server. One of our own drains and ends, unless it shall be kept."""
        if self._client is not None:
            self._client.close()
        if self._own is None:
            return
        if keep:
            self._own.returncode = 0  # disowned: it outlives us on purpose
            return
        if self._own.stdin is not None:
            self._own.stdin.close()
        else:
            self._own.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._own.wait(STOP_SECONDS)

    def _open(self) -> Client:
        if self._place is None:
            return _named(str(self._url), self._settings)
        return Client(self._join_or_start(), key=local_token(self._place))

    def _await_named(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self.client.is_alive():
            if time.monotonic() > deadline:
                raise faults.ServerGone(f"no server answers at {self._url} (waited {START_SECONDS:g} s).")
            time.sleep(PAUSE_SECONDS)

    def _bury(self) -> None:
        if self._own is None or self._own.poll() is None:
            return
        self._own = None
        if time.monotonic() - self._started_at < QUICK_DEATH_SECONDS:
            raise faults.ServerGone(f"the server ended by itself.\n{self._last_words()}")

    def _join_or_start(self) -> str:
        """Joins also the server that another command is just starting, and waits for one that is ending."""
        place = self._place
        assert place is not None
        deadline = time.monotonic() + START_SECONDS
        while place.is_locked:
            url = running_url(place)
            if url is not None and _asks(url, Client.is_ready):
                return url
            if time.monotonic() > deadline:
                raise faults.ServerGone(f"the server of {place.path} is not ready (waited {START_SECONDS:g} s).")
            time.sleep(PAUSE_SECONDS)
        check_config(self._settings)
        self._own = self._start(place)
        return self._await_own(self._own, place)

    def _start(self, place: home.Home) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-P", "-m", SERVER, "--host", "127.0.0.1", "--port", "0"]
        with open(place.logs / "server.log", "ab") as log:
            self._started_at = time.monotonic()
            return subprocess.Popen(
                [*command, "--lifeline"] if self._with_lifeline else command,
                stdin=subprocess.PIPE if self._with_lifeline else subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=place.path,
                env=self._settings.child_environment(),
                start_new_session=True,  # Ctrl-C is for us: the server drains when we let go
                umask=0o077,
            )

    def _await_own(self, own: "subprocess.Popen[bytes]", place: home.Home) -> str:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if own.poll() is not None:
                if place.is_locked:  # another command was quicker
                    self._own = None
                    return self._join_or_start()
                raise faults.UsageFault(f"the server does not start.\n{self._last_words()}")
            state = _state(place)
            if state.get("pid") == own.pid and _asks(str(state["url"]), Client.is_ready):
                return str(state["url"])
            time.sleep(PAUSE_SECONDS)
        raise faults.ServerGone(f"the server is not ready after {START_SECONDS:g} s.\n{self._last_words()}")

    def _last_words(self) -> str:
        assert self._place is not None
        return log_tail(self._place.logs / "server.log")


def check_config(settings: Settings) -> None:
    """Say what is wrong with it before anything starts. Raises UsageFault."""
    try:
        config.load(settings.config)
    except config.ConfigError as error:
        raise faults.UsageFault(str(error)) from None


def open_home(settings: Settings) -> home.Home:
    """Raises UsageFault."""
    needs_local_disk = settings.redis_url is None or settings.database.startswith("sqlite")
    try:
        return home.prepare(settings.home, needs_local_disk=needs_local_disk)
    except home.HomeError as error:
        raise faults.UsageFault(str(error)) from None


def load_settings() -> Settings:
    """Raises UsageFault."""
    try:
        return settings_module.load()
    except settings_module.SettingsError as error:
        raise faults.UsageFault(str(error)) from None


def connect(url: str | None) -> Client:
    """The server that is named or runs here; none is started. Raises UsageFault."""
    settings = load_settings()
    if url is not None or settings.url is not None:
        return _named(str(url or settings.url), settings)
    place = home.Home(path=settings.home)
    found = running_url(place) if place.path.is_dir() and place.is_locked else None
    if found is None:
        raise faults.UsageFault(
            f"no server runs in {place.path}. 'gristmill serve' starts one; --server or GRISTMILL_URL names another."
        )
    return Client(found, key=local_token(place))


def running_url(place: home.Home) -> str | None:
    """Where the server of this home listens, if it answers. Raises UsageFault if it is of another version."""
    state = _state(place)
    url = state.get("url")
    if not isinstance(url, str) or not _asks(url, Client.is_alive):
        return None
    if state.get("version") != version("gristmill"):
        raise faults.UsageFault(
            f"the server at {url} is Gristmill {state.get('version')}, this is {version('gristmill')}: stop it first."
        )
    return url


def local_token(place: home.Home) -> str | None:
    """What the server of this home takes instead of an API key; only this machine's user can read it."""
    token = _state(place).get("token")
    return token if isinstance(token, str) else None


def log_tail(path: Path) -> str:
    try:
        lines = path.read_text(errors="replace").splitlines()[-LOG_LINES:]
    except OSError:
        lines = []
    return "\n".join([f"The end of {path}:", *(f"  {line}" for line in lines)])


def _named(url: str, settings: Settings) -> Client:
    return Client(url, key=settings.api_key.get_secret_value() if settings.api_key else None)


def _state(place: home.Home) -> dict[str, object]:
    try:
        state = json.loads(place.server_state.read_bytes())
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def _asks(url: str, question: Callable[[Client], bool]) -> bool:
    with Client(url) as client:
        return question(client)
