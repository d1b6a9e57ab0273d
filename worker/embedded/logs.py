"""The logs of our children: two files of at most 16 MB each."""

import os
import shutil
from pathlib import Path

LARGEST_BYTES = 16 << 20


def rotate(folder: Path, largest: int = LARGEST_BYTES) -> None:
    """What is too long becomes NAME.1. The children go on in the same open file, so it is copied and emptied."""
    for path in folder.glob("*.log"):
        if path.stat().st_size > largest:
            copy = path.with_name(f"{path.name}.1")
            shutil.copyfile(path, copy)
            copy.chmod(0o600)
            os.truncate(path, 0)
