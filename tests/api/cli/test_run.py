import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.api.cli.conftest import Gristmill, ids_in, write_requests
from tests.fakes.mill import Mill
from tests.polling import until
from worker.embedded.home import Home

Server = tuple[str, Mill]


def state_of(home: Path) -> dict[str, list[str]]:
    state: dict[str, list[str]] = json.loads((home / "mill.json").read_text())
    return state


def test_a_run_starts_a_server_and_ends_it(gristmill: Gristmill, home: Path, requests: Path, tmp_path: Path):
    done = gristmill("run", requests)
    assert done.status == 0, done
    assert ids_in(tmp_path / "requests.results.jsonl") == [f"line-{number}" for number in range(10)]
    assert not (tmp_path / "requests.results.errors.jsonl").exists()
    assert not Home(path=home).is_locked


def test_it_says_what_goes_where_and_what_it_came_to(gristmill: Gristmill, server: Server, requests: Path):
    done = gristmill("run", requests, "--server", server[0])
    plan, totals = done.out.split("10 lines to run now, for about $0.10\n")
    assert plan.split() == "model lines input tokens output tokens cost openai/gpt-4o-mini 10 ~100 ~200 ~$0.10".split()
    assert "answers: 0 truncated, 0 filtered, 0 refused, 0 empty" in totals
    assert "repeated calls: 0" in totals
    assert "10/10 done" in done.err


def test_a_finished_run_is_written_again_without_a_call(gristmill: Gristmill, server: Server, requests: Path):
    url, mill = server
    gristmill("run", requests, "--server", url)
    out = requests.with_name("other.jsonl")
    done = gristmill("run", requests, "--server", url, "-o", out, "--max-cost", "1", "--limit", "3", "--yes")
    assert done.status == 0
    assert "nothing is called" in done.err
    assert len(ids_in(out)) == 10
    assert len(mill.state["calls"]) == 10
    assert mill.state["uploads"] == 1


def test_failed_lines_stand_beside_and_run_again_only_when_asked(gristmill: Gristmill, server: Server, tmp_path: Path):
    url, mill = server
    file = write_requests(tmp_path / "requests.jsonl", ["a", "bad-b", "c"])
    done = gristmill("run", file, "--server", url, "-o", tmp_path / "out.jsonl")
    assert done.status == 1
    assert "1 line failed; --retry-failed runs them again" in done.err
    assert ids_in(tmp_path / "out.jsonl") == ["a", "c"]
    assert ids_in(tmp_path / "out.errors.jsonl") == ["bad-b"]
    assert gristmill("run", file, "--server", url, "-o", tmp_path / "out.jsonl").status == 1
    assert len(mill.state["calls"]) == 3
    done = gristmill("run", file, "--server", url, "-o", tmp_path / "out.jsonl", "--retry-failed")
    assert "1 line to run now of 3" in done.out
    assert mill.state["calls"] == ["a", "bad-b", "c", "bad-b"]


def test_a_stale_error_file_goes(gristmill: Gristmill, server: Server, requests: Path, tmp_path: Path):
    (tmp_path / "out.errors.jsonl").write_text("old\n")
    gristmill("run", requests, "--server", server[0], "-o", tmp_path / "out.jsonl")
    assert not (tmp_path / "out.errors.jsonl").exists()


def test_a_limit_runs_the_first_lines_and_the_rest_later(gristmill: Gristmill, server: Server, requests: Path):
    url, mill = server
    done = gristmill("run", requests, "--server", url, "--limit", "3")
    assert done.status == 0
    assert "3 lines to run now of 10, for about $0.03" in done.out
    assert len(mill.state["calls"]) == 3
    assert len(ids_in(requests.with_name("requests.results.jsonl"))) == 3
    assert gristmill("run", requests, "--server", url).status == 0
    assert sorted(mill.state["calls"]) == sorted(ids_in(requests))


def test_a_cap_stops_with_what_there_is_and_can_be_raised(gristmill: Gristmill, server: Server, requests: Path):
    url, mill = server
    done = gristmill("run", requests, "--server", url, "--max-cost", "0.04")
    assert done.status == 3
    assert "--max-cost is reached with 6 lines to go" in done.err
    assert f"gristmill run {requests} --server {url} --max-cost 0.04" in done.err
    assert len(ids_in(requests.with_name("requests.results.jsonl"))) == 4
    assert gristmill("run", requests, "--server", url, "--max-cost", "1").status == 0
    assert sorted(mill.state["calls"]) == sorted(ids_in(requests))


def test_under_a_cap_an_unknown_price_is_refused(gristmill: Gristmill, server: Server, tmp_path: Path):
    url, mill = server
    file = write_requests(tmp_path / "requests.jsonl", ["a"], model="local/mystery")
    done = gristmill("run", file, "--server", url, "--max-cost", "1")
    assert done.status == 2
    assert "the price of local/mystery is unknown" in done.err
    assert mill.state["calls"] == []
    assert gristmill("run", file, "--server", url, "--max-cost", "1", "--allow-unknown-cost").status == 0


def test_an_unknown_price_is_said(gristmill: Gristmill, server: Server, tmp_path: Path):
    file = write_requests(tmp_path / "requests.jsonl", ["a"], model="local/mystery")
    done = gristmill("run", file, "--server", server[0])
    assert "1 line to run now, for an unknown sum for local/mystery" in done.out


def test_an_edited_file_is_not_bought_unasked_whatever_the_out(gristmill: Gristmill, server: Server, requests: Path):
    url, _ = server
    gristmill("run", requests, "--server", url)
    before = requests.with_name("requests.results.jsonl").read_bytes()
    write_requests(requests, ["new"])
    done = gristmill("run", requests, "--server", url)
    assert done.status == 2
    assert "--new runs the edited file" in done.err
    assert requests.with_name("requests.results.jsonl").read_bytes() == before
    assert gristmill("run", requests, "--server", url, "-o", requests.with_name("out.jsonl")).status == 2
    assert gristmill("run", requests, "--server", url, "--new").status == 0
    assert ids_in(requests.with_name("requests.results.jsonl")) == ["new"]


def test_new_buys_every_line_again(gristmill: Gristmill, server: Server, requests: Path):
    url, mill = server
    gristmill("run", requests, "--server", url)
    gristmill("run", requests, "--server", url, "--new")
    assert len(mill.state["calls"]) == 20


def test_faulty_lines_are_named_and_nothing_is_called(gristmill: Gristmill, server: Server, requests: Path):
    url, mill = server
    requests.write_text(requests.read_text() + "oops\noops\n")
    done = gristmill("run", requests, "--server", url)
    assert done.status == 2
    assert "line 11 and 1 more: This line is not parseable as valid JSON. (invalid_json_line)" in done.err
    assert mill.state["calls"] == []


def test_a_mended_file_runs(gristmill: Gristmill, server: Server, requests: Path):
    good = requests.read_text()
    requests.write_text("oops\n")
    assert gristmill("run", requests, "--server", server[0]).status == 2
    requests.write_text(good)
    assert gristmill("run", requests, "--server", server[0]).status == 0


def test_without_a_terminal_a_blocked_run_gives_up(gristmill: Gristmill, server: Server, requests: Path):
    url, mill = server
    mill.state["blocked"] = "auth"
    done = gristmill("run", requests, "--server", url, "--blocked-timeout", "0.1")
    assert done.status == 3
    assert "10 lines are blocked: paused" in done.err or "all waits (auth)" in done.err
    assert f"gristmill run {requests}" in done.err
    mill.state["blocked"] = None
    assert gristmill("run", requests, "--server", url).status == 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["missing.jsonl"], "No such file"),
        (["empty.jsonl"], "is empty"),
        (["."], "is not a regular file"),
        (["requests.jsonl", "-o", "requests.jsonl"], "would overwrite"),
        (["requests.jsonl", "-o", "folder"], "is not a regular file"),
        (["requests.jsonl", "-o", "/dev/null"], "is not a regular file"),
        (["requests.jsonl", "-o", "missing/out.jsonl"], "cannot be written"),
        (["requests.jsonl", "-o", "/proc/out.jsonl"], "cannot be written"),
        (["requests.jsonl", "--limit", "0"], "--limit"),
        (["requests.jsonl", "--nonsense"], "--nonsense"),
        ([], "Missing argument"),
    ],
)
def test_wrong_usage_is_found_before_anything_starts(
    gristmill: Gristmill,
    requests: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    home: Path,
    arguments: list[str],
    reason: str,
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "folder").mkdir()
    done = gristmill("run", *arguments)
    assert done.status == 2
    assert reason in done.err
    assert not (home / "server.json").exists()


def test_a_home_that_cannot_be_used_is_named(
    gristmill: Gristmill, requests: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("GRISTMILL_HOME", str(tmp_path / "file"))
    done = gristmill("run", requests)
    assert done.status == 2
    assert "Set GRISTMILL_HOME to another directory" in done.err


def test_a_wrong_configuration_is_told_with_its_line(
    gristmill: Gristmill, requests: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.chdir(tmp_path)
    Path("gristmill.yaml").write_text("providers:\n  openai: {rmp: 5}\n")
    done = gristmill("run", requests)
    assert done.status == 2
    assert "line 2: providers.openai.rmp: unknown key; did you mean 'rpm'?" in done.err


def test_a_server_that_does_not_start_shows_its_last_words(gristmill: Gristmill, requests: Path, home: Path):
    (home / "refuse").write_text("no mill today")
    done = gristmill("run", requests)
    assert done.status == 2
    assert "no mill today" in done.err


def start(requests: Path, *options: str) -> "subprocess.Popen[str]":
    code = "from api.cli import main, server_link; server_link.SERVER = 'tests.fakes.mill'; main()"
    command = [sys.executable, "-c", code, "run", str(requests), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def slow_down(home: Path) -> None:
    (home / "mill.json").write_text(json.dumps({"pace": 1}))


def calls(home: Path) -> int:
    return len(state_of(home).get("calls", []))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_run_stops_its_server_and_goes_on_later(
    gristmill: Gristmill, home: Path, tmp_path: Path, number: signal.Signals
):
    requests = write_requests(tmp_path / "requests.jsonl", [f"line-{index}" for index in range(40)])
    slow_down(home)
    with start(requests) as running:
        until(lambda: calls(home) > 2, 30)
        running.send_signal(number)
        _, err = running.communicate(timeout=20)
    assert running.returncode == 128 + number
    assert "The same command goes on" in err
    assert not Home(path=home).is_locked
    assert state_of(home)["batches"]["batch_1"]["paused"]  # type: ignore[call-overload]
    assert gristmill("run", requests).status == 0
    assert sorted(state_of(home)["calls"]) == sorted(ids_in(requests))


def test_after_kill_9_of_everything_the_same_command_goes_on(gristmill: Gristmill, home: Path, tmp_path: Path):
    requests = write_requests(tmp_path / "requests.jsonl", [f"line-{index}" for index in range(40)])
    slow_down(home)
    with start(requests) as running:
        until(lambda: calls(home) > 2, 30)
        os.kill(json.loads((home / "server.json").read_text())["pid"], signal.SIGKILL)
        running.kill()
    assert gristmill("run", requests).status == 0
    assert sorted(state_of(home)["calls"]) == sorted(ids_in(requests))


def test_a_server_that_dies_young_ends_the_run_with_its_log(home: Path, tmp_path: Path):
    requests = write_requests(tmp_path / "requests.jsonl", [f"line-{index}" for index in range(40)])
    slow_down(home)
    with start(requests) as running:
        until(lambda: calls(home) > 2, 30)
        os.kill(json.loads((home / "server.json").read_text())["pid"], signal.SIGKILL)
        _, err = running.communicate(timeout=20)
    assert running.returncode == 3
    assert "the server ended by itself" in err


def test_a_detached_run_is_watched_later(gristmill: Gristmill, home: Path, requests: Path):
    done = gristmill("run", requests, "--detach")
    assert done.status == 0
    assert "batch_1 runs on. 'gristmill watch batch_1' comes back to it." in done.out
    server = json.loads((home / "server.json").read_text())["pid"]
    try:
        assert Home(path=home).is_locked
        watched = gristmill("watch", "batch_1")
        assert watched.status == 0
        assert "batch_1 is completed" in watched.out
    finally:
        os.kill(server, signal.SIGTERM)
    until(lambda: not Home(path=home).is_locked)


def test_watch_starts_a_server_that_is_gone(gristmill: Gristmill, home: Path, requests: Path):
    gristmill("run", requests, "--limit", "2")
    gristmill("run", requests)
    assert gristmill("watch", "batch_1").status == 0
    assert not Home(path=home).is_locked


def test_a_server_that_is_just_ending_is_waited_for(gristmill: Gristmill, home: Path, requests: Path):
    def hold() -> None:
        with Home(path=home).lock():
            held.set()
            ended.wait(30)

    held, ended = threading.Event(), threading.Event()
    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(30)
    threading.Timer(0.5, ended.set).start()
    assert gristmill("run", requests).status == 0
    holder.join()


def test_a_server_of_another_version_is_not_joined(gristmill: Gristmill, home: Path, requests: Path, server: Server):
    state = {"pid": 1, "url": server[0], "version": "0.0.1"}
    (home / "server.json").write_text(json.dumps(state))
    with Home(path=home).lock():
        done = gristmill("run", requests)
    assert done.status == 2
    assert "is Gristmill 0.0.1" in done.err
