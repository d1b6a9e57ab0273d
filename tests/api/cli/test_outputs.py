import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from api.cli import faults, outputs


def test_the_error_file_stands_beside_the_results(tmp_path: Path):
    assert outputs.default_out(tmp_path / "requests.jsonl").name == "requests.results.jsonl"
    assert outputs.Outputs(out=tmp_path / "answers.jsonl").errors.name == "answers.errors.jsonl"
    assert outputs.Outputs(out=tmp_path / "answers").errors.name == "answers.errors.jsonl"


def test_a_file_is_replaced_whole_and_keeps_its_mode(tmp_path: Path):
    path = tmp_path / "out.jsonl"
    path.write_text("old")
    path.chmod(0o640)
    assert outputs.replace(path, [b"one\n", b"two\n"]) == 8
    assert path.read_bytes() == b"one\ntwo\n"
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path):
    def broken() -> Iterator[bytes]:
        yield b"half of "
        raise faults.ServerGone("gone")

    path = tmp_path / "out.jsonl"
    path.write_text("old")
    with pytest.raises(faults.ServerGone):
        outputs.replace(path, broken())
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_found_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1_000))
    with pytest.raises(faults.UsageFault, match="too little free disk space"):
        outputs.Outputs(out=tmp_path / "out.jsonl").check(tmp_path / "in.jsonl", needed=10)
