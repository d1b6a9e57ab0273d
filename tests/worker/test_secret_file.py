from pathlib import Path

import pytest

from worker import secret_file


def test_white_space_around_the_secret_is_not_part_of_it(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("  sk-mine \n\n")
    assert secret_file.read(tmp_path / "key") == "sk-mine"


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "is empty"), (b" \n", "is empty"), (b"\xff\xfe", "UTF-8"), (b"x" * 70_000, "larger")]
)
def test_what_cannot_be_a_secret_is_refused_without_being_shown(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(secret_file.SecretFileError, match=reason):
        secret_file.read(tmp_path / "key")


def test_a_relative_path_would_mean_another_file_to_each_process() -> None:
    with pytest.raises(secret_file.SecretFileError, match="absolute"):
        secret_file.read(Path("key"))


def test_others_may_not_read_it(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("sk-mine")
    path.chmod(0o600)
    assert not secret_file.is_open_to_others(path)
    path.chmod(0o640)
    assert secret_file.is_open_to_others(path)
    assert not secret_file.is_open_to_others(tmp_path / "gone")


def test_a_change_shows_in_the_stamp(tmp_path: Path) -> None:
    path = tmp_path / "key"
    assert secret_file.stamp(path) is None
    path.write_text("a")
    first = secret_file.stamp(path)
    (tmp_path / "new").write_text("b")
    (tmp_path / "new").rename(path)
    assert secret_file.stamp(path) != first
