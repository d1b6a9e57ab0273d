"""Sample values satisfy the schemas that pydantic makes of common models."""

import datetime
import enum
import ipaddress
import uuid
from typing import Annotated, Any, Literal, Optional

import hypothesis
import pydantic
import pytest
from hypothesis import strategies

from providers.simulator import samples


class Grade(enum.Enum):
    GOOD = "good"
    BAD = "bad"


class Node(pydantic.BaseModel):
    name: str
    children: list["Node"] = []
    parent: Optional["Node"] = None


class Cat(pydantic.BaseModel):
    kind: Literal["cat"]
    lives: Annotated[int, pydantic.Field(ge=1, le=9)]


class Dog(pydantic.BaseModel):
    kind: Literal["dog"]
    tricks: list[str]


class Everything(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    name: Annotated[str, pydantic.Field(min_length=20, max_length=25)]
    small: Annotated[float, pydantic.Field(gt=0, lt=1)]
    even: Annotated[int, pydantic.Field(multiple_of=2, ge=-9, lt=-3)]
    grade: Grade
    flag: bool
    nothing: None
    maybe: int | None
    pair: tuple[int, str]
    unique: Annotated[set[int], pydantic.Field(min_length=3)]
    scores: dict[str, float]
    pet: Annotated[Cat | Dog, pydantic.Field(discriminator="kind")]
    tree: Node
    when: datetime.datetime
    day: datetime.date
    id: uuid.UUID
    address: ipaddress.IPv4Address
    anything: Any


@pytest.mark.parametrize("model", [Node, Cat, Dog, Everything])
@hypothesis.given(seed=strategies.integers(0, 2**128))
def test_a_sample_satisfies_its_schema(model: type[pydantic.BaseModel], seed: int) -> None:
    made = samples.make(model.model_json_schema(), seed)
    model.model_validate(made)
    assert made == samples.make(model.model_json_schema(), seed)


def test_a_schema_that_refers_to_itself_ends() -> None:
    schema = {"$ref": "#/$defs/a", "$defs": {"a": {"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}}}}
    assert isinstance(samples.make(schema, 1), dict)


@pytest.mark.parametrize("schema", [{"type": "object", "properties": []}, {"type": "string", "minLength": "x"}])
def test_a_malformed_schema_is_an_error_of_the_caller(ask: Any, schema: dict[str, Any]) -> None:
    with pytest.raises(samples.SchemaError):
        samples.make({**schema, "type": schema["type"], "required": 3}, 1)
    body = {
        "model": "tiny",
        "messages": [{"role": "user", "content": "x"}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {**schema, "required": 3}}},
    }
    assert ask("/v1/chat/completions", body).status == 400
