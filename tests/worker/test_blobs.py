import errno
import hashlib
import os
from pathlib import Path

import pytest

from worker import ids
from worker.blobs import BlobMissing, Blobs, StoreBroken, StoreFull


@pytest.fixture
def store(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "files")


def stored_files(store: Blobs) -> list[Path]:
    return [path for path in store.folder.rglob("*") if path.is_file()]


def put(store: Blobs, data: bytes) -> str:
    name = ids.new_file()
    with store.create(name) as upload:
        upload.write(data)
        upload.finish()
    return name


def test_what_was_written_is_read_at_any_offset(store: Blobs) -> None:
    name, data = ids.new_file(), os.urandom(3 << 20)
    with store.create(name) as upload:
        for start in range(0, len(data), 100_000):
            upload.write(data[start : start + 100_000])
        assert upload.size == len(data)
        assert upload.finish() == hashlib.sha256(data).hexdigest()
    with store.open(name) as blob:
        assert blob.size == len(data)
        assert blob.read(1_000, 50) == data[1_000:1_050]
        assert blob.read(len(data) - 1, 50) == data[-1:]
        assert b"".join(blob.chunks()) == data


def test_files_are_private(store: Blobs) -> None:
    put(store, b"x")
    [path] = stored_files(store)
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0


def test_an_unfinished_upload_leaves_nothing(store: Blobs) -> None:
    name = ids.new_file()
    with store.create(name) as upload:
        upload.write(b"half")
    assert stored_files(store) == []
    with pytest.raises(BlobMissing):
        store.open(name)


def test_a_sweep_takes_dead_uploads_and_leaves_living_ones(store: Blobs) -> None:
    kept = put(store, b"kept")
    with store.create(ids.new_file()) as upload:
        upload.write(b"alive")
        dead = store.folder / "tmp" / ids.new_file()
        dead.write_bytes(b"dead")
        assert store.sweep() == 1
        assert not dead.exists()
        upload.finish()
    assert len(stored_files(store)) == 2
    assert kept in set(store.names())


def test_sweeping_an_empty_store_does_nothing(store: Blobs) -> None:
    assert store.sweep() == 0
    assert list(store.names()) == []


def test_removing_twice_is_removing(store: Blobs) -> None:
    name = put(store, b"x")
    store.remove(name)
    store.remove(name)
    assert stored_files(store) == []


@pytest.mark.parametrize("name", ["../../x", "file-../../x", "/etc/passwd", "", "file-\x00", "file-" + "a" * 25])
def test_no_path_comes_from_a_client(store: Blobs, name: str) -> None:
    for use in (store.open, store.create, store.remove):
        with pytest.raises(ValueError, match="not the id"):
            use(name)


def test_a_full_disk_is_said_to_be_full(store: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "no space")

    with store.create(ids.new_file()) as upload:
        monkeypatch.setattr("worker.blobs.os.write", full)
        with pytest.raises(StoreFull, match="full"):
            upload.write(b"x")
    monkeypatch.undo()
    assert stored_files(store) == []


def test_a_store_that_is_no_directory_is_broken(tmp_path: Path) -> None:
    (tmp_path / "files").write_text("a file")
    with pytest.raises(StoreBroken):
        Blobs(tmp_path / "files").create(ids.new_file())
