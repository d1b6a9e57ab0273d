"""Values that satisfy a JSON schema: the common types, bounds and formats, not `pattern` or `not`."""

import itertools
import math
from typing import Any

WORDS = "amber birch cedar delta ember fjord grove harbor iris juniper kelp lumen maple north ochre pearl".split()
FORMATS = {
    "date-time": "2026-03-14T09:26:53Z",
    "date": "2026-03-14",
    "time": "09:26:53Z",
    "duration": "P3DT4H",
    "email": "iris@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.7",
    "ipv6": "2001:db8::7",
    "uuid": "6f1c9a52-8f0e-4d3b-9a77-2c5d1e0b4a68",
    "uri": "https://example.com/iris",
    "json-pointer": "/iris",
}
# A schema may refer to itself; below this depth only what is required is made.
SHALLOW, DEEPEST = 4, 24


class SchemaError(Exception):
    """The schema itself is malformed."""


def make(schema: dict[str, Any], seed: int) -> Any:
    """Deterministic; a schema that no value satisfies gets some value all the same. Raises SchemaError."""
    try:
        return _Maker(schema, seed).value(schema, 0)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise SchemaError(f"Invalid schema: {error}") from error


class _Maker:
    def __init__(self, root: dict[str, Any], seed: int) -> None:
        self._root, self._seed = root, seed

    def _pick(self, count: int) -> int:
        self._seed = (self._seed * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self._seed >> 33) % count

    def value(self, schema: Any, depth: int) -> Any:
        if not isinstance(schema, dict) or depth > DEEPEST:
            return WORDS[self._pick(len(WORDS))] if schema is not False else None
        schema = self._resolved(schema)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return schema["enum"][self._pick(len(schema["enum"]))]
        kind = self._kind(schema, depth)
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            return self._array(schema, depth)
        if kind in ("integer", "number"):
            return self._number(schema, whole=kind == "integer")
        if kind == "boolean":
            return bool(self._pick(2))
        return None if kind == "null" else self._string(schema)

    def _resolved(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Without $ref, allOf, anyOf and oneOf: one of the ways to satisfy it."""
        for _ in range(DEEPEST):
            if isinstance(schema.get("$ref"), str):
                rest = {name: inner for name, inner in schema.items() if name != "$ref"}
                schema = {**self._target(schema["$ref"]), **rest}
            elif schema.get("allOf"):
                parts = schema["allOf"]
                schema = {name: inner for name, inner in schema.items() if name != "allOf"}
                for part in parts:
                    schema = _joined(schema, self._resolved(part) if isinstance(part, dict) else {})
            elif schema.get("anyOf") or schema.get("oneOf"):
                name = "anyOf" if schema.get("anyOf") else "oneOf"
                ways = [way for way in schema[name] if isinstance(way, dict)] or [{}]
                ways.sort(key=lambda way: "$ref" in way)  # recursion last
                way = ways[self._pick(max(1, sum("$ref" not in way for way in ways)))]
                schema = _joined({key: inner for key, inner in schema.items() if key != name}, way)
            else:
                break
        return schema

    def _target(self, reference: str) -> dict[str, Any]:
        found: Any = self._root
        for part in reference.removeprefix("#").split("/")[1:]:
            found = found.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
        return found if isinstance(found, dict) else {}

    def _kind(self, schema: dict[str, Any], depth: int) -> str:
        kind = schema.get("type")
        if isinstance(kind, list):
            kinds = [name for name in kind if name != "null"] or ["null"]
            return "null" if depth > SHALLOW and "null" in kind else str(kinds[self._pick(len(kinds))])
        if isinstance(kind, str):
            return kind
        if "properties" in schema or "additionalProperties" in schema:
            return "object"
        return "array" if "items" in schema or "prefixItems" in schema else "string"

    def _object(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties") or {}
        required = schema.get("required") or []
        names = list(properties) if depth < SHALLOW else [name for name in properties if name in required]
        names += [name for name in required if name not in properties]
        made = {name: self.value(properties.get(name, {}), depth + 1) for name in names}
        extra = schema.get("additionalProperties")
        wanted = max(schema.get("minProperties", 0), len(made) + 2 if isinstance(extra, dict) and not made else 0)
        for word in itertools.islice(WORDS, 16):
            if len(made) < wanted and word not in made:
                made[word] = self.value(extra if isinstance(extra, dict) else {}, depth + 1)
        return made

    def _array(self, schema: dict[str, Any], depth: int) -> list[Any]:
        least = schema.get("minItems", 0)
        most = schema.get("maxItems", max(least, 0 if depth > SHALLOW else 1 + self._pick(3)))
        first = schema.get("prefixItems") or []
        made = [self.value(inner, depth + 1) for inner in first[:most] if len(first)]
        items = schema.get("items", {})
        tries = 0
        while len(made) < min(most, max(least, 1 if depth <= SHALLOW else 0)) and items is not False and tries < 64:
            item, tries = self.value(items, depth + 1), tries + 1
            if not (schema.get("uniqueItems") and item in made):
                made.append(item)
        return made

    def _number(self, schema: dict[str, Any], whole: bool) -> int | float:
        step = schema.get("multipleOf") or (1 if whole else 0.25)
        firsts = [math.ceil(schema["minimum"] / step)] if "minimum" in schema else []
        firsts += [math.floor(schema["exclusiveMinimum"] / step) + 1] if "exclusiveMinimum" in schema else []
        lasts = [math.floor(schema["maximum"] / step)] if "maximum" in schema else []
        lasts += [math.ceil(schema["exclusiveMaximum"] / step) - 1] if "exclusiveMaximum" in schema else []
        last = min(lasts) if lasts else None
        first = max(firsts) if firsts else 0 if last is None or last >= 0 else last - 100
        if last is None:
            last = first + 100
        if first > last and not whole:  # no multiple fits between narrow bounds: the middle does
            low = max(schema.get("minimum", -math.inf), schema.get("exclusiveMinimum", -math.inf))
            high = min(schema.get("maximum", math.inf), schema.get("exclusiveMaximum", math.inf))
            return float(low + high) / 2
        value = (first + self._pick(min(max(last - first, 0), 1000) + 1)) * step
        return int(value) if whole else float(value)

    def _string(self, schema: dict[str, Any]) -> str:
        if schema.get("format") in FORMATS:
            return FORMATS[schema["format"]]
        text = f"{WORDS[self._pick(16)]} {WORDS[self._pick(16)]}"
        while len(text) < schema.get("minLength", 0):
            text += " " + WORDS[self._pick(16)]
        return text[: schema["maxLength"]] if "maxLength" in schema else text


def _joined(left: dict[str, Any], right: dict[str, Any]) -> dict[str, Any]:
    made = {**left, **right}
    if "properties" in left and "properties" in right:
        made["properties"] = {**left["properties"], **right["properties"]}
    if "required" in left and "required" in right:
        made["required"] = [*left["required"], *right["required"]]
    return made
