"""The members of one object of a request, taken one by one: what nobody takes is refused, never dropped."""

import typing

Json = dict[str, typing.Any]

_KINDS = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}


class Refused(Exception):
    """The request is wrong, or cannot be said in OpenAI's words. The message begins with the field."""

    def __init__(self, where: str, why: str) -> None:
        super().__init__(f"{where}: {why}")
        self.where = where


class Fields:
    """``where`` is the object's own place in the request, such as ``messages.0``; the request itself has none."""

    def __init__(self, value: object, where: str = "") -> None:
        if not isinstance(value, dict):
            raise Refused(where or "params", "must be an object")
        self.where = where
        self._left = dict(value)

    def at(self, name: str) -> str:
        return f"{self.where}.{name}" if self.where else name

    def take(self, name: str, *kinds: type) -> typing.Any:
        """The value, or None if it is absent or null. Raises Refused if it is of none of these types."""
        value = self._left.pop(name, None)
        if value is not None and kinds and type(value) not in kinds:
            raise Refused(self.at(name), f"must be {' or '.join(_KINDS[kind] for kind in kinds)}")
        return value

    def need(self, name: str, *kinds: type) -> typing.Any:
        """``take`` of what must be there."""
        value = self.take(name, *kinds)
        if value is None:
            raise Refused(self.at(name), "field required")
        return value

    def strings(self, name: str) -> list[str]:
        value = self.take(name, list) or []
        if not all(isinstance(one, str) for one in value):
            raise Refused(self.at(name), "must be a list of strings")
        return typing.cast(list[str], value)

    def one_of(self, name: str, *words: str) -> str | None:
        value = self.take(name, str)
        return None if value is None else self._known(name, value, words)

    def need_one_of(self, name: str, *words: str) -> str:
        return self._known(name, self.need(name, str), words)

    def close(self) -> None:
        """Everything was taken, or is null. Raises Refused."""
        for name, value in self._left.items():
            if value is not None:
                why = "cannot be passed on to a provider that speaks OpenAI's dialect; leave it out"
                raise self.refused(name[:100], why)

    def refused(self, name: str, why: str) -> Refused:
        return Refused(self.at(name), why)

    def _known(self, name: str, value: str, words: tuple[str, ...]) -> str:
        if value not in words:
            raise self.refused(name, f"{value[:40]!r} cannot be passed on; {' or '.join(words)} can")
        return value
