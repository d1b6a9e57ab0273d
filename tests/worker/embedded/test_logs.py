import stat
from pathlib import Path

from worker.embedded import logs


def test_a_long_log_is_shortened_and_written_on(tmp_path: Path) -> None:
    with (tmp_path / "worker.log").open("ab", buffering=0) as log:
        log.write(b"x" * 100)
        logs.rotate(tmp_path, largest=100)
        assert not (tmp_path / "worker.log.1").exists()
        log.write(b"y")
        logs.rotate(tmp_path, largest=100)
        log.write(b"after")
    assert (tmp_path / "worker.log").read_bytes() == b"after"
    assert (tmp_path / "worker.log.1").read_bytes() == b"x" * 100 + b"y"
    assert stat.S_IMODE((tmp_path / "worker.log.1").stat().st_mode) == 0o600
