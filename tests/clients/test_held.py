"""The OpenAI SDK, unmodified, in its normal mode against a whole mill."""

import os
import subprocess
import sys
from pathlib import Path

from providers.simulator import process
from tests.faults.rig import Mill

FLOW = Path(__file__).parent / "held_flow.py"


def test_the_sdk_needs_nothing_but_the_base_url(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OPENAI_")}
    with process.Process() as simulator, Mill(tmp_path / "home", simulator.base_url) as mill:
        url = str(mill.client.base_url).rstrip("/")
        command = [sys.executable, str(FLOW), f"{url}/v1"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0 and "all passed" in done.stdout, done.stdout + done.stderr
        assert mill.client.get("/v1/batches").json()["data"] == []
        assert mill.client.get("/v1/usage").json()["data"][0]["attempts"] > 20
