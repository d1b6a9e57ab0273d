"""litellm, unmodified, as a client of files and batches."""

from pathlib import Path

import pytest

from tests.clients import environments

FLOW = Path(__file__).parent / "litellm_flow.py"
BAD = ("1.82.7", "1.82.8", "1.107.0")
"""Releases that nobody should install."""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_litellm_sync_and_async(tmp_path: Path, base_url: str) -> None:
    python = environments.python(tmp_path / "litellm", "litellm" + ",".join(f"!={version}" for version in BAD))
    local = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}  # it would fetch a price list from the internet
    assert ": all passed" in environments.run(python, FLOW, base_url, cwd=tmp_path, **local)
