"""What a slice does with its calls: quota, SQL and provider are played by the test."""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from providers.deployment import Deployment
from providers.errors import AuthenticationError
from providers.result import Ending, ProviderResult
from providers.secret import Secret
from providers.spec import ProviderSpec
from worker.engine import slice_run
from worker.engine.engine import Engine
from worker.engine.forecasts import Forecasts
from worker.engine.slice_run import SliceRun
from worker.limiter.line import Admission, Standing
from worker.states import Outcome
from worker.store.calls import Ended, Granted, Start
from worker.store.slices import Claim, ClaimedJob

SPEC = ProviderSpec(name="x", title="X", docs_url="", wire="openai", base_url="http://127.0.0.1:9/v1")
DEPLOYMENT = Deployment(provider="x", spec=SPEC, model="m", base_url="http://127.0.0.1:9/v1", api_key=None)
ANSWER = ProviderResult(
    status_code=200,
    request_id=None,
    body=b"{}",
    model=None,
    fingerprint=None,
    usage=None,
    cost=None,
    ending=Ending.COMPLETE,
    headers={},
)


class Played:
    """The engine as a slice sees it: everything is granted and stored at once."""

    def __init__(self) -> None:
        self.ends: list[Ended] = []
        self.paused: list[str] = []
        self.resumed: list[str] = []
        self.released: list[tuple[tuple[int, float, int], ...]] = []
        self.client = self.recorder = self.bodies = self.catalog = self.rests = self.router = self
        self.answers = self.reporter = self
        self.settings = SimpleNamespace(lease_seconds=60.0)
        self.forecasts = Forecasts()
        self.current = DEPLOYMENT

    def __getattr__(self, name: str) -> Any:
        """What else is told to the gate, the health or the watch has no effect here."""
        return lambda *_, **__: None

    def deployment(self, claim: Claim, probe: str | None) -> Deployment:
        return self.current

    def serves(self, model: str, deployment: Deployment) -> bool:
        return deployment is self.current

    def gate_of(self, deployment: Deployment) -> "Played":
        return self

    async def admit(self, costs: list[object], standing: Standing) -> Admission:
        return Admission(len(costs))

    async def start(self, start: Start) -> Granted:
        return Granted(len(start.jobs), closed=False)

    def put(self, end: Ended, stored: Callable[[bool], None]) -> None:
        self.ends.append(end)
        asyncio.get_running_loop().call_soon(stored, False)

    def read(self, file: str, offset: int, length: int) -> bytes:
        return b"{}"

    def pause(self, scope: str, *_: object, **__: object) -> None:
        self.paused.append(scope)

    def resume(self, scope: str) -> None:
        self.resumed.append(scope)

    async def release(self, claim: Claim, *, wait: float | None, waits: tuple[tuple[int, float, int], ...]) -> None:
        self.released.append(waits)


Call = Callable[..., Awaitable[ProviderResult]]


def run(
    monkeypatch: pytest.MonkeyPatch, call: Call, *, jobs: int, probe: str | None = None, engine: Played | None = None
) -> Played:
    monkeypatch.setattr(slice_run, "call_provider", call)
    engine = engine or Played()

    async def main() -> None:
        async with asyncio.timeout(20):
            await SliceRun(cast(Engine, engine), claim(jobs), probe).execute()

    asyncio.run(main())
    return engine


def claim(jobs: int) -> Claim:
    return Claim(
        slice=7, epoch=1, owner="local", batch=1, batch_id="b", route="x/m", alone=False, priority=0, answered=0,
        input_file_id="f", input_price=None, output_price=None, jobs=tuple(job(line) for line in range(1, jobs + 1)),
    )  # fmt: skip


def job(line: int) -> ClaimedJob:
    return ClaimedJob(
        id=1 << 32 | line, custom_id=f"line-{line}", endpoint="chat/completions", generation=1, offset=0, length=2,
        model_offset=0, model_length=0, input_tokens=1, output_tokens=1, attempts=0, wait=0.0,
    )  # fmt: skip


async def answer(*_: object) -> ProviderResult:
    await asyncio.sleep(0)
    return ANSWER


def test_every_line_is_called_once(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = run(monkeypatch, answer, jobs=150)
    assert sorted(end.job for end in engine.ends) == [1 << 32 | line for line in range(1, 151)]


def test_a_slice_is_given_back_even_if_nothing_of_it_was_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of its lines may lie beyond the batch's limit: without a release its lease would be renewed for ever."""
    assert run(monkeypatch, answer, jobs=0).released == [()]
    assert run(monkeypatch, answer, jobs=3).released == [()]


def test_one_call_probes_a_resting_scope(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    async def refuse(*_: object) -> ProviderResult:
        nonlocal calls
        calls += 1
        for _turn in range(50):
            await asyncio.sleep(0)
        raise AuthenticationError("no", status_code=401)

    engine = run(monkeypatch, refuse, jobs=60, probe=DEPLOYMENT.scope)
    assert (calls, engine.paused, engine.resumed) == (1, [DEPLOYMENT.scope], [])
    assert [end.outcome for end in engine.ends] == [Outcome.PAUSED]


def test_after_a_good_probe_all_others_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = run(monkeypatch, answer, jobs=60, probe=DEPLOYMENT.scope)
    assert engine.resumed == [DEPLOYMENT.scope] and len(engine.ends) == 60


def test_a_defect_of_ours_fails_its_line_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    async def sometimes(*_: object) -> ProviderResult:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyError("a defect")
        return ANSWER

    engine = run(monkeypatch, sometimes, jobs=4)
    assert sorted(end.error_code or "" for end in engine.ends) == ["", "", "", "internal_error"]


def test_the_refusal_of_a_key_that_was_changed_meanwhile_pauses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse_the_old(_: object, deployment: Deployment, *__: object) -> ProviderResult:
        await asyncio.sleep(0)
        if deployment is DEPLOYMENT:
            engine.current = changed
            raise AuthenticationError("no", status_code=401)
        return ANSWER

    engine, changed = Played(), dataclasses.replace(DEPLOYMENT, api_key=Secret("sk-new"))
    run(monkeypatch, refuse_the_old, jobs=3, engine=engine)
    assert engine.paused == []
    assert [end.outcome for end in engine.ends] == [Outcome.PAUSED] * 3 + [Outcome.SUCCEEDED] * 3
