"""Lines of an input file with their numbers and offsets, in flat memory, from any cursor on."""

from collections.abc import Iterator
from dataclasses import dataclass

from worker.blobs import CHUNK, Blob

BOM = b"\xef\xbb\xbf"
LONGEST = 64 << 20
"""A line longer than this many bytes is an error, and is skipped without being held in memory."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RawLine:
    """``bytes`` is None when the line is too long; ``number`` counts from 1, blank lines included."""

    number: int
    offset: int
    next_offset: int
    bytes: bytes | None


def read(blob: Blob, *, line: int, offset: int, chunk: int = CHUNK) -> Iterator[RawLine]:
    """Lines after number ``line``, which ended at ``offset``. The last one may lack its newline."""
    pending = bytearray()
    begin = offset
    lost = False
    for data in blob.chunks(offset=offset, size=chunk):
        position = 0
        while (newline := data.find(b"\n", position)) >= 0:
            pending += data[position:newline]
            position = newline + 1
            line += 1
            end = offset + position
            yield _raw(line, begin, end, pending, lost)
            begin, lost = end, False
            pending.clear()
        pending += data[position:]
        offset += len(data)
        if len(pending) > LONGEST:
            pending.clear()
            lost = True
    if pending or lost:
        yield _raw(line + 1, begin, offset, pending, lost)


def _raw(number: int, begin: int, end: int, content: bytearray, lost: bool) -> RawLine:
    raw = bytes(content)
    if begin == 0 and raw.startswith(BOM):
        begin, raw = len(BOM), raw[len(BOM) :]
    return RawLine(number=number, offset=begin, next_offset=end, bytes=None if lost or len(raw) > LONGEST else raw)
