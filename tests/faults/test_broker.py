"""Valkey killed, with and without what it had written: SQL is the truth, so no call is repeated."""

import shutil

import pytest

from providers.simulator.process import Process
from tests.faults.auditor import Audit
from tests.faults.rig import Mill, frozen, requests
from tests.polling import until


@pytest.mark.parametrize("data", ["kept", "lost"])
def test_a_killed_broker(mill: Mill, calm: Process, audit: Audit, data: str) -> None:
    calm.control(latency=0.2)
    lines = requests(f"broker-{data}", 600)
    id = mill.submit(lines)
    mill.await_done(id, 200)
    with frozen([mill.server]):  # or it would be up again before its data is gone
        pid = mill.valkey
        mill.kill(pid)
        if data == "lost":
            shutil.rmtree(mill.home / "valkey" / "appendonlydir")
    until(lambda: mill.valkey != pid)
    mill.await_rest(id)
    assert audit(mill, id, lines).completed == 600
