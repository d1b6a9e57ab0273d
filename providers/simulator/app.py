"""The simulator: a bare ASGI application that plays LLM providers, and its own three pages.

    POST /v1/chat/completions ...   what the dialect has, under any prefix; `/NAME/...` chooses the dialect by name
    GET  /stats, /stats?nonces      what happened (statistics.py); with every nonce
    GET  /requests                  the last requests as they came, if the option `record` keeps any
    POST /reset                     forget statistics, nonces and limits; options stay
    POST /control                   a JSON object of options (options.py) to change from now on; GET shows them

How to ask for faults is told in faults.py.
"""

import collections
import dataclasses
import datetime
import hashlib
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson

from providers.simulator import answers, delivery, dialect, faults, limits, models, options, samples, statistics
from providers.simulator.ask import Ask
from providers.simulator.dialect import Refusal, Reply

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_TAG = re.compile(r"tag:([\w.-]+)")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Lane:
    """All calls of one key to one model; the limits are of the model or, if the options say so, of the key."""

    settings: options.Settings
    shared: options.Settings  # whose limits the quota keeps
    quota: limits.Quota


class Simulator:
    """One instance is one provider account world; all state is in memory."""

    def __init__(self, given: options.Options | None = None) -> None:
        self.options = given or options.Options()
        self._dialects = dialect.every()
        self._quotas: dict[tuple[str, str], limits.Quota] = {}
        self._lanes: dict[tuple[str, str], Lane] = {}
        self._mark = _mark(self.options.marker)
        self._records: collections.deque[dict[str, Any]] = collections.deque(maxlen=self.options.record)
        self.stats = statistics.Statistics()
        self._pages = self._pages_of_its_own()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        method, path = scope["method"], scope["path"]
        page = self._pages.get((method, path))
        if page is not None:
            await self._answer_page(page, scope, receive, send)
            return
        await self._answer_provider(method, path, scope, receive, send)

    # The pages of the simulator itself

    def _pages_of_its_own(self) -> dict[tuple[str, str], Callable[[bytes, bytes], Any]]:
        return {
            ("GET", "/stats"): lambda query, body: self.stats.report(with_nonces=b"nonces" in query),
            ("GET", "/requests"): lambda query, body: list(self._records),
            ("GET", "/control"): lambda query, body: self.options,
            ("POST", "/control"): lambda query, body: self._control(body),
            ("POST", "/reset"): lambda query, body: self._forget(),
        }

    async def _answer_page(
        self, page: Callable[[bytes, bytes], Any], scope: Message, receive: Receive, send: Send
    ) -> None:
        status, body = 200, await delivery.read(receive)
        if body is None:
            return
        try:
            found = page(scope["query_string"], body)
        except options.OptionError as error:
            status, found = 400, {"error": str(error)}
        headers = [(b"content-type", b"application/json")]
        await delivery.whole(send, status, headers, orjson.dumps(found))

    def _control(self, body: bytes) -> options.Options:
        try:
            changes = orjson.loads(body)
        except ValueError as error:
            raise options.OptionError(f"not JSON: {error}") from error
        if not isinstance(changes, dict):
            raise options.OptionError("a JSON object of options, please")
        self.options = self.options.changed(changes)
        self._mark = _mark(self.options.marker)
        self._records = collections.deque(self._records, maxlen=self.options.record)
        self._lanes.clear()
        return self.options

    def _forget(self) -> dict[str, bool]:
        self.stats = statistics.Statistics()
        self._records.clear()
        # A call in flight still releases the quota that it took, which nobody asks any more.
        self._quotas.clear()
        self._lanes.clear()
        return {"reset": True}

    # The provider

    async def _answer_provider(self, method: str, path: str, scope: Message, receive: Receive, send: Send) -> None:
        speaker, path = self._speaker(path)
        call = delivery.Call(receive, send, speaker)
        body = await delivery.read(receive)
        if body is None:
            return
        headers = dict(scope["headers"])
        if self.options.record:
            self._record(method, scope["path"], headers, body)
        key = speaker.key(headers, scope["query_string"]) or ""
        tally = self.stats.arrived(key)
        try:
            route = speaker.route(method, path)
            if route is None:
                raise speaker.lost(method, path)
            if not key and self.options.require_key:
                raise speaker.keyless()
            if route.endpoint == "models":
                await delivery.whole(send, 200, [(b"content-type", b"application/json")], speaker.models(route))
                return
            ask = speaker.read(route, body)
        except Refusal as refusal:
            self.stats.rejected(tally, None, refusal.reason, None)
            await call.refuse(refusal)
            return
        await self._answer(call, ask, key, tally)

    def _speaker(self, path: str) -> tuple[dialect.Dialect, str]:
        first, _, rest = path.removeprefix("/").partition("/")
        if first in self._dialects:
            return self._dialects[first], "/" + rest
        return self._dialects["openai"], path

    def _record(self, method: str, path: str, headers: dict[bytes, bytes], body: bytes) -> None:
        named = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers.items()}
        self._records.append(
            {"method": method, "path": path, "headers": named, "body": body.decode("utf-8", "replace")}
        )

    async def _answer(self, call: delivery.Call, ask: Ask, key: str, tally: statistics.Tally) -> None:
        stats, lane = self.stats, self._lane(key, ask.model)
        self._name(ask)
        nonce = stats.came(ask.nonce)
        attempt = nonce.calls + 1
        try:
            fault = self._fault(ask, lane.settings, attempt)
            answer = _made(ask, fault, lane.settings.tokens)
        except (faults.FaultError, samples.SchemaError) as error:
            stats.rejected(tally, nonce, "invalid", None)
            await call.refuse(call.speaker.failed(ask.model, faults.Fault(status=400, message=str(error))))
            return
        denial = lane.quota.admit(_charge(ask, answer.usage, lane.settings), lane.shared, time.monotonic())
        call.lane(lane.settings, lane.quota)
        if denial is not None:
            await call.refuse(call.speaker.denied(ask, denial))
            stats.rejected(tally, nonce, denial.reason, call.told)
            return
        stats.accepted(tally, nonce, ask.model)
        try:
            created = int(datetime.datetime.now(datetime.UTC).timestamp())
            reply = Reply(ask=ask, answer=answer, fault=fault, created=created)
            whole = await call.play(reply, _latency(lane.settings, answer.usage, ask, attempt, self.options.seed))
        finally:
            lane.quota.release()
            stats.left(tally)
        if fault.name is not None:
            stats.failed(tally, nonce, fault.name, call.told)
        elif whole:
            stats.answered(tally, nonce, answer.usage)
        else:
            stats.gone(tally, nonce)

    def _fault(self, ask: Ask, settings: options.Settings, attempt: int) -> faults.Fault:
        """What the text, the key and chance ask for. Raises FaultError."""
        commands = faults.within(ask.text) if self.options.commands else []
        if settings.refuse:
            commands = [{"code": settings.refuse}, *commands]
        if settings.faults:
            commands += faults.drawn(settings.faults, self.options.seed, ask.nonce, attempt)
        return faults.merge(commands, attempt) if commands else faults.NONE

    def _lane(self, key: str, model: str) -> Lane:
        lane = self._lanes.get((key, model))
        if lane is None:
            scope = (key, model if self.options.scope == "model" else "")
            settings = self.options.settings(key, model)
            lane = self._lanes[key, model] = Lane(
                settings=settings,
                shared=settings if scope[1] else self.options.settings(key, ""),
                quota=self._quotas.setdefault(scope, limits.Quota()),
            )
        return lane

    def _name(self, ask: Ask) -> None:
        """A nonce is what the caller marked, else the request itself."""
        found = self._mark.findall(ask.text) if self.options.marker in ask.text else None
        if found:
            ask.nonce, ask.marked = found[-1], True
        else:
            ask.nonce = hashlib.blake2b(ask.body, digest_size=8).hexdigest()
        if "tag:" in ask.text:
            self.stats.tags.update(_TAG.findall(ask.text))


def _mark(marker: str) -> re.Pattern[str]:
    return re.compile(re.escape(marker) + r"([\w.:-]*[\w-])")


def _made(ask: Ask, fault: faults.Fault, length: int | None) -> answers.Answer:
    if ask.endpoint == models.EMBED:
        return answers.Answer(id="", choices=(), usage=answers.Usage(input_tokens=ask.input_tokens))
    return answers.make(ask, fault, length)


def _charge(ask: Ask, usage: answers.Usage, settings: options.Settings) -> int:
    """What a vendor takes from the token limit before it knows the answer."""
    if settings.charge == "reserve" and ask.max_tokens is not None:
        return usage.input_tokens + ask.max_tokens * ask.choices
    return usage.input_tokens + usage.output_tokens


def _latency(settings: options.Settings, usage: answers.Usage, ask: Ask, attempt: int, seed: int) -> float:
    wait = settings.latency
    if not ask.stream:
        wait += settings.per_token * usage.output_tokens
    if settings.jitter:
        wait += settings.jitter * (2 * faults.uniform(seed + 1, ask.nonce, attempt) - 1)
    return max(0.0, wait)
