"""Everything that can go wrong in a call.

ProviderError
├── AuthenticationError      the key is refused                    Pause(AUTH)
├── PermissionDeniedError    not allowed, or a filter              GiveUp
├── BillingError             no money, spend limit reached         Pause(BALANCE)
├── RateLimitError           too many requests or tokens           RateLimited(RATE)
├── RampLimitError           the rate rose too fast                RateLimited(RAMP)
├── ConcurrencyLimitError    too many calls at once                RateLimited(CONCURRENCY)
├── DailyQuotaError          the day's quota is spent              Pause(DAILY)
├── RequestTooBigError       larger than the limit itself          GiveUp
├── OverloadedError          the provider has no capacity          Transient
├── ServerError              the provider broke                    Transient
├── DeadlineError            no answer in time                     Transient
├── ConnectError             never reached: refused, DNS, TLS      Pause(OUTAGE)
├── ConnectionDropped        broke after the request was sent      Transient
├── BadResponseError         an answer that cannot be read         Transient
├── ResponseTooLargeError    more bytes than the client's cap      GiveUp
├── NotFoundError            no such model or path                 GiveUp
├── InvalidRequestError      the request is wrong                  GiveUp
├── ContextLengthError       longer than the model's context       GiveUp
├── PayloadTooLargeError     more bytes than the provider takes    GiveUp
└── ContentFilterError       refused by a content policy           GiveUp
"""

import collections.abc
import json
import types
import typing

from typing_extensions import override

from providers import json_text, rate_limits
from providers import usage as usages
from providers import verdict as verdicts

MAX_BODY = 64 * 1024

NO_HEADERS: collections.abc.Mapping[str, str] = types.MappingProxyType({})


class ProviderError(Exception):
    """A failed call. Holds no secret in any field: bodies and messages are scrubbed before they come here."""

    default_code = "provider_error"
    default_status = 502  # shown where the provider gave none

    def __init__(
        self,
        message: str,
        *,
        status_code: int | None = None,
        code: str | None = None,
        type: str | None = None,
        param: str | None = None,
        request_id: str | None = None,
        body: bytes = b"",
        retry_after: float | None = None,
        headers: collections.abc.Mapping[str, str] = NO_HEADERS,
        usage: usages.Usage | None = None,
        may_be_billed: bool = False,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status_code = status_code
        self.code = code or self.default_code
        self.type = type
        self.param = param
        self.request_id = request_id
        self.body = body[:MAX_BODY]
        self.retry_after = retry_after  # seconds
        self.headers = headers
        self.usage = usage
        self.may_be_billed = may_be_billed  # the request may have reached a model

    @property
    def verdict(self) -> verdicts.Verdict:
        return verdicts.GiveUp()

    def public_status(self) -> int:
        """The provider's status if it was an error status, else one that says whose fault it was."""
        if self.status_code is not None and self.status_code >= 400:
            return self.status_code
        return self.default_status

    def public_body(self) -> bytes:
        """One line of JSON: the provider's own error if it was in OpenAI's shape, else one of ours in that shape."""
        if _is_openai_shaped(self.body):
            return json_text.one_line(self.body)
        fields = {
            "message": self.message,
            "type": self.type or "provider_error",
            "param": self.param,
            "code": self.code,
        }
        return json.dumps({"error": fields}).encode()

    @override
    def __reduce__(self) -> typing.NoReturn:
        raise TypeError("a ProviderError does not leave its process")


class _Transient(ProviderError):
    @property
    @override
    def verdict(self) -> verdicts.Verdict:
        return verdicts.Transient(self.retry_after)


class _RateLimited(ProviderError):
    default_status = 429
    kind: verdicts.LimitKind

    @property
    @override
    def verdict(self) -> verdicts.Verdict:
        quota = self.type if self.type in rate_limits.QUOTAS else None
        return verdicts.RateLimited(self.kind, self.retry_after, quota)


class _Pausing(ProviderError):
    reason: verdicts.PauseReason

    @property
    @override
    def verdict(self) -> verdicts.Verdict:
        return verdicts.Pause(self.reason, self.retry_after)


class AuthenticationError(_Pausing):
    """The provider refuses the key."""

    default_code, default_status = "authentication_error", 401
    reason = verdicts.PauseReason.AUTH


class PermissionDeniedError(ProviderError):
    """The key is valid but may not do this. A bare 403 may also be a content filter, so it never pauses."""

    default_code, default_status = "permission_denied", 403


class BillingError(_Pausing):
    """The account has no money left or reached a spend limit that a person set."""

    default_code, default_status = "insufficient_quota", 429
    reason = verdicts.PauseReason.BALANCE


class RateLimitError(_RateLimited):
    """Too many requests or tokens."""

    default_code = "rate_limit_exceeded"
    kind = verdicts.LimitKind.RATE


class RampLimitError(_RateLimited):
    """The rate rose too steeply; the same rate is fine when reached slowly."""

    default_code = "slow_down"
    kind = verdicts.LimitKind.RAMP


class ConcurrencyLimitError(_RateLimited):
    """Too many calls in flight."""

    default_code = "concurrency_limit_exceeded"
    kind = verdicts.LimitKind.CONCURRENCY


class DailyQuotaError(_Pausing):
    """The quota of the day is spent."""

    default_code, default_status = "daily_quota_exceeded", 429
    reason = verdicts.PauseReason.DAILY


class RequestTooBigError(ProviderError):
    """This one request is larger than the whole limit, so waiting never helps."""

    default_code, default_status = "request_too_big_for_limit", 429


class OverloadedError(_Transient):
    """The provider has no capacity just now."""

    default_code, default_status = "overloaded", 503


class ServerError(_Transient):
    """The provider failed inside."""

    default_code = "server_error"


class DeadlineError(_Transient):
    """No complete answer within the time allowed; the provider may still bill it."""

    default_code, default_status = "timeout", 504


class ConnectError(_Pausing):
    """The provider was never reached, so nothing was billed."""

    default_code = "connection_error"
    reason = verdicts.PauseReason.OUTAGE


class ConnectionDropped(_Transient):
    """The connection broke after the request was sent; the provider may still bill it."""

    default_code = "connection_dropped"


class BadResponseError(_Transient):
    """The provider said success but the answer cannot be read."""

    default_code = "bad_response"


class ResponseTooLargeError(ProviderError):
    """The answer is larger than the client's cap."""

    default_code = "response_too_large"


class NotFoundError(ProviderError):
    """No such model, deployment or path."""

    default_code, default_status = "not_found", 404


class InvalidRequestError(ProviderError):
    """The provider calls the request wrong."""

    default_code, default_status = "invalid_request", 400


class ContextLengthError(ProviderError):
    """The request is longer than the model's context."""

    default_code, default_status = "context_length_exceeded", 400


class PayloadTooLargeError(ProviderError):
    """The request has more bytes than the provider takes."""

    default_code, default_status = "payload_too_large", 413


class ContentFilterError(ProviderError):
    """The provider's content policy refuses the request."""

    default_code, default_status = "content_filter", 400


def _is_openai_shaped(body: bytes) -> bool:
    """Whether clients of OpenAI can read it: error.message is a string, type, param and code are strings or null."""
    try:
        error = json_text.loads(body)["error"]
        return isinstance(error["message"], str) and all(
            isinstance(error[key], str | None) for key in ("type", "param", "code")
        )
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return False
