import subprocess
import sys

import psutil
import pytest

from worker import owner


def test_a_living_process_is_not_dead() -> None:
    assert owner.myself() == owner.myself()
    assert not owner.is_dead(owner.myself())


def test_a_process_that_ended_is_dead_even_before_it_is_buried() -> None:
    code = "import sys; sys.path.insert(0, '.'); from worker import owner; print(owner.myself(), flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        assert not owner.is_dead(name)
        process.kill()
        while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
            continue
        assert owner.is_dead(name)
    assert owner.is_dead(name)


def test_another_process_of_the_same_number_is_another() -> None:
    boot, namespace, pid, started = owner.myself().split("/")
    assert owner.is_dead(f"{boot}/{namespace}/{pid}/{int(started) - 1}")


def test_nothing_is_said_of_other_machines_and_other_boots() -> None:
    boot, namespace, _, _ = owner.myself().split("/")
    assert not owner.is_dead(f"other/{namespace}/1/1")
    assert not owner.is_dead(f"{boot}/other/1/1")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_clock_that_is_set_kills_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    name = owner.myself()
    monkeypatch.setattr(psutil, "boot_time", lambda: 1.0)
    monkeypatch.setattr(psutil._pslinux, "boot_time", lambda: 1.0)
    assert not owner.is_dead(name)
