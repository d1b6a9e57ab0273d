"""One mill for all faults that leave its processes alive; those that kill make mills of their own."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from providers.simulator.process import Process
from tests.faults import auditor
from tests.faults.auditor import Account, Audit
from tests.faults.door import Door
from tests.faults.rig import Mill

REPORT = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def simulator() -> Iterator[Process]:
    with Process(tokens=12) as one:
        yield one


@pytest.fixture
def calm(simulator: Process) -> Process:
    """The simulator without the latency and the faults of the test before."""
    simulator.control(latency=0, faults={}, keys={"sk-alpha": None, "sk-beta": None})
    return simulator


@pytest.fixture(scope="session")
def door(simulator: Process) -> Iterator[Door]:
    """Another way to the same simulator, which can be shut."""
    with Door(simulator.url) as one:
        yield one


@pytest.fixture(scope="session")
def steady_mill(simulator: Process, door: Door, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mill]:
    providers = {
        "alpha": _provider(simulator, api_key="sk-alpha"),
        "beta": _provider(simulator, api_key="sk-beta"),
        "brittle": _provider(simulator, timeout=1.0, max_retries=1),
        "behind_door": {"kind": "simulator", "base_url": door.base_url},
        "narrow": _provider(simulator, concurrency=8),
    }
    with Mill(tmp_path_factory.mktemp("steady") / "home", simulator.base_url, providers=providers) as mill:
        yield mill


@pytest.fixture(scope="module")
def mortal_mill(simulator: Process, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mill]:
    with Mill(tmp_path_factory.mktemp("mortal") / "home", simulator.base_url) as mill:
        yield mill


@pytest.fixture
def mill(steady_mill: Mill, calm: Process) -> Iterator[Mill]:
    """The one that nobody kills."""
    yield from _handed_on(steady_mill)


@pytest.fixture
def mortal(mortal_mill: Mill, calm: Process) -> Iterator[Mill]:
    """One that may be killed: the tests of a file share it."""
    yield from _handed_on(mortal_mill)


def _handed_on(mill: Mill) -> Iterator[Mill]:
    """Without running batches, even by a test that failed."""
    mill.await_workers()
    yield mill
    mill.dismiss()
    for (id,) in mill.rows("SELECT id FROM batch WHERE status IN ('validating', 'in_progress')"):
        mill.cancel(id)


@pytest.fixture
def audit(request: pytest.FixtureRequest, calm: Process) -> Audit:
    """The auditor, who also writes a line of the report."""
    began = time.monotonic()

    def audited(mill: Mill, id: str, lines: Sequence[bytes], **limits: Any) -> Account:
        account = auditor.audit(mill, id, lines, calm, **limits)
        seconds = time.monotonic() - began
        request.config.stash.setdefault(REPORT, []).append(
            f"{request.node.name:<72} {account.status:<10} {account.lines:>6} {account.failed:>6} "
            f"{account.repeats:>8} {account.answered_twice:>6} {account.repeats_at_most:>6} "
            f"{limits.get('most_repeats', 0):>6} {seconds:>6.1f}"
        )
        return account

    return audited


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Lost and double lines need no column: the auditor lets none pass."""
    if lines := config.stash.get(REPORT, []):
        terminalreporter.section("audited faults")
        head = f"{'fault':<72} {'status':<10} {'lines':>6} {'failed':>6} {'repeated':>8} {'twice':>6}"
        terminalreporter.write_line(f"{head} {'said':>6} {'bound':>6} {'s':>6}")
        for line in lines:
            terminalreporter.write_line(line)


def _provider(simulator: Process, **settings: Any) -> dict[str, Any]:
    return {"kind": "simulator", "base_url": simulator.base_url, **settings}
