"""JSON read fast and kept as it was written."""

import json
import re
import typing

import orjson

_LINE_BREAK = re.compile(rb"[\r\n][ \t\r\n]*")


def loads(text: bytes) -> typing.Any:
    """orjson decides; what it refuses (lone surrogates) the standard library decides, but never NaN or Infinity.

    Raises ValueError.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(text.decode("utf-8-sig"), parse_constant=_refuse, parse_int=_integer)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def dumps(value: typing.Any) -> bytes:
    """One line; the standard library writes what orjson refuses: lone surrogates, numbers beyond 64 bits."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value).encode()


def one_line(text: bytes) -> bytes:
    """The same JSON on one line; digits and escapes stay as they are.

    In valid JSON a raw line break only stands between tokens, so it can go together with the indent that follows.
    """
    text = text.strip().removeprefix(b"\xef\xbb\xbf")
    return _LINE_BREAK.sub(b"", text) if b"\n" in text or b"\r" in text else text


def storable(text: object, limit: int = 200) -> str | None:
    """A string that any database takes: no lone surrogates, no NUL, cut to a limit. None for what is no string."""
    if not isinstance(text, str):
        return None
    return text if text.isascii() and text.isprintable() and len(text) <= limit else _cleaned(text[:limit])


def members(text: str) -> dict[str, str]:
    """The members of a valid JSON object, each value as it was written; of a repeated name the last."""
    found = {}
    position = _skip(text, text.index("{") + 1)
    while text[position] != "}":
        name, position = _SCANNER.raw_decode(text, position)
        start = _skip(text, _skip(text, position) + 1)  # past the colon
        _, end = _SCANNER.raw_decode(text, start)
        found[name] = text[start:end]
        position = _skip(text, end)
        position = _skip(text, position + 1) if text[position] == "," else position
    return found


def with_defaults(text: bytes, defaults: typing.Mapping[str, typing.Any]) -> bytes:
    """The object with the members of `defaults` that it lacks; all its own values are kept as written."""
    own = members(text.decode())
    added = {name: json.dumps(value) for name, value in defaults.items() if name not in own}
    pairs = (f"{json.dumps(name)}:{value}" for name, value in (own | added).items())
    return f"{{{','.join(pairs)}}}".encode()


def _skip(text: str, position: int) -> int:
    while text[position] in " \t\r\n":
        position += 1
    return position


def _cleaned(text: str) -> str:
    return text.encode("utf-8", "replace").decode().replace("\0", "")


def _refuse(constant: str) -> typing.NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) < 100 else float(digits)


_SCANNER = json.JSONDecoder(parse_int=str, parse_float=str)
