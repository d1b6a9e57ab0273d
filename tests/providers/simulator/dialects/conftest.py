"""The official SDK as the judge: unknown fields forbidden, for answers and for requests."""

import importlib
import pkgutil
import sys
from collections.abc import Iterator
from typing import Any

import openai
import pydantic
import pytest
import typing_extensions


def unknown_fields(value: Any, path: str = "") -> list[str]:
    """Where a model of the SDK took a field that its type does not have."""
    found = []
    if isinstance(value, pydantic.BaseModel):
        found += [f"{path}.{name}" for name in value.model_extra or ()]
        for name in type(value).model_fields:
            found += unknown_fields(getattr(value, name), f"{path}.{name}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            found += unknown_fields(inner, f"{path}[{index}]")
    return found


@pytest.fixture(scope="session")
def judged() -> Any:
    """`judged(model, body)` is the SDK's object, after a strict validation."""

    def judge(model: type[pydantic.BaseModel], body: Any) -> Any:
        made = model.model_validate(body, strict=True)
        assert unknown_fields(made) == []
        return made

    return judge


@pytest.fixture(scope="module")
def accepts() -> Iterator[Any]:
    """`accepts(request_type, body)`: is it what the SDK's type allows, and nothing more?"""
    patch = pytest.MonkeyPatch()
    for entry in pkgutil.walk_packages(openai.types.__path__, "openai.types."):
        if entry.name.startswith(("openai.types.chat", "openai.types.shared", "openai.types.comp", "openai.types.emb")):
            importlib.import_module(entry.name)
    for name, module in list(sys.modules.items()):
        if name.startswith("openai.types"):
            if hasattr(module, "SequenceNotStr"):
                patch.setattr(module, "SequenceNotStr", list)
            if hasattr(module, "Iterable"):
                patch.setattr(module, "Iterable", list)  # pydantic would look into an Iterable only when it is used
            for each in vars(module).values():
                if typing_extensions.is_typeddict(each) and "__pydantic_config__" not in vars(each):
                    patch.setattr(each, "__pydantic_config__", pydantic.ConfigDict(extra="forbid"), raising=False)
    adapters: dict[Any, pydantic.TypeAdapter[Any]] = {}

    def accept(kind: Any, body: Any) -> bool:
        if kind not in adapters:
            adapters[kind] = pydantic.TypeAdapter(kind)
        try:
            adapters[kind].validate_python(body, strict=True)
        except pydantic.ValidationError:
            return False
        return True

    yield accept
    patch.undo()
