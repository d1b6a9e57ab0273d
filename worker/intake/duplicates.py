"""Duplicate custom_ids among millions of lines: hashes in an array, 16 bytes a slot, each hit verified by its line."""

from array import array
from collections.abc import Callable
from hashlib import blake2b

FIRST_SLOTS = 1 << 12
FULLEST = 0.8


class SeenIds:
    """An open-addressing set of 64-bit hashes. ``read(place)`` gives back the custom_id noted with that place."""

    def __init__(self, read: Callable[[int], str]) -> None:
        self._read = read
        self._count = 0
        self._hashes = _zeros(FIRST_SLOTS)
        self._places = _zeros(FIRST_SLOTS)

    def add(self, custom_id: str, place: int) -> int | None:
        """Note the id; the place at which the same id was noted before, if it was."""
        if self._count >= len(self._hashes) * FULLEST:
            self._grow()
        value = int.from_bytes(blake2b(custom_id.encode(), digest_size=8).digest(), "little") or 1
        mask = len(self._hashes) - 1
        slot = value & mask
        while self._hashes[slot]:
            if self._hashes[slot] == value and self._read(self._places[slot]) == custom_id:
                return self._places[slot]
            slot = (slot + 1) & mask
        self._hashes[slot], self._places[slot] = value, place
        self._count += 1
        return None

    def _grow(self) -> None:
        hashes, places = self._hashes, self._places
        size = len(hashes) * 2
        self._hashes, self._places = _zeros(size), _zeros(size)
        for value, place in zip(hashes, places, strict=True):
            if value:
                slot = value & (size - 1)
                while self._hashes[slot]:
                    slot = (slot + 1) & (size - 1)
                self._hashes[slot], self._places[slot] = value, place


def _zeros(count: int) -> "array[int]":
    """Made in place: no second copy in memory."""
    return array("Q", (0,)) * count
