"""``gristmill run`` on the embedded default, with everything real but the model."""

import contextlib
import fcntl
import os
import pty
import signal
import subprocess
import termios

import pytest

from tests.end_to_end.conftest import Mill, ids_in
from tests.polling import until

FEW_AT_A_TIME = {"GRISTMILL_MAX_IN_FLIGHT": "4"}
TRAPS = "api worker providers celery redis sqlalchemy kombu uvicorn json".split()


def test_a_file_becomes_results_in_a_folder_full_of_traps(mill: Mill):
    for name in TRAPS:
        (mill.folder / f"{name}.py").write_text("raise SystemExit('the working directory was imported')")
    requests = mill.write("requests.jsonl", 60)
    done = mill.finish("run", "requests.jsonl", "-o", "answers.jsonl")
    assert done.returncode == 0, done
    assert ids_in(mill.folder / "answers.jsonl") == ids_in(requests)
    assert not (mill.folder / "answers.errors.jsonl").exists()
    assert mill.answered() == 60
    assert mill.processes() == []


def test_the_same_command_again_calls_nobody(mill: Mill):
    mill.write("requests.jsonl", 30)
    first = mill.finish("run", "requests.jsonl")
    second = mill.finish("run", "requests.jsonl", "-o", "other.jsonl", "--limit", "3", "--max-cost", "1", "--yes")
    assert (first.returncode, second.returncode) == (0, 0), (first, second)
    assert "nothing is called" in second.stderr
    results = [(mill.folder / name).read_bytes() for name in ("requests.results.jsonl", "other.jsonl")]
    assert results[0] == results[1] != b""
    assert mill.answered() == 30


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_an_interrupted_run_ends_within_seconds_and_goes_on(mill: Mill, number: signal.Signals):
    mill.simulator.control(latency=0.2)
    requests = mill.write("requests.jsonl", 120)
    with mill.start("run", "requests.jsonl", environment=FEW_AT_A_TIME) as running:
        until(lambda: mill.answered() > 10, 60)
        running.send_signal(number)
        _, err = running.communicate(timeout=20)
    assert running.returncode == 128 + number, err
    assert "The same command goes on: gristmill run requests.jsonl" in err
    assert mill.processes() == []
    before = mill.answered()
    assert before < 120
    mill.simulator.control(latency=0.0)
    assert mill.finish("run", "requests.jsonl").returncode == 0
    assert ids_in(mill.folder / "requests.results.jsonl") == ids_in(requests)
    assert mill.simulator.stats()["answered_twice"] == 0


def test_a_closed_terminal_ends_the_run_in_order(mill: Mill):
    mill.simulator.control(latency=0.2)
    mill.write("requests.jsonl", 120)
    terminal, far_end = pty.openpty()
    os.set_blocking(terminal, False)

    def take_terminal() -> None:
        fcntl.ioctl(far_end, termios.TIOCSCTTY, 0)

    def is_under_way() -> bool:
        with contextlib.suppress(BlockingIOError):
            os.read(terminal, 1 << 20)
        return mill.answered() > 10

    streams = {"stdin": far_end, "stdout": far_end, "stderr": far_end}
    started = mill.start("run", "requests.jsonl", streams=streams, preexec_fn=take_terminal, environment=FEW_AT_A_TIME)
    with started as running:
        os.close(far_end)
        until(is_under_way, 60)
        os.close(terminal)
        assert running.wait(20) == 128 + signal.SIGHUP
    assert mill.processes() == []
    mill.simulator.control(latency=0.0)
    assert mill.finish("run", "requests.jsonl").returncode == 0
    assert mill.simulator.stats()["answered_twice"] == 0


def test_after_kill_9_of_everything_no_stored_line_is_called_again(mill: Mill):
    mill.simulator.control(latency=0.2)
    requests = mill.write("requests.jsonl", 300)
    with mill.start("run", "requests.jsonl", environment={"GRISTMILL_MAX_IN_FLIGHT": "10"}) as running:
        until(lambda: mill.answered() > 50, 60)
        running.kill()
        mill.kill_everything()
    mill.simulator.control(latency=0.0)
    done = mill.finish("run", "requests.jsonl")
    assert done.returncode == 0, done
    assert ids_in(mill.folder / "requests.results.jsonl") == ids_in(requests)
    stats = mill.simulator.stats()
    assert stats["unanswered"] == 0
    assert stats["repeats"] <= 10 + 10, "calls in flight, and answers not committed yet"


def test_two_runs_share_one_server(mill: Mill):
    mill.write("one.jsonl", 40)
    mill.write("two.jsonl", 40)
    with mill.start("run", "one.jsonl") as one, mill.start("run", "two.jsonl") as two:
        said = [one.communicate(timeout=90), two.communicate(timeout=90)]
    assert (one.returncode, two.returncode) == (0, 0), said
    assert mill.answered() == 80
    assert mill.processes() == []


def test_a_missing_key_is_named_before_the_first_call(mill: Mill):
    mill.write("requests.jsonl", 3)
    done = mill.finish("run", "requests.jsonl", OPENAI_BASE_URL="")
    assert done.returncode == 2, done
    assert "line 1 and 2 more" in done.stderr
    assert "OPENAI_API_KEY" in done.stderr
    assert done.stdout == ""


def test_failed_lines_run_again_only_when_asked(mill: Mill):
    mill.write("requests.jsonl", 5)
    with (mill.folder / "requests.jsonl").open("a") as file:
        body = '{"model": "openai/tiny", "messages": [{"role": "user", "content": "[[status=400]] nonce:bad"}]}'
        file.write('{"custom_id": "bad", "method": "POST", "url": "/v1/chat/completions", "body": ' + body + "}\n")
    done = mill.finish("run", "requests.jsonl")
    assert done.returncode == 1, done
    assert ids_in(mill.folder / "requests.results.errors.jsonl") == ["bad"]
    assert mill.finish("run", "requests.jsonl").returncode == 1
    mill.simulator.control(commands=False)
    done = mill.finish("run", "requests.jsonl", "--retry-failed")
    assert done.returncode == 0, done
    assert ids_in(mill.folder / "requests.results.jsonl")[-1] == "bad"
    assert not (mill.folder / "requests.results.errors.jsonl").exists()
    assert mill.simulator.stats()["answered_twice"] == 0


def test_a_detached_run_is_watched_later(mill: Mill):
    mill.simulator.control(latency=0.3)
    mill.write("requests.jsonl", 30)
    done = mill.finish("run", "requests.jsonl", "--detach")
    assert done.returncode == 0, done
    batch = done.stdout.splitlines()[-1].split()[0]
    watched = mill.finish("watch", batch)
    assert watched.returncode == 0, (done, watched)
    assert f"{batch} is completed" in watched.stdout
    assert mill.processes() != []


def test_a_cap_holds_and_can_be_raised(mill: Mill):
    (mill.folder / "gristmill.yaml").write_text("prices:\n  openai/tiny: {input: 0, output: 1000}\n")
    mill.write("requests.jsonl", 40)
    done = mill.finish("run", "requests.jsonl", "--max-cost", "0.5", "--yes")
    assert done.returncode == 3, done
    assert "--max-cost is reached" in done.stderr
    assert 0 < mill.answered() < 40
    done = mill.finish("run", "requests.jsonl", "--max-cost", "1000", "--yes")
    assert done.returncode == 0, done
    assert mill.answered() == 40


def test_a_command_stopped_while_its_server_starts_leaves_nothing_behind(mill: Mill):
    mill.write("requests.jsonl", 3)
    with mill.start("run", "requests.jsonl") as running:
        until(lambda: mill.processes(), 30)
        running.send_signal(signal.SIGINT)
        assert running.wait(20) == 128 + signal.SIGINT
    until(lambda: not mill.processes(), 20)
    assert mill.answered() == 0


@pytest.mark.slow
def test_a_dead_key_blocks_the_run_and_a_good_one_lets_it_go_on(mill: Mill):
    mill.simulator.control(refuse="invalid_api_key")
    mill.write("requests.jsonl", 10)
    done = mill.finish("run", "requests.jsonl", "--blocked-timeout", "1")
    assert done.returncode == 3, done
    assert "10 lines are blocked" in done.stderr
    assert "auth" in done.stderr
    assert "gristmill run requests.jsonl --blocked-timeout 1" in done.stderr
    mill.simulator.control(refuse=None)
    done = mill.finish("run", "requests.jsonl", "--blocked-timeout", "60")
    assert done.returncode == 0, done


def test_one_server_serves_all_commands(mill: Mill):
    requests = mill.write("requests.jsonl", 10)
    with mill.start("serve", "--port", "0") as server:
        submitted = until(lambda: _tried(mill, "submit", "requests.jsonl"), 60)
        batch = submitted.stdout.strip()
        watched = mill.finish("watch", batch)
        assert watched.returncode == 0, watched
        written = mill.finish("results", batch, "-o", "out.jsonl")
        assert ids_in(mill.folder / "out.jsonl") == ids_in(requests), written
        assert len(mill.finish("results", batch).stdout.splitlines()) == 10
        assert batch in mill.finish("list").stdout
        assert "Cannot cancel a batch with status 'completed'" in mill.finish("cancel", batch).stderr
        server.terminate()
        out, err = server.communicate(timeout=20)
        assert server.returncode == 0, (out, err)
    assert mill.processes() == []


def _tried(mill: Mill, *arguments: str) -> "subprocess.CompletedProcess[str] | None":
    done = mill.finish(*arguments)
    return done if done.returncode == 0 else None
