"""The OpenAI SDK, unmodified, in its three major versions."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from providers.simulator import process
from tests.faults.rig import Mill

FLOW = Path(__file__).parent / "openai_flow.py"


def run(tmp_path: Path, python_path: str | None = None) -> str:
    """The flow in a process of its own, against a whole mill; what it printed."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OPENAI_")}
    if python_path is not None:
        environment["PYTHONPATH"] = python_path
    with process.Process() as simulator, Mill(tmp_path / "home", simulator.base_url) as mill:
        url = str(mill.client.base_url).rstrip("/")
        done = subprocess.run(
            [sys.executable, str(FLOW), f"{url}/v1"], env=environment, capture_output=True, text=True, timeout=120
        )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_installed_sdk_finds_all_that_it_knows(tmp_path: Path) -> None:
    assert "all passed" in run(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("major", ["1", "2", "3"])
def test_every_major_version_does(tmp_path: Path, major: str) -> None:
    target = tmp_path / "sdk"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(target), f"openai=={major}.*"]
    subprocess.run(command, check=True, timeout=300)
    assert f"openai {major}." in run(tmp_path, str(target))
