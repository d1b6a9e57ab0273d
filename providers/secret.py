"""A value that must not be seen."""

import typing

from typing_extensions import override


class Secret:
    """Holds a key; only reveal() gives it out. It is never printed, compared in logs, or pickled."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        if not value or not value.isascii() or not value.isprintable() or " " in value:
            raise ValueError("a key must be printable ASCII without spaces, and not empty")
        self._value = value

    def reveal(self) -> str:
        return self._value

    @override
    def __repr__(self) -> str:
        return "Secret('***')"

    @override
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    @override
    def __hash__(self) -> int:
        return hash(self._value)

    @override
    def __reduce__(self) -> typing.NoReturn:
        raise TypeError("a Secret is never serialized")
