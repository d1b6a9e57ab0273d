"""What the models say: deterministic from the request's bytes, plausible, in no dialect."""

import array
import dataclasses
import hashlib
import math
import random
import re
from typing import Any

import orjson

from providers.simulator import faults, samples
from providers.simulator.ask import Ask, Tool


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """In OpenAI's inclusive meaning: cached inside input, reasoning inside output."""

    input_tokens: int
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ToolCall:
    id: str
    tool: Tool
    text: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """`pieces` are the tokens of the text; they join to it."""

    text: str | None
    pieces: tuple[str, ...] = ()
    calls: tuple[ToolCall, ...] = ()
    refusal: str | None = None
    finish: str = "stop"  # "stop" | "length" | "tool_calls" | "content_filter"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    id: str
    choices: tuple[Choice, ...]
    usage: Usage


REFUSAL = "I'm sorry, but I can't help with that."
_PIECE = re.compile(r"\s*\S{1,7}|\s+")
_WORDS = (
    "the mill grain water wheel stone river flour miller baker morning market slow steady turn weigh measure sack "
    "barley oats wheat rye harvest ledger count price season village road bridge evening quiet work hand craft old "
    "young careful answer question reason because therefore however often rarely always each every other another "
    "small large warm cold bright plain clear deep gives takes keeps carries grinds sorts fills needs holds finds"
).split()


def _corpus(length: int) -> tuple[str, ...]:
    """Pieces of prose; one word is one token."""
    dice, made, left = random.Random("gristmill"), [], 0
    for _ in range(length):
        word = dice.choice(_WORDS)
        first, left = left == 0, left - 1 if left else dice.randint(5, 12)
        made.append(" " + (word.capitalize() if first else word) + ("." if left == 0 else ""))
    return tuple(made)


_CORPUS = _corpus(4096)
_ROOM = 1024  # longest prose that is one slice of the corpus


def tokens(text: str) -> int:
    """About four bytes a token."""
    return ((len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))) + 3) // 4


def pieces(text: str) -> tuple[str, ...]:
    return tuple(_PIECE.findall(text))


def make(ask: Ask, fault: faults.Fault, length: int | None = None) -> Answer:
    """The answer to a chat or text request; `length` in tokens, else by the request."""
    digest = hashlib.blake2b(ask.body, digest_size=16).digest()
    seed = int.from_bytes(digest, "big")
    length = fault.tokens or length or round((16 + seed % 64) * ask.verbosity)
    reasoning = round((32 + (seed >> 8) % 224) * ask.effort) if ask.family.reasons else 0
    if ask.max_tokens is not None:
        reasoning = min(reasoning, ask.max_tokens)
    room = (ask.family.max_output if ask.max_tokens is None else ask.max_tokens) - reasoning
    choices, output = [], 0
    for index in range(ask.choices):
        choice, used = _choice(ask, fault, (seed >> 16) + index * 40503, length, room)
        choices.append(choice)
        output += used + reasoning
    usage = Usage(
        input_tokens=ask.input_tokens,
        cached_tokens=ask.cached_tokens,
        output_tokens=output,
        reasoning_tokens=reasoning * ask.choices,
    )
    return Answer(id=digest.hex()[:29], choices=tuple(choices), usage=usage)


def _choice(ask: Ask, fault: faults.Fault, seed: int, length: int, room: int) -> tuple[Choice, int]:
    """And the tokens it cost."""
    if fault.refusal:
        said = pieces(REFUSAL)
        return Choice(text=None, pieces=said, refusal=REFUSAL), len(said)
    if ask.calls and not fault.empty and fault.say is None:
        return _calls(ask, fault, seed, room)
    said = () if fault.empty else _said(ask, fault, seed, length)
    finish = "stop"
    if ask.stops:
        said = _stopped(said, ask.stops)
    if fault.filter == "finish":
        said, finish = said[: len(said) // 2], "content_filter"
    if len(said) > room:
        said, finish = said[:room], "length"
    return Choice(text="".join(said), pieces=said, finish=fault.finish or finish), len(said)


def _said(ask: Ask, fault: faults.Fault, seed: int, length: int) -> tuple[str, ...]:
    if fault.say is not None:
        return pieces(fault.say)
    if ask.format == "json":
        made: Any = {"answer": " ".join(samples.WORDS[(seed + i) % 16] for i in range(3)), "score": seed % 10}
        if ask.marked:
            made["nonce"] = ask.nonce
        return pieces(orjson.dumps(made).decode())
    if isinstance(ask.format, dict):
        return pieces(orjson.dumps(samples.make(ask.format, seed)).decode())
    return _prose(seed, length, f"ack nonce:{ask.nonce}." if ask.marked else "")


def _prose(seed: int, length: int, opening: str) -> tuple[str, ...]:
    """At least the opening; `length` tokens with it."""
    first = pieces(opening)
    length = max(0, length - len(first))
    if length == 0:
        return first
    at, made = seed % (len(_CORPUS) - _ROOM), first
    for start in range(0, length, _ROOM):
        made += _CORPUS[at : at + min(_ROOM, length - start)]
    last = made[-1] if made[-1].endswith(".") else made[-1] + "."
    if first:
        return (*made[:-1], last)
    return (made[0].lstrip().capitalize(), *made[1:-1], last) if length > 1 else (last.lstrip().capitalize(),)


def _stopped(said: tuple[str, ...], stops: tuple[str, ...]) -> tuple[str, ...]:
    text = "".join(said)
    ends = [text.find(stop) for stop in stops if stop in text]
    return pieces(text[: min(ends)]) if ends else said


def _calls(ask: Ask, fault: faults.Fault, seed: int, room: int) -> tuple[Choice, int]:
    count = 1 + (seed >> 4) % 2 if ask.calls > 1 and len(ask.tools) > 1 else 1
    made, used, finish = [], 0, "tool_calls"
    for index in range(count):
        tool = ask.tools[(seed + index) % len(ask.tools)]
        if tool.schema is None:
            said = _prose(seed, 12, "")
        else:
            said = pieces(orjson.dumps(samples.make(tool.schema, seed + index)).decode())
        if used + len(said) > room:
            said, finish = said[: room - used], "length"
        used += len(said)
        made.append(ToolCall(id=f"call_{(seed + index) % 36**22:024x}"[:29], tool=tool, text="".join(said)))
        if finish == "length":
            break
    return Choice(text=None, calls=tuple(made), finish=fault.finish or finish), used


def vector(text: str | list[int], dimensions: int) -> list[float]:
    """Of length 1, the same for the same text."""
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else orjson.dumps(text)
    raw = array.array("h", hashlib.shake_128(data).digest(2 * dimensions))
    length = math.hypot(*raw) or 1.0
    return [round(value / length, 9) for value in raw]
