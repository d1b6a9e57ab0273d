"""The input file is deleted while its batch runs: hidden at once, its bytes gone when the batch has ended."""

from providers.simulator.process import Process
from tests.faults.auditor import Audit
from tests.faults.rig import Mill, requests
from tests.polling import until


def test_the_batch_finishes_and_then_the_bytes_go(mill: Mill, calm: Process, audit: Audit) -> None:
    calm.control(latency=0.5)
    lines = requests("deleted", 300)
    id = mill.submit(lines)
    mill.await_done(id, 1)
    file = mill.field(id, "input_file_id")
    stored = next(mill.home.glob(f"files/**/{file}*"))
    assert mill.client.delete(f"/v1/files/{file}").json()["deleted"] is True
    assert mill.client.get(f"/v1/files/{file}").status_code == 404
    assert stored.exists()
    mill.await_rest(id)
    assert audit(mill, id, lines).completed == 300
    until(lambda: not stored.exists(), 30)
