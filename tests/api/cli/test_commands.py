import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from api import cli
from tests.api.cli.conftest import Gristmill, write_requests
from tests.fakes.mill import Mill

Server = tuple[str, Mill]

HEAVY = ("celery", "sqlalchemy", "sqlmodel", "fastapi", "httpx", "pydantic", "rich")


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from api import cli\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True)
    assert "run" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("command", ["run", "list", "worker"])
def test_no_command_imports_the_engine(command: str):
    code = (
        "import sys; from api import cli\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "print([name for name in ('celery', 'sqlalchemy', 'fastapi') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, command, "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_overview_says_what_each_command_says_itself():
    for name, (_, said) in cli.COMMANDS.items():
        command = cli.cli.get_command(click.Context(cli.cli), name)
        assert command is not None and (command.help or "").startswith(said.rstrip("."))


@pytest.mark.parametrize(
    "command", ["run", "submit", "watch", "results", "list", "cancel", "pause", "resume", "retry", "extend", "jobs"]
)
def test_every_command_explains_itself(gristmill: Gristmill, command: str):
    done = gristmill(command, "--help")
    assert done.status == 0
    assert "Usage: " in done.out


def test_an_unknown_command_is_wrong_usage(gristmill: Gristmill):
    done = gristmill("grind")
    assert done.status == 2
    assert "No such command" in done.err


def test_submit_list_results_and_cancel(gristmill: Gristmill, server: Server, requests: Path, tmp_path: Path):
    url, _ = server
    batch = gristmill("submit", requests, "--server", url).out.strip()
    assert batch == "batch_1"
    assert gristmill("watch", batch, "--server", url).status == 0
    assert len(gristmill("results", batch, "--server", url).out.splitlines()) == 10
    gristmill("results", batch, "--server", url, "-o", tmp_path / "out.jsonl")
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 10
    assert gristmill("results", batch, "--errors", "--server", url).out == ""
    assert "completed  10/10       0  $0.10    -  requests.jsonl" in gristmill("list", "--server", url).out
    done = gristmill("cancel", batch, "--server", url)
    assert (done.status, done.err) == (2, "gristmill: Cannot cancel a batch with status 'completed'.\n")


def test_a_held_batch_waits_for_resume(gristmill: Gristmill, server: Server, requests: Path):
    url, mill = server
    batch = gristmill("submit", requests, "--hold", "--server", url).out.strip()
    gristmill("list", "--server", url)
    assert mill.state["calls"] == []
    assert gristmill("resume", batch, "--max-cost", "0.05", "--server", url).status == 0
    assert gristmill("watch", batch, "--server", url).status == 3
    assert len(mill.state["calls"]) == 5
    assert gristmill("pause", batch, "--server", url).out == "batch_1 is paused\n"


def test_a_batch_is_submitted_with_a_webhook(gristmill: Gristmill, server: Server, requests: Path):
    url, mill = server
    hook = ("--webhook", "https://example.com/hook")
    gristmill("submit", requests, *hook, "--webhook-event", "batch.progress", "--server", url)
    said = mill.state["batches"]["batch_1"]["request"]["gristmill"]
    assert (said["webhook_url"], said["webhook_events"]) == ("https://example.com/hook", ["batch.progress"])
    gristmill("submit", requests, *hook, "--server", url)
    assert "webhook_events" not in mill.state["batches"]["batch_2"]["request"]["gristmill"]
    wrong = gristmill("submit", requests, "--webhook-event", "batch.progress", "--server", url)
    assert wrong.status == 2 and "needs --webhook URL" in wrong.err


def test_the_secret_of_webhooks_is_printed_and_rotated(gristmill: Gristmill, server: Server):
    url, _ = server
    assert gristmill("webhooks", "secret", "--server", url).out == "whsec_1\n"
    assert gristmill("webhooks", "secret", "--rotate", "--server", url).out == "whsec_2\n"
    assert gristmill("webhooks", "secret", "--server", url).out == "whsec_2\n"


def test_failed_lines_are_retried(gristmill: Gristmill, server: Server, tmp_path: Path):
    url, mill = server
    requests = write_requests(tmp_path / "some_bad.jsonl", ["good", "bad"])
    batch = gristmill("submit", requests, "--server", url).out.strip()
    assert gristmill("retry", batch, "--server", url).status == 2
    assert gristmill("watch", batch, "--server", url).status == 1
    assert gristmill("retry", batch, "--max-cost", "3", "--server", url).out == "batch_1 is in_progress\n"
    assert gristmill("watch", batch, "--server", url).status == 1
    assert mill.state["calls"] == ["good", "bad", "bad"]


def test_a_window_is_extended(gristmill: Gristmill, server: Server, requests: Path):
    url, _ = server
    batch = gristmill("submit", requests, "--server", url).out.strip()
    assert gristmill("extend", batch, "3d", "--server", url).out.startswith("batch_1 expires at 20")
    assert gristmill("extend", batch, "none", "--server", url).out == "batch_1 does not expire\n"


def test_failed_lines_are_listed_with_their_attempts(gristmill: Gristmill, server: Server, tmp_path: Path):
    url, _ = server
    requests = write_requests(tmp_path / "some_bad.jsonl", ["good", "bad-1", "fine", "bad-2", "bad-3"])
    batch = gristmill("submit", requests, "--server", url).out.strip()
    gristmill("watch", batch, "--server", url)
    done = gristmill("jobs", batch, "--status", "failed", "--limit", "2", "--server", url)
    assert [line.split() for line in done.out.splitlines()[1:]] == [
        ["2", "bad-1", "m", "failed", "bad", "1", "0.5", "3", "$0.01"],
        ["4", "bad-2", "m", "failed", "bad", "1", "0.5", "3", "$0.01"],
    ]
    assert done.err == "There are more: --after 4\n"
    rest = gristmill("jobs", batch, "--status", "failed", "--after", "4", "--json", "--server", url)
    assert [json.loads(line)["custom_id"] for line in rest.out.splitlines()] == ["bad-3"]
    assert gristmill("jobs", batch, "--status", "expired", "--server", url).err == "no expired line in batch_1\n"


def test_an_unknown_batch_is_named(gristmill: Gristmill, server: Server):
    done = gristmill("watch", "batch_9", "--server", server[0])
    assert (done.status, done.err) == (2, "gristmill: No batch found with id 'batch_9'.\n")


def test_without_a_server_the_commands_say_how_to_start_one(gristmill: Gristmill, requests: Path):
    done = gristmill("submit", requests)
    assert done.status == 2
    assert "'gristmill serve' starts one" in done.err


def test_a_server_that_is_gone_is_no_traceback(gristmill: Gristmill):
    done = gristmill("list", "--server", "http://127.0.0.1:9")
    assert (done.status, done.err) == (3, "gristmill: the server does not answer (ConnectError)\n")


def test_serve_and_worker_become_the_process_in_home(
    gristmill: Gristmill, home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    became: list[list[str]] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "execve", lambda path, command, env: became.append(command))
    mask = os.umask(0o022)
    try:
        gristmill("serve", "--port", "0")
        assert Path.cwd() == home
        gristmill("worker", "--providers", "openai", "--slots", "4")
    finally:
        os.umask(mask)
    python = [sys.executable, "-P", "-m"]
    assert became == [
        [*python, "api.server", "--host", "127.0.0.1", "--port", "0"],
        [*python, "worker", "gristmill-worker", "--providers", "openai", "--slots", "4"],
    ]
