"""The provider is gone: connections are refused, and those that were open are cut. Nothing fails meanwhile."""

import pytest

from providers.simulator.process import Process
from tests.faults.auditor import Audit
from tests.faults.door import Door
from tests.faults.rig import Mill, last, requests


@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(5.0, id="seconds"),
        pytest.param(600.0, id="ten-minutes", marks=[pytest.mark.slow, pytest.mark.timeout(900)]),
    ],
)
def test_the_provider_is_gone_for(mill: Mill, calm: Process, door: Door, audit: Audit, seconds: float) -> None:
    calm.control(latency=0.2)
    lines = requests(f"gone-{seconds:g}", 600, model=f"behind_door/tiny-{seconds:g}")
    id = mill.submit(lines)
    mill.await_done(id, 200)
    door.shut()
    try:
        mill.await_block(id, "outage")
        last(seconds)
        mill.await_block(id, "outage", 0)
    finally:
        door.open()
    mill.await_rest(id)
    assert audit(mill, id, lines).completed == 600
    assert mill.rows("SELECT count(*) FROM scope WHERE paused_at IS NOT NULL") == [(0,)]
