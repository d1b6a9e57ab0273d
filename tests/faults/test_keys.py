"""A provider's key is found dead, changed and removed while everything runs; and it shows nowhere."""

import json
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import redis

from providers.simulator.process import Process
from tests.faults.auditor import Audit
from tests.faults.rig import Mill, requests
from tests.polling import until

DEAD, GOOD = "sk-dead-0123456789-wxyz", "sk-good-0123456789-abcd"


@pytest.fixture
def keyed(calm: Process, tmp_path: Path) -> Iterator[Mill]:
    """Its provider was given a dead key before the first start."""
    calm.control(keys={DEAD: {"refuse": "invalid_api_key"}})
    providers = {"alpha": {"kind": "simulator", "base_url": calm.base_url}}
    mill = Mill(tmp_path / "home", calm.base_url, providers=providers)
    assert "(...wxyz)" in mill.command("providers", "set-key", "alpha", input=f"{DEAD}\n")
    with mill:
        yield mill


def test_a_key_is_changed_while_a_batch_runs_and_shows_nowhere(keyed: Mill, calm: Process, audit: Audit) -> None:
    endpoint = {"name": "n", "url": "https://1.1.1.1/", "event_types": ["batch.failed"]}
    signing = keyed.client.post("/v1/webhook_endpoints", json=endpoint).raise_for_status().json()["signing_secret"]
    lines = requests("keyed", 120, model="alpha/tiny")
    id = keyed.submit(lines)
    keyed.await_block(id, "auth")
    said = keyed.command("providers", "set-key", "alpha", input=f"{GOOD}\n")
    keyed.await_rest(id, 20)  # the first probe of a dead key would be due after 30 s
    assert audit(keyed, id, lines).completed == 120
    assert keyed.rows("SELECT max(attempts) FROM job") == [(0,)]

    said += keyed.command("providers", "list-keys") + keyed.command("doctor") + keyed.command("providers")
    said += json.dumps(keyed.batch(id)) + json.dumps(keyed.client.get(f"/v1/batches/{id}/jobs").json())
    said += "".join(" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"]))
    assert "...abcd" in said
    said += keyed.command("providers", "rotate-master-key")
    whole = said.encode() + files(keyed.home.parent) + valkey(keyed.redis_url)
    assert b"alpha" in whole
    assert [secret for secret in (DEAD, GOOD, signing) if secret.encode() in whole] == []

    keyed.submit(requests("rotated", 20, model="alpha/tiny"))
    until(lambda: calm.stats()["keys"][GOOD]["answered"] >= 140)

    keyed.command("providers", "remove-key", "alpha")
    log = keyed.home.parent / "server.log"
    until(lambda: "the key of alpha is no more" in log.read_text())


def files(folder: Path) -> bytes:
    """Database, write-ahead log, logs, stored files, the append-only file: everything there is."""
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file() and not path.is_socket())


def valkey(url: str) -> bytes:
    """Every key with what it holds."""
    read = {"string": "GET", "hash": "HGETALL", "set": "SMEMBERS"}
    ranges = {"list": "LRANGE", "zset": "ZRANGE"}
    told = b""
    with redis.Redis.from_url(url) as client:
        for key in client.scan_iter():
            kind = client.type(key).decode()
            command = (read[kind], key) if kind in read else (ranges[kind], key, 0, -1)
            told += key + repr(client.execute_command(*command)).encode()
    return told
