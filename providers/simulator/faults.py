"""Faults on request.

A caller writes them into its last user message (or the input of an embedding) between double brackets, several words
in one pair, several pairs in one text; or the options give them a probability, drawn by (seed, nonce, attempt), so
that the draw does not depend on the order of the calls. Words:

    status=429  code=insufficient_quota  type=T  message="M"   an error answer; a code brings its own status and type
    retry_after=2 (or -5, date:3, any text)  retry_after_ms=500  redirect=URL   headers of that answer
    delay=3     wait before answering            drip=0.2 bytes=8  send 8 bytes every 0.2 s (bytes: 64)
    hang=5      never answer, close after 5 s (600)   reset  TCP reset instead of an answer
    cut=0.5     promise the whole body, send half, close      garbage=KIND  a 200 whose body is no answer: html empty
                null list nan deep duplicate utf16 surrogate text truncated       error  a 200 with an error object
    size=1000000 pad the answer to that many bytes      bomb=1000000  the same, gzipped
    usage=none|null|zero|negative|string   empty   refusal   filter (400) filter=finish (200)   finish=length
    say="text"  tokens=500   what, and how much, is answered
    times=2     only for the first two calls of this nonce that pass the limits        always  (options only) draw by
                nonce alone, so that every attempt fails

Brackets with any other word in them are plain text. Of two pairs that say the same thing the first one counts.
"""

import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any


class FaultError(Exception):
    """A known word has an impossible value; the message names both."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """What to do to one call; the default does nothing."""

    status: int | None = None
    code: str | None = None
    type: str | None = None
    message: str | None = None
    retry_after: str | None = None
    retry_after_ms: str | None = None
    redirect: str | None = None
    delay: float = 0.0
    drip: float | None = None
    bytes: int = 64
    hang: float | None = None
    reset: bool = False
    cut: float | None = None
    garbage: str | None = None
    error: bool = False
    size: int | None = None
    bomb: int | None = None
    usage: str | None = None
    empty: bool = False
    refusal: bool = False
    filter: str | None = None
    finish: str | None = None
    say: str | None = None
    tokens: int | None = None

    @property
    def name(self) -> str | None:
        """What the statistics call it; None where the answer is still whole and paid for."""
        if self.status is not None or self.code is not None:
            return f"status={self.status}" if self.code is None else f"code={self.code}"
        for name in ("hang", "reset", "cut", "garbage", "error", "bomb"):
            if getattr(self, name) not in (None, False):
                return name
        return "filter" if self.filter == "prompt" else None


NONE = Fault()
# A word without a value means this.
PLAIN: dict[str, Any] = {"hang": 600.0, "cut": 0.5, "garbage": "text", "filter": "prompt", "finish": "length"}
FLAGS = frozenset({"reset", "error", "empty", "refusal", "always"})
ONE_OF = {
    "garbage": "html empty null list nan deep duplicate utf16 surrogate text truncated".split(),
    "usage": "none null zero negative string".split(),
    "filter": ["prompt", "finish"],
}
NUMBERS: dict[str, type[int] | type[float]] = {"status": int, "bytes": int, "size": int, "bomb": int, "tokens": int}
NUMBERS |= {"delay": float, "drip": float, "hang": float, "cut": float, "times": int}
NAMES = frozenset({field.name for field in dataclasses.fields(Fault)} | {"times", "always"})

_BRACKETS = re.compile(r"\[\[([^\[\]]{1,2000})\]\]")
_WORD = re.compile(r'\s*([a-z_]+)(?:=("(?:[^"\\]|\\.)*"|[^\s"]+))?(?=\s|$)')


def within(text: str) -> list[dict[str, Any]]:
    """The commands of a text, in order."""
    if "[[" not in text:
        return []
    found = (parse(inside) for inside in _BRACKETS.findall(text))
    return [words for words in found if words is not None]


@functools.lru_cache(maxsize=4096)
def parse(text: str) -> dict[str, Any] | None:
    """None where the text is no command; raises FaultError on a known word with a bad value."""
    raw: list[tuple[str, str]] = []
    at, text = 0, text.strip()
    while at < len(text):
        match = _WORD.match(text, at)
        if match is None or match[1] not in NAMES:
            return None
        raw.append((match[1], match[2] or ""))
        at = match.end()
    return {name: _value(name, value) for name, value in raw} or None


def _value(name: str, value: str) -> Any:
    try:
        if name in FLAGS and not value:
            return True
        if not value:
            return PLAIN[name]
        if value.startswith('"'):
            value = json.loads(value)
        if name in ONE_OF and value not in ONE_OF[name]:
            raise ValueError(value)
        if name in FLAGS:
            raise ValueError(value)
        return _number(name, value) if name in NUMBERS else value
    except (KeyError, ValueError) as error:
        raise FaultError(f"the fault {name!r} cannot be {value!r}") from error


def _number(name: str, value: str) -> int | float:
    made: int | float = NUMBERS[name](value)
    if not (200 <= made <= 599 if name == "status" else 0 <= made < 1e12):
        raise ValueError(value)
    return made


def merge(commands: list[dict[str, Any]], attempt: int) -> Fault:
    """The fault of this attempt (counted from 1)."""
    words: dict[str, Any] = {}
    for command in commands:
        if attempt <= command.get("times", attempt):
            for name, value in command.items():
                words.setdefault(name, value)
    words.pop("times", None)
    words.pop("always", None)
    return Fault(**words) if words else NONE


def drawn(chances: Mapping[str, float], seed: int, nonce: str, attempt: int) -> list[dict[str, Any]]:
    """At most one of the options' faults that vary by attempt, and one that does not."""
    found = []
    moving, fixed = uniform(seed, nonce, attempt), uniform(seed, nonce, 0)
    for words, chance in chances.items():
        command = parse(words)
        if command is None:
            continue
        if command.get("always"):
            fixed, hit = fixed - chance, 0 <= fixed < chance
        else:
            moving, hit = moving - chance, 0 <= moving < chance
        if hit:
            found.append(command)
    return found


def uniform(seed: int, nonce: str, attempt: int) -> float:
    """In [0, 1), the same for the same three."""
    digest = hashlib.blake2b(f"{seed}/{nonce}/{attempt}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
