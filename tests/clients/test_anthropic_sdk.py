"""Anthropic's SDK for Python, unmodified, with models that are not Anthropic's."""

import sys
from pathlib import Path

import pytest

from tests.clients import environments

FLOW = Path(__file__).parent / "anthropic_flow.py"


def test_the_installed_sdk_finds_all_that_it_knows(tmp_path: Path, base_url: str) -> None:
    assert "all passed" in environments.run(sys.executable, FLOW, base_url.removesuffix("/v1"), cwd=tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("version", ["0.75.*", "1.*"])
def test_older_ones_do(tmp_path: Path, base_url: str, version: str) -> None:
    python = environments.python(tmp_path / "sdk", f"anthropic=={version}")
    assert "all passed" in environments.run(python, FLOW, base_url.removesuffix("/v1"), cwd=tmp_path)
