"""One line of an input file: checked, and located to the byte, without re-modelling the body."""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any, NoReturn

ENDPOINTS = {
    "/v1/chat/completions": "chat/completions",
    "/v1/embeddings": "embeddings",
    "/v1/completions": "completions",
    "/v1/messages": "messages",
}
"""The ``url`` of a line, and the path below /v1/ that serves it."""

REQUIRED = ("custom_id", "method", "url", "body")
KNOWN = frozenset({*REQUIRED, "metadata"})
CUSTOM_ID_LENGTH = 512
LONGEST_NAME = 256
"""Of models, and of keys that are compared with the known ones."""
INPUT_FIELDS = {
    "chat/completions": ("messages",),
    "embeddings": ("input",),
    "completions": ("prompt",),
    "messages": ("messages", "max_tokens"),
}


class LineProblem(Exception):
    """What is wrong with a line: OpenAI's code where it has one, the field, and what to do."""

    def __init__(self, code: str, message: str, param: str | None = None, custom_id: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param
        self.custom_id = custom_id


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A good line. Offsets are bytes: the body's from the line's begin, the model's from the body's begin."""

    custom_id: str
    endpoint: str
    model: str
    body: dict[str, Any]
    offset: int
    length: int
    model_offset: int
    model_length: int


def parse(raw: bytes) -> Line:
    """Check one line (without its newline). Raises LineProblem."""
    text = _decoded(raw)
    with _json_problems():
        fields, spans = _object(text, _SPACE(text, 0).end())
        if _SPACE(text, spans[""][1]).end() != len(text):
            raise ValueError("more text after the JSON object")
    custom_id = _custom_id(fields)
    try:
        return _line(text, raw, custom_id, fields, spans)
    except LineProblem as problem:
        problem.custom_id = custom_id
        raise


def _line(text: str, raw: bytes, custom_id: str, fields: dict[str, Any], spans: dict[str, tuple[int, int]]) -> Line:
    _check_keys(fields)
    if fields["method"] != "POST":
        raise LineProblem("invalid_method", f"The method must be 'POST', not {fields['method']!r}.", "method")
    endpoint = _endpoint(fields["url"])
    body = fields["body"]
    if not isinstance(body, dict):
        raise LineProblem("invalid_body", "The body must be a JSON object.", "body")
    start, end = spans["body"]
    with _json_problems():
        body_spans = _object(text, start)[1]
    return _located(text, raw, custom_id, endpoint, body, body_spans, start, end)


def parse_body(endpoint: str, raw: bytes | bytearray) -> Line:
    """Check a request that stands alone, with no line around it; its ``custom_id`` is empty. Raises LineProblem."""
    text = _decoded(raw)
    with _json_problems():
        body, spans = _object(text, _SPACE(text, 0).end())
        start, end = spans[""]
        if _SPACE(text, end).end() != len(text):
            raise ValueError("more text after the JSON object")
    return _located(text, raw, "", endpoint, body, spans, start, end)


def without(raw: bytes | bytearray, names: Sequence[str]) -> tuple[bytes, dict[str, Any]]:
    """The object without these members, and what they were; all others stay as written. Raises LineProblem."""
    text = _decoded(raw)
    with _json_problems():
        kept, taken = [], {}
        start = _SPACE(text, 0).end()
        end = _object(text, start)[1][""][1]
        for key, value, begin, stop in _members(text, start):
            if key in names:
                taken[key] = value
            else:
                kept.append(f"{json.dumps(key)}:{text[begin:stop]}")
    return ("{" + ",".join(kept) + "}" + text[end:]).encode(), taken


def members(raw: bytes | bytearray) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The values of a JSON object, and each as it was written. Raises LineProblem."""
    text = _decoded(raw)
    with _json_problems():
        values, spans = _object(text, _SPACE(text, 0).end())
        if _SPACE(text, spans.pop("")[1]).end() != len(text):
            raise ValueError("more text after the JSON object")
    return values, {key: text[start:end].encode() for key, (start, end) in spans.items()}


def elements(raw: bytes) -> list[bytes]:
    """The elements of a valid JSON array, each as it was written."""
    text = raw.decode()
    found, position = [], _SPACE(text, 1).end()
    while text[position] != "]":
        end = _scan(text, position)[1]
        found.append(text[position:end].encode())
        position = _SPACE(text, end).end()
        position = _SPACE(text, position + 1).end() if text[position] == "," else position
    return found


def _located(
    text: str,
    raw: bytes | bytearray,
    custom_id: str,
    endpoint: str,
    body: dict[str, Any],
    spans: dict[str, tuple[int, int]],
    start: int,
    end: int,
) -> Line:
    model = _model(body)
    _check_body(endpoint, body)
    offset, length = _bytes(text, raw, 0, start), _bytes(text, raw, start, end)
    model_start, model_end = spans["model"]
    return Line(
        custom_id=custom_id,
        endpoint=endpoint,
        model=model,
        body=body,
        offset=offset,
        length=length,
        model_offset=_bytes(text, raw, start, model_start),
        model_length=_bytes(text, raw, model_start, model_end),
    )


@contextmanager
def _json_problems() -> Iterator[None]:
    try:
        yield
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else _reason(error)
        raise LineProblem("invalid_json_line", f"This line is not parseable as valid JSON: {reason}.") from None


def _decoded(raw: bytes | bytearray) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise LineProblem(
            "invalid_utf8", f"This line is not UTF-8 (byte {error.start + 1}). Save the file as UTF-8."
        ) from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
_SPACE: Any = re.compile(r"[ \t\n\r]*").match


def _object(text: str, start: int) -> tuple[dict[str, Any], dict[str, tuple[int, int]]]:
    """Members of the JSON object at ``start``: their values, and their spans in ``text`` (the whole under "")."""
    values: dict[str, Any] = {}
    spans: dict[str, tuple[int, int]] = {}
    end = start
    for key, value, begin, end in _members(text, start):
        if key in values:
            raise ValueError(f"the key {key!r} stands twice")
        values[key], spans[key] = value, (begin, end)
    spans[""] = (start, text.index("}", end if values else start) + 1)
    return values, spans


def _members(text: str, start: int) -> Iterator[tuple[str, Any, int, int]]:
    _expect(text, start, "{", "a JSON object")
    position = _SPACE(text, start + 1).end()
    if text[position : position + 1] == "}":
        return
    while True:
        _expect(text, position, '"', "a key in double quotes")
        key, position = scanstring(text, position + 1, True)
        position = _SPACE(text, position).end()
        _expect(text, position, ":", "':' after a key")
        begin = _SPACE(text, position + 1).end()
        value, end = _scan(text, begin)
        yield key, value, begin, end
        position = _SPACE(text, end).end()
        if text[position : position + 1] == "}":
            return
        _expect(text, position, ",", "',' or '}'")
        position = _SPACE(text, position + 1).end()


def _scan(text: str, begin: int) -> tuple[Any, int]:
    try:
        value, end = _DECODER.scan_once(text, begin)  # type: ignore[attr-defined]
    except StopIteration as error:
        raise ValueError(f"expected a value at character {error.value + 1}") from None
    return value, end


def _expect(text: str, position: int, sign: str, what: str) -> None:
    if text[position : position + 1] != sign:
        raise ValueError(f"expected {what} at character {position + 1}")


def _reason(error: BaseException) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.pos + 1}"
    return str(error)


def _bytes(text: str, raw: bytes | bytearray, start: int, end: int) -> int:
    return end - start if len(text) == len(raw) else len(text[start:end].encode("utf-8"))


def _custom_id(fields: dict[str, Any]) -> str:
    if "custom_id" not in fields:
        raise LineProblem("missing_required_parameter", "Missing required parameter: 'custom_id'.", "custom_id")
    value = fields["custom_id"]
    if not isinstance(value, str) or not 1 <= len(value) <= CUSTOM_ID_LENGTH:
        raise LineProblem(
            "invalid_custom_id", f"The custom_id must be a string of 1 to {CUSTOM_ID_LENGTH} characters.", "custom_id"
        )
    if "\0" in value or any("\ud800" <= sign <= "\udfff" for sign in value):
        raise LineProblem(
            "invalid_custom_id", "The custom_id holds a NUL or half of a surrogate pair. Leave it out.", "custom_id"
        )
    return value


def _check_keys(fields: dict[str, Any]) -> None:
    for key in REQUIRED:
        if key not in fields:
            raise LineProblem("missing_required_parameter", f"Missing required parameter: '{key}'.", key)
    for key in [key for key in fields if key not in KNOWN]:
        near = get_close_matches(key[:LONGEST_NAME], KNOWN, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else " Put data of your own under 'metadata'."
        raise LineProblem("unknown_parameter", f"Unknown parameter: '{key}'.{hint}", key)
    if not isinstance(fields.get("metadata", {}), dict):
        raise LineProblem("invalid_metadata", "The metadata must be a JSON object.", "metadata")


def _endpoint(url: Any) -> str:
    endpoint = ENDPOINTS.get(url) if isinstance(url, str) else None
    if endpoint is None:
        raise LineProblem(
            "invalid_url", f"The url {url!r} is not supported. Use one of {', '.join(sorted(ENDPOINTS))}.", "url"
        )
    return endpoint


def _model(body: dict[str, Any]) -> str:
    if "model" not in body:
        raise LineProblem("missing_required_parameter", "Missing required parameter: 'body.model'.", "body.model")
    model = body["model"]
    if not isinstance(model, str) or not 1 <= len(model) <= LONGEST_NAME or not _is_plain(model):
        raise LineProblem(
            "invalid_model", f"The model must be a string of 1 to {LONGEST_NAME} characters.", "body.model"
        )
    return model


def _is_plain(text: str) -> bool:
    """No control characters and no halves of surrogate pairs."""
    return not any(sign < " " or "\ud800" <= sign <= "\udfff" for sign in text)


def _check_body(endpoint: str, body: dict[str, Any]) -> None:
    if body.get("stream"):
        raise LineProblem("stream_not_supported", "A batch line cannot stream: leave out 'stream'.", "body.stream")
    for field in INPUT_FIELDS[endpoint]:
        if field not in body:
            message = f"Missing required parameter: 'body.{field}'."
            raise LineProblem("missing_required_parameter", message, f"body.{field}")
    if endpoint in ("chat/completions", "messages") and not isinstance(body["messages"], list):
        raise LineProblem("invalid_body", "The messages must be a list.", "body.messages")
