"""One real server for all clients of a file, with the simulator as its only provider."""

from collections.abc import Iterator

import pytest

from providers.simulator.process import Process
from tests.faults.rig import Mill


@pytest.fixture(scope="module")
def simulator() -> Iterator[Process]:
    with Process(tokens=12) as one:
        yield one


@pytest.fixture(scope="module")
def mill(simulator: Process, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mill]:
    """``lab/*`` are models of an OpenAI-compatible server on this machine, ``simulator/*`` the simulator's own."""
    providers = {"lab": {"kind": "openai_compatible", "base_url": simulator.base_url}}
    home = tmp_path_factory.mktemp("mill") / "home"
    with Mill(home, simulator.base_url, providers=providers, GRISTMILL_WEBHOOK_ALLOW_PRIVATE="1") as one:
        yield one


@pytest.fixture
def base_url(mill: Mill) -> str:
    """What a client of OpenAI is given."""
    return f"{str(mill.client.base_url).rstrip('/')}/v1"
