"""Shapes of JSON values, composed from small checks; a dialect words what does not match."""

import re
from collections.abc import Callable, Mapping
from typing import Any

Check = Callable[[Any], None]


class Mismatch(Exception):
    """A value is not of the shape. `kind`: type missing unknown value low high empty short long many pattern rule."""

    def __init__(self, kind: str, expected: Any = None, got: Any = None, *, of: str = "") -> None:
        super().__init__(kind)
        self.kind, self.expected, self.got, self.of = kind, expected, got, of
        self.path: list[str | int] = []

    def within(self, name: str | int) -> "Mismatch":
        self.path.insert(0, name)
        return self


def anything(value: Any) -> None:
    """Every JSON value."""


def nullable(check: Check) -> Check:
    def checked(value: Any) -> None:
        if value is not None:
            check(value)

    return checked


def string(*, most: int | None = None, least: int = 0, pattern: str | None = None) -> Check:
    wanted = re.compile(pattern) if pattern else None

    def checked(value: Any) -> None:
        if type(value) is not str:
            raise Mismatch("type", "a string", value)
        if most is not None and len(value) > most:
            raise Mismatch("long", most, value, of="string")
        if len(value) < least:
            raise Mismatch("short", least, value, of="string")
        if wanted is not None and not wanted.fullmatch(value):
            raise Mismatch("pattern", pattern, value)

    return checked


def integer(low: int | None = None, high: int | None = None) -> Check:
    def checked(value: Any) -> None:
        if type(value) is not int:
            raise Mismatch("type", "an integer", value)
        _bounded(value, low, high, "integer")

    return checked


def number(low: float | None = None, high: float | None = None) -> Check:
    def checked(value: Any) -> None:
        if type(value) is not float and type(value) is not int:
            raise Mismatch("type", "a decimal", value)
        _bounded(value, low, high, "decimal")

    return checked


def _bounded(value: float, low: float | None, high: float | None, of: str) -> None:
    if low is not None and value < low:
        raise Mismatch("low", low, value, of=of)
    if high is not None and value > high:
        raise Mismatch("high", high, value, of=of)


def boolean(value: Any) -> None:
    if type(value) is not bool:
        raise Mismatch("type", "a boolean", value)


def one_of(*values: str) -> Check:
    def checked(value: Any) -> None:
        if type(value) is not str:
            raise Mismatch("type", f"one of {listed(values)}", value)
        if value not in values:
            raise Mismatch("value", values, value)

    return checked


def array(item: Check, *, least: int = 0, most: int | None = None) -> Check:
    def checked(value: Any) -> None:
        if type(value) is not list:
            raise Mismatch("type", "an array", value)
        if len(value) < least:
            raise Mismatch("empty" if least == 1 else "short", least, value, of="array")
        if most is not None and len(value) > most:
            raise Mismatch("long", most, value, of="array")
        at = 0
        try:
            for inner in value:
                item(inner)
                at += 1
        except Mismatch as mismatch:
            raise mismatch.within(at) from None

    return checked


def mapping(item: Check, *, most: int | None = None, key: int | None = None) -> Check:
    """An object with any names, at most `most` of them, each at most `key` long."""

    def checked(value: Any) -> None:
        if type(value) is not dict:
            raise Mismatch("type", "an object", value)
        if most is not None and len(value) > most:
            raise Mismatch("many", most, value)
        for name, inner in value.items():
            try:
                if key is not None and len(name) > key:
                    raise Mismatch("long", key, name, of="string")
                item(inner)
            except Mismatch as mismatch:
                raise mismatch.within(name) from None

    return checked


class Fields:
    """An object with these names and no others."""

    def __init__(self, required: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> None:
        self.known = {**required, **(optional or {})}
        self.required = tuple(required)

    def __call__(self, value: Any) -> None:
        if type(value) is not dict:
            raise Mismatch("type", "an object", value)
        known = self.known
        for name in self.required:
            if name not in value:
                raise Mismatch("missing").within(name)
        for name, inner in value.items():
            check = known.get(name)
            if check is None:
                raise Mismatch("unknown").within(name)
            try:
                check(inner)
            except Mismatch as mismatch:
                raise mismatch.within(name) from None


class Tagged:
    """An object whose field `tag` says which of the shapes it has."""

    def __init__(self, tag: str, shapes: Mapping[str, Check]) -> None:
        self.tag, self.shapes = tag, shapes

    def __call__(self, value: Any) -> None:
        if type(value) is not dict:
            raise Mismatch("type", "an object", value)
        if self.tag not in value:
            raise Mismatch("missing").within(self.tag)
        name = value[self.tag]
        shape = self.shapes.get(name) if type(name) is str else None
        if shape is None:
            raise Mismatch("value", tuple(self.shapes), name).within(self.tag)
        shape(value)


def either(expected: str, shapes: Mapping[type, Check]) -> Check:
    """By the JSON type of the value; `expected` names the types."""

    def checked(value: Any) -> None:
        check = shapes.get(type(value))
        if check is None:
            raise Mismatch("type", expected, value)
        check(value)

    return checked


def listed(values: tuple[str, ...]) -> str:
    quoted = [f"'{value}'" for value in values]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])}, and {quoted[-1]}"
