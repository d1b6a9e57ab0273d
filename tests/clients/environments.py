"""Environments of their own for clients of other people: what they need is installed there and nowhere else."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

INSTALL_SECONDS = 600
RUN_SECONDS = 400


def python(folder: Path, *requirements: str) -> Path:
    """The interpreter of a new environment with these packages; skips the test where they cannot be had."""
    if uv := shutil.which("uv"):
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)], check=True)
        install = [uv, "pip", "install", "--quiet", "--python", str(folder)]
    else:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
        install = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "--quiet"]
    _install([*install, *requirements], folder)
    return folder / "bin" / "python"


def node(folder: Path, *packages: str) -> Path:
    """A new folder whose scripts find these packages; skips the test where they cannot be had."""
    if not (shutil.which("node") and (npm := shutil.which("npm"))):
        pytest.skip("needs node and npm")
    folder.mkdir()
    (folder / "package.json").write_text('{"private": true, "type": "module"}')
    _install([npm, "install", "--silent", "--no-audit", "--no-fund", *packages], folder)
    return folder


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """What the client printed. Fails with all that it said if it failed."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env=plain() | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=RUN_SECONDS,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def plain() -> dict[str, str]:
    """The environment without keys and addresses of the person who runs the tests."""
    return {
        name: value for name, value in os.environ.items() if not name.endswith(("_API_KEY", "_BASE_URL", "PYTHONPATH"))
    }


def _install(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_SECONDS)
    if done.returncode:
        pytest.skip(f"cannot be installed here: {' '.join(command)}: {done.stderr.strip()[-300:]}")
