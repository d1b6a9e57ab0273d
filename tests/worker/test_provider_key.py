from pathlib import Path

import pytest

from providers import registry
from worker import config, provider_key
from worker.provider_key import ProviderKey, Source

KIND = registry.get("openai")
STORED = {("openai", "default"): ProviderKey(source=Source.DATABASE, place="default", value="sk-of-the-database")}


def found(text: str = "", *, wants_environment: bool = True) -> list[str]:
    section = config.parse(text).providers.get("openai", config.ProviderConfig())
    keys = provider_key.find("openai", KIND, section, STORED, wants_environment=wants_environment)
    return [f"{key.where}: {key.value}" for key in keys]


def written(path: Path, value: str) -> Path:
    path.write_text(value)
    return path


def test_the_environment_hides_the_file_and_the_file_the_database(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    one, two = written(tmp_path / "one", "sk-one"), written(tmp_path / "two", "sk-two")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-mine")
    monkeypatch.setenv("OPENAI_API_KEY_FILE", str(one))
    assert found(f"providers:\n  openai: {{api_key_file: {two}}}") == [
        "environment OPENAI_API_KEY: sk-mine",
        f"file {one}: sk-one",
        f"file {two}: sk-two",
        "database default: sk-of-the-database",
    ]


def test_what_the_configuration_says_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-mine")
    said = found("providers:\n  openai: {api_key: sk-said}")
    assert said == ["configuration api_key: sk-said", "database default: sk-of-the-database"]


def test_a_variable_that_the_configuration_names_may_be_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = written(tmp_path / "key", "sk-file")
    monkeypatch.setenv("LAB_KEY_FILE", str(path))
    assert found("providers:\n  openai: {api_key: '${LAB_KEY}'}")[0] == f"file {path}: sk-file"
    monkeypatch.setenv("LAB_KEY", "sk-lab")
    assert found("providers:\n  openai: {api_key: '${LAB_KEY}'}")[0] == "environment LAB_KEY: sk-lab"


def test_where_the_environments_key_must_not_go_its_file_does_not_either(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-mine")
    monkeypatch.setenv("OPENAI_API_KEY_FILE", str(written(tmp_path / "key", "sk-file")))
    assert found(wants_environment=False) == ["database default: sk-of-the-database"]


def test_an_account_has_its_own_key_in_the_database() -> None:
    assert found("providers:\n  openai: {account: work}") == []


def test_a_key_is_not_shown_and_a_short_one_not_even_hinted() -> None:
    key = ProviderKey(source=Source.DATABASE, place="default", value="sk-0123456789-abcd")
    assert (key.hint, provider_key.hint("sk-short")) == ("...abcd", "...")
    assert "sk-" not in repr(key)
