import os
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from worker.embedded import filesystem, home

Mount = namedtuple("Mount", ["mountpoint", "fstype"])


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def test_a_new_home_is_private(tmp_path: Path):
    place = home.prepare(tmp_path / "deep" / "mill")
    assert [mode(path) for path in (place.path, place.logs, place.files, place.valkey)] == [0o700] * 4
    assert not list(place.path.glob(".writable*"))


def test_an_empty_directory_is_made_private(tmp_path: Path):
    (tmp_path / "mill").mkdir(mode=0o755)
    assert mode(home.prepare(tmp_path / "mill").path) == 0o700


def test_a_home_is_prepared_again_and_again(tmp_path: Path):
    home.prepare(tmp_path / "mill").path.chmod(0o755)
    assert mode(home.prepare(tmp_path / "mill").path) == 0o700


def test_a_directory_of_others_is_left_alone(tmp_path: Path):
    (tmp_path / "documents").mkdir(mode=0o755)
    (tmp_path / "documents" / "thesis.tex").touch()
    with pytest.raises(home.HomeShared, match="Set GRISTMILL_HOME"):
        home.prepare(tmp_path / "documents")
    assert mode(tmp_path / "documents") == 0o755


def test_a_sticky_directory_is_left_alone(tmp_path: Path):
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp").chmod(0o1777)
    with pytest.raises(home.HomeShared):
        home.prepare(tmp_path / "tmp")


def test_a_file_in_its_place_is_refused(tmp_path: Path):
    (tmp_path / "mill").touch()
    with pytest.raises(home.HomeUnwritable, match="File exists"):
        home.prepare(tmp_path / "mill")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_place_is_refused(tmp_path: Path):
    tmp_path.chmod(0o500)
    with pytest.raises(home.HomeUnwritable, match="Permission denied"):
        home.prepare(tmp_path / "mill")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that refuses every write")
def test_a_place_that_nobody_can_write_is_refused():
    with pytest.raises(home.HomeUnwritable, match="cannot be written"):
        home.prepare(Path("/proc/mill"))


def test_a_full_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(filesystem, "free_bytes", lambda path: 1000)
    with pytest.raises(home.HomeFull, match="less than 64 MB"):
        home.prepare(tmp_path / "mill")


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "fuse.rclone", "smbfs"])
def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str):
    mounts = [Mount("/", "ext4"), Mount(str(tmp_path), "ext4"), Mount(str(tmp_path), kind)]
    monkeypatch.setattr("psutil.disk_partitions", lambda all: mounts)
    with pytest.raises(home.HomeOnNetwork, match=kind):
        home.prepare(tmp_path / "mill")
    home.prepare(tmp_path / "mill", needs_local_disk=False)


def test_a_neighbour_of_a_network_mount_is_local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    mounts = [Mount("/", "ext4"), Mount(f"{tmp_path}/mi", "nfs")]
    monkeypatch.setattr("psutil.disk_partitions", lambda all: mounts)
    home.prepare(tmp_path / "mill")


def test_this_machine_tells_its_file_system(tmp_path: Path):
    assert not filesystem.is_network(filesystem.kind(tmp_path))
    assert filesystem.free_bytes(tmp_path) > 0


def test_one_process_at_a_time_holds_the_lock(tmp_path: Path):
    place = home.prepare(tmp_path / "mill")
    with place.lock(), pytest.raises(home.HomeInUse), place.lock():
        pass
    assert not place.is_locked


def test_a_killed_holder_lets_go(tmp_path: Path):
    place = home.prepare(tmp_path / "mill")
    code = (
        "import sys, pathlib; from worker.embedded import home\n"
        "with home.Home(path=pathlib.Path(sys.argv[1])).lock(): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(place.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert place.is_locked
        holder.kill()
    with place.lock():
        pass


def test_private_files_are_private_and_whole(tmp_path: Path):
    home.write_private(tmp_path / "state.json", b"old")
    home.write_private(tmp_path / "state.json", b"new")
    assert (tmp_path / "state.json").read_bytes() == b"new"
    assert mode(tmp_path / "state.json") == 0o600
    assert len(list(tmp_path.iterdir())) == 1
