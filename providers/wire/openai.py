"""OpenAI's dialect: chat completions, completions and embeddings; Anthropic's Messages as chat completions."""

import collections.abc
import json
import typing

from providers import answer, deployment, errors, json_text, rate_headers, request, result, usage
from providers.messages import answer as message_answer
from providers.messages import fields
from providers.messages import request as message_request
from providers.wire import openai_errors, openai_usage

Json = dict[str, typing.Any]

MESSAGES = "messages"
"""The endpoint whose requests and answers are in Anthropic's format."""

# A choice's finish_reason; an unknown or missing one counts as complete (many servers invent their own).
_ENDINGS = {
    "length": result.Ending.TRUNCATED,
    "max_tokens": result.Ending.TRUNCATED,
    "content_filter": result.Ending.FILTERED,
    "refusal": result.Ending.REFUSED,
}
# The model broke off: OpenRouter says "error" (its error guide), DeepSeek the other (its API reference), read 2026-11.
_FAILED = ("error", "insufficient_system_resource")
_WORST_FIRST = (
    result.Ending.FILTERED,
    result.Ending.REFUSED,
    result.Ending.TRUNCATED,
    result.Ending.EMPTY,
    result.Ending.COMPLETE,
)


class _FailedError(Exception):
    """A choice that the provider itself calls failed."""


def path(endpoint: str) -> str:
    return "chat/completions" if endpoint == MESSAGES else endpoint


def body(asked: request.ProviderRequest, to: deployment.Deployment) -> bytes:
    """The caller's bytes with only the model's name replaced; re-modelled only where extra_params must be added."""
    if asked.endpoint == MESSAGES:
        sent = _as_chat(asked, to)
    else:
        start, end = asked.model_offset, asked.model_offset + asked.model_length
        sent = b"".join((asked.body[:start], json.dumps(asked.model).encode(), asked.body[end:]))
    return json_text.with_defaults(sent, to.extra_params) if to.extra_params else sent


def read(got: answer.Answer, asked: request.ProviderRequest, to: deployment.Deployment) -> result.ProviderResult:
    """The answer's meaning. An error inside a 200 is an error, and may have been billed."""
    if not 200 <= got.status_code < 300:
        raise openai_errors.from_answer(got, to)
    data = _object(got, to)
    spent = openai_usage.read(data)
    if data.get("error") or data.get("object") == "error":
        raise openai_errors.from_answer(got, to, spent)
    try:
        ending = _READERS[asked.endpoint](data)
        spent = None if _is_miscounted(spent, asked, ending) else spent
        if asked.endpoint == MESSAGES:
            line = message_answer.translated(data, asked.model, spent)
        else:
            line = json_text.one_line(got.body)
    except _FailedError as error:
        raise openai_errors.failed(got, to, str(error), spent) from None
    except (TypeError, KeyError, AttributeError) as error:
        raise openai_errors.unreadable(got, to, f"unexpected form of the answer: {error}", spent) from None
    return result.ProviderResult(
        status_code=got.status_code,
        request_id=openai_errors.request_id(got),
        body=line,
        model=json_text.storable(data.get("model")),
        fingerprint=json_text.storable(data.get("system_fingerprint")),
        usage=spent,
        cost=openai_usage.cost(data, to.spec.cost_field),
        ending=ending,
        headers=rate_headers.select(got.headers),
    )


def _as_chat(asked: request.ProviderRequest, to: deployment.Deployment) -> bytes:
    try:
        return message_request.translated(asked.body, asked.model, limit=to.spec.output_limit)
    except fields.Refused as refused:
        raise errors.InvalidRequestError(str(refused), type="invalid_request_error", param=refused.where) from None


def _is_miscounted(spent: usage.Usage | None, asked: request.ProviderRequest, ending: result.Ending) -> bool:
    """An answer that says something cost output tokens."""
    said_something = ending is result.Ending.COMPLETE and asked.endpoint != "embeddings"
    return spent is not None and said_something and spent.output_tokens == 0


def _object(got: answer.Answer, to: deployment.Deployment) -> Json:
    try:
        data = json_text.loads(got.body)
    except ValueError:
        if got.headers.get("content-type", "").startswith("text/event-stream"):
            raise openai_errors.streamed(got, to) from None
        raise openai_errors.unreadable(got, to, "the answer is not JSON") from None
    if not isinstance(data, dict):
        raise openai_errors.unreadable(got, to, "the answer is not a JSON object")
    return data


def _chat(data: Json) -> result.Ending:
    return _worst(_chat_ending(choice) for choice in _filled(data, "choices"))


def _completion(data: Json) -> result.Ending:
    return _worst(_ending(choice, bool(_string(choice["text"]))) for choice in _filled(data, "choices"))


def _embeddings(data: Json) -> result.Ending:
    for item in _filled(data, "data"):
        if not isinstance(item["embedding"], list | str) or not item["embedding"]:
            raise TypeError("an embedding is no vector")
    return result.Ending.COMPLETE


def _chat_ending(choice: Json) -> result.Ending:
    message = choice["message"]
    content = message.get("content")
    if not isinstance(content, str | list | None):
        raise TypeError("content is neither text, parts nor null")
    if message.get("refusal") and not content:
        return result.Ending.REFUSED
    says = content or message.get("tool_calls") or message.get("function_call") or message.get("audio")
    return _ending(choice, bool(says))


def _ending(choice: Json, says_something: bool) -> result.Ending:
    reason = choice.get("finish_reason")
    if not isinstance(reason, str | None):
        raise TypeError("finish_reason is no text")
    if reason in _FAILED:
        raise _FailedError(reason)
    return _ENDINGS.get(reason or "") or (result.Ending.COMPLETE if says_something else result.Ending.EMPTY)


def _worst(endings: collections.abc.Iterable[result.Ending]) -> result.Ending:
    return min(endings, key=_WORST_FIRST.index)


def _filled(data: Json, name: str) -> list[Json]:
    items = data[name]
    if not isinstance(items, list) or not items:
        raise TypeError(f"{name} is not a filled list")
    return items


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("text is no text")
    return value


_READERS: dict[str, collections.abc.Callable[[Json], result.Ending]] = {
    "chat/completions": _chat,
    "completions": _completion,
    "embeddings": _embeddings,
    MESSAGES: _chat,
}
