"""The OpenAI SDK for JavaScript, unmodified."""

import shutil
from pathlib import Path

import pytest

from tests.clients import environments

FLOW = Path(__file__).parent / "openai_flow.mjs"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("major", ["6", "7"])
def test_every_major_version_does(tmp_path: Path, base_url: str, major: str) -> None:
    folder = environments.node(tmp_path / "sdk", f"openai@{major}")
    shutil.copy(FLOW, folder)
    assert f"openai {major}." in environments.run("node", FLOW.name, base_url, cwd=folder)
