import json
import sqlite3
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.api.cli.conftest import Gristmill, write_requests
from tests.fakes.mill import Mill
from worker.embedded import home as embedded_home


def test_keys_are_made_shown_changed_and_revoked_without_a_server(gristmill: Gristmill, home: Path) -> None:
    made = gristmill("keys", "create", "ann", "--models", "openai/*, local/*", "--expires", "90d")
    secret = made.out.strip()
    assert made.status == 0 and secret.startswith("gm-") and len(made.out.split()) == 1 and "owner ann" in made.err
    gristmill("keys", "create", "bob", "--owner", "ann")
    shown = gristmill("keys", "list")
    assert secret not in shown.out and secret[-4:] in shown.out
    ann, bob = json.loads(gristmill("keys", "list", "--json").out)
    assert (ann["owner"], bob["owner"], ann["models"], bob["models"]) == ("ann", "ann", ["openai/*", "local/*"], None)
    assert ann["expires_at"] - ann["created_at"] == pytest.approx(90 * 86_400, abs=60)
    assert gristmill("keys", "change", ann["id"], "--models", "all", "--expires", "none").status == 0
    assert gristmill("keys", "revoke", "bob").status == 0
    ann, bob = json.loads(gristmill("keys", "list", "--json").out)
    assert (ann["models"], ann["expires_at"], ann["state"], bob["state"]) == (None, None, "works", "revoked")
    assert secret.encode() not in b"".join(path.read_bytes() for path in home.iterdir() if path.is_file())


def test_a_key_can_be_made_on_a_machine_that_has_only_the_database(
    gristmill: Gristmill, home: Path, monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    monkeypatch.setenv("GRISTMILL_DATABASE_URL", database_url.replace("+psycopg", ""))
    assert gristmill("keys", "create", "ann").status == 0
    assert [key["name"] for key in json.loads(gristmill("keys", "list", "--json").out)] == ["ann"]
    assert not (home / "gristmill.db").exists()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("create", "ann"), "exists"),
        (("create", "new", "--expires", "soon"), "90d"),
        (("revoke", "nobody"), "keys list"),
        (("change", "nobody", "--models", "all"), "keys list"),
    ],
)
def test_what_is_wrong_is_said(gristmill: Gristmill, arguments: tuple[str, ...], word: str) -> None:
    gristmill("keys", "create", "ann")
    done = gristmill("keys", *arguments)
    assert done.status == 2 and word in done.err


def test_nobody_else_can_read_what_is_stored(gristmill: Gristmill, home: Path) -> None:
    gristmill("keys", "create", "ann")
    assert (home / "gristmill.db").stat().st_mode & 0o077 == 0
    with sqlite3.connect(home / "gristmill.db") as database:
        assert database.execute("SELECT count(*) FROM api_key").fetchone() == (1,)


def test_commands_show_this_machines_token(
    gristmill: Gristmill, home: Path, tmp_path: Path, server: tuple[str, Mill]
) -> None:
    place = embedded_home.Home(path=home)
    state = {"pid": 1, "url": server[0], "version": version("gristmill"), "token": "of-this-machine"}
    embedded_home.write_private(place.server_state, json.dumps(state).encode())
    with place.lock():
        assert gristmill("submit", write_requests(tmp_path / "in.jsonl", ["a"])).status == 0
    assert server[1].state["authorization"] == "Bearer of-this-machine"


@pytest.mark.parametrize("option", [True, False])
def test_commands_show_the_key_of_the_environment_to_a_server_that_is_named(
    gristmill: Gristmill, tmp_path: Path, server: tuple[str, Mill], monkeypatch: pytest.MonkeyPatch, option: bool
) -> None:
    url, mill = server
    monkeypatch.setenv("GRISTMILL_API_KEY", "gm-mine")
    if not option:
        monkeypatch.setenv("GRISTMILL_URL", url)
    named = ("--server", url) if option else ()
    assert gristmill("submit", write_requests(tmp_path / "in.jsonl", ["a"]), *named).status == 0
    assert mill.state["authorization"] == "Bearer gm-mine"


def test_budgets_are_said_in_usd_and_shown_with_what_is_spent(gristmill: Gristmill) -> None:
    gristmill("keys", "create", "ann", "--budget-day", "5", "--budget-month", "0.25", "--over-budget", "refuse")
    gristmill("keys", "change", "ann", "--budget-day", "none", "--budget-batch", "1")
    [ann] = json.loads(gristmill("keys", "list", "--json").out)
    assert (ann["budget_day_usd"], ann["budget_month_usd"], ann["budget_batch_usd"]) == (None, 0.25, 1.0)
    assert (ann["over_budget"], ann["spent_month_usd"]) == ("refuse", 0)
    assert "$0.00 of $0.25" in gristmill("keys", "list").out
    for sum in ("-1", "much", "nan", "1e9"):
        assert "USD" in gristmill("keys", "change", "ann", f"--budget-day={sum}").err
