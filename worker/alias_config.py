"""``models:`` of gristmill.yaml: what an alias stands for, how its load is shared, and what may stand in for it."""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Annotated

import pydantic

from worker import windows


class Section(pydantic.BaseModel):
    """A part of the file: unknown keys are errors."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class Strategy(StrEnum):
    """How the deployments of an alias share its load."""

    WEIGHTED = "weighted"
    LEAST_BUSY = "least_busy"
    LOWEST_COST = "lowest_cost"
    LOWEST_LATENCY = "lowest_latency"
    MOST_HEADROOM = "most_headroom"


class Fallback(StrEnum):
    """Why a line may go on with another model."""

    GENERAL = "general"
    CONTEXT_WINDOW = "context_window"
    CONTENT_POLICY = "content_policy"


Names = tuple[Annotated[str, pydantic.Field(min_length=1, pattern=r"^[^\s\x00-\x1f]+$")], ...]


class WeightedModel(Section):
    """One of the deployments that an alias stands for."""

    model: str
    weight: Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)] = 1.0

    @pydantic.model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: object) -> object:
        return {"model": value} if isinstance(value, str) else value

    @pydantic.field_validator("model")
    @classmethod
    def _full(cls, value: str) -> str:
        provider, slash, model = value.partition("/")
        if not (provider and slash and model):
            raise ValueError("must be <provider>/<model>")
        return value

    @property
    def provider(self) -> str:
        return self.model.partition("/")[0]


class FallbacksConfig(Section):
    """Aliases or ``provider/model`` that stand in, in this order, in a batch that allows it."""

    general: Names = ()
    context_window: Names = ()
    content_policy: Names = ()
    filtered_answers: bool = False
    """Whether an answer that a filter has cut counts as refused by a content policy."""

    def of(self, kind: Fallback) -> tuple[str, ...]:
        names: tuple[str, ...] = getattr(self, kind)
        return names

    def named(self) -> Iterator[tuple[Fallback, int, str]]:
        """(kind, place, name) of all of them."""
        return ((kind, place, name) for kind in Fallback for place, name in enumerate(self.of(kind)))


def _seconds(value: object) -> object:
    try:
        found = windows.seconds(str(value), standard=windows.DAY)
    except windows.InvalidWindow:
        found = None
    if found is None:
        raise ValueError('must be a duration such as "30s" or "5m"')
    return found


class AliasConfig(Section):
    """A name of yours for one or more deployments. A bare name or a list of them says only ``deployments``."""

    deployments: Annotated[tuple[WeightedModel, ...], pydantic.Field(min_length=1)]
    strategy: Strategy = Strategy.WEIGHTED
    fallbacks: FallbacksConfig = FallbacksConfig()
    cooldown: Annotated[float, pydantic.BeforeValidator(_seconds)] = 30.0
    """Seconds in which a deployment that has failed several times in a row is avoided, if another one is left."""

    @pydantic.model_validator(mode="before")
    @classmethod
    def _from_short_form(cls, value: object) -> object:
        if isinstance(value, str):
            return {"deployments": [value]}
        return {"deployments": value} if isinstance(value, list) else value


def stand_ins(models: Mapping[str, AliasConfig], alias: AliasConfig) -> list[str]:
    """Every ``provider/model`` that fallbacks lead to, also those of fallbacks; each once."""
    found: dict[str, None] = {}
    seen: set[str] = set()
    open = [alias]
    while open:
        for _, _, name in open.pop().fallbacks.named():
            if name not in models:
                found[name] = None
            elif name not in seen:
                seen.add(name)
                open.append(models[name])
                found.update(dict.fromkeys(entry.model for entry in models[name].deployments))
    return list(found)


def loops(models: Mapping[str, AliasConfig]) -> Iterator[tuple[str, Fallback, list[str]]]:
    """(alias, kind, way) for each chain of fallbacks of one kind that comes back to where it began."""
    for kind in Fallback:
        for alias in models:
            if way := _way_back(models, kind, alias):
                yield alias, kind, way


def _way_back(models: Mapping[str, AliasConfig], kind: Fallback, alias: str) -> list[str]:
    seen: set[str] = set()
    ways = [[alias]]
    while ways:
        way = ways.pop()
        for name in models[way[-1]].fallbacks.of(kind):
            if name == alias:
                return [*way, name]
            if name in models and name not in seen:
                seen.add(name)
                ways.append([*way, name])
    return []
