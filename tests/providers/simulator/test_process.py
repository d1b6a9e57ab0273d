"""The simulator as a process: it says where it is, and ends with its parent."""

import subprocess
import sys
import time
import urllib.error
import urllib.request

import psutil
import pytest

from providers.simulator import process

COMMAND = [sys.executable, "-m", "providers.simulator"]


def test_it_starts_with_its_options_and_ends_when_its_parent_lets_go() -> None:
    with process.Process(rpm=7, faults={"status=500": 0.5}, require_key=True) as simulator:
        assert simulator.url.startswith("http://127.0.0.1:")
        assert simulator.stats()["arrived"] == 0
        with pytest.raises(urllib.error.HTTPError):
            simulator.control(no_such_option=1)
        simulator.control(record=1)
        assert simulator.requests() == []
        child = simulator._child
    assert child is not None and child.returncode == 0


def test_it_ends_when_its_parent_is_killed() -> None:
    """The child of a process that gets no chance to clean up."""
    code = f"""
import sys, time
sys.path.append({str(process.ROOT)!r})
from providers.simulator import process
simulator = process.Process(latency=600).__enter__()
print(simulator._child.pid, simulator.url, flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid, url = parent.stdout.readline().split()
        with urllib.request.urlopen(f"{url}/stats") as answer:
            assert answer.status == 200
        parent.kill()
    deadline = time.monotonic() + 10
    while psutil.pid_exists(int(pid)) and psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "example.com", "192.168.0.1"])
def test_it_refuses_to_listen_to_strangers(host: str) -> None:
    ended = subprocess.run([*COMMAND, "--host", host, "--port", "0"], cwd=process.ROOT, capture_output=True, text=True)
    assert ended.returncode == 2
    assert "loopback" in ended.stderr


def test_it_refuses_a_wrong_option() -> None:
    with pytest.raises(process.StartError):
        process.Process(mode="leaky").__enter__()
