"""OpenAI's Chat Completions, Completions, Embeddings and Models, as api.openai.com speaks them."""

import json
import math
import re
from collections.abc import Iterator, Mapping

import orjson

from providers.simulator import faults, limits, models
from providers.simulator.ask import Ask
from providers.simulator.dialect import Headers, Refusal, Reply, Route
from providers.simulator.dialects import openai_answers, openai_reading
from providers.simulator.dialects.openai_requests import INVALID

ORGANIZATION = "org-simulator"
LEARN = "Visit https://platform.openai.com/account/rate-limits to learn more."
CREATED = 1_767_225_600
# code: status, type, message
CODES: dict[str, tuple[int, str, str]] = {
    "invalid_api_key": (401, INVALID, "Incorrect API key provided. You can find your API key in your account."),
    "account_deactivated": (401, INVALID, "The account associated with this API key has been deactivated."),
    "unsupported_country_region_territory": (403, "request_forbidden", "Country, region, or territory not supported"),
    "model_not_found": (404, INVALID, "The model does not exist or you do not have access to it."),
    "context_length_exceeded": (400, INVALID, "This model's maximum context length was exceeded."),
    "content_policy_violation": (400, INVALID, "Your request was rejected as a result of our safety system."),
    "rate_limit_exceeded": (429, "requests", f"Rate limit reached on requests per min (RPM). {LEARN}"),
    "tokens_exceeded": (429, "tokens", f"Rate limit reached on tokens per min (TPM). {LEARN}"),
    "slow_down": (429, "rate_limit_error", "Slow down: your request rate grew too quickly. Please ramp up gradually."),
    "insufficient_quota": (429, "insufficient_quota", "You exceeded your current quota, please check your plan."),
    "credit_balance_exhausted": (429, "insufficient_quota", "Your credit balance is exhausted."),
    "organization_spend_limit_exceeded": (429, "insufficient_quota", "Your organization's spend limit is reached."),
    "project_spend_limit_exceeded": (429, "insufficient_quota", "Your project's spend limit is reached."),
    "organization_usage_limit_exceeded": (429, "insufficient_quota", "Your organization's usage limit is reached."),
    "billing_not_active": (429, "insufficient_quota", "Your account is not active, please check your billing details."),
    "resource_unavailable": (429, "resource_unavailable", "Flex capacity is not available at the moment."),
    "flex_unavailable": (429, "resource_unavailable", "Flex capacity is not available at the moment."),
    "server_is_overloaded": (503, "service_unavailable_error", "Our servers are currently overloaded."),
}
# status: type, code, message, where a fault names no code
STATUSES: dict[int, tuple[str, str | None, str]] = {
    400: (INVALID, None, "The request is invalid."),
    401: (INVALID, "invalid_api_key", CODES["invalid_api_key"][2]),
    403: (INVALID, None, "You are not allowed to do that."),
    404: (INVALID, "model_not_found", "The model does not exist or you do not have access to it."),
    413: (INVALID, None, "The request is too large."),
    429: ("requests", "rate_limit_exceeded", CODES["rate_limit_exceeded"][2]),
    500: ("server_error", None, "The server had an error while processing your request. Sorry about that!"),
    503: ("service_unavailable_error", "server_is_overloaded", CODES["server_is_overloaded"][2]),
}
ENDPOINTS = {"chat/completions": models.CHAT, "completions": models.TEXT, "embeddings": models.EMBED}
_PATH = re.compile(r".*?/v1/(chat/completions|completions|embeddings|models)(?:/(.+))?/?")


class OpenAI:
    name = "openai"

    def route(self, method: str, path: str) -> Route | None:
        match = _PATH.fullmatch(path)
        if match is None or (match[2] and match[1] != "models"):
            return None
        if method != ("GET" if match[1] == "models" else "POST"):
            message = f"Not allowed to {method} on /v1/{match[1]}."
            raise Refusal(405, message, type=INVALID, code="method_not_supported", reason="path")
        return Route(endpoint=ENDPOINTS.get(match[1], "models"), model=match[2])

    def key(self, headers: Mapping[bytes, bytes], query: bytes) -> str | None:
        scheme, _, key = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        return key.strip() or None if scheme.lower() == "bearer" else None

    def read(self, route: Route, body: bytes) -> Ask:
        return openai_reading.read(route, body)

    def models(self, route: Route) -> bytes:
        listed = [
            {"id": family.family, "object": "model", "created": CREATED, "owned_by": "simulator"}
            for family in models.FAMILIES
        ]
        if route.model is None:
            return orjson.dumps({"object": "list", "data": listed})
        if models.find(route.model) is None:
            raise openai_reading.unknown(route.model)
        return orjson.dumps({**listed[0], "id": route.model})

    def whole(self, reply: Reply) -> bytes:
        return openai_answers.whole(reply)

    def events(self, reply: Reply) -> Iterator[bytes]:
        return openai_answers.events(reply)

    def denied(self, ask: Ask, denial: limits.Denial) -> Refusal:
        per = {"requests": "requests per min (RPM)", "tokens": "tokens per min (TPM)", "day": "requests per day (RPD)"}
        on = f"{ask.model} in organization {ORGANIZATION} on {per.get(denial.reason, per['tokens'])}"
        if denial.reason == "concurrency":
            message = f"Too many concurrent requests for {ask.model} in organization {ORGANIZATION}: "
            message += f"Limit {denial.limit}. {LEARN}"
        elif denial.wait is None:
            message = f"Request too large for {on}: Limit {denial.limit}, Requested {denial.requested}. "
            message += f"The input or output tokens must be reduced in order to run successfully. {LEARN}"
        else:
            message = f"Rate limit reached for {on}: Limit {denial.limit}, Used {denial.used}, "
            message += f"Requested {denial.requested}. Please try again in {clock(denial.wait)}. {LEARN}"
        kind = "tokens" if denial.reason in ("tokens", "size") else "requests"
        code = "rate_limit_exceeded"
        return Refusal(429, message, type=kind, code=code, reason=denial.reason, wait=denial.wait)

    def failed(self, model: str, fault: faults.Fault) -> Refusal:
        code = "content_policy_violation" if fault.filter == "prompt" else fault.code
        if code in CODES:
            status, kind, message = CODES[code]
            code = "rate_limit_exceeded" if code == "tokens_exceeded" else code
        else:
            status = fault.status or 400
            fallback = STATUSES[500] if status >= 500 else STATUSES[400]
            kind, usual, message = STATUSES.get(status, fallback)
            code = code or usual
        return Refusal(fault.status or status, fault.message or message, type=fault.type or kind, code=code)

    def lost(self, method: str, path: str) -> Refusal:
        return Refusal(404, f"Invalid URL ({method} {path})", type=INVALID, reason="path")

    def keyless(self) -> Refusal:
        message = "You didn't provide an API key. You need to provide your API key in an Authorization header."
        return Refusal(401, message, type=INVALID, reason="key")

    def error(self, refusal: Refusal) -> bytes:
        error = {"message": refusal.message, "type": refusal.type, "param": refusal.param, "code": refusal.code}
        return json.dumps({"error": error}).encode()

    def headers(self, gauges: Mapping[str, limits.Gauge], request_id: str, seconds: float) -> Headers:
        made: Headers = [
            (b"x-request-id", request_id.encode()),
            (b"openai-organization", ORGANIZATION.encode()),
            (b"openai-processing-ms", b"%d" % round(seconds * 1000)),
            (b"openai-version", b"2020-10-01"),
        ]
        for name, gauge in gauges.items():
            made.append((f"x-ratelimit-limit-{name}".encode(), b"%d" % gauge.limit))
            made.append((f"x-ratelimit-remaining-{name}".encode(), b"%d" % gauge.remaining))
            made.append((f"x-ratelimit-reset-{name}".encode(), clock(gauge.reset).encode()))
        return made


DIALECT = OpenAI()


def clock(seconds: float) -> str:
    """As "6m0s", "7.66s" or "12ms", never less than `seconds`."""
    rest = math.ceil(seconds * 1000 - 1e-6)
    if rest < 1000:
        return f"{rest}ms" if rest > 0 else "0s"
    minutes, rest = divmod(rest, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text
