"""What an OpenAI-shaped error means: by code, then type, then status; by prose only where the vendor gives no code."""

import dataclasses
import re
import typing

from providers import answer, deployment, errors, json_text, rate_headers, redact, retry_after, statuses
from providers import usage as usages

_Class = type[errors.ProviderError]

_CODES: dict[str, _Class] = {
    "invalid_api_key": errors.AuthenticationError,
    "account_deactivated": errors.AuthenticationError,
    "ip_not_authorized": errors.AuthenticationError,
    "unsupported_country_region_territory": errors.PermissionDeniedError,
    "insufficient_quota": errors.BillingError,
    "credit_balance_exhausted": errors.BillingError,
    "organization_spend_limit_exceeded": errors.BillingError,
    "project_spend_limit_exceeded": errors.BillingError,
    "organization_usage_limit_exceeded": errors.BillingError,
    "billing_not_active": errors.BillingError,
    "billing_hard_limit_reached": errors.BillingError,
    "rate_limit_exceeded": errors.RateLimitError,
    "slow_down": errors.RampLimitError,
    "concurrency_limit_exceeded": errors.ConcurrencyLimitError,
    "resource_unavailable": errors.OverloadedError,
    "flex_unavailable": errors.OverloadedError,
    "server_is_overloaded": errors.OverloadedError,
    "server_error": errors.ServerError,
    "model_not_found": errors.NotFoundError,
    "DeploymentNotFound": errors.NotFoundError,
    "context_length_exceeded": errors.ContextLengthError,
    "content_policy_violation": errors.ContentFilterError,
    "content_filter": errors.ContentFilterError,
    "invalid_prompt": errors.ContentFilterError,
}

_TYPES: dict[str, _Class] = {
    "insufficient_quota": errors.BillingError,
    "billing_not_active": errors.BillingError,
    "rate_limit_error": errors.RateLimitError,
    "service_unavailable_error": errors.OverloadedError,
    "resource_unavailable": errors.OverloadedError,
    "flex_unavailable": errors.OverloadedError,
    "overloaded_error": errors.OverloadedError,
    "unavailable_error": errors.OverloadedError,  # llama.cpp, 503 "Loading model"
    "server_error": errors.ServerError,
    "authentication_error": errors.AuthenticationError,
    "permission_error": errors.PermissionDeniedError,
    "exceed_context_size_error": errors.ContextLengthError,  # llama.cpp
}


class _Prose(typing.NamedTuple):
    """A kind that the vendor tells by words alone. Looked at only when code, type and status led to `within`."""

    within: _Class
    words: re.Pattern[str]
    means: _Class


_PROSE = (
    # OpenAI gives all of these code rate_limit_exceeded. Issue bodies (vanderschaarlab/climb#1), read 2026-11.
    _Prose(errors.RateLimitError, re.compile(r"^Request too large for"), errors.RequestTooBigError),
    # OpenAI's rate limit guide (RPD, TPD), read 2026-11.
    _Prose(errors.RateLimitError, re.compile(r"\bper day \((RPD|TPD)\)"), errors.DailyQuotaError),
    # Gateways and compatible servers under OpenAI's own rate code (QwenLM/qwen-code#3409), read 2026-11.
    _Prose(errors.RateLimitError, re.compile(r"^Too many concurrent requests"), errors.ConcurrencyLimitError),
    # vLLM up to 0.15 and from 0.16: both are type BadRequestError, code 400 (vllm#20409, harbor#996), read 2026-11.
    _Prose(errors.InvalidRequestError, re.compile(r"maximum context length is \d"), errors.ContextLengthError),
    _Prose(errors.InvalidRequestError, re.compile(r"^You passed \d+ input tokens"), errors.ContextLengthError),
    # llama.cpp answers 500 to an embedding input over its batch size (llama.cpp issues), read 2026-11.
    _Prose(errors.ServerError, re.compile(r"too large to process"), errors.ContextLengthError),
)

# OpenAI and Groq say the wait in the message when the header is missing (aider#3265), read 2026-11.
_TRY_AGAIN = re.compile(r"try again in (?:(\d{1,6})h)?(?:(\d{1,6})m(?!s))?(?:(\d{1,6}(?:\.\d*)?)(m?s))?", re.IGNORECASE)


_MESSAGE_KEYS = ("message", "detail", "error", "msg")
_MAX_MESSAGE = 4000


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Facts:
    message: str
    code: str | None
    type: str | None
    param: str | None
    number: int | None  # a code that is a status in disguise (vLLM, llama.cpp, Azure)


def from_answer(
    got: answer.Answer, to: deployment.Deployment, usage: usages.Usage | None = None
) -> errors.ProviderError:
    """The error that a whole answer means, whatever its status and however broken its body."""
    if 300 <= got.status_code < 400:
        return _redirected(got, to)
    facts = _facts(got, to)
    status = _status(got.status_code, facts)
    kind = _kind(status, facts)
    wait = retry_after.seconds(got.headers)
    return kind(
        facts.message,
        code=facts.code,
        type=facts.type,
        param=facts.param,
        retry_after=_wait_in_words(facts.message) if wait is None and status == 429 else wait,
        may_be_billed=got.status_code < 400 or status in statuses.MAYBE_BILLED,
        usage=usage,
        **_common(got, to),
    )


def unreadable(
    got: answer.Answer, to: deployment.Deployment, why: str, usage: usages.Usage | None = None
) -> errors.BadResponseError:
    return errors.BadResponseError(why, may_be_billed=True, usage=usage, **_common(got, to))


def failed(
    got: answer.Answer, to: deployment.Deployment, reason: str, usage: usages.Usage | None
) -> errors.ServerError:
    why = f"the provider broke off with finish_reason {reason!r}"
    return errors.ServerError(why, may_be_billed=True, usage=usage, **_common(got, to))


def streamed(got: answer.Answer, to: deployment.Deployment) -> errors.InvalidRequestError:
    why = 'the provider streamed its answer: remove "stream" from the request'
    return errors.InvalidRequestError(why, code="stream_not_supported", may_be_billed=True, **_common(got, to))


def request_id(got: answer.Answer) -> str | None:
    return json_text.storable(got.headers.get("x-request-id"))


def _redirected(got: answer.Answer, to: deployment.Deployment) -> errors.ProviderError:
    why = "the server answered with a redirect, which is never followed: check the base URL"
    return errors.NotFoundError(why, code="redirect_not_followed", **_common(got, to))


def _common(got: answer.Answer, to: deployment.Deployment) -> dict[str, typing.Any]:
    return {
        "status_code": got.status_code,
        "request_id": request_id(got),
        "body": redact.body(got.body[: errors.MAX_BODY], to.hidden),
        "headers": rate_headers.select(got.headers),
    }


def _kind(status: int, facts: _Facts) -> _Class:
    kind = _CODES.get(facts.code or "") or _TYPES.get(facts.type or "") or statuses.error_class(status)
    return next((p.means for p in _PROSE if p.within is kind and p.words.search(facts.message)), kind)


def _status(status: int, facts: _Facts) -> int:
    """The status that counts: an error inside a 200 carries its own, or is the server's fault."""
    if status >= 400:
        return status
    return facts.number if facts.number and 400 <= facts.number < 600 else 500


def _facts(got: answer.Answer, to: deployment.Deployment) -> _Facts:
    node = _node(got.body)

    def said(name: str, limit: int = 200) -> str | None:
        text = node.get(name)
        return json_text.storable(redact.text(text, to.hidden), limit) if isinstance(text, str) else None

    message = next((text for name in _MESSAGE_KEYS if (text := said(name, _MAX_MESSAGE))), f"HTTP {got.status_code}")
    code = said("code")
    return _Facts(
        message=message,
        code=None if code is None or code.isdigit() else code,
        type=said("type"),
        param=said("param"),
        number=_number(node.get("code")),
    )


def _node(body: bytes) -> dict[str, typing.Any]:
    """The object that holds message and code: "error", the flat old form, or a list of one."""
    try:
        data = json_text.loads(body)
    except ValueError:
        return {}
    data = data[0] if isinstance(data, list) and data else data
    if not isinstance(data, dict):
        return {}
    return data["error"] if isinstance(data.get("error"), dict) else data


def _number(code: object) -> int | None:
    if isinstance(code, str) and code.isascii() and code.isdigit() and len(code) < 10:
        return int(code)
    return code if type(code) is int else None


def _wait_in_words(message: str) -> float | None:
    found = _TRY_AGAIN.search(message)
    if not found or not any(found.groups()):
        return None
    hours, minutes, number, unit = found.groups()
    last = float(number or 0) / (1000 if unit == "ms" else 1)
    return retry_after.clamp(int(hours or 0) * 3600 + int(minutes or 0) * 60 + last)
