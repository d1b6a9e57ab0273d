"""Peers as the suite runs them, with the packages of the tests instead of an environment of their own."""

import sys
from pathlib import Path

import pytest

from bench import audit, course, environment, lines
from bench.case import Behaviour, Case, Change
from bench.client import ClientError
from bench.peer import PROGRAMS, Peer
from bench.server import Server
from bench.simulator import Simulator

LINES = 60
HERE = ("aiohttp_once", "aiohttp_retries", "cookbook", "openai_sdk")


@pytest.fixture(autouse=True)
def packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "python", lambda requirements: Path(sys.executable))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return lines.write(tmp_path / "in.jsonl", LINES, (300,), Simulator.model)


@pytest.mark.parametrize("module", HERE)
def test_a_peer_answers_every_line_and_tells_its_cost(module: str, source: Path, tmp_path: Path) -> None:
    options = {"at_once": 10, "rpm": None, "tpm": None}
    answers = tmp_path / "out.jsonl"
    with Server(Simulator(), Behaviour()) as server, Peer(PROGRAMS[module], tmp_path, server.base_url, options) as peer:
        done = peer.work(source, answers, patience=30.0)
        assert server.seen().calls == LINES
    assert audit.audit(LINES, answers) == audit.Account(answered=LINES, lost=0, empty=0, twice=0, wrong=0)
    assert done.seconds > 0 and done.cpu_seconds > 0 and done.startup_cpu > 0 and done.peaks[module] > 10e6


@pytest.mark.parametrize(("module", "lost"), [("aiohttp_once", True), ("aiohttp_retries", False), ("cookbook", False)])
def test_only_who_asks_again_survives_faults(module: str, lost: bool, source: Path, tmp_path: Path) -> None:
    options = {"at_once": 60, "rpm": None, "tpm": None}
    faults = Behaviour(faults={"500": 0.05, "cut": 0.05, "garbage": 0.05})
    answers = tmp_path / "out.jsonl"
    with Server(Simulator(), faults) as server, Peer(PROGRAMS[module], tmp_path, server.base_url, options) as peer:
        peer.work(source, answers, patience=60.0)
        assert server.seen().injected > 0
    assert (audit.audit(LINES, answers).lost > 0) is lost


def test_a_peer_that_takes_too_long_is_ended(source: Path, tmp_path: Path) -> None:
    options = {"at_once": 1, "rpm": 6, "tpm": None}
    program = PROGRAMS["aiohttp_retries"]
    with (
        Server(Simulator(), Behaviour()) as server,
        Peer(program, tmp_path, server.base_url, options) as peer,
        pytest.raises(ClientError, match="not done after 0 s"),
    ):
        peer.work(source, tmp_path / "out.jsonl", patience=0.2)


def test_a_peer_that_cannot_start_tells_why(tmp_path: Path) -> None:
    with pytest.raises(ClientError, match="litellm_router"):
        Peer(PROGRAMS["litellm_router"], tmp_path, "http://127.0.0.1:9", {"at_once": 1}).__enter__()


def test_around_the_work_limits_change_and_a_rival_calls(source: Path, tmp_path: Path) -> None:
    case = Case(
        name="some",
        title="some",
        lines=LINES,
        behaviour=Behaviour(rpm=60_000),
        aims=(),
        changes=(Change(at=0.0, rpm=120_000),),
        rival=200.0,
    )
    options = {"at_once": 10, "rpm": None, "tpm": None}
    program = PROGRAMS["aiohttp_retries"]
    with Server(Simulator(), case.behaviour) as server, Peer(program, tmp_path, server.base_url, options) as peer:
        with course.Course(case, server) as around:
            peer.work(source, tmp_path / "out.jsonl", patience=30.0)
        seen = server.seen()
    assert around.rival is not None and around.rival.calls >= 1
    assert seen.calls == LINES + around.rival.calls
    assert seen.calls_after_ok == 0
    assert around.figures()["rival_share"] == 1.0
    assert around.looks
