"""Clients that make batches of their own accord, unmodified: each by the script beside this that bears its name."""

from pathlib import Path

import pytest

from tests.clients import environments

HERE = Path(__file__).parent
REQUIREMENTS = {
    "autobatcher": ["autobatcher"],
    "curator": ["bespokelabs-curator"],
    "langasync": ["langasync", "langchain-openai"],
    "litellm": ["litellm!=1.82.7,!=1.82.8,!=1.107.0"],  # releases that nobody should install
}
QUIET = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "HF_HUB_OFFLINE": "1", "TELEMETRY_ENABLED": "false"}
"""So that they ask nobody on the internet."""


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", REQUIREMENTS)
def test_every_request_gets_its_own_answer(tmp_path: Path, base_url: str, name: str) -> None:
    python = environments.python(tmp_path / "environment", *REQUIREMENTS[name])
    surroundings = {**QUIET, "HOME": str(tmp_path), "OPENAI_BASE_URL": base_url, "OPENAI_API_KEY": "unused"}
    said = environments.run(python, HERE / f"{name}_flow.py", base_url, cwd=tmp_path, **surroundings)
    assert ": all passed" in said
