"""A slice in the hands of a worker whose gate, SQL and provider are played by the test."""

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from providers.deployment import Deployment
from providers.request import ProviderRequest
from providers.spec import ProviderSpec
from worker.engine import slice_run
from worker.engine.engine import Engine
from worker.engine.forecasts import Forecasts
from worker.engine.slice_run import SliceRun
from worker.limiter.line import Admission, Standing
from worker.store.calls import Granted, Start
from worker.store.slices import Claim, ClaimedJob

SPEC = ProviderSpec(name="x", title="X", docs_url="", wire="openai", base_url="http://127.0.0.1:9/v1")
DEPLOYMENT = Deployment(provider="x", spec=SPEC, model="m", base_url="http://127.0.0.1:9/v1", api_key=None)


@dataclass
class FrozenRecorder:
    """SQL grants the first start, but the process stands still before it hears of it, and loses its lease."""

    stands_still: float
    asked: int = 0

    async def start(self, start: Start) -> Granted:
        self.asked += 1
        if self.asked > 1:
            return Granted(0, closed=True)
        await asyncio.sleep(self.stands_still)
        return Granted(len(start.jobs), closed=False)


@dataclass
class OpenGate:
    given_back: int = 0

    async def admit(self, costs: list[object], standing: Standing) -> Admission:
        return Admission(len(costs))

    def unused(self, costs: list[object]) -> None:
        self.given_back += len(costs)


@dataclass
class StubEngine:
    recorder: FrozenRecorder
    gate: OpenGate = field(default_factory=OpenGate)
    settings: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(lease_seconds=0.1))
    forecasts: Forecasts = field(default_factory=Forecasts)
    released: list[int] = field(default_factory=list)

    def gate_of(self, deployment: Deployment) -> OpenGate:
        return self.gate

    @property
    def router(self) -> "StubEngine":
        return self

    def deployment(self, claim: Claim, probe: str | None) -> Deployment:
        return DEPLOYMENT

    async def release(self, claim: Claim, **_: Any) -> None:
        self.released.append(claim.slice)


def test_a_call_that_was_granted_before_the_process_stood_still_does_not_begin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def call(client: object, deployment: Deployment, request: ProviderRequest) -> None:
        raise AssertionError("a call began without a lease")

    monkeypatch.setattr(slice_run, "call_provider", call)
    engine = StubEngine(FrozenRecorder(stands_still=0.1))
    asyncio.run(SliceRun(cast(Engine, engine), _claim(), None).execute())
    assert engine.recorder.asked == 2
    assert engine.gate.given_back == 2
    assert engine.released == [7]


def _claim() -> Claim:
    job = ClaimedJob(
        id=1 << 32 | 1, custom_id="a", endpoint="chat/completions", generation=1, offset=0, length=2,
        model_offset=0, model_length=0, input_tokens=1, output_tokens=1, attempts=0, wait=0.0,
    )  # fmt: skip
    return Claim(
        slice=7, epoch=1, owner="local", batch=1, batch_id="b", route="x/m", alone=False, priority=0, answered=0,
        input_file_id="f", input_price=None, output_price=None, jobs=(job,),
    )  # fmt: skip
