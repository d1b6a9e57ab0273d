"""Cases with a course of their own: what others cost those who are served beside them."""

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import audit, lines
from bench.case import Behaviour, Case
from bench.measure import Figures, config_for
from bench.mill import Mill
from bench.server import Kind, Server

GOOD = ("lab_a", "lab_b", "lab_c")
DEAD, SLOW = "lab_dead", "lab_slow"
SLOW_SECONDS = 20.0
PATIENCE_SECONDS = 300.0
SMALL = 20
UNDER_WAY = 50
"""Calls of the large batch after which the small one comes."""


def five(case: Case, kind: Kind, folder: Path) -> Figures:
    """``case.lines`` for each provider; how long three of five take, over how long they take alone."""
    alone = _time_of_good(case, kind, folder / "alone", GOOD)
    together = _time_of_good(case, kind, folder / "together", (*GOOD, DEAD, SLOW))
    return _compared(alone, together)


def beside(case: Case, kind: Kind, folder: Path) -> Figures:
    """How long a small batch takes beside a large one, over how long it takes alone."""
    small = lines.write(folder / "small.jsonl", SMALL, case.sizes, kind.model)
    large = lines.write(folder / "large.jsonl", case.lines, case.sizes, kind.model)
    times, lost = [], 0
    for name in ("alone", "together"):
        place = folder / name
        place.mkdir()
        with (
            Server(kind, case.behaviour) as server,
            Mill(place, server.base_url, config_for(case, kind)) as mill,
        ):
            if name == "together":
                mill.submit(large)
                _until_accepted(server, UNDER_WAY)
            else:
                server.drain(int(case.behaviour.burst * (case.behaviour.rpm or 0) / 60))
            began = time.monotonic()
            batch = mill.await_rest(mill.submit(small), PATIENCE_SECONDS)
            times.append(time.monotonic() - began)
            mill.download(batch, place / "answers.jsonl")
            lost += audit.audit(SMALL, place / "answers.jsonl").lost
    return _compared(*times) | {"lost": float(lost)}


def _time_of_good(case: Case, kind: Kind, folder: Path, providers: Sequence[str]) -> float:
    folder.mkdir()
    models = [f"{name}/{kind.model}" for name in providers]
    source = lines.write(folder / "in.jsonl", case.lines * len(providers), case.sizes, *models)
    with contextlib.ExitStack() as opened:
        servers = {name: opened.enter_context(Server(kind, _behaviour(case, name))) for name in providers}
        config = {"providers": {name: _config(case, name, server.base_url) for name, server in servers.items()}}
        mill = opened.enter_context(Mill(folder, servers[GOOD[0]].base_url, config))
        began = time.monotonic()
        mill.await_batch(mill.submit(source), lambda batch: _good_are_done(case, kind, batch), PATIENCE_SECONDS)
        return time.monotonic() - began


def _behaviour(case: Case, name: str) -> Behaviour:
    if name == SLOW:
        return Behaviour(latency=SLOW_SECONDS)
    return Behaviour(needs_key=True) if name == DEAD else case.behaviour


def _config(case: Case, name: str, base_url: str) -> dict[str, Any]:
    told = {} if name in (DEAD, SLOW) else case.told.settings()
    return {"kind": "openai_compatible", "base_url": base_url, "auth": "none", **told}


def _good_are_done(case: Case, kind: Kind, batch: dict[str, Any]) -> bool:
    done = {model["model"]: model["completed"] for model in batch["gristmill"]["models"]}
    return all(done.get(f"{name}/{kind.model}", 0) >= case.lines for name in GOOD)


def _until_accepted(server: Server, calls: int) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while server.seen().accepted < calls and time.monotonic() < end:
        time.sleep(0.1)


def _compared(alone: float, together: float) -> Figures:
    return {"alone": alone, "seconds": together, "company_ratio": together / alone}
