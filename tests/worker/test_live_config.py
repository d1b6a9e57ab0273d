import logging
import os
from pathlib import Path

import pytest

from tests.polling import until
from worker import live_config
from worker.config import Config, ConfigInvalid, ProviderConfig
from worker.live_config import LiveConfig

LAB = "providers:\n  lab: {kind: openai_compatible, base_url: 'http://127.0.0.1:1/v1', rpm: 60}\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "gristmill.yaml"
    path.write_text(LAB)
    return path


def edited(live: LiveConfig, path: Path, text: str) -> Config:
    replace(path, text)
    return until(live.look)


def replace(path: Path, text: str) -> None:
    """As most editors write."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.rename(path)


def refused(live: LiveConfig) -> str:
    def fault() -> str | None:
        assert live.look() is None
        return live.fault

    return until(fault)


def test_an_edit_takes_effect(path: Path) -> None:
    live = LiveConfig(path)
    assert live.look() is None and live.config.providers["lab"].rpm == 60
    said = LAB.replace("60", "120") + "models: {judge: lab/big}\nprices: {lab/big: {input: 1}}\n"
    new = edited(live, path, said)
    assert (new.providers["lab"].rpm, list(new.models), list(new.prices)) == (120, ["judge"], ["lab/big"])
    assert live.config is new and live.look() is None and live.postponed == ()


def test_an_edit_in_place_takes_effect(path: Path) -> None:
    live = LiveConfig(path)
    with path.open("a") as file:
        file.write("models: {judge: lab/big}\n")
    assert until(live.look).models.keys() == {"judge"}


def test_a_bad_edit_is_refused_once_and_the_old_one_stays(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    live = LiveConfig(path)
    replace(path, LAB.replace("rpm", "rmp"))
    assert "line 2: providers.lab.rmp: unknown key; did you mean 'rpm'?" in refused(live)
    assert live.look() is None and live.config.providers["lab"].rpm == 60
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert edited(live, path, LAB.replace("60", "90")).providers["lab"].rpm == 90
    assert live.fault is None


@pytest.mark.parametrize(
    "text",
    [
        "providers: {lab: {kind: openai_compatible",
        "providers: [",
        "[" * 5_000,
        "- a list",
        "\0",
        "providers: {lab: {rpm: -1, base_url: 'http://127.0.0.1/'}}",
        "providers: {lab: {share: .nan, base_url: 'http://127.0.0.1/'}}",
        "providers: {lab: {timeout: .nan, base_url: 'http://127.0.0.1/'}}",
        "prices: {lab/big: {input: .inf}}",
        "prices: {lab/big: {input: .nan}}",
        "models: {judge: {model: nowhere/big}}",
        "models: {judge: [{model: openai/big, weight: .inf}]}",
        "retention: {batches: .nan}",
    ],
)
def test_whatever_is_wrong_stops_nothing(path: Path, text: str) -> None:
    live = LiveConfig(path)
    replace(path, text)
    assert refused(live)
    assert live.config.providers["lab"].rpm == 60


def test_bytes_that_are_no_text_are_refused(path: Path) -> None:
    live = LiveConfig(path)
    path.write_bytes(b"\xff\xfe\x00")
    assert "UTF-8" in refused(live)


def test_half_a_file_is_not_taken_for_a_whole_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000.0
    monkeypatch.setattr("worker.live_config.time.monotonic", lambda: now)
    live = LiveConfig(path)
    path.write_text("")
    for text in (LAB[:11], LAB.replace("60", "90")):
        assert live.look() is None
        now += live_config.SETTLE_SECONDS * 0.9
        assert live.look() is None
        path.write_text(text)
    assert live.look() is None
    now += live_config.SETTLE_SECONDS
    new = live.look()
    assert new is not None and new.providers["lab"].rpm == 90


def test_a_file_that_is_removed_leaves_everything_as_it_was(path: Path) -> None:
    live = LiveConfig(path)
    path.unlink()
    assert "No such file" in refused(live)
    assert live.config.providers["lab"].rpm == 60
    path.write_text(LAB)
    until(lambda: live.look() is None and live.fault is None)


def test_who_a_provider_is_changes_with_the_next_start_only(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    live = LiveConfig(path)
    said = (
        "providers:\n"
        "  lab: {kind: openai_compatible, base_url: 'http://127.0.0.1:2/v1', api_key: secret-key, rpm: 70}\n"
        "  other: {base_url: 'http://127.0.0.1:3/v1'}\n"
        "limits: openai\n"
    )
    new = edited(live, path, said)
    assert (new.providers["lab"].base_url, new.providers["lab"].api_key) == ("http://127.0.0.1:1/v1", None)
    assert new.providers["lab"].rpm == 70 and new.limits == "none"
    assert live.postponed == ("providers.lab.api_key", "providers.lab.base_url", "providers.other", "limits")
    assert "providers.lab.base_url counts from the next start on" in caplog.text and "secret-key" not in caplog.text
    assert LiveConfig(path).config.providers["lab"].base_url == "http://127.0.0.1:2/v1"


def test_a_provider_that_is_removed_stays_until_the_next_start(path: Path) -> None:
    live = LiveConfig(path)
    new = edited(live, path, "models: {judge: openai/gpt-4o}\n")
    assert list(new.providers) == ["lab"] and list(new.models) == ["judge"]
    assert live.postponed == ("providers.lab, which was removed,",)


def test_a_file_that_only_looks_new_changes_nothing(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    live = LiveConfig(path)
    os.utime(path)

    def read_again() -> bool:
        assert live.look() is None
        return "was read again" in caplog.text

    until(read_again)


def test_without_a_file_there_is_nothing_to_look_at() -> None:
    live = LiveConfig(None)
    assert live.look() is None and live.config == Config()


def test_a_start_with_a_bad_file_fails(path: Path) -> None:
    path.write_text("provider: {}")
    with pytest.raises(ConfigInvalid):
        LiveConfig(path)


def test_secrets_are_never_taken_live() -> None:
    named = {name for name, field in ProviderConfig.model_fields.items() if "Secret" in str(field.annotation)}
    assert named <= live_config.FIXED
