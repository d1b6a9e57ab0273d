"""YAML that remembers on which line each value stands, so that an error can say where."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

Path = tuple[int | str, ...]


class NotYaml(Exception):
    """The text is not YAML."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    value: Any
    lines: dict[Path, int]
    duplicates: tuple[tuple[Path, str], ...]

    def line(self, where: Path) -> int:
        """The line of a value, or of the nearest one around it. Counted from 1."""
        while where and where not in self.lines:
            where = where[:-1]
        return self.lines.get(where, 1)


def read(text: str) -> Document:
    """Raises NotYaml."""
    try:
        value, places = _loaded(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise NotYaml(error.problem or "is not YAML", mark.line + 1 if mark else 1) from None
    except (yaml.YAMLError, ValueError) as error:
        raise NotYaml(str(error).splitlines()[0], 1) from None
    except RecursionError:
        raise NotYaml("values are nested too deeply", 1) from None
    return Document(value=value, lines=dict(reversed(places)), duplicates=tuple(_duplicates(places)))


def _loaded(text: str) -> tuple[Any, list[tuple[Path, int]]]:
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        places = list(_places(node, (), ())) if node is not None else []
        return loader.construct_document(node) if node is not None else None, places
    finally:
        loader.dispose()


def _places(node: yaml.Node, where: Path, around: tuple[yaml.Node, ...]) -> Iterator[tuple[Path, int]]:
    if node in around:
        raise ValueError("a value contains itself")
    around = (*around, node)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*where, key.value), key.start_mark.line + 1
            yield from _places(value, (*where, key.value), around)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield (*where, index), item.start_mark.line + 1
            yield from _places(item, (*where, index), around)


def _duplicates(places: list[tuple[Path, int]]) -> Iterator[tuple[Path, str]]:
    seen: dict[Path, int] = {}
    for where, line in places:
        if where in seen:
            yield where, f"is given twice, on lines {seen[where]} and {line}"
        seen.setdefault(where, line)
