import json
from pathlib import Path
from typing import Any

import pytest

from tests.api.cli.conftest import Gristmill
from worker import master_key


def examined(gristmill: Gristmill) -> Any:
    return json.loads(gristmill("doctor", "--json").out)


def test_a_sound_home_is_well_and_shows_no_key(
    gristmill: Gristmill, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://me:hidden@gpu-7:8000/v1")
    done = gristmill("doctor")
    assert (done.status, done.out.splitlines()[-1]) == (0, "All well.")
    assert "provider openai: key present (from environment OPENAI_API_KEY), at http://gpu-7:8000/v1" in done.out
    found = examined(gristmill)
    assert "sk-secret" not in str(found) and "hidden" not in str(found) + done.out + done.err
    assert (found["home"], found["server"], found["database"]["schema"]) == (str(home), None, None)
    assert not (home / "gristmill.db").exists()


def test_what_is_wrong_is_told_with_what_to_do(
    gristmill: Gristmill, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.chmod(0o755)
    (tmp_path / "gristmill.yaml").write_text("provider: {}\n")
    monkeypatch.setenv("GRISTMILL_CONFIG", str(tmp_path / "gristmill.yaml"))
    assert gristmill("doctor").status == 1
    open_home, bad_config = examined(gristmill)["wrong"]
    assert f"chmod 700 {home}" in open_home
    assert "providers" in bad_config


def test_an_unusable_setting_is_told(gristmill: Gristmill, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRISTMILL_LEASE_SECONDS", "1")
    done = gristmill("doctor")
    assert done.status == 1
    assert "GRISTMILL_LEASE_SECONDS" in done.out


def test_a_key_that_hides_another_is_told(
    gristmill: Gristmill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_text("sk-of-the-file")
    (tmp_path / "key").chmod(0o644)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("OPENAI_API_KEY_FILE", str(tmp_path / "key"))
    hides = f"(from environment OPENAI_API_KEY, which hides the one from file {tmp_path / 'key'})"
    assert hides in gristmill("doctor").out
    monkeypatch.delenv("OPENAI_API_KEY")
    assert f"(from file {tmp_path / 'key'}, which other users may read)" in gristmill("doctor").out


def test_a_key_file_that_cannot_be_read_is_wrong(
    gristmill: Gristmill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY_FILE", str(tmp_path / "gone"))
    [fault] = examined(gristmill)["wrong"]
    assert f"{tmp_path / 'gone'} cannot be read" in fault


def test_an_unusable_or_open_master_key_is_wrong(
    gristmill: Gristmill, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert examined(gristmill)["master_key"] is None
    (home / "master.key").write_text(master_key.new())
    (home / "master.key").chmod(0o644)
    found = examined(gristmill)
    assert (found["master_key"], found["wrong"]) == (
        str(home / "master.key"),
        [f"other users may read the master key: chmod 600 {home / 'master.key'}"],
    )
    monkeypatch.setenv("GRISTMILL_MASTER_KEY", "none-of-that")
    [fault] = examined(gristmill)["wrong"]
    assert "GRISTMILL_MASTER_KEY holds no master key" in fault and "none-of-that" not in fault


def test_it_says_what_is_deleted_by_itself(
    gristmill: Gristmill, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "retention: everything is kept" in gristmill("doctor").out
    (tmp_path / "kept.yaml").write_text("retention: {batches: 90d, held: 36h}")
    monkeypatch.setenv("GRISTMILL_CONFIG", str(tmp_path / "kept.yaml"))
    assert "retention: batches 90 days, held 1.5 days" in gristmill("doctor").out
