"""inspect-ai, unmodified: an evaluation that is killed in the middle and goes on."""

import json
import shutil
import signal
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from providers.simulator.process import Process
from tests.clients import environments
from tests.faults.rig import Mill
from tests.polling import until

TASK = Path(__file__).parent / "inspect_task.py"
QUICK, SLOW = 10, 10
BATCH = {"size": QUICK, "max_size": QUICK, "send_delay": 0.5, "tick": 0.2}
SAMPLES = QUICK + SLOW

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def inspect(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command, installed."""
    python = environments.python(tmp_path_factory.mktemp("inspect") / "environment", "inspect-ai", "openai")
    return python.with_name("inspect")


def test_in_batch_mode(mill: Mill, simulator: Process, inspect: Path, tmp_path: Path, base_url: str) -> None:
    """It does not know its batches again: the mill ends what was submitted, and unfinished samples are asked again."""
    simulator.reset()
    (tmp_path / "batch.json").write_text(json.dumps(BATCH))
    killed_and_retried(inspect, tmp_path, base_url, "--batch", "batch.json")
    batches = mill.client.get("/v1/batches").json()["data"]
    for batch in batches:
        mill.await_rest(batch["id"])
    done = [mill.batch(batch["id"])["request_counts"] for batch in batches]
    assert done == [{"total": QUICK, "completed": QUICK, "failed": 0}] * 3
    calls = calls_by_sample(simulator)
    assert [calls[f"inspect-{n}"] for n in range(SAMPLES)] == [1] * QUICK + [2] * SLOW


def test_in_normal_mode(mill: Mill, simulator: Process, inspect: Path, tmp_path: Path, base_url: str) -> None:
    """Every sample is a held call: those that the kill left without a reader are finished, and asked again."""
    simulator.reset()
    killed_and_retried(inspect, tmp_path, base_url, "--max-connections", str(SAMPLES))
    calls = calls_by_sample(simulator)
    assert [calls[f"inspect-{n}"] for n in range(SAMPLES)] == [1] * QUICK + [2] * SLOW
    jobs = mill.client.get("/v1/jobs", params={"limit": 100}).json()["data"]
    assert [job["status"] for job in jobs] == ["completed"] * (SAMPLES + SLOW)


def killed_and_retried(inspect: Path, folder: Path, base_url: str, *options: str) -> None:
    """Killed once the quick samples are in its log and the slow ones are being answered; then it ends with all."""
    shutil.copy(TASK, folder)
    surroundings = {"OPENAI_API_KEY": "unused", "OPENAI_BASE_URL": base_url}
    command = [str(inspect), "eval", TASK.name, "--model", "openai/lab/tiny", "-M", "responses_api=false", *options]
    command += ["--log-buffer", "1", "--log-dir", "logs", "--display", "plain"]
    with (
        (folder / "eval.log").open("wb") as log,
        subprocess.Popen(
            command, cwd=folder, env=environments.plain() | surroundings, stdout=log, stderr=log, start_new_session=True
        ) as killed,
    ):
        until(lambda: killed.poll() is not None or samples_in(folder / "logs") >= QUICK, 300)
        assert killed.poll() is None, (folder / "eval.log").read_text()
        killed.send_signal(signal.SIGKILL)
    [torn] = (folder / "logs").glob("*.eval")
    environments.run(
        inspect, "eval-retry", torn, "--log-dir", "retried", "--display", "plain", cwd=folder, **surroundings
    )
    [whole] = (folder / "retried").glob("*.eval")
    ended: dict[str, Any] = json.loads(environments.run(inspect, "log", "dump", whole, cwd=folder))
    assert (ended["status"], len(ended["samples"])) == ("success", SAMPLES)
    assert ended["results"]["scores"][0]["metrics"]["accuracy"]["value"] == 1


def samples_in(folder: Path) -> int:
    """Samples that the log holds; none while it is being written."""
    try:
        names = [name for path in folder.glob("*.eval") for name in zipfile.ZipFile(path).namelist()]
    except zipfile.BadZipFile:
        return 0
    return sum(name.startswith("samples/") for name in names)


def calls_by_sample(simulator: Process) -> dict[str, int]:
    return {name: nonce["calls"] for name, nonce in simulator.stats(nonces=True)["by_nonce"].items()}
