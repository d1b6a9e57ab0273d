"""Uploads at once are streamed: the memory of the server does not grow with them."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import httpx
import psutil
import pytest

from providers.simulator.process import Process
from tests.faults.rig import Mill

MB = 1 << 20
AT_ONCE = 2


@pytest.fixture
def mill(tmp_path: Path) -> Iterator[Mill]:
    with Process() as simulator, Mill(tmp_path / "home", simulator.base_url) as one:
        yield one


def test_two_uploads_need_less_memory_than_they_bring(mill: Mill, tmp_path: Path) -> None:
    upload(mill, tmp_path, 1)
    before = psutil.Process(mill.server).memory_info().rss // MB
    after = upload(mill, tmp_path, 20)
    assert after - before < 20


@pytest.mark.slow
def test_two_uploads_of_200_mb_need_less_than_200_mb(mill: Mill, tmp_path: Path) -> None:
    peak = upload(mill, tmp_path, 200)
    assert peak < 200


def upload(mill: Mill, folder: Path, size: int) -> int:
    """The server's greatest RSS in MB while it takes two files of so many MB at once."""
    path = folder / "in.jsonl"
    path.write_bytes(b"x" * MB * size)
    server = psutil.Process(mill.server)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        uploads = [pool.submit(_send, mill, path) for _ in range(AT_ONCE)]
        peak = 0
        while wait(uploads, 0.005).not_done:
            peak = max(peak, server.memory_info().rss)
    assert [one.result() for one in uploads] == [size * MB] * AT_ONCE
    return peak // MB


def _send(mill: Mill, path: Path) -> int:
    with path.open("rb") as file, httpx.Client(base_url=mill.client.base_url, timeout=60, trust_env=False) as client:
        answer = client.post("/v1/files", data={"purpose": "batch"}, files={"file": ("in.jsonl", file)})
    assert answer.status_code == 200, answer.text
    return int(answer.json()["bytes"])
