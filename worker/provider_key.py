"""Where a provider's key comes from: gristmill.yaml, the environment, a file, the database; the first counts."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from providers.spec import ProviderSpec
from worker import secret_file, settings
from worker.config import ProviderConfig
from worker.secret_file import SecretFileError


class Source(StrEnum):
    """In the order in which they count."""

    CONFIGURATION = "configuration"
    ENVIRONMENT = "environment"
    FILE = "file"
    DATABASE = "database"


@dataclass(frozen=True, kw_only=True, slots=True)
class ProviderKey:
    """A key that was found, or what hinders its use (``fault``)."""

    source: Source
    place: str
    """The variable, the path, or the account in the database."""
    value: str | None = field(default=None, repr=False)
    fault: str | None = None

    @property
    def hint(self) -> str:
        return hint(self.value or "")

    @property
    def is_open_to_others(self) -> bool:
        """Whether other users of this machine may read it where it is."""
        return self.source is Source.FILE and secret_file.is_open_to_others(Path(self.place))

    @property
    def where(self) -> str:
        return f"{self.source} {self.place}" if self.place else str(self.source)


Stored = Mapping[tuple[str, str], ProviderKey]
"""Keys in the database by provider and account."""

SHOWN = 4
SHORTEST_HINTED = 16
"""Of a shorter key nothing is shown: four characters would be too much of it."""


def hint(value: str) -> str:
    """What may be shown of a key."""
    return f"...{value[-SHOWN:]}" if len(value) >= SHORTEST_HINTED else "..."


def find(
    name: str, kind: ProviderSpec, section: ProviderConfig, stored: Stored, *, wants_environment: bool
) -> tuple[ProviderKey, ...]:
    """All keys for a provider, the one that counts first. ``wants_environment``: those of the kind's own variables."""
    keys = [*_configured(section)]
    if section.api_key is None and wants_environment:
        keys += [*_variables(kind), *_variable_files(kind)]
    if section.api_key_file is not None:
        keys.append(_file(section.api_key_file))
    if (key := stored.get((name, section.account))) is not None:
        keys.append(key)
    return tuple(keys)


def _configured(section: ProviderConfig) -> Iterator[ProviderKey]:
    """``api_key``: the key itself, or the variables it is made of."""
    if section.has_literal_key:
        yield ProviderKey(source=Source.CONFIGURATION, place="api_key", value=section.key)
    elif section.key:
        yield ProviderKey(source=Source.ENVIRONMENT, place=", ".join(section.key_variables), value=section.key)
    elif section.missing_variable and len(section.key_variables) == 1:
        path = settings.secret_path(section.missing_variable)
        if path is not None:
            yield _file(path)


def _variables(kind: ProviderSpec) -> Iterator[ProviderKey]:
    for variable in kind.key_env:
        value = settings.environment_value(variable)
        if value is not None:
            yield ProviderKey(source=Source.ENVIRONMENT, place=variable, value=value)


def _variable_files(kind: ProviderSpec) -> Iterator[ProviderKey]:
    yield from (_file(path) for path in map(settings.secret_path, kind.key_env) if path is not None)


def _file(path: Path) -> ProviderKey:
    try:
        return ProviderKey(source=Source.FILE, place=str(path), value=secret_file.read(path))
    except SecretFileError as error:
        return ProviderKey(source=Source.FILE, place=str(path), fault=str(error))
