"""autobatcher, unmodified: single calls gathered into batches."""

from pathlib import Path

import pytest

from tests.clients import environments

FLOW = Path(__file__).parent / "autobatcher_flow.py"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_call_gets_its_own_answer(tmp_path: Path, base_url: str) -> None:
    python = environments.python(tmp_path / "autobatcher", "autobatcher")
    assert ": all passed" in environments.run(python, FLOW, base_url, cwd=tmp_path)
