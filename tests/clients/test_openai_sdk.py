"""The OpenAI SDK for Python, unmodified, in its three major versions."""

import sys
from pathlib import Path

import pytest

from tests.clients import environments

FLOW = Path(__file__).parent / "openai_flow.py"


def test_the_installed_sdk_finds_all_that_it_knows(tmp_path: Path, base_url: str) -> None:
    assert "all passed" in environments.run(sys.executable, FLOW, base_url, cwd=tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("major", ["1", "2", "3"])
def test_every_major_version_does(tmp_path: Path, base_url: str, major: str) -> None:
    python = environments.python(tmp_path / "sdk", f"openai=={major}.*")
    assert f"openai {major}." in environments.run(python, FLOW, base_url, cwd=tmp_path)
