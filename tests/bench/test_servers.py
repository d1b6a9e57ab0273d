"""Both kinds of server understand what a case says of them."""

from pathlib import Path

import httpx
import pytest

from bench import cases, loadmock
from bench.case import Behaviour
from bench.server import KEY, Server, ServerError
from bench.simulator import Simulator

BEHAVIOUR = Behaviour(latency=0.05, rpm=1_500_000, burst=1.0, headers=False, faults={"500": 0.05, "empty": 0.01})


def _ask(server: Server, number: int) -> httpx.Response:
    body = {"model": server.model, "messages": [{"role": "user", "content": f"nonce:{number}"}], "max_tokens": 48}
    headers = {"authorization": f"Bearer {KEY}"}
    return httpx.post(f"{server.base_url}/chat/completions", json=body, headers=headers, trust_env=False)


def test_the_simulator_counts_what_clients_suffered() -> None:
    with Server(Simulator(), Behaviour(rpm=2, burst=60.0)) as server:
        assert [_ask(server, number).status_code for number in (1, 2, 2)] == [200, 200, 429]
        seen = server.seen()
        assert (seen.calls, seen.answered, seen.refused, seen.max_in_flight) == (3, 2, 1, 1)
        assert seen.tokens >= 2 * 48
        server.control(rpm=100_000)
        server.drain(3)
        assert server.seen().calls == 6
        assert server.cpu_seconds > 0


def test_every_case_is_one_that_the_simulator_takes() -> None:
    for behaviour in {repr(case.behaviour): case.behaviour for case in cases.every()}.values():
        arguments = Simulator().command(behaviour)
        assert "--no-commands" in arguments
    with Server(Simulator(), BEHAVIOUR) as server:
        assert server.seen().calls == 0


def test_loadmock_is_told_in_its_own_flags() -> None:
    command = loadmock.Loadmock(Path("/somewhere/loadmock")).command(BEHAVIOUR)
    flags = dict(zip(command[1::2], command[2::2], strict=True))
    assert command[0] == "/somewhere/loadmock"
    assert float(flags["--rpm"]) == 1_500_000
    assert {name: flags[name] for name in ("--latency-ms", "--burst-s", "--headers", "--p500", "--pempty")} == {
        "--latency-ms": "50",
        "--burst-s": "1",
        "--headers": "0",
        "--p500": "0.05",
        "--pempty": "0.01",
    }


def test_a_program_that_says_no_address_is_an_error_that_tells_what_it_said(tmp_path: Path) -> None:
    program = tmp_path / "mute"
    program.write_text("#!/bin/sh\necho no such option >&2\nexit 2\n")
    program.chmod(0o700)
    with pytest.raises(ServerError, match="no such option"), Server(loadmock.Loadmock(program), Behaviour()):
        pass
