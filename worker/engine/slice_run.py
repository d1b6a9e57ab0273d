"""Execute: one leased slice from its first admission to its release. This is where calls are made."""

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from providers.call import call as call_provider
from providers.deployment import Deployment
from providers.errors import (
    ConnectionDropped,
    ContentFilterError,
    ContextLengthError,
    DeadlineError,
    ProviderError,
)
from providers.request import ProviderRequest
from providers.result import Ending
from providers.verdict import GiveUp, LimitKind, Pause, PauseReason, RateLimited, Transient
from worker.alias_config import Fallback
from worker.blobs import BlobError
from worker.engine import backoff, outcome
from worker.engine.outcome import Call
from worker.limiter.answers import Refusal
from worker.limiter.cost import Cost
from worker.limiter.gate import PATIENCE, ScopeGate
from worker.limiter.line import Standing
from worker.states import Kind, Outcome
from worker.store.calls import Ended, Start
from worker.store.slices import Claim, ClaimedJob

if TYPE_CHECKING:
    from worker.engine.engine import Engine

log = logging.getLogger("gristmill.execute")

AT_ONCE = 64
"""Jobs that ask for admission together."""
CAPPED_WAIT = 0.5


@dataclass(slots=True, eq=False)
class OpenJob:
    """A job of the slice that has no result yet."""

    job: ClaimedJob
    cost: Cost
    price: int
    ready_at: float
    failures: int
    refusals: int = 0

    @property
    def id(self) -> int:
        return self.job.id

    def refund(self) -> None:
        self.failures = max(0, self.failures - 1)


class SliceRun:
    """Admits, calls, retries what is soon due, and gives the rest back. ``probe``: the paused scope to try first."""

    def __init__(self, engine: "Engine", claim: Claim, probe: str | None) -> None:
        now = time.monotonic()
        self.engine = engine
        self.claim = claim
        self._probe = probe
        self._probe_failed = False
        self._waiting = [self._open(job, now) for job in claim.jobs]
        self._calls: dict[asyncio.Task[None], OpenJob] = {}
        self._unstored = 0
        self._changed = asyncio.Event()
        self._admission: asyncio.Task[bool] | None = None
        self._closed = False
        self._done = False
        self._rest = 0.0

    async def execute(self) -> None:
        try:
            while await self._step():
                continue
        finally:
            await self._release()

    def stop(self) -> None:
        """No call begins any more; those in flight may end."""
        self._closed = True
        if self._admission is not None:
            self._admission.cancel()
        self._changed.set()

    def abandon(self) -> None:
        """The grace is over: end the calls in flight."""
        self.stop()
        for task in self._calls:
            task.cancel()

    async def _step(self) -> bool:
        """Begin what may begin, or wait for something to change. False when there is nothing left to do here."""
        self._changed.clear()
        if self._closed:
            return await self._let_end()
        now = time.monotonic()
        due = [one for one in self._waiting if one.ready_at <= now and now >= self._rest]
        deployment = self._deployment() if due else None
        if due and deployment is not None and self._probe is not None and self._busy:
            await self._wait(None)
            return True
        if due and deployment is not None:
            return await self._begin(due[: 1 if self._probe else AT_ONCE], deployment)
        if due and deployment is None:
            self._closed = True
            return True
        if not self._waiting:
            return await self._let_end()
        until = max(self._rest, min(one.ready_at for one in self._waiting)) - now
        if not self._busy and until > PATIENCE:
            return False
        await self._wait(until)
        return True

    async def _let_end(self) -> bool:
        if self._busy:
            await self._wait(None)
        return self._busy or (bool(self._waiting) and not self._closed)

    @property
    def _busy(self) -> bool:
        return bool(self._calls) or self._unstored > 0

    async def _wait(self, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _begin(self, due: list[OpenJob], deployment: Deployment) -> bool:
        self._admission = asyncio.get_running_loop().create_task(self._admit(due, deployment))
        try:
            await asyncio.wait([self._admission])
        finally:
            self._admission.cancel()
        admission, self._admission = self._admission, None
        if not admission.cancelled() and (error := admission.exception()):
            raise error
        return True

    async def _admit(self, due: list[OpenJob], deployment: Deployment) -> bool:
        """Ask the quota, then SQL; what both allow begins."""
        gate = self.engine.gate_of(deployment)
        for one in due:
            one.cost = self._cost(one.job, deployment)
        admission = await gate.admit([one.cost for one in due], self._standing())
        if admission.count == 0:
            if not self.engine.router.avoid(self.claim, deployment, admission.wait):
                self._rest = time.monotonic() + admission.wait
            return False
        chosen, begun, asked = due[: admission.count], 0, time.monotonic()
        try:
            granted = await self.engine.recorder.start(
                Start(
                    slice=self.claim.slice,
                    epoch=self.claim.epoch,
                    batch=self.claim.batch,
                    route=self.claim.route,
                    jobs=tuple(one.job.id for one in chosen),
                    costs=tuple(one.price for one in chosen),
                    is_unpriced=bool(self.claim.trail) and self.claim.input_price is None,
                )
            )
            # Who stood still since it asked may have lost its lease unawares: it asks again.
            if not self._closed and time.monotonic() - asked < self.engine.settings.lease_seconds / 2:
                begun = granted.count
            self._closed = self._closed or granted.closed
            for one in chosen[:begun]:
                self._waiting.remove(one)
                self._calls[asyncio.get_running_loop().create_task(self._call(one, deployment, gate))] = one
        finally:
            if begun < len(chosen):
                gate.unused([one.cost for one in chosen[begun:]])
        if begun == 0:
            self._rest = time.monotonic() + CAPPED_WAIT
        else:
            self.engine.router.took(self.claim, deployment, begun)
        return begun > 0

    async def _call(self, one: OpenJob, deployment: Deployment, gate: ScopeGate) -> None:
        """One call of the provider. Whatever it ends with is queued for SQL before its place is free again."""
        began = time.monotonic()
        call = Call(claim=self.claim, job=one.job, deployment=deployment, attempt=time.time_ns(), reserved=one.price)
        tokens: int | None = None
        try:
            request = await self._request(one.job, deployment)
            result = await call_provider(self.engine.client, deployment, request)
            ended = outcome.succeeded(call, result, self.engine.catalog, time.monotonic() - began)
            if result.usage is not None:
                tokens = result.usage.input_tokens + result.usage.output_tokens
                self.engine.forecasts.note(
                    self.claim.batch, self.claim.route, one.job.output_tokens, result.usage.output_tokens
                )
            gate.answers.accepted(
                seconds=time.monotonic() - began,
                tokens=one.cost.tokens if tokens is None else tokens,
                headers=result.headers,
                sent_at=began,
            )
            self.engine.rests.fine(deployment.scope)
            if result.ending is Ending.FILTERED and self.engine.catalog.minds_filters(self.claim.route):
                ended = outcome.handed_on(ended, self.engine.router.onward(self.claim, Fallback.CONTENT_POLICY))
        except ProviderError as error:
            ended = self._failed(call, one, error, gate, began)
        except BlobError as error:
            ended = outcome.unreadable(call, str(error))
        except asyncio.CancelledError:
            ended = outcome.abandoned(call, time.monotonic() - began)
            self._waiting.append(one)
        except Exception as error:
            log.exception("a defect of ours: job %d fails for it", one.job.id)
            ended = outcome.broken(call, type(error).__name__, time.monotonic() - began)
        finally:
            task = asyncio.current_task()
            assert task is not None
            self._calls.pop(task, None)
            gate.ended(one.cost, tokens)
            self.engine.reporter.ended(deployment.scope, tokens or 0)
        self._store(ended)
        if self._probe == deployment.scope and ended.outcome is not Outcome.ABANDONED:
            self._probed(deployment.scope)

    def _failed(self, call: Call, one: OpenJob, error: ProviderError, gate: ScopeGate, began: float) -> Ended:
        seconds = time.monotonic() - began
        if isinstance(error.verdict, RateLimited):
            gate.refused(_refusal(error, error.verdict), headers=error.headers, sent_at=began)
        elif error.status_code is not None:
            broken = error.status_code >= 500
            gate.answers.accepted(seconds=seconds, broken=broken, headers=error.headers, sent_at=began)
        kind = self._judge(call, one, error)
        trail = self._onward(error) if kind is Outcome.FAILED else None
        if kind is not Outcome.FAILED:
            self._waiting.append(one)
        elif trail is not None:
            kind = Outcome.FELL_BACK
        return outcome.failed(call, error, kind, self.engine.catalog, seconds, trail=trail)

    def _onward(self, error: ProviderError) -> str | None:
        """The trail of a line that may go on with another model after this error, its last."""
        match error:
            case ContextLengthError():
                kind = Fallback.CONTEXT_WINDOW
            case ContentFilterError():
                kind = Fallback.CONTENT_POLICY
            case ProviderError(verdict=Transient()):
                kind = Fallback.GENERAL
            case _:
                return None
        return self.engine.router.onward(self.claim, kind)

    def _judge(self, call: Call, one: OpenJob, error: ProviderError) -> Outcome:
        """Act on the verdict: when the job is due again, whether the scope rests."""
        scope, now = call.deployment.scope, time.monotonic()
        match error.verdict:
            case Pause(reason=PauseReason.AUTH) if self._probe is None and self._key_has_changed(call.deployment):
                one.ready_at = now
                return Outcome.PAUSED
            case Pause(reason=reason, wait=wait):
                self._pause(scope, reason, error, wait)
                one.ready_at = now
                return Outcome.PAUSED
            case RateLimited(wait=wait):
                one.refusals += 1
                elsewhere = self.engine.router.stumbled(self.claim, call.deployment)
                one.ready_at = now if elsewhere else now + backoff.limited(one.refusals, wait)
                if self.engine.rests.limited(scope):
                    self._pause(scope, "no_progress", error, wait)
                return Outcome.RATE_LIMITED
            case Transient(wait=wait):
                return self._transient(call, one, error, wait)
            case GiveUp():
                self.engine.rests.fine(scope)
                return Outcome.FAILED

    def _transient(self, call: Call, one: OpenJob, error: ProviderError, wait: float | None) -> Outcome:
        scope = call.deployment.scope
        one.failures += 1
        one.refusals = 0
        one.ready_at = time.monotonic() + backoff.transient(one.failures, wait)
        broken = (error.status_code or 0) >= 500 or isinstance(error, DeadlineError | ConnectionDropped)
        if broken and self.engine.router.stumbled(self.claim, call.deployment):
            one.ready_at = time.monotonic()
        if broken and self.engine.rests.reason(scope) is not None:
            if self._probe == scope:
                self._pause(scope, self.engine.rests.reason(scope) or PauseReason.OUTAGE, error, wait)
            one.refund()
            return Outcome.RETRY
        if broken and self.engine.rests.failed(scope, one):
            self._pause(scope, PauseReason.OUTAGE, error, wait)
            return Outcome.RETRY
        if one.failures > self.engine.catalog.max_retries(call.deployment):
            return Outcome.FAILED
        return Outcome.RETRY

    def _key_has_changed(self, deployment: Deployment) -> bool:
        """Then an old key's refusal says nothing about the new one."""
        return not self.engine.catalog.serves(self.claim.serving, deployment)

    def _pause(self, scope: str, reason: str, error: ProviderError, wait: float | None) -> None:
        self._probe_failed = self._probe == scope
        self.engine.rests.pause(scope, reason, error, wait, probed=self._probe_failed)

    def _probed(self, scope: str) -> None:
        """The probing call is over: unless it paused the scope again, the scope is open."""
        self._probe = None
        if self._probe_failed:
            self.stop()
        else:
            self.engine.rests.resume(scope)

    def _store(self, ended: Ended) -> None:
        self._unstored += 1
        self.engine.recorder.put(ended, self._stored)

    def _stored(self, done: bool) -> None:
        self._unstored -= 1
        self._done = self._done or done
        self._changed.set()

    def _cost(self, job: ClaimedJob, deployment: Deployment) -> Cost:
        output_tokens = job.output_tokens
        if not deployment.spec.counts_maximum:
            output_tokens = self.engine.forecasts.output_tokens(self.claim.batch, self.claim.route, output_tokens)
        return Cost(job.input_tokens, output_tokens, job.length)

    def _standing(self) -> Standing:
        claim = self.claim
        held = claim.kind == Kind.HELD
        return Standing(batch=claim.batch, priority=claim.priority, held=held, answered=claim.answered)

    def _deployment(self) -> Deployment | None:
        return self.engine.router.deployment(self.claim, self._probe)

    async def _request(self, job: ClaimedJob, deployment: Deployment) -> ProviderRequest:
        held = self.claim.kind == Kind.HELD
        return ProviderRequest(
            endpoint=job.endpoint,
            model=deployment.model,
            body=await self.engine.held_body(self.claim)
            if held
            else self.engine.bodies.read(self.claim.input_file_id, job.offset, job.length),
            model_offset=job.model_offset,
            model_length=job.model_length,
        )

    def _open(self, job: ClaimedJob, now: float) -> OpenJob:
        price = job.input_tokens * (self.claim.input_price or 0) + job.output_tokens * (self.claim.output_price or 0)
        return OpenJob(
            job=job,
            cost=Cost(job.input_tokens, job.output_tokens, job.length),
            price=price,
            ready_at=now + job.wait,
            failures=job.attempts,
        )

    async def _release(self) -> None:
        """Give back what is still open, also what was not claimed for the batch's ``line_limit``."""
        if self._done:
            return
        now = time.monotonic()
        waits = tuple(
            (one.job.id, max(0.0, one.ready_at - now), one.failures)
            for one in self._waiting
            if one.ready_at > now or one.failures != one.job.attempts
        )
        first = min((max(self._rest, one.ready_at) for one in self._waiting), default=now) - now
        await self.engine.release(self.claim, wait=first if first > 0 else None, waits=waits)


def _refusal(error: ProviderError, verdict: RateLimited) -> Refusal:
    """A floor rests the whole scope at once where a spent quota, and not a moment's crowd, is the reason."""
    limit, wait = verdict.kind, verdict.wait
    cause = "concurrency" if limit is LimitKind.CONCURRENCY else verdict.quota or ""
    return Refusal(cause=cause, floor=wait or 1.0, force=limit in (LimitKind.RAMP, LimitKind.DAILY))
