"""Whose turn it is, and the command itself on the smallest of work."""

from pathlib import Path

import pytest

from bench import __main__ as command
from bench import cases, peer
from bench.case import Case
from bench.result import Book
from bench.simulator import Simulator
from bench.suite import Suite


def _suite(**changes: object) -> Suite:
    fields = {"kind": Simulator(), "runs": 2, "peer_runs": 1, "peers": None, "lines": None, "say": print}
    return Suite(**(fields | changes))  # type: ignore[arg-type]


def _case(name: str) -> Case:
    return next(case for case in cases.every() if case.name == name)


def test_clients_take_turns() -> None:
    turns = list(_suite(peers=("cookbook",))._turns(_case("zero")))
    assert turns == [(0, "gristmill"), (0, "cookbook"), (1, "gristmill")]


def test_what_an_aim_compares_with_runs_as_often_even_if_nobody_asks_for_it() -> None:
    turns = list(_suite(peers=())._turns(_case("faults")))
    assert turns == [(0, "gristmill"), (0, "aiohttp_retries"), (1, "gristmill"), (1, "aiohttp_retries")]


def test_slow_cases_run_once() -> None:
    assert list(_suite()._turns(_case("million"))) == [(0, "gristmill")]


def test_names_are_unique_and_every_peer_is_known() -> None:
    names = [case.name for case in cases.every()]
    assert len(names) == len(set(names))
    assert {name for case in cases.every() for name in case.peers} <= set(peer.PROGRAMS)


def test_unknown_peers_and_servers_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--peers", "nobody"], ["--server", "loadmock=/nowhere"], ["--case", "nothing"]):
        with pytest.raises(SystemExit) as ended:
            command.main(arguments)
        assert ended.value.code == 2
    assert "unknown: nobody" in capsys.readouterr().err


def test_one_case_from_start_to_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = "--case zero --runs 1 --peers none --lines 40 --out".split()
    status = command.main([*arguments, str(tmp_path)])
    figures = Book(tmp_path).read()["zero"].figures["gristmill"]
    assert (figures["lost"], figures["calls"], figures["calls_after_ok"]) == (0, 40, 0), capsys.readouterr().out
    assert status == 1, "40 lines cannot be cheap enough a line"
    assert "| gristmill |" in (tmp_path / "benchmarks.md").read_text()
