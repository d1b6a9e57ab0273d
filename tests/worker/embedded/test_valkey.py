import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import redis

from tests.polling import until
from worker.embedded import home, valkey, valkey_address


@contextmanager
def running(place: home.Home) -> Iterator[tuple[valkey.Valkey, "redis.Redis"]]:
    server = valkey.Valkey(place)
    server.start()
    try:
        with redis.Redis.from_url(server.address.url) as client:
            yield server, client
    finally:
        server.stop()


@pytest.fixture(params=["socket", "port"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> home.Home:
    if request.param == "port":
        monkeypatch.setattr(valkey, "LONGEST_SOCKET_PATH", 0)
    else:
        monkeypatch.setattr(valkey, "LONGEST_SOCKET_PATH", 107)
    return home.prepare(tmp_path / "mill")


def pid_of(client: "redis.Redis") -> int:
    return int(client.info("server")["process_id"])


def test_it_is_durable_bounded_and_private(place: home.Home):
    with running(place) as (server, client):
        wanted = {"appendonly": "yes", "save": "", "maxmemory-policy": "noeviction"}
        assert {name: client.config_get(name)[name] for name in wanted} == wanted
        assert server.is_alive()
        private = [place.valkey / "valkey.conf", place.valkey / "state.json", place.logs / "valkey.log"]
        assert [path.stat().st_mode & 0o077 for path in private] == [0, 0, 0]
        assert not list(place.valkey.glob("*.rdb"))


def test_a_port_is_closed_to_who_has_no_password(place: home.Home):
    with running(place) as (server, client):
        if server.address.port is None:
            pytest.skip("a socket is guarded by its directory")
        for guess in (None, "guess"):
            assert valkey_address.Address(port=server.address.port, password=guess).process_id() is None
        assert str(server.address.password) not in " ".join(psutil.Process(pid_of(client)).cmdline())


def test_it_keeps_its_data_and_address_over_a_clean_stop(place: home.Home):
    with running(place) as (server, client):
        client.set("key", "value")
        address, pid = server.address, pid_of(client)
    assert not psutil.pid_exists(pid)
    with running(place) as (server, client):
        assert client.get("key") == b"value"
        assert server.address.path == address.path


def test_a_successor_adopts_the_orphan_of_a_killed_supervisor(place: home.Home):
    code = (
        "import sys, pathlib; from worker.embedded import home, valkey\n"
        "valkey.LONGEST_SOCKET_PATH = int(sys.argv[2])\n"
        "valkey.Valkey(home.Home(path=pathlib.Path(sys.argv[1]))).start(); print('up', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(place.path), str(valkey.LONGEST_SOCKET_PATH)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as supervisor:
        assert supervisor.stdout is not None
        assert supervisor.stdout.readline() == b"up\n"
        orphan = json.loads((place.valkey / "state.json").read_bytes())["pid"]
        supervisor.kill()
    with running(place) as (server, client):
        assert pid_of(client) == orphan
        assert server.is_alive()
    until(lambda: not psutil.pid_exists(orphan) or psutil.Process(orphan).status() == psutil.STATUS_ZOMBIE)


def test_an_orphan_that_does_not_answer_is_ended(place: home.Home, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(valkey, "STOP_SECONDS", 0.2)
    with running(place) as (_, client):
        frozen = psutil.Process(pid_of(client))
        frozen.suspend()
        with running(place) as (_, client):
            assert pid_of(client) != frozen.pid


def test_it_is_started_again_at_the_same_address_after_it_died(place: home.Home):
    with running(place) as (server, client):
        assert not server.ensure()
        client.set("key", "value")
        address = server.address
        psutil.Process(pid_of(client)).send_signal(signal.SIGKILL)
        until(lambda: not server.is_alive())
        assert server.ensure()
        assert server.address == address
        assert client.ping()


def test_damaged_data_is_set_aside(place: home.Home):
    with running(place) as (_, client):
        client.set("key", "value")
    for file in (place.valkey / "appendonlydir").glob("*.incr.aof"):
        file.write_bytes(b"garbage\r\n" * 10)
    with running(place) as (_, client):
        assert client.get("key") is None
    assert list(place.valkey.glob("appendonlydir.damaged.*"))


def test_a_recycled_pid_is_not_taken_for_ours(place: home.Home):
    bystander = psutil.Process()
    state = {"pid": bystander.pid, "started": bystander.create_time() - 60, "port": None, "password": None}
    home.write_private(place.valkey / "state.json", json.dumps(state).encode())
    with running(place) as (_, client):
        assert client.ping()
    assert bystander.is_running()


@pytest.mark.parametrize("state", [b"", b"{", b"[]", b'{"pid": null, "port": "x"}'])
def test_a_broken_state_file_is_no_obstacle(place: home.Home, state: bytes):
    home.write_private(place.valkey / "state.json", state)
    with running(place) as (_, client):
        assert client.ping()


def test_a_machine_without_a_binary_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("platform.system", lambda: "Windows")
    with pytest.raises(valkey.ValkeyMissing, match="GRISTMILL_REDIS_URL"):
        valkey.find_binary()


def test_a_binary_that_does_not_run_shows_its_last_words(place: home.Home, monkeypatch: pytest.MonkeyPatch):
    fake = place.path / "valkey-server"
    fake.write_text("#!/bin/sh\necho no such libc; exit 127\n")
    fake.chmod(0o700)
    monkeypatch.setattr(valkey, "find_binary", lambda: fake)
    with pytest.raises(valkey.ValkeyUnstartable, match=r"GRISTMILL_REDIS_URL[^$]*no such libc"):
        valkey.Valkey(place).start()
