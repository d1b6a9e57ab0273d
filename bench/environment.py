"""An environment of its own for each peer, made once from its pinned requirements and kept in ``.bench``."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
KEPT = HERE.parent / ".bench"


class EnvironmentFault(Exception):
    """A peer's packages cannot be installed; the message is what the installer said."""


def python(requirements: str) -> Path:
    """The interpreter of the environment of ``requirements/<name>.txt``."""
    pins = HERE / "requirements" / f"{requirements}.txt"
    digest = hashlib.sha256(pins.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = KEPT / f"{requirements}-{digest}"
    found = folder / "bin" / "python"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        for command in _commands(folder, pins):
            _run(command, requirements)
        (folder / "complete").touch()
    return found


def plain() -> dict[str, str]:
    """The environment without settings, keys and addresses of the person who measures."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GRISTMILL_") and not name.endswith(("_API_KEY", "_BASE_URL", "PYTHONPATH"))
    }


def _commands(folder: Path, pins: Path) -> list[list[str]]:
    target = ["-r", str(pins)]
    if uv := shutil.which("uv"):
        return [
            [uv, "venv", "--quiet", "--python", sys.executable, str(folder)],
            [uv, "pip", "install", "--quiet", "--python", str(folder), *target],
        ]
    interpreter = str(folder / "bin" / "python")
    return [
        [sys.executable, "-m", "venv", "--without-pip", str(folder)],
        [sys.executable, "-m", "pip", "--python", interpreter, "install", "--quiet", *target],
    ]


def _run(command: list[str], requirements: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = f"{' '.join(command)}: {done.stderr.strip()[-1000:]}"
        raise EnvironmentFault(f"the packages of requirements/{requirements}.txt could not be installed:\n{said}")
